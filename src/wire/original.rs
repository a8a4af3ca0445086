//! The protocol of the original pizauth, 0.2 to 1.1.0, for a client that meets its daemon and a
//! server that meets its client: a command, a colon and what it is about; the end of the writing
//! half; the answer, to the end. Until it has seen the client's end, its daemon says nothing.

use super::{Request, trouble};
use crate::{
    error::{Exit, Failure},
    form::{Form, Format},
    secret::SecretBytes,
};

/// What its clients start with.
const COMMANDS: &str = "dump info refresh reload restore revoke showtoken shutdown status";

/// How a failure starts, such as one about a command that it doesn't know.
const ERROR: &[u8] = b"error:";

/// How its daemon says that an account isn't in the config.
const NO_ACCOUNT: &str = "No account ";

/// How it says that a token is to be refreshed first.
const EXPIRED: &str = "Access token has expired";

/// What its client hears from this program, if `input` is from one.
pub fn refuse(input: &[u8]) -> Option<&'static [u8]> {
    let ours = |command: &&str| {
        let rest = input.strip_prefix(command.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b":"))
    };
    Some(match COMMANDS.split(' ').find(ours)? {
        // It would keep whatever it gets.
        "dump" => b"",
        _ => b"error:a newer pizauth is running here, which the `pizauth` of its version can ask",
    })
}

/// Whether `answer`, to a request in our own protocol, is its daemon's.
pub fn is_its(answer: &[u8]) -> bool {
    answer.starts_with(ERROR)
}

/// The request in its words; `None` for what it doesn't know.
pub fn encode(request: &Request) -> Option<SecretBytes> {
    let about = |command: &str, no_url: bool, account: &str| {
        let url = match no_url {
            true => "withouturl",
            false => "withurl",
        };
        format!("{command}:{url} {account}")
    };
    let text = match request {
        Request::Dump => "dump:".into(),
        Request::Info => "info:".into(),
        Request::Refresh(args) => about("refresh", args.no_url, &args.account),
        Request::Reload => "reload:".into(),
        Request::Restore(dump) => {
            return Some(SecretBytes::new([b"restore:", dump.as_slice()].concat()));
        }
        Request::Revoke(args) => format!("revoke:{}", args.account),
        Request::Show(args) if args.min_valid_secs.is_none() && is_plain(&args.form) => {
            about("showtoken", args.no_url, &args.account)
        }
        Request::Shutdown => "shutdown:".into(),
        Request::Status => "status:".into(),
        Request::Auth(_)
        | Request::Await(_)
        | Request::Import(_)
        | Request::Redirect(_)
        | Request::Restart
        | Request::Save
        | Request::Show(_)
        | Request::Watch => return None,
    };
    Some(SecretBytes::new(text.into_bytes()))
}

fn is_plain(form: &Form) -> bool {
    form.format == Format::Raw && !form.id_token
}

