//! What the control socket's requests mean: the core's answers as replies.

use std::{
    fs,
    io::Read,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use sd_notify::NotifyState;

use super::{
    Daemon, broker::Hand, doors::Admitted, handover, restart, seals::Seals, shared::Shared,
};
use crate::{
    config::{self, Account, ClientSecret, Config, ConfigError},
    core::{Progress, dump},
    error::{Exit, Failure},
    oauth::token::Refusal,
    report,
    secret::SecretBytes,
    sys,
    view::{DeviceView, ServerInfo},
    wire::{AccountArgs, Reply, Request},
};

/// Answers a request that needs no waiting, for a client that was admitted.
pub fn answer(daemon: &Arc<Daemon>, admitted: &Admitted, request: Request) -> Reply {
    let shared = &daemon.shared;
    match request {
        Request::Dump => {
            let dump = shared.with(|core, cx| core.dump(cx));
            Reply::Bytes(SecretBytes::new(dump))
        }
        Request::Info => json(&info(daemon)),
        Request::Refresh(args) => refresh(shared, &args),
        Request::Reload => match reload(daemon) {
            Ok(remark) => Reply::text(remark),
            Err(failure) => Reply::Failure(failure),
        },
        Request::Restart => match restart::request(daemon) {
            Ok(()) => Reply::done(),
            Err(failure) => Reply::Failure(failure),
        },
        Request::Restore(bytes) => restore(shared, bytes),
        Request::Shutdown => {
            daemon.stop();
            Reply::done()
        }
        Request::Status => {
            let mut views = shared.with(|core, cx| core.status(cx.now));
            views.retain(|view| admitted.sees(&view.account));
            json(&report::status(&views))
        }
        // clients.rs answers these.
        Request::Auth(_)
        | Request::Await(_)
        | Request::Redirect(_)
        | Request::Revoke(_)
        | Request::Show(_)
        | Request::Watch => failure(Exit::Other, "not here"),
    }
}

fn refresh(shared: &Arc<Shared>, args: &AccountArgs) -> Reply {
    match shared.with(|core, cx| core.refresh(cx, &args.account)) {
        None => no_account(&args.account),
        Some(Progress::Refreshing { .. }) => Reply::done(),
        Some(progress) => not_yet(args.no_url, progress),
    }
}

fn restore(shared: &Arc<Shared>, mut bytes: SecretBytes) -> Reply {
    let opened = dump::open_in_place(&mut bytes);
    drop(bytes);
    let reply = match opened {
        Ok(dump) => {
            let taken = shared.with(|core, cx| core.restore(cx, dump));
            log::info!("restored the tokens of {taken} accounts");
            Reply::done()
        }
        Err(error) => failure(Exit::Other, &format!("nothing was restored: {error}")),
    };
    sys::trim_heap();
    reply
}

/// Reads the config again: all of it, or nothing. The remark says what needs a restart.
pub fn reload(daemon: &Arc<Daemon>) -> Result<String, Failure> {
    super::notify_reloading(daemon);
    let outcome = try_reload(daemon);
    super::notify(daemon, &[NotifyState::Ready]);
    outcome
}

fn try_reload(daemon: &Arc<Daemon>) -> Result<String, Failure> {
    #[cfg(all(debug_assertions, target_os = "linux"))]
    super::intruder::visit(daemon);
    // One at a time, or a file that was read before could come into force after another.
    let _turn = daemon.reload_turn();
    let hand = daemon.shared.broker().hand()?;
    let (config, seals) = read_config(&daemon.config_file, &hand)?;
    let doors = daemon.doors.prepare(&hand, &config.sockets, &seals)?;
    drop(hand);
    daemon.shared.broker().learn(seals);
    let listeners = handover::listeners(&config);
    daemon.shared.with(|core, cx| core.reload(cx, config));
    daemon.doors.commit(doors);
    daemon.reloads.fetch_add(1, Ordering::AcqRel);
    sys::trim_heap();
    log::info!("the configuration was reloaded");
    let bound = daemon.kept().as_ref().map(|kept| kept.listeners.clone());
    Ok(match bound.is_some_and(|bound| bound != listeners) {
        true => LISTENERS_STAY.into(),
        false => String::new(),
    })
}

/// The ports that browsers know don't change while the server runs.
const LISTENERS_STAY: &str = "http_listen and https_listen stay as they were until you run \
                              `pizauth shutdown` and `pizauth server`\n";

/// Reads and checks the configuration, and logs what should be changed in it.
pub fn read_config(file: &Path, hand: &Hand) -> Result<(Config, Seals), Failure> {
    let (config, seals) = hand.config(|read| parse_config(file, read))?;
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    Ok((config, seals))
}

/// A configuration as it was read.
pub struct ReadConfig {
    /// All of it, or a byte more than it may have.
    pub bytes: Vec<u8>,
    /// Other users may read it.
    pub shared: bool,
}

/// Checks the configuration.
pub fn parse_config(file: &Path, read: ReadConfig) -> Result<Config, Failure> {
    let name = file.display().to_string();
    let text = config::text(&name, read.bytes).map_err(bad_config)?;
    let mut config = config::parse(&name, &text).map_err(bad_config)?;
    let given = |account: &Account| matches!(account.client.secret, ClientSecret::Given(_));
    if read.shared && config.accounts.iter().any(given) {
        config.warnings.push(format!(
            "{name}: the file's mode lets other users read it, and a client_secret is in it (`chmod go-r` helps)"
        ));
    }
    Ok(config)
}

/// A config error as the one who asks gets to see it.
pub fn bad_config(error: ConfigError) -> Failure {
    Failure {
        what: error.report(),
        hint: error.advice().map(str::to_owned),
        exit: Exit::Other,
    }
}

/// Reads the configuration.
pub fn config_bytes(file: &Path) -> Result<ReadConfig, Failure> {
    let opened = fs::File::open(file).map_err(|error| unreadable(file, &error))?;
    let found = opened
        .metadata()
        .map_err(|error| unreadable(file, &error))?;
    if !found.is_file() {
        let what = format!("the configuration {} is no regular file", file.display());
        return Err(Failure::new(Exit::Other, what));
    }
    let mut bytes = Vec::new();
    opened
        .take((config::MAX_CONFIG_BYTES as u64).saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(file, &error))?;
    Ok(ReadConfig {
        bytes,
        shared: found.mode() & READABLE_BY_OTHERS != 0,
    })
}

/// The bits of a file's mode that let its group and the rest read it (inode(7)).
const READABLE_BY_OTHERS: u32 = 0o044;

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    let what = format!("can't read the configuration {}: {error}", file.display());
    Failure::new(Exit::Other, what)
}

