//! What the control socket's requests mean: the core's answers as replies.

use std::{fs, io::Read, path::Path, sync::Arc, time::Duration};

use super::{
    Daemon,
    shared::{Remotes, Settle, Shared},
};
use crate::{
    config::{self, Config},
    control::{self, Answer},
    core::{CallbackAnswer, Ended, Progress, Show, Waiter, Waiting, dump},
    error::{Exit, Failure},
    oauth::{authorization, token::Refusal},
    serve::ConnId,
    view::{DeviceView, ServerInfo, SignInStart},
    wire::{self, AccountArgs, AuthArgs, RedirectArgs, Reply, Request, RevokeArgs},
};

/// How long `redirect` waits for the exchange: a little longer than a request to a token endpoint
/// may take.
const EXCHANGE_WAIT: Duration = Duration::from_secs(40);

/// How long a client waits for the end of a sign-in before it has to ask again: so long may a
/// waiter be kept in mind whose client has gone.
const SIGN_IN_WAIT: Duration = Duration::from_secs(600);

/// How long `auth` waits for a device code: a little longer than the request for it may take.
const CODE_WAIT: Duration = Duration::from_secs(35);

/// How long `revoke` waits for the provider.
const REVOCATION_WAIT: Duration = Duration::from_secs(10);

/// Answers one request, or says how long its connection waits.
pub fn answer(daemon: &Arc<Daemon>, id: ConnId, request: Request) -> Answer {
    match request {
        Request::Auth(args) => auth(&daemon.shared, id, &args),
        Request::Await(args) => wait_for_sign_in(&daemon.shared, id, &args.account),
        Request::Redirect(args) => redirect(&daemon.shared, id, &args),
        Request::Revoke(args) => revoke(&daemon.shared, id, &args),
        request => answer_now(daemon, request).into(),
    }
}

fn answer_now(daemon: &Arc<Daemon>, request: Request) -> Reply {
    let shared = &daemon.shared;
    match request {
        Request::Dump => {
            let dump = shared.with(|core, cx| core.dump(cx));
            Reply::Bytes(zeroize::Zeroizing::new(dump))
        }
        Request::Info => json(&info(daemon)),
        // These wait, so they have been answered above.
        Request::Auth(_) | Request::Await(_) | Request::Redirect(_) | Request::Revoke(_) => {
            Reply::done()
        }
        Request::Refresh(args) => refresh(shared, &args),
        Request::Reload => match reload(daemon) {
            Ok(remark) => Reply::text(remark),
            Err(failure) => Reply::Failure(failure),
        },
        Request::Restore(bytes) => restore(shared, &bytes),
        Request::Show(args) => show(shared, &args),
        Request::Shutdown => {
            daemon.stop();
            Reply::done()
        }
        Request::Status => json(&shared.with(|core, cx| core.status(cx.now))),
    }
}

fn show(shared: &Arc<Shared>, args: &AccountArgs) -> Reply {
    match shared.with(|core, cx| core.show(cx, &args.account)) {
        None => no_account(&args.account),
        Some(Show::Token(token)) => Reply::Token(token),
        Some(Show::SignIn {
            uri,
            device,
            reason,
        }) => sign_in_needed(args, &uri, device, reason),
        Some(Show::AskingForCode) => asking_for_code(),
        Some(Show::Exchanging) => being_completed(),
        Some(Show::Refreshing { trouble: None }) => failure(
            Exit::TryLater,
            "the access token has expired and is being refreshed",
        ),
        Some(Show::Refreshing {
            trouble: Some(refusal),
        }) => refused(
            Exit::TryLater,
            "the access token has expired and could not be refreshed yet",
            refusal,
        ),
        Some(Show::Parked(refusal)) => refused(
            Exit::Config,
            "the access token has expired and can not be refreshed",
            refusal,
        ),
    }
}

