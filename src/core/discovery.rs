//! What the issuers say of themselves (RFC 8414): asked for when an account first needs it, shared
//! by all accounts of an issuer, kept for the life of the process. A failure ends nothing; it is
//! retried at growing intervals while a sign-in waits for it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use log::Level;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    attempt::AttemptId,
    effect::Effect,
    output::Output,
    schedule::{MAX_RETRY_DELAY, MIN_REQUEST_GAP, doubled},
};
use crate::{
    oauth::{
        metadata::{self, Gaps, Metadata, Miss, MissKind},
        token::{Outcome, Refusal},
    },
    time::{Instant, Now},
};

/// How long to wait after the first failure while a sign-in waits, doubling with each
/// further one: a network that comes up with the session is there by then.
const FIRST_RETRY: Duration = Duration::from_secs(10);

/// Every issuer that has been asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Issuers {
    entries: BTreeMap<Arc<str>, Entry>,
    #[serde(skip)]
    changed: bool,
}

/// What is known of an issuer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Entry {
    /// To be asked as soon as anything may be sent.
    Wanted { trouble: Option<Failures> },
    /// A request is with the shell.
    #[serde(skip)]
    Asking {
        attempt: AttemptId,
        url: Url,
        /// Where to look if it isn't there.
        left: Vec<Url>,
        /// Why it wasn't where was looked before.
        missed: Option<Miss>,
        trouble: Option<Failures>,
    },
    /// This.
    Known(Arc<Metadata>),
    /// It was asked in vain.
    Failed(Failures),
}

/// A row of failures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failures {
    /// Why the last one failed.
    pub refusal: Refusal,
    /// When the first did.
    pub since: Now,
    /// How many there were.
    pub failures: u32,
    /// The issuer did answer.
    pub answered: bool,
    last: Instant,
    /// A sign-in waits: it is retried without a request that needs it.
    retry: bool,
}

impl Failures {
    /// The row of failures with one more.
    fn after(before: Option<Failures>, issuer: &str, miss: Miss, now: Now) -> Self {
        let refusal = Refusal {
            text: format!(
                "no endpoints from {}: {}",
                crate::text::sanitize(issuer),
                miss.text
            ),
            hint: miss.hint.map(str::to_owned),
        };
        Failures {
            refusal,
            since: before.as_ref().map_or(now, |before| before.since),
            failures: before.map_or(0, |before| before.failures).saturating_add(1),
            answered: miss.kind != MissKind::Unreachable,
            last: now.instant,
            retry: false,
        }
    }

    /// When the next try may be made.
    fn not_before(&self) -> Instant {
        self.last.after(MIN_REQUEST_GAP)
    }

    /// When it is tried again, if so without a request that needs it.
    pub fn due(&self) -> Option<Instant> {
        let delay = doubled(FIRST_RETRY, self.failures);
        self.retry
            .then(|| self.last.after(delay.min(MAX_RETRY_DELAY)))
    }
}

impl Issuers {
    /// What is known of `issuer`, if it has been asked.
    pub fn get(&self, issuer: &str) -> Option<&Entry> {
        self.entries.get(issuer)
    }

    /// Why asking `issuer` has failed so far, while nothing better is known.
    pub fn trouble(&self, issuer: &str) -> Option<&Failures> {
        match self.entries.get(issuer)? {
            Entry::Failed(failed) => Some(failed),
            Entry::Wanted { trouble } | Entry::Asking { trouble, .. } => trouble.as_ref(),
            Entry::Known(_) => None,
        }
    }

    /// When a request that needs `issuer` may be made.
    pub fn not_before(&self, issuer: &str) -> Option<Instant> {
        match self.entries.get(issuer)? {
            Entry::Failed(failed) => Some(failed.not_before()),
            Entry::Wanted { .. } | Entry::Asking { .. } | Entry::Known(_) => None,
        }
    }

    /// When an issuer is to be asked although no account's own deadline says so.
    pub fn deadline(&self) -> Option<Instant> {
        self.entries.values().filter_map(Entry::due).min()
    }

    /// The issuers whose time has come.
    pub fn due(&self, now: Instant) -> Vec<Arc<str>> {
        let due = self.entries.iter();
        due.filter(|(_, entry)| entry.due().is_some_and(|at| at <= now))
            .map(|(issuer, _)| issuer.clone())
            .collect()
    }

    /// What is known of `issuer` isn't enough: it is asked again.
    pub fn forget(&mut self, issuer: &str) {
        self.entries.remove(issuer);
        self.changed = true;
    }