/// What of its daemon's `answer` is the reply's body.
///
/// # Errors
/// The daemon's own, or why this is no answer to that. The words aren't safe for a terminal.
pub fn reply(request: &Request, mut answer: SecretBytes) -> Result<SecretBytes, Failure> {
    let rest = |word: &[u8]| {
        let rest = answer.strip_prefix(word)?;
        Some(String::from_utf8_lossy(rest).into_owned())
    };
    if let Some(why) = rest(ERROR) {
        let exit = match why {
            _ if why.starts_with(NO_ACCOUNT) => Exit::NoAccount,
            _ if why.starts_with(EXPIRED) => Exit::TryLater,
            _ => Exit::Other,
        };
        return Err(Failure::new(exit, why));
    }
    let word: &[u8] = match request {
        // What these say, it says as it is.
        Request::Dump | Request::Info | Request::Shutdown => b"",
        Request::Refresh(_) | Request::Show(_) if answer.starts_with(b"pending:") => {
            // Somebody has to sign in, there if it says where.
            let what = super::unavailable(rest(b"pending:").as_deref());
            return Err(Failure::new(Exit::AuthorisationNeeded, what));
        }
        Request::Refresh(_) => b"scheduled:",
        Request::Show(_) => b"access_token:",
        _ => b"ok:",
    };
    match answer.starts_with(word) {
        true => {
            answer.drain(..word.len());
            Ok(answer)
        }
        false => Err(trouble("an older pizauth gives an answer that isn't one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{RevokeArgs, ShowArgs};

    fn show(no_url: bool) -> Request {
        Request::Show(ShowArgs {
            account: "my work".into(),
            no_url,
            ..ShowArgs::default()
        })
    }

    fn refresh() -> Request {
        Request::Refresh(ShowArgs {
            account: "work".into(),
            no_url: true,
            ..ShowArgs::default()
        })
    }

    #[test]
    fn requests_are_said_in_its_words() {
        for (request, text) in [
            (Request::Dump, "dump:"),
            (Request::Info, "info:"),
            (refresh(), "refresh:withouturl work"),
            (Request::Reload, "reload:"),
            (
                Request::Restore(SecretBytes::new(b"a\nb".to_vec())),
                "restore:a\nb",
            ),
            (
                Request::Revoke(RevokeArgs {
                    account: "work".into(),
                    local: false,
                }),
                "revoke:work",
            ),
            (show(false), "showtoken:withurl my work"),
            (show(true), "showtoken:withouturl my work"),
            (Request::Shutdown, "shutdown:"),
            (Request::Status, "status:"),
        ] {
            let bytes = encode(&request).unwrap();
            assert_eq!(bytes.as_slice(), text.as_bytes());
            assert!(refuse(&bytes).is_some(), "{text}");
        }
        assert_eq!(encode(&Request::Restart), None);
        assert_eq!(
            encode(&Request::Show(ShowArgs {
                min_valid_secs: Some(1),
                ..ShowArgs::default()
            })),
            None
        );
    }

    #[test]
    fn answers_are_understood() {
        let heard = |request: &Request, answer: &str| {
            let body = reply(request, SecretBytes::new(answer.as_bytes().to_vec()));
            body.map(|body| String::from_utf8(body.to_vec()).unwrap())
                .map_err(|failure| (failure.exit, failure.what))
        };
        for (request, answer, body) in [
            (show(false), "access_token:t:1", "t:1"),
            (refresh(), "scheduled:", ""),
            (Request::Status, "ok:a: b\n", "a: b\n"),
            (Request::Reload, "ok:", ""),
            (Request::Dump, "any:\0", "any:\0"),
            (Request::Shutdown, "", ""),
        ] {
            assert_eq!(heard(&request, answer), Ok(body.into()), "{answer}");
        }
        for (request, answer, exit, what) in [
            (
                show(false),
                "pending:https://a.example/?b",
                Exit::AuthorisationNeeded,
                "Access token unavailable until authorised with URL https://a.example/?b",
            ),
            (
                show(true),
                "pending:",
                Exit::AuthorisationNeeded,
                "Access token unavailable until authorised",
            ),
            (
                show(true),
                "error:No account 'x'",
                Exit::NoAccount,
                "No account 'x'",
            ),
            (
                show(true),
                "error:Access token has expired. Refreshing initiated",
                Exit::TryLater,
                "Access token has expired. Refreshing initiated",
            ),
            (Request::Dump, "error:no", Exit::Other, "no"),
            (
                show(true),
                "ok:",
                Exit::NoServer,
                "trouble with the server: an older pizauth gives an answer that isn't one",
            ),
        ] {
            assert_eq!(
                heard(&request, answer),
                Err((exit, what.into())),
                "{answer}"
            );
        }
    }

    #[test]
    fn its_clients_are_told_apart_from_ours() {
        assert_eq!(refuse(b"dump:"), Some(&b""[..]));
        assert!(refuse(b"status:").unwrap().starts_with(ERROR));
        for input in [&b"pizauth 1 dump 0\n"[..], b"", b"dum", b"dump 0\n"] {
            assert_eq!(refuse(input), None);
        }
    }
}
