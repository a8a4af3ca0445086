//! What the core is asked for on behalf of clients and browsers, and what it answers.

use std::{sync::Arc, time::Duration};

use super::attempt::Waiter;
use crate::{form::Form, oauth::token::Refusal, secret::Secret, time::Wall, view::SignInWays};

/// Whose sign-in a browser has come for, and where it goes on, as [`super::Core::sign_in_at`] says.
pub type Visit = (Arc<str>, Result<Option<String>, Refusal>);

/// What yields a token; the answer to `refresh`, and to `show` where there is none that is valid.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
#[must_use]
pub enum Progress {
    /// A refresh has been started, was under way, or is about to start.
    Refreshing {
        /// Why the last refresh failed, if it did.
        trouble: Option<Refusal>,
    },
    /// A refresh is wanted, but the provider wants to be left alone.
    Deferred {
        /// How long it takes until it is due.
        delay: Duration,
        /// Why the last refresh failed, if it did.
        trouble: Option<Refusal>,
    },
    /// The user has to sign in.
    SignIn {
        /// How; there is an address.
        ways: SignInWays,
        /// Why the tokens that were held, or the last sign-in, didn't do.
        reason: Option<Refusal>,
    },
    /// The user has to sign in, and the issuer is being asked where.
    Discovering {
        /// Why that has failed so far, if it has.
        trouble: Option<Refusal>,
    },
    /// The user has to sign in with a code that is being asked for.
    AskingForCode,
    /// The user is just signing in.
    Exchanging {
        /// Why the code couldn't be exchanged yet, if that has failed.
        trouble: Option<Refusal>,
    },
    /// Nothing does: the configuration keeps the token from being refreshed.
    Parked(Refusal),
}

/// What a `show` asks for, and how the answer is to be put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShowRequest {
    /// Who waits; means something only to the shell that gave it.
    pub waiter: Waiter,
    /// The shape of the token; only handed back with the answer.
    pub form: Form,
    /// Leave the URL out of errors; only handed back with the answer.
    pub no_url: bool,
    /// Only a token that is valid so long will do; zero for any.
    pub min_valid: Duration,
    /// What may be waited for.
    pub patience: Patience,
    /// The client's process, where the system tells: who asks is looked up before a user is to sign in
    /// for it.
    pub process: Option<i32>,
}

/// What a `show` waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Patience {
    /// Nothing: the answer is given at once.
    #[default]
    None,
    /// The outcome of one refresh.
    Refresh,
    /// A token, also one that needs a sign-in.
    Token,
}

/// An access token, or the ID token beside it, with what is known of it.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
pub struct AccessToken {
    /// The token.
    pub token: Arc<Secret>,
    /// When it expires, unless the provider didn't say.
    pub expires: Option<Wall>,
    /// The scopes granted or, when the provider didn't say, asked for.
    pub scopes: Arc<[String]>,
    /// For whom, as the config's `login_hint` has it.
    pub login_hint: Option<String>,
    /// Whose it is: the host of the token endpoint, or the issuer's.
    pub provider: Option<String>,
}

/// The answer to a [`ShowRequest`].
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
#[must_use]
pub enum ShowAnswer {
    /// A token that will do.
    Token(AccessToken),
    /// There is none, and either no time or no reason to wait longer.
    Not {
        /// What it takes.
        progress: Progress,
        /// How long the token held is still valid, when that is merely too short.
        left: Option<Duration>,
        /// Whether it will be the first of an account for which nobody has to sign in.
        first: bool,
    },
    /// No token lives as long as was asked for.
    ShortLived {
        /// How long the provider lets them live.
        lifetime: Duration,
    },
    /// The provider has sent no ID token with the tokens held.
    NoIdToken,
    /// The sign-in that was waited for has ended without a token.
    Failed(Refusal),
    /// The account is no longer in the config.
    Gone,
}

/// The answer to an authorization response that arrived at the redirection endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum CallbackAnswer {
    /// The code is being exchanged: the waiter given with the callback is notified of the end.
    Wait {
        /// Whose sign-in it is.
        account: Arc<str>,
    },
    /// This response has ended the sign-in, now or when it was delivered before.
    Over {
        /// Whose sign-in it was.
        account: Arc<str>,
        /// How it ended.
        result: Result<(), Refusal>,
    },
    /// The response names another issuer (RFC 9207) or has arrived at another account's redirect
    /// (RFC 9700, 4.4), and was ignored; the sign-in stays pending.
    OtherProvider {
        /// Whose sign-in it claims to be.
        account: Arc<str>,
    },
    /// No sign-in waits for this response.
    Stale,
}
