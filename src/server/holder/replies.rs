//! What clients hear: failures and remarks in the words that all verbs share.

use crate::error::{Exit, Failure};
use crate::view::{PASTE, SignInWays};
use crate::wire::{self, Reply};
use crate::{core::Progress, oauth::token::Refusal};

/// There is no token, and this is what brings one.
pub fn not_yet(no_url: bool, progress: Progress) -> Reply {
    match progress {
        Progress::SignIn { ways, reason } => sign_in_needed(no_url, &ways, reason),
        Progress::Discovering { trouble } => discovering(trouble),
        Progress::AskingForCode => asking_for_code(),
        Progress::Exchanging { trouble } => being_completed(trouble),
        Progress::Refreshing { .. } => failure(Exit::TryLater, "Access token is being refreshed"),
        Progress::Parked(refusal) => refused(Exit::Config, "No token can be obtained", refusal),
        Progress::Deferred { delay, trouble } => {
            let delay = crate::time::humane(delay);
            let what = format!("The provider asked to wait, so the refresh begins in {delay}");
            match trouble {
                None => failure(Exit::TryLater, &what),
                Some(refusal) => refused(Exit::TryLater, &what, refusal),
            }
        }
    }
}

/// The user has to sign in there.
fn sign_in_needed(no_url: bool, ways: &SignInWays, reason: Option<Refusal>) -> Reply {
    let mut what = wire::unavailable(ways.uri().filter(|_| !no_url));
    if let (Some(device), false) = (&ways.device, no_url) {
        what.push_str(&format!(
            "\non any device: open {} and enter the code {}",
            device.verification_uri, device.user_code
        ));
    }
    if ways.paste && !no_url {
        what.push_str(&format!("\n{PASTE}"));
    }
    let failure = Failure::new(Exit::AuthorisationNeeded, what);
    Reply::Failure(failure.with_hint(reason.map(|refusal| refusal.line())))
}

/// Where to sign in isn't known yet.
fn discovering(trouble: Option<Refusal>) -> Reply {
    let what = wire::unavailable(None);
    match trouble {
        Some(refusal) => refused(Exit::TryLater, &what, refusal),
        None => {
            let what = format!("{what}; the issuer is being asked for its endpoints");
            Reply::Failure(Failure::new(Exit::TryLater, what).hint("ask again in a moment"))
        }
    }
}

/// The code is on its way.
fn asking_for_code() -> Reply {
    let what = wire::unavailable(None) + "; the code for that is being asked for";
    let failure = Failure::new(Exit::AuthorisationNeeded, what);
    Reply::Failure(failure.hint("ask again in a moment"))
}

/// A sign-in is being completed.
pub fn being_completed(trouble: Option<Refusal>) -> Reply {
    match trouble {
        None => failure(Exit::TryLater, "the authorisation is just being completed"),
        Some(refusal) => {
            let what = "the authorisation could not be completed yet";
            refused(Exit::TryLater, what, refusal)
        }
    }
}

/// The config has no such account.
pub fn no_account(name: &str) -> Reply {
    let name = crate::text::sanitize(name);
    failure(
        Exit::NoAccount,
        &format!("No account '{name}' in the configuration"),
    )
}

/// Not done, for this reason.
pub fn failure(exit: Exit, what: &str) -> Reply {
    Reply::Failure(Failure::new(exit, what))
}

/// Not done, in the provider's words.
pub fn refused(exit: Exit, what: &str, refusal: Refusal) -> Reply {
    let failure = Failure::new(exit, format!("{what}: {}", refusal.text));
    Reply::Failure(failure.with_hint(refusal.hint))
}

/// Done, with this to print.
pub fn json(value: &impl serde::Serialize) -> Reply {
    match serde_json::to_string(value) {
        Ok(text) => Reply::text(text),
        Err(error) => failure(Exit::Other, &error.to_string()),
    }
}