fn refresh(shared: &Arc<Shared>, args: &AccountArgs) -> Reply {
    match shared.with(|core, cx| core.refresh(cx, &args.account)) {
        None => no_account(&args.account),
        Some(Progress::Refreshing) => Reply::done(),
        Some(Progress::SignIn {
            uri,
            device,
            reason,
        }) => sign_in_needed(args, &uri, device, reason),
        Some(Progress::AskingForCode) => asking_for_code(),
        Some(Progress::Exchanging) => being_completed(),
    }
}

/// Takes an authorization response that somebody has pasted.
fn redirect(shared: &Arc<Shared>, id: ConnId, args: &RedirectArgs) -> Answer {
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
        CallbackAnswer::Wait { .. } => Answer::Wait(EXCHANGE_WAIT, being_completed()),
        CallbackAnswer::Refused { account, refusal } => refused_sign_in(&account, &refusal).into(),
        CallbackAnswer::Already { account, result } => signed_in(&account, &result).into(),
        CallbackAnswer::OtherIssuer { account } => {
            let what = format!("this address comes from another provider than that of `{account}`");
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
fn auth(shared: &Arc<Shared>, id: ConnId, args: &AuthArgs) -> Answer {
    let waiter = Waiter(id.number());
    match shared.with(|core, cx| core.auth(cx, &args.account, args.join, waiter)) {
        None => no_account(&args.account).into(),
        Some(start @ SignInStart::AskingForCode) => Answer::Wait(CODE_WAIT, json(&start)),
        Some(start) => json(&start).into(),
    }
}

/// Waits for the end of a sign-in.
fn wait_for_sign_in(shared: &Arc<Shared>, id: ConnId, account: &str) -> Answer {
    let waiter = Waiter(id.number());
    match shared.with(|core, cx| core.wait_for_sign_in(cx, account, waiter)) {
        None => no_account(account).into(),
        Some(Ok(Waiting::Yes)) => {
            Answer::Wait(SIGN_IN_WAIT, Reply::text(wire::STILL_PENDING.into()))
        }
        Some(Ok(Waiting::No)) => signed_in(account, &Ok(())).into(),
        Some(Err(refusal)) => refused_sign_in(account, &refusal).into(),
    }
}

/// Tells clients and browsers about the end of the sign-in that they wait for.
pub fn settle(browsers: Settle, clients: Arc<Remotes>) -> Settle {
    Box::new(move |waiter, what, account, result| {
        let reply = control::encoded(&match what {
            Ended::SignIn => signed_in(account, result),
            // The client asks again, and hears it then.
            Ended::Code => json(&SignInStart::AskingForCode),
            Ended::Revocation => revoked(result),
        });
        clients.send(ConnId::from_number(waiter.0), &reply);
        browsers(waiter, what, account, result);
    })
}

fn revoke(shared: &Arc<Shared>, id: ConnId, args: &RevokeArgs) -> Answer {
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
            Answer::Wait(REVOCATION_WAIT, Reply::text(note.into()))
        }
    }
}

