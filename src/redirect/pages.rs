//! Where a browser is sent when it has brought an authorization response: to a page with an address
//! that tells nothing, so that no code stays in the address bar or in the history.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::http::{self, StatusCode};
use super::page::{self, SignInPage};
use crate::serve::ConnId;

/// Below which path the pages are.
const ROOT: &str = "/pizauth/";

/// Where the pages of failed sign-ins ask for another one.
pub const AGAIN: &str = "/pizauth/again";

/// The page for those whose link is no longer valid. It tells nothing, so it needs no name that
/// nobody can guess; and however many ask for it, nothing is kept of them.
const STALE: &str = "stale";

/// How long a page is kept: the browser asks for it at once, and whoever reloads it does so while
/// looking at it.
const LIFE: Duration = Duration::from_secs(600);

/// How many pages are kept: more sign-ins than anyone completes in that time.
const MAX_KEPT: usize = 64;

/// The pages about the latest outcomes, which only the browser that was sent there can find.
pub struct Pages {
    name: fn() -> String,
    kept: Mutex<VecDeque<Kept>>,
}

struct Kept {
    name: String,
    outcome: SignInPage,
    since: Instant,
    /// The connection that it was promised to, if that had to wait.
    promised: Option<ConnId>,
    /// What the page asks with for another sign-in, once.
    again: Option<String>,
}

impl Pages {
    /// None yet. `name` makes up names that fit into a path and that can't be guessed.
    pub fn new(name: fn() -> String) -> Arc<Self> {
        Arc::new(Pages {
            name,
            kept: Mutex::default(),
        })
    }

    /// The whole reply to a callback with this outcome: the browser is sent on to its page.
    pub fn reply(&self, outcome: &SignInPage) -> Vec<u8> {
        match outcome {
            SignInPage::Stale => http::see_other(&format!("{ROOT}{STALE}")),
            // No server will be there to ask.
            SignInPage::Stopping => {
                let (status, page) = page::of(outcome, None);
                http::reply(status, &page, false)
            }
            SignInPage::Authorised { .. }
            | SignInPage::Refused { .. }
            | SignInPage::OtherProvider { .. }
            | SignInPage::Waiting { .. } => self.keep(outcome.clone(), None),
        }
    }

    /// The whole reply to a callback that this connection has brought: the outcome, or `Waiting` for
    /// it. Whichever comes first, the page has the outcome in the end.
    pub fn promise(&self, id: ConnId, outcome: &SignInPage) -> Vec<u8> {
        self.keep(outcome.clone(), Some(id))
    }

    /// The page at this path, if there is one; `waiting` makes one about an account whose outcome has
    /// been waited for so long.
    pub fn at(
        &self,
        path: &str,
        waiting: impl Fn(&str, Duration) -> String,
    ) -> Option<(StatusCode, String)> {
        let name = path.strip_prefix(ROOT)?;
        if name == STALE {
            return Some(page::of(&SignInPage::Stale, None));
        }
        let kept = self.lock();
        let mut kept = kept.iter().filter(|kept| kept.since.elapsed() < LIFE);
        let kept = kept.find(|kept| kept.name == name)?;
        Some(match &kept.outcome {
            SignInPage::Waiting { account } => {
                (StatusCode::ACCEPTED, waiting(account, kept.since.elapsed()))
            }
            outcome => page::of(outcome, kept.again.as_deref()),
        })
    }

    /// The account whose failed sign-in was shown with this token. It counts once.
    pub fn take_again(&self, token: &str) -> Option<String> {
        let mut kept = self.lock();
        let mut kept = kept.iter_mut().filter(|kept| kept.since.elapsed() < LIFE);
        let kept = kept.find(|kept| kept.again.as_deref() == Some(token))?;
        kept.again = None;
        match &kept.outcome {
            SignInPage::Refused { account, .. } => Some(account.clone()),
            _ => None,
        }
    }

    /// Whether there can have been one.
    pub fn had(&self, path: &str) -> bool {
        path.starts_with(ROOT)
    }

    /// Sends a browser to the page with this outcome.
    fn keep(&self, outcome: SignInPage, promised: Option<ConnId>) -> Vec<u8> {
        let mut all = self.lock();
        let before = (all.iter()).position(|kept| promised.is_some() && kept.promised == promised);
        let before = before.and_then(|at| all.remove(at));
        all.retain(|kept| kept.since.elapsed() < LIFE);
        all.truncate(MAX_KEPT - 1);
        let kept = match (before, outcome) {
            // The outcome was faster.
            (Some(before), SignInPage::Waiting { .. }) => before,
            (before, outcome) => Kept {
                name: before.map_or_else(self.name, |before| before.name),
                again: matches!(outcome, SignInPage::Refused { .. }).then(self.name),
                outcome,
                since: Instant::now(),
                promised,
            },
        };
        let reply = http::see_other(&format!("{ROOT}{}", kept.name));
        all.push_front(kept);
        reply
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
