//! What the core promises, and how a broken promise is told.

use std::time::Duration;

/// The least time between two refreshes of an account: what is promised.
pub const FLOOR: Duration = Duration::from_secs(10);

/// The least time between two requests in a pause, for those who ask: what is promised.
pub const ASKED: Duration = Duration::from_secs(60);

/// What the core promises, whatever happens around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// A secret is shown or sent only under the registration that it was obtained under.
    Origin,
    /// After `revoke` and `reload` nothing older is shown, held or sent.
    NothingOlder,
    /// What is held is lost only by revoke, a changed registration or a successor.
    Kept,
    /// One request in flight per account; a sign-in's exchange alone may run beside a refresh.
    OneInFlight,
    /// Ten seconds between refreshes, `Retry-After` kept, none without hope.
    Floor,
    /// Hooks and users hear of everything once, in order.
    Events,
    /// Whoever waits for a sign-in hears of its end, once.
    Answers,
    /// A state is good once, a code is sent once, and a completed sign-in is never discarded.
    SignIn,
    /// Nothing that happens outside ends the daemon.
    NoPanic,
    /// restore(dump) is the identity, and never replaces what is live by something older.
    Restore,
    /// No expired token is shown.
    NoneExpired,
    /// Whatever can be renewed has a deadline; when faults stop, all of it is valid soon.
    Liveness,
    /// No secret in the log, in a message, in Debug.
    Secrecy,
    /// Device codes are asked for when they are needed, shown as they are, and polled for no more
    /// often than the provider allows (RFC 8628, 3.5).
    Device,
    /// The provider is told of a `revoke` or somebody hears that it wasn't, once (RFC 7009).
    Revoked,
    /// The index of deadlines is what a look at every account gives.
    Index,
    /// The commands that keep the state run one at a time; each change is saved, and nothing is
    /// saved over what was not loaded.
    Keeping,
    /// A token file has the token that is shown, or isn't there.
    Published,
    /// A restart in place loses nothing, and nothing is sent that it could lose.
    Handover,
    /// Whose tokens an account has is told where another user has signed in than its login_hint, and
    /// only there, as long as they are held.
    User,
    /// A redirect that ends elsewhere is sent letter by letter, and what its last page shows is taken
    /// only where it is clear which sign-in it is for.
    Pasting,
    /// The end of a sign-in is told of as it is, while there is time, and once a day.
    Ending,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    pub invariant: Invariant,
    pub what: String,
}

impl Violation {
    /// Whether it is of the same kind: the words agree as far as they name no account.
    pub fn is_like(&self, other: &Violation) -> bool {
        let words = |text: &str| text.chars().take(16).collect::<String>();
        self.invariant == other.invariant && words(&self.what) == words(&other.what)
    }
}

pub type Check = Result<(), Violation>;

/// A violation.
pub fn fail<T>(invariant: Invariant, what: String) -> Result<T, Violation> {
    Err(Violation { invariant, what })
}

/// A violation, unless `condition` holds.
pub fn ensure(condition: bool, invariant: Invariant, what: impl FnOnce() -> String) -> Check {
    match condition {
        true => Ok(()),
        false => fail(invariant, what()),
    }
}

/// A violation, unless `condition` holds.
pub fn must(condition: bool, invariant: Invariant, message: &str) -> Result<(), Violation> {
    match condition {
        true => Ok(()),
        false => fail(invariant, message.into()),
    }
}
