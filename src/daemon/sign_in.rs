//! The verbs about signing in and out, whose clients may have to wait.

use std::{sync::Arc, time::Duration};

use super::{
    shared::Shared,
    verbs::{being_completed, failure, json, no_account, refused},
};
use crate::{
    core::{CallbackAnswer, Ended, SignInWait, Waiter},
    error::{Exit, Failure},
    oauth::{authorization, token::Refusal},
    serve::ConnId,
    view::SignInStart,
    wire::{self, AuthArgs, RedirectArgs, Reply, RevokeArgs},
};

/// How long `redirect` waits for the exchange: a little longer than a request to a token endpoint
/// may take.
const EXCHANGE_WAIT: Duration = Duration::from_secs(40);

/// How long a client waits for the end of a sign-in before it has to ask again.
const SIGN_IN_WAIT: Duration = Duration::from_secs(600);

/// How long `auth` waits for a device code: a little longer than the request for it may take.
const CODE_WAIT: Duration = Duration::from_secs(35);

/// How long `revoke` waits for the provider.
const REVOCATION_WAIT: Duration = Duration::from_secs(10);

/// What a client is told.
pub enum Told {
    /// This.
    Now(Reply),
    /// What [`settled`] says, once it is called.
    Later {
        /// In so long at most.
        limit: Duration,
        /// Whose end it waits for.
        account: String,
        /// What it hears if nothing else comes.
        last_words: LastWords,
    },
}

/// What a client hears that has waited in vain.
pub enum LastWords {
    /// This.
    These(Reply),
    /// Why the code couldn't be exchanged yet.
    Completing,
}

impl LastWords {
    /// The reply.
    pub fn reply(self, shared: &Arc<Shared>, account: &str) -> Reply {
        match self {
            LastWords::These(reply) => reply,
            LastWords::Completing => {
                let trouble = shared.with(|core, _| core.exchange_trouble(account).cloned());
                being_completed(trouble)
            }
        }
    }
}

impl Told {
    fn later(limit: Duration, account: &str, last_words: LastWords) -> Self {
        Told::Later {
            limit,
            account: account.to_owned(),
            last_words,
        }
    }
}

impl From<Reply> for Told {
    fn from(reply: Reply) -> Self {
        Told::Now(reply)
    }
}

/// The reply to whoever has waited for this.
pub fn settled(what: Ended, account: &str, result: &Result<(), Refusal>) -> Reply {
    match what {
        Ended::SignIn => signed_in(account, result),
        // The client asks again, and hears it then.
        Ended::Code => match result {
            Ok(()) => json(&SignInStart::AskingForCode),
            Err(refusal) => nobody_can_yet(account, refusal),
        },
        Ended::Revocation => revoked(result),
    }
}

/// Takes an authorization response that somebody has pasted.
pub fn redirect(shared: &Arc<Shared>, id: ConnId, args: &RedirectArgs) -> Told {
    let Some(params) = authorization::pasted_params(args.address.expose()) else {
        let what = "this address has no authorization response in it";
        let hint = "it must be the one that the browser was sent to after signing in, with all \
                    that is behind the `?`";
        return Reply::Failure(Failure::new(Exit::Usage, what).hint(hint)).into();
    };
    let response = match authorization::parse_callback(params) {
        Ok(response) => response,
        Err(fault) => {
            let what = format!("this address has no usable authorization response: {fault}");
            return failure(Exit::Usage, &what).into();
        }
    };
    let waiter = Waiter(id.number());
    match shared.with(|core, cx| core.callback(cx, response, waiter)) {
        CallbackAnswer::Wait { account } => {
            Told::later(EXCHANGE_WAIT, &account, LastWords::Completing)
        }
        CallbackAnswer::Refused { account, refusal } => refused_sign_in(&account, &refusal).into(),
        CallbackAnswer::Already { account, result } => signed_in(&account, &result).into(),
        CallbackAnswer::OtherIssuer { account } => {
            let what = format!(
                "this address comes from another provider than that of `{account}`, or doesn't say \
                 from which"
            );
            let hint = "nothing was changed; sign in at the provider that `pizauth show` names";
            Reply::Failure(Failure::new(Exit::Other, what).hint(hint)).into()
        }
        CallbackAnswer::Stale => {
            let what = "nobody waits for this address: it is old, or was altered on the way";
            let hint = "`pizauth show <account>` says which URL to open now";
            Reply::Failure(Failure::new(Exit::Other, what).hint(hint)).into()
        }
    }
}

/// Says where a sign-in stands, once there is something to say.
pub fn auth(shared: &Arc<Shared>, id: ConnId, args: &AuthArgs) -> Told {
    let waiter = Waiter(id.number());
    let AuthArgs {
        account,
        join,
        no_wait,
    } = args;
    match shared.with(|core, cx| core.auth(cx, account, *join, *no_wait, waiter)) {
        None => no_account(account).into(),
        Some(Ok(start @ SignInStart::AskingForCode)) => {
            Told::later(CODE_WAIT, account, LastWords::These(json(&start)))
        }
        Some(Ok(start)) => json(&start).into(),
        Some(Err(refusal)) => nobody_can_yet(account, &refusal).into(),
    }
}

/// Waits for the end of a sign-in.
pub fn wait_for_sign_in(shared: &Arc<Shared>, id: ConnId, account: &str) -> Told {
    let waiter = Waiter(id.number());
    match shared.with(|core, cx| core.wait_for_sign_in(cx, account, waiter)) {
        None => no_account(account).into(),
        Some(Ok(SignInWait::Yes)) => {
            let last_words = Reply::text(wire::STILL_PENDING.into());
            Told::later(SIGN_IN_WAIT, account, LastWords::These(last_words))
        }
        Some(Ok(SignInWait::No)) => signed_in(account, &Ok(())).into(),
        Some(Err(refusal)) => refused_sign_in(account, &refusal).into(),
    }
}

/// Forgets the tokens, and tells the provider unless it shan't.
pub fn revoke(shared: &Arc<Shared>, id: ConnId, args: &RevokeArgs) -> Told {
    let waiter = Waiter(id.number());
    let telling = shared.with(|core, cx| match args.local {
        true => core.revoke(cx, &args.account).then_some(false),
        false => core.revoke_and_tell(cx, &args.account, waiter),
    });
    match telling {
        None => no_account(&args.account).into(),
        Some(false) => Reply::done().into(),
        Some(true) => {
            let note = "the provider hasn't answered yet; the server goes on asking it\n";
            let last_words = LastWords::These(Reply::text(note.into()));
            Told::later(REVOCATION_WAIT, &args.account, last_words)
        }
    }
}

/// What `revoke` has to add: the tokens are forgotten in any case.
fn revoked(result: &Result<(), Refusal>) -> Reply {
    match result {
        Ok(()) => Reply::done(),
        Err(refusal) => Reply::text(format!(
            "the tokens are forgotten here, but the provider has not revoked them: {}\n",
            refusal.line()
        )),
    }
}

/// Where to sign in isn't known, and why.
fn nobody_can_yet(account: &str, refusal: &Refusal) -> Reply {
    let what = format!("{account}: nobody can sign in yet");
    refused(Exit::TryLater, &what, refusal.clone())
}

fn signed_in(account: &str, result: &Result<(), Refusal>) -> Reply {
    match result {
        Ok(()) => Reply::text(format!("{account}: authorised\n")),
        Err(refusal) => refused_sign_in(account, refusal),
    }
}

fn refused_sign_in(account: &str, refusal: &Refusal) -> Reply {
    let what = format!("{account}: authorisation failed");
    refused(Exit::AuthorisationNeeded, &what, refusal.clone())
}