/// What `revoke` has to add: the tokens are forgotten in any case.
fn revoked(result: &Result<(), Refusal>) -> Reply {
    match result {
        Ok(()) => Reply::done(),
        Err(refusal) => Reply::text(format!(
            "the tokens are forgotten here, but the provider has not revoked them: {}\n",
            told(refusal)
        )),
    }
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

fn restore(shared: &Arc<Shared>, bytes: &[u8]) -> Reply {
    match dump::open(bytes) {
        Ok(dump) => {
            let taken = shared.with(|core, cx| core.restore(cx, dump));
            log::info!("restored the tokens of {taken} accounts");
            Reply::done()
        }
        Err(error) => failure(Exit::Other, &format!("nothing was restored: {error}")),
    }
}

/// Reads the config again: all of it, or nothing. The remark says what needs a restart.
pub fn reload(daemon: &Arc<Daemon>) -> Result<String, Failure> {
    let config = read_config(&daemon.config_file)?;
    let remark = daemon.shared.with(|core, cx| {
        let old = core.config().clone();
        let moved =
            old.http_listen != config.http_listen || old.https_listen != config.https_listen;
        core.reload(cx, config);
        moved
    });
    log::info!("the configuration was reloaded");
    Ok(match remark {
        true => "http_listen and https_listen take effect when pizauth is restarted\n".into(),
        false => String::new(),
    })
}

/// Reads and checks the configuration.
pub fn read_config(file: &Path) -> Result<Config, Failure> {
    let cant = |error: std::io::Error| {
        let what = format!("can't read the configuration {}: {error}", file.display());
        Failure::new(Exit::Other, what)
    };
    let opened = fs::File::open(file).map_err(cant)?;
    if !opened.metadata().map_err(cant)?.is_file() {
        let what = format!("the configuration {} is no regular file", file.display());
        return Err(Failure::new(Exit::Other, what));
    }
    let mut text = String::new();
    opened
        .take(config::MAX_CONFIG_BYTES as u64 + 1)
        .read_to_string(&mut text)
        .map_err(cant)?;
    let config = config::parse(&file.display().to_string(), &text).map_err(|error| Failure {
        what: error.report(),
        hint: error.advice().map(str::to_owned),
        exit: Exit::Other,
    })?;
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    Ok(config)
}

fn info(daemon: &Daemon) -> ServerInfo {
    ServerInfo {
        config_file: daemon.config_file.display().to_string(),
        http_port: daemon.ports.http,
        https_port: daemon.ports.https,
        https_pub_key: daemon
            .https
            .as_ref()
            .map(|https| https.public_key_sha256.clone()),
        https_fingerprint: daemon
            .https
            .as_ref()
            .map(|https| https.certificate_sha256.clone()),
        pid: std::process::id(),
        pizauth_version: env!("CARGO_PKG_VERSION").into(),
    }
}

fn sign_in_needed(
    args: &AccountArgs,
    uri: &str,
    device: Option<DeviceView>,
    reason: Option<Refusal>,
) -> Reply {
    // Scripts read the first line; it stays as it is.
    let mut what: String = match args.no_url {
        true => "Token unavailable until authorised".into(),
        false => format!("Token unavailable until authorised with URL {uri}"),
    };
    if let (Some(device), false) = (device, args.no_url) {
        what.push_str(&format!(
            "\non any device: open {} and enter the code {}",
            device.verification_uri, device.user_code
        ));
    }
    let failure = Failure::new(Exit::AuthorisationNeeded, what);
    Reply::Failure(match reason {
        Some(refusal) => failure.hint(told(&refusal)),
        None => failure,
    })
}

fn asking_for_code() -> Reply {
    let what = "Token unavailable until authorised; the code for that is being asked for";
    let failure = Failure::new(Exit::AuthorisationNeeded, what);
    Reply::Failure(failure.hint("ask again in a moment"))
}

fn being_completed() -> Reply {
    failure(Exit::TryLater, "the authorisation is just being completed")
}

fn no_account(account: &str) -> Reply {
    let name = crate::text::sanitize(account);
    failure(
        Exit::NoAccount,
        &format!("no account `{name}` in the configuration"),
    )
}

fn failure(exit: Exit, what: &str) -> Reply {
    Reply::Failure(Failure::new(exit, what))
}

fn refused(exit: Exit, what: &str, refusal: Refusal) -> Reply {
    let failure = Failure::new(exit, format!("{what}: {}", refusal.text));
    Reply::Failure(match refusal.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}

/// A refusal and its hint as one line.
fn told(refusal: &Refusal) -> String {
    match &refusal.hint {
        Some(hint) => format!("{} ({hint})", refusal.text),
        None => refusal.text.clone(),
    }
}

fn json(value: &impl serde::Serialize) -> Reply {
    match serde_json::to_string(value) {
        Ok(text) => Reply::text(text),
        Err(error) => failure(Exit::Other, &error.to_string()),
    }
}
