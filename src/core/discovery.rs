//! What the issuers say of themselves (RFC 8414): asked for when an account first needs it, shared
//! by all accounts of an issuer, kept for the life of the process. A failure ends nothing; it is
//! tried again at growing intervals for as long as somebody waits.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use log::Level;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    AttemptId, Effect,
    env::Env,
    schedule::{MAX_RETRY_DELAY, MIN_REQUEST_GAP},
};
use crate::{
    oauth::{
        metadata::{self, Metadata, Miss, MissKind},
        token::{Outcome, Refusal},
    },
    time::{Instant, Now},
};

/// How long to wait after the first failure when somebody waits to sign in, doubling with each
/// further one: a network that comes up with the session is there by then.
const FIRST_RETRY: Duration = Duration::from_secs(10);

/// Every issuer that has been asked.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Issuers {
    entries: BTreeMap<Arc<str>, Entry>,
    changed: bool,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
enum Entry {
    /// To be asked as soon as anything may be sent.
    Wanted {
        trouble: Option<Failed>,
    },
    /// A request is with the shell.
    Asking {
        attempt: AttemptId,
        url: Url,
        /// Where to look if it isn't there.
        left: Vec<Url>,
        /// Why it wasn't where was looked before.
        missed: Option<Miss>,
        trouble: Option<Failed>,
    },
    Known(Arc<Metadata>),
    Failed(Failed),
}

/// A row of failures.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Why the last one failed.
    pub refusal: Refusal,
    /// When the first did.
    pub since: Now,
    /// How many there were.
    pub failures: u32,
    /// The issuer did answer.
    pub answered: bool,
    last: Instant,
    /// Somebody waits for more than a request that comes again by itself.
    retry: bool,
}

impl Failed {
    /// When the next try may be made.
    fn not_before(&self) -> Instant {
        self.last.after(MIN_REQUEST_GAP)
    }

    /// When it is due without anybody asking for it.
    fn due(&self) -> Option<Instant> {
        let doublings = self.failures.saturating_sub(1).min(16);
        let delay = FIRST_RETRY.saturating_mul(2u32.saturating_pow(doublings));
        self.retry
            .then(|| self.last.after(delay.min(MAX_RETRY_DELAY)))
    }
}

/// What is known of an issuer.
#[derive(Debug)]
pub enum Knowledge<'a> {
    /// Nobody has asked.
    Nothing,
    /// It is being asked.
    Asking,
    /// This.
    Metadata(&'a Arc<Metadata>),
    /// It was asked in vain.
    Failed {
        /// How.
        failed: &'a Failed,
        /// When it is asked again, if so without a request that needs it.
        next: Option<Instant>,
    },
}

/// What came of wanting an issuer's metadata.
#[derive(Debug)]
#[must_use]
pub enum Wish {
    /// The accounts will hear of it.
    UnderWay,
    /// It is too soon after the last failure.
    Refused(Refusal),
}

/// An issuer's metadata on its way to a successor of this process.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarriedIssuer {
    issuer: Arc<str>,
    metadata: Arc<Metadata>,
}

