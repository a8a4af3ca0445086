//! Where a browser is sent when it has brought an authorization response: to a page with an address
//! that tells nothing, so that no code stays in the address bar or in the history.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::http::{self, StatusLine};
use super::page::{self, SignInPage};

/// Below which path the pages are.
const ROOT: &str = "/pizauth/";

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
    until: Instant,
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
                let (status, page) = page::of(outcome);
                http::reply(status, &page, false)
            }
            SignInPage::Authorised { .. }
            | SignInPage::Refused { .. }
            | SignInPage::Already { .. }
            | SignInPage::OtherProvider { .. }
            | SignInPage::TimedOut { .. } => {
                let name = self.keep(outcome.clone(), Instant::now());
                http::see_other(&format!("{ROOT}{name}"))
            }
        }
    }

    /// The page at this path, if there is one.
    pub fn at(&self, path: &str) -> Option<(StatusLine, String)> {
        let name = path.strip_prefix(ROOT)?;
        if name == STALE {
            return Some(page::of(&SignInPage::Stale));
        }
        let now = Instant::now();
        let kept = self.lock();
        let found = kept
            .iter()
            .find(|kept| kept.name == name && kept.until > now);
        found.map(|kept| page::of(&kept.outcome))
    }

    /// Whether there can have been one.
    pub fn had(&self, path: &str) -> bool {
        path.starts_with(ROOT)
    }

    /// Returns the name by which the page is found.
    fn keep(&self, outcome: SignInPage, now: Instant) -> String {
        let name = (self.name)();
        let mut kept = self.lock();
        kept.retain(|kept| kept.until > now);
        kept.truncate(MAX_KEPT - 1);
        kept.push_front(Kept {
            name: name.clone(),
            outcome,
            until: now + LIFE,
        });
        name
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