fn info(daemon: &Daemon) -> ServerInfo {
    let (hook_runner, hook_runner_losses) = daemon.shared.hooks().runner();
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
        pid: std::os::unix::process::parent_id(),
        token_holder: std::process::id(),
        restarts: daemon.kept().as_ref().map_or(0, |kept| kept.restarts),
        restart_failure: daemon.restart_failure().clone(),
        hook_runner,
        hook_runner_losses,
        pizauth_version: env!("CARGO_PKG_VERSION").into(),
        sandbox: daemon.sandbox.iter().map(|layer| (*layer).into()).collect(),
    }
}

/// There is no token, and this is what brings one.
pub fn not_yet(no_url: bool, progress: Progress) -> Reply {
    match progress {
        Progress::SignIn {
            uri,
            device,
            reason,
        } => sign_in_needed(no_url, &uri, device, reason),
        Progress::Discovering { trouble } => discovering(trouble),
        Progress::AskingForCode => asking_for_code(),
        Progress::Exchanging { trouble } => being_completed(trouble),
        Progress::Refreshing { .. } => {
            failure(Exit::TryLater, "the access token is being refreshed")
        }
    }
}

/// Somebody has to sign in there.
fn sign_in_needed(
    no_url: bool,
    uri: &str,
    device: Option<DeviceView>,
    reason: Option<Refusal>,
) -> Reply {
    // Scripts read the first line; it stays as it is.
    let mut what: String = match no_url {
        true => "Token unavailable until authorised".into(),
        false => format!("Token unavailable until authorised with URL {uri}"),
    };
    if let (Some(device), false) = (device, no_url) {
        what.push_str(&format!(
            "\non any device: open {} and enter the code {}",
            device.verification_uri, device.user_code
        ));
    }
    let failure = Failure::new(Exit::AuthorisationNeeded, what);
    Reply::Failure(match reason {
        Some(refusal) => failure.hint(refusal.line()),
        None => failure,
    })
}

/// Where to sign in isn't known yet.
fn discovering(trouble: Option<Refusal>) -> Reply {
    const WHAT: &str = "Token unavailable until authorised";
    match trouble {
        Some(refusal) => refused(Exit::TryLater, WHAT, refusal),
        None => {
            let what = format!("{WHAT}; the issuer is being asked for its endpoints");
            Reply::Failure(Failure::new(Exit::TryLater, what).hint("ask again in a moment"))
        }
    }
}

/// The code is on its way.
fn asking_for_code() -> Reply {
    let what = "Token unavailable until authorised; the code for that is being asked for";
    let failure = Failure::new(Exit::AuthorisationNeeded, what);
    Reply::Failure(failure.hint("ask again in a moment"))
}

/// Somebody is just signing in.
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
        &format!("no account `{name}` in the configuration"),
    )
}

/// Not done, for this reason.
pub fn failure(exit: Exit, what: &str) -> Reply {
    Reply::Failure(Failure::new(exit, what))
}

/// Not done, in the provider's words.
pub fn refused(exit: Exit, what: &str, refusal: Refusal) -> Reply {
    let failure = Failure::new(exit, format!("{what}: {}", refusal.text));
    Reply::Failure(match refusal.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}

/// Done, with this to print.
pub fn json(value: &impl serde::Serialize) -> Reply {
    match serde_json::to_string(value) {
        Ok(text) => Reply::text(text),
        Err(error) => failure(Exit::Other, &error.to_string()),
    }
}