impl Issuers {
    /// What is known of `issuer`.
    pub fn get(&self, issuer: &str) -> Knowledge<'_> {
        match self.entries.get(issuer) {
            None => Knowledge::Nothing,
            Some(Entry::Known(metadata)) => Knowledge::Metadata(metadata),
            Some(Entry::Failed(failed)) => Knowledge::Failed {
                failed,
                next: failed.due(),
            },
            Some(Entry::Wanted { .. } | Entry::Asking { .. }) => Knowledge::Asking,
        }
    }

    /// Why asking `issuer` has failed so far, while nothing better is known.
    pub fn trouble(&self, issuer: &str) -> Option<&Failed> {
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

    /// Nobody waits for `issuer` any more.
    pub fn rest(&mut self, issuer: &str) {
        match self.entries.get_mut(issuer) {
            Some(Entry::Failed(failed)) => failed.retry = false,
            Some(Entry::Wanted { .. }) => {
                self.entries.remove(issuer);
            }
            Some(Entry::Asking { .. } | Entry::Known(_)) | None => {}
        }
    }

    /// Somebody waits for `issuer`, which has failed: it is asked again without being asked for.
    pub fn insist(&mut self, issuer: &str) {
        if let Some(Entry::Failed(failed)) = self.entries.get_mut(issuer) {
            failed.retry = true;
        }
    }

    /// Whether anything has changed since the last time this was asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What a successor of this process needs.
    pub(super) fn carried(&self) -> Vec<CarriedIssuer> {
        let known = self
            .entries
            .iter()
            .filter_map(|(issuer, entry)| match entry {
                Entry::Known(metadata) => Some(CarriedIssuer {
                    issuer: issuer.clone(),
                    metadata: metadata.clone(),
                }),
                Entry::Wanted { .. } | Entry::Asking { .. } | Entry::Failed(_) => None,
            });
        known.collect()
    }

    /// Goes on from a predecessor's [`Issuers::carried`].
    pub(super) fn adopt(&mut self, carried: Vec<CarriedIssuer>) {
        for CarriedIssuer { issuer, metadata } in carried {
            self.entries.insert(issuer, Entry::Known(metadata));
        }
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

/// Has `issuer` asked, unless that is under way or comes too soon.
pub fn want(env: &mut Env, issuer: &Arc<str>) -> Wish {
    let entries = &mut env.common.issuers.entries;
    let trouble = match entries.remove(issuer) {
        None => None,
        Some(Entry::Wanted { trouble }) => trouble,
        Some(Entry::Failed(failed)) if failed.not_before() > env.now.instant => {
            let refusal = failed.refusal.clone();
            entries.insert(issuer.clone(), Entry::Failed(failed));
            return Wish::Refused(refusal);
        }
        Some(Entry::Failed(failed)) => Some(failed),
        Some(known @ (Entry::Known(_) | Entry::Asking { .. })) => {
            entries.insert(issuer.clone(), known);
            return Wish::UnderWay;
        }
    };
    env.common.issuers.changed = true;
    let entry = match env.common.held {
        true => Entry::Wanted { trouble },
        false => {
            let mut left = metadata::well_known(issuer);
            left.reverse();
            match left.pop() {
                Some(url) => ask(env, url, left, None, trouble),
                // The config has made sure that there is one.
                None => Entry::Wanted { trouble },
            }
        }
    };
    env.common.issuers.entries.insert(issuer.clone(), entry);
    Wish::UnderWay
}

fn ask(
    env: &mut Env,
    url: Url,
    left: Vec<Url>,
    missed: Option<Miss>,
    trouble: Option<Failed>,
) -> Entry {
    let attempt = env.attempt();
    env.emit(Effect::Discover {
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

/// What came back for an [`Effect::Discover`]. The issuer about which something is known now.
pub fn answered(env: &mut Env, attempt: AttemptId, outcome: &Outcome) -> Option<Arc<str>> {
    let mut entries = env.common.issuers.entries.iter();
    let asked =
        |entry: &Entry| matches!(entry, Entry::Asking { attempt: id, .. } if *id == attempt);
    let issuer = entries.find(|(_, entry)| asked(entry))?.0.clone();
    let Some(Entry::Asking {
        url,
        mut left,
        missed,
        trouble,
        ..
    }) = env.common.issuers.entries.remove(&issuer)
    else {
        return None;
    };
    let (entry, ended) = match metadata::judge(&issuer, &url, outcome) {
        Ok(metadata) => {
            for warning in &metadata.warnings {
                env.log(Level::Warn, &issuer, warning.clone());
            }
            env.log(Level::Info, &issuer, "the endpoints are known");
            (Entry::Known(Arc::new(metadata)), true)
        }
        Err(miss) => {
            let miss = miss.worse(missed);
            match left.pop().filter(|_| miss.kind < MissKind::Unreachable) {
                Some(next) => (ask(env, next, left, Some(miss), trouble), false),
                None => {
                    let failed = failed(env, &issuer, miss, trouble);
                    env.log(Level::Warn, &issuer, failed.refusal.text.clone());
                    (Entry::Failed(failed), true)
                }
            }
        }
    };
    env.common.issuers.entries.insert(issuer.clone(), entry);
    env.common.issuers.changed = true;
    ended.then_some(issuer)
}

fn failed(env: &Env, issuer: &str, miss: Miss, before: Option<Failed>) -> Failed {
    let refusal = Refusal {
        text: format!(
            "no endpoints from {}: {}",
            crate::text::sanitize(issuer),
            miss.text
        ),
        hint: miss.hint.map(str::to_owned),
    };
    Failed {
        refusal,
        since: before.as_ref().map_or(env.now, |before| before.since),
        failures: before.map_or(0, |before| before.failures).saturating_add(1),
        answered: miss.kind != MissKind::Unreachable,
        last: env.now.instant,
        retry: false,
    }
}
