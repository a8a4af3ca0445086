//! `pizauth register`: has a provider register a client, and prints the account for it. Needs no
//! server.

use std::{
    env,
    process::{Command, Stdio},
};

use url::Url;

use super::{print, tell};
use crate::error::{Exit, Failure};
use crate::oauth::metadata::{Metadata, Miss, MissKind};
use crate::oauth::registration::{self, REDIRECTS, Refused, Registered, Wanted};
use crate::{cli::RegisterOptions, http::Agents, secret::Secret, text::sanitize};

pub(super) fn run(options: &RegisterOptions) -> Result<(), Failure> {
    let block = block(options)?;
    print(block.expose().as_bytes())?;
    tell("registered: put this account into pizauth.conf, and run `pizauth reload`\n");
    Ok(())
}

/// The account of a client that is registered now.
pub(super) fn block(options: &RegisterOptions) -> Result<Secret, Failure> {
    let issuer = with_scheme(&options.issuer);
    let agents = Agents::default();
    let metadata = agents
        .metadata(&issuer)
        .map_err(|miss| unknown(&issuer, miss))?;
    let endpoint = metadata.registration_endpoint.as_ref();
    let endpoint = endpoint.ok_or_else(|| closed(&metadata))?;
    let token = options.token_cmd.as_deref().map(printed).transpose()?;
    let ask = |wanted: &Wanted| {
        let client = registration::request(&metadata, wanted);
        let outcome = agents.post_json(endpoint, &client, token.as_ref());
        registration::judge(endpoint, &outcome)
    };
    let device = registration::offers_device_codes(&metadata);
    let (wanted, client) = register(&options.scopes, device, ask)
        .map_err(|refused| failure(refused, &metadata, token.is_some()))?;
    let name = options.name.clone();
    let name = name.unwrap_or_else(|| host(&metadata.issuer));
    Ok(registration::block(&name, &metadata, &wanted, &client))
}

/// Asks for as much as the provider grants: one redirect after the other, and device codes if they
/// cost nothing else.
fn register(
    scopes: &[String],
    device: bool,
    ask: impl Fn(&Wanted) -> Result<Registered, Refused>,
) -> Result<(Wanted<'_>, Registered), Refused> {
    let mut last = String::new();
    for redirect_uri in REDIRECTS {
        let mut wanted = Wanted {
            redirect_uri,
            scopes,
            device,
        };
        let mut outcome = ask(&wanted);
        if device && matches!(outcome, Err(Refused::Metadata(_))) {
            wanted.device = false;
            outcome = ask(&wanted);
        }
        match outcome {
            Err(Refused::Redirect(why)) => last = why,
            outcome => return outcome.map(|client| (wanted, client)),
        }
    }
    Err(Refused::Redirect(last))
}

/// What is left to do.
const BY_HAND: &str = "register pizauth by hand, as the provider's documentation says, and put \
                       issuer and client_id into pizauth.conf";

/// The issuer as an address: people leave out what goes without saying.
pub(super) fn with_scheme(issuer: &str) -> String {
    match issuer.contains("://") {
        true => issuer.to_owned(),
        false => format!("https://{issuer}"),
    }
}

/// The host of an issuer.
pub(super) fn host(issuer: &str) -> String {
    let url = Url::parse(issuer).ok();
    let host = url.as_ref().and_then(Url::host_str);
    host.unwrap_or("account").to_owned()
}

/// Why an issuer can't be used.
pub(super) fn unknown(issuer: &str, miss: Miss) -> Failure {
    let exit = match miss.kind {
        MissKind::Unreachable => Exit::TryLater,
        MissKind::Absent | MissKind::Wrong => Exit::Other,
    };
    let what = format!("nothing is known of {}: {}", sanitize(issuer), miss.text);
    Failure::new(exit, what).with_hint(miss.hint.map(Into::into))
}

fn closed(metadata: &Metadata) -> Failure {
    let issuer = sanitize(&metadata.issuer);
    let what = format!("{issuer} has no registration_endpoint: programs can't register themselves");
    Failure::other(what).hint(BY_HAND)
}

fn failure(refused: Refused, metadata: &Metadata, has_token: bool) -> Failure {
    match refused {
        Refused::Token(why) => {
            let hint = match has_token {
                true => "the token may be spent or expired: get another",
                false => {
                    "get an initial access token from the provider, and name a command that \
                     prints it with `--token-cmd`"
                }
            };
            let what = format!("the provider wants to know who registers a client: {why}");
            Failure::other(what).hint(hint)
        }
        Refused::Passing(why) => Failure::new(Exit::TryLater, format!("not registered: {why}")),
        Refused::Redirect(why) => {
            let what = format!("the provider takes no redirect to this machine: {why}");
            Failure::other(what).hint(BY_HAND)
        }
        Refused::Metadata(why) | Refused::Other(why) => {
            let listed = metadata.listed_scopes();
            let listed = listed.filter(|_| why.contains("scope"));
            let failure = Failure::other(format!("not registered: {why}"));
            failure.hint(listed.unwrap_or_else(|| BY_HAND.to_owned()))
        }
    }
}

/// The first line of what `command` prints.
fn printed(command: &str) -> Result<Secret, Failure> {
    let failed = |why: &str| Failure::other(format!("the command of --token-cmd {why}"));
    let shell = env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let output = Command::new(shell.unwrap_or_else(|| "/bin/sh".into()))
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(&format!("can't be run: {error}")))?;
    if !output.status.success() {
        return Err(failed(&format!("failed: {}", output.status)));
    }
    let line = output.stdout.split(|byte| *byte == b'\n').next();
    let token = std::str::from_utf8(line.unwrap_or_default());
    let token = token.unwrap_or_default().trim();
    let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
    match token.is_empty() || !printable {
        true => Err(failed("printed no token")),
        false => Ok(Secret::new(token.to_owned())),
    }
}
