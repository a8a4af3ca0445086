//! The verbs about signing in and out, whose clients may have to wait.

use std::{sync::Arc, time::Duration};

use url::Url;

use super::{
    engine::Engine,
    replies::{failure, json, no_account, refused},
};
use crate::control;
use crate::core::{CallbackAnswer, Ended, ShowRequest, Waiter};
use crate::error::{Exit, Failure};
use crate::oauth::authorization::{self, Pasted};
use crate::oauth::token::Refusal;
use crate::secret::Secret;
use crate::wire::{self, AuthArgs, ImportArgs, RedirectArgs, Reply, RevokeArgs};
use crate::{serve::ConnId, view::SignInStart};

/// How long `redirect` waits for the exchange: a little longer than a request to a token endpoint
/// may take.
const EXCHANGE_WAIT: Duration = Duration::from_secs(40);

/// How long a client waits for the end of a sign-in before it has to ask again.
const SIGN_IN_WAIT: Duration = Duration::from_secs(600);

/// How long `auth` waits for a device code: a little longer than the request for it may take.
const CODE_WAIT: Duration = Duration::from_secs(35);

/// How long `revoke` waits for the provider.
const REVOCATION_WAIT: Duration = Duration::from_secs(10);

/// How long a client waits for a job, which may have to wait for another one first: as long as
/// clients do.
const JOB_WAIT: Duration = Duration::from_secs(60);

/// What a client hears now, or waits for.
pub type ClientAnswer = control::Answer<Waiting>;

/// What a client waits for.
pub enum Waiting {
    /// A token of this account.
    Token(ShowRequest, String),
    /// What [`settled`] or a job says, once it is called.
    End {
        /// The account whose end it is; none for a job.
        account: Option<String>,
        /// What the client hears that has waited in vain; if nothing, why the account's code couldn't
        /// be exchanged yet.
        in_vain: Option<Reply>,
    },
}

/// The reply of a job that has begun.
pub fn by_job() -> ClientAnswer {
    let late = failure(
        Exit::TryLater,
        "it takes too long; the log says what it does",
    );
    later(JOB_WAIT, None, Some(late))
}

fn later(limit: Duration, account: Option<&str>, in_vain: Option<Reply>) -> ClientAnswer {
    let account = account.map(str::to_owned);
    ClientAnswer::Wait(limit, Waiting::End { account, in_vain })
}

/// The reply to a client that has waited for this.
pub fn settled(what: Ended, account: &str, result: &Result<(), Refusal>) -> Reply {
    match what {
        Ended::SignIn | Ended::Refresh => signed_in(account, result),
        // The client asks again, and hears it then.
        Ended::Code => match result {
            Ok(()) => json(&SignInStart::AskingForCode),
            Err(refusal) => nobody_can_yet(account, refusal),
        },
        Ended::Revocation => revoked(result),
        Ended::Saving => match result {
            Ok(()) => Reply::done(),
            Err(refusal) => failure(Exit::Other, &refusal.text),
        },
    }
}

/// How to paste an address so that all of it arrives.
const WHOLE: &str = "it must be the address that the browser ended at after signing in, with all that \
                     is behind the `?`; a shell cuts it at `&`, so put it in quotes, or run `pizauth \
                     redirect` and paste it there";

/// What a code is for that comes without its address.
const WHOSE: &str = "a code alone is for an account whose `redirect_uri` is a page elsewhere and whose \
                     sign-in is pending: name it with `-a`; others need the whole address";

/// Takes an authorization response that the user has pasted.
pub fn redirect(engine: &Arc<Engine>, id: ConnId, args: &RedirectArgs) -> ClientAnswer {
    // An address that was copied out of a page's source.
    let text = Secret::new(args.address.expose().replace("&amp;", "&"));
    let answer = match taken(engine, id, args.account.as_deref(), &text) {
        Ok(answer) => answer,
        Err((what, hint)) => {
            return Reply::Failure(Failure::new(Exit::Usage, what).hint(hint)).into();
        }
    };
    match answer {
        CallbackAnswer::Wait { account } => later(EXCHANGE_WAIT, Some(&account), None),
        CallbackAnswer::Over { account, result } => signed_in(&account, &result).into(),
        CallbackAnswer::OtherProvider { account } => {
            let what = format!(
                "this address comes from another provider than that of `{account}`, or doesn't say \
                 from which; `redirect_uri` and issuer must be that account's"
            );
            let hint = "nothing was changed; sign in at the address that `pizauth auth` shows";
            Reply::Failure(Failure::new(Exit::Other, what).hint(hint)).into()
        }
        CallbackAnswer::Stale => {
            let what = "no sign-in waits for this address: it is old, or was altered on the way";
            let hint = "`pizauth auth <account>` says which address to open now";
            Reply::Failure(Failure::new(Exit::Other, what).hint(hint)).into()
        }
    }
}