    /// Nothing waits for `issuer` any more.
    pub fn rest(&mut self, issuer: &str) {
        match self.entries.get_mut(issuer) {
            Some(Entry::Failed(failed)) => failed.retry = false,
            Some(Entry::Wanted { .. }) => {
                self.entries.remove(issuer);
            }
            Some(Entry::Asking { .. } | Entry::Known(_)) | None => {}
        }
    }

    /// A sign-in waits for `issuer`, which has failed: it is retried without a request that needs it.
    pub fn insist(&mut self, issuer: &str) {
        if let Some(Entry::Failed(failed)) = self.entries.get_mut(issuer) {
            failed.retry = true;
        }
    }

    /// Whether anything has changed since the last time this was asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The answers to the requests in flight will not arrive: they have to be sent again.
    pub(super) fn settle(&mut self) {
        for entry in self.entries.values_mut() {
            if let Entry::Asking { trouble, .. } = entry {
                *entry = Entry::Wanted {
                    trouble: trouble.take(),
                };
            }
        }
    }

    /// Has `issuer` asked, unless that is under way; later, if nothing may be sent (`held`).
    ///
    /// # Errors
    /// Why the last request failed, when it is too soon for the next one.
    pub fn want(
        &mut self,
        issuer: &Arc<str>,
        now: Instant,
        held: bool,
        output: &mut Output,
    ) -> Result<(), Refusal> {
        let trouble = match self.entries.get_mut(issuer) {
            None => None,
            Some(Entry::Failed(failed)) if failed.not_before() > now => {
                return Err(failed.refusal.clone());
            }
            Some(Entry::Failed(failed)) => Some(failed.clone()),
            Some(Entry::Wanted { trouble }) => trouble.take(),
            Some(Entry::Known(_) | Entry::Asking { .. }) => return Ok(()),
        };
        let mut places = metadata::well_known(issuer).into_iter();
        let entry = match places.next().filter(|_| !held) {
            Some(url) => ask(output, url, places.rev().collect(), None, trouble),
            None => Entry::Wanted { trouble },
        };
        self.changed = true;
        self.entries.insert(issuer.clone(), entry);
        Ok(())
    }

    /// Takes what came back for an [`Effect::Discover`]. Returns the issuer if its request is over.
    pub fn answered(
        &mut self,
        now: Now,
        output: &mut Output,
        attempt: AttemptId,
        outcome: &Outcome,
        gaps: impl FnOnce(&Arc<str>) -> Vec<Gaps>,
    ) -> Option<Arc<str>> {
        let asked =
            |entry: &Entry| matches!(entry, Entry::Asking { attempt: id, .. } if *id == attempt);
        let (issuer, entry) = self.entries.iter_mut().find(|(_, entry)| asked(entry))?;
        let Entry::Asking {
            url,
            left,
            missed,
            trouble,
            ..
        } = entry
        else {
            return None;
        };
        self.changed = true;
        let (issuer, trouble) = (issuer.clone(), trouble.take());
        *entry = match metadata::judge(&issuer, url, outcome, gaps(&issuer)) {
            Ok(metadata) => {
                for warning in &metadata.warnings {
                    output.log(Level::Warn, &issuer, warning.clone());
                }
                output.log(Level::Info, &issuer, "the endpoints are known");
                Entry::Known(Arc::new(metadata))
            }
            Err(miss) => {
                let miss = miss.worse(missed.take());
                if let Some(next) = left.pop().filter(|_| miss.kind < MissKind::Unreachable) {
                    *entry = ask(output, next, std::mem::take(left), Some(miss), trouble);
                    return None;
                }
                let failed = Failures::after(trouble, &issuer, miss, now);
                output.log(Level::Warn, &issuer, failed.refusal.text.clone());
                Entry::Failed(failed)
            }
        };
        Some(issuer)
    }
}

impl Entry {
    fn due(&self) -> Option<Instant> {
        match self {
            Entry::Wanted { .. } => Some(Instant::from_millis(0)),
            Entry::Failed(failed) => failed.due(),
            Entry::Asking { .. } | Entry::Known(_) => None,
        }
    }
}

/// Asks at `url`, and then at the last of `left`.
fn ask(
    output: &mut Output,
    url: Url,
    left: Vec<Url>,
    missed: Option<Miss>,
    trouble: Option<Failures>,
) -> Entry {
    let attempt = output.attempt();
    output.emit(Effect::Discover {
        attempt,
        url: url.clone(),
    });
    Entry::Asking {
        attempt,
        url,
        left,
        missed,
        trouble,
    }
}