/// Hands what was pasted on to the core, or says what is wrong with it and what to do.
fn taken(
    engine: &Arc<Engine>,
    id: ConnId,
    account: Option<&str>,
    text: &Secret,
) -> Result<CallbackAnswer, (String, &'static str)> {
    let waiter = Waiter(id.0);
    let code_for = |at: Option<&Url>, code: &str| {
        let code = Secret::new(code.to_owned());
        engine.with(|core, cx| core.pasted_code(cx, account, at, code, waiter))
    };
    match authorization::pasted(text.expose()) {
        Pasted::Other => {
            let what = "this address has no authorization response in it";
            Err((what.into(), WHOLE))
        }
        Pasted::Code(code) => {
            let what = "it isn't clear which sign-in this code is for";
            code_for(None, code).ok_or((what.into(), WHOSE))
        }
        Pasted::Address { at, params } => {
            let bare = authorization::bare_code(params);
            if let Some(answer) = bare.and_then(|code| code_for(Some(&at), &code)) {
                return Ok(answer);
            }
            let response = authorization::parse_callback(params).map_err(|fault| {
                let what = format!("this address has no usable authorization response: {fault}");
                (what, WHOLE)
            })?;
            Ok(engine.with(|core, cx| core.callback(cx, &at, response, waiter)))
        }
    }
}

/// Says where a sign-in stands, once there is something to say.
pub fn auth(engine: &Arc<Engine>, id: ConnId, args: &AuthArgs) -> ClientAnswer {
    let waiter = Waiter(id.0);
    let AuthArgs {
        account,
        join,
        no_wait,
        opens,
    } = args;
    match engine.on(account, |it, env| {
        it.auth(env, *join, *no_wait, *opens, waiter)
    }) {
        None => no_account(account).into(),
        Some(Ok(start @ SignInStart::AskingForCode)) => {
            later(CODE_WAIT, Some(account), Some(json(&start)))
        }
        Some(Ok(start)) => json(&start).into(),
        Some(Err(refusal)) => nobody_can_yet(account, &refusal).into(),
    }
}

/// Takes a refresh token of another program, and says what a refresh with it came to.
pub fn import(engine: &Arc<Engine>, id: ConnId, args: ImportArgs) -> ClientAnswer {
    let waiter = Waiter(id.0);
    let ImportArgs {
        account,
        refresh_token,
    } = args;
    match engine.on(&account, |it, env| it.import(env, refresh_token, waiter)) {
        None => no_account(&account).into(),
        Some(Ok(())) => {
            let what = format!("{account}: no refresh has proved the token yet");
            let late = Failure::new(Exit::TryLater, what).hint("`pizauth status` says how it goes");
            later(EXCHANGE_WAIT, Some(&account), Some(Reply::Failure(late)))
        }
        Some(Err(refusal)) => {
            refused(Exit::Other, &format!("{account}: not imported"), refusal).into()
        }
    }
}

/// Waits for the end of a sign-in.
pub fn wait_for_sign_in(engine: &Arc<Engine>, id: ConnId, account: &str) -> ClientAnswer {
    let waiter = Waiter(id.0);
    match engine.on(account, |it, env| it.wait_for_sign_in(env, waiter)) {
        None => no_account(account).into(),
        Some(Ok(true)) => {
            let pending = Reply::text(wire::STILL_PENDING.into());
            later(SIGN_IN_WAIT, Some(account), Some(pending))
        }
        Some(Ok(false)) => signed_in(account, &Ok(())).into(),
        Some(Err(refusal)) => refused_sign_in(account, &refusal).into(),
    }
}

/// Forgets the tokens, and tells the provider unless it shan't.
pub fn revoke(engine: &Arc<Engine>, id: ConnId, args: &RevokeArgs) -> ClientAnswer {
    let waiter = Waiter(id.0);
    let tell = (!args.local).then_some(waiter);
    match engine.on(&args.account, |it, env| it.revoke(env, tell)) {
        None => no_account(&args.account).into(),
        Some(false) => Reply::done().into(),
        Some(true) => {
            let note = "the provider hasn't answered yet; the server goes on asking it\n";
            let note = Some(Reply::text(note.into()));
            later(REVOCATION_WAIT, Some(&args.account), note)
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
    let what = format!("{account}: signing in isn't possible yet");
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
