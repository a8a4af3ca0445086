//! `pizauth git-credential`: a credential helper as git-credential(1) and gitcredentials(7) describe
//! it. git writes attributes to stdin, a line each, and reads some from stdout.

use url::Url;

use super::{
    input, print, say,
    token::{self, Held},
};
use crate::{
    cli::GitCredentialOptions,
    config::is_loopback,
    error::{Exit, Failure},
    secret::{Secret, SecretBytes},
    wire::{Request, ShowArgs},
};

/// How much git may say, in bytes: a URL, a user and a token fit many times.
const MAX_INPUT_BYTES: usize = 64 << 10;

/// The user that GitLab wants beside a token; other forges take any name.
const FORGE_USER: &str = "oauth2";

/// What makes git give up, instead of asking other helpers and then the user for a password that
/// the server wouldn't take.
const QUIT: &[u8] = b"quit=1\n";

pub(super) fn run(options: &GitCredentialOptions) -> Result<(), Failure> {
    let asked = Asked::parse(&input(MAX_INPUT_BYTES, "hear git")?);
    match options.operation.as_str() {
        "get" => match get(options, &asked) {
            Ok(answer) => print(&answer),
            Err(failure) => {
                print(QUIT)?;
                Err(failure)
            }
        },
        "erase" => erase(options, &asked),
        // The server has the token; and what a later git wants is to be ignored in silence.
        _ => Ok(()),
    }
}

fn get(options: &GitCredentialOptions, asked: &Asked) -> Result<SecretBytes, Failure> {
    if asked.is_in_clear() {
        let what = "git wants to send the token without TLS";
        return Err(Failure::other(what).hint("use https in the URL"));
    }
    let held = token::fetch_to_use(options.token.clone())?;
    Ok(answer(options, asked, &held))
}

/// The server at the other end has refused what git sent. If that is still the token that others
/// would get, too, it is replaced.
fn erase(options: &GitCredentialOptions, asked: &Asked) -> Result<(), Failure> {
    let args = ShowArgs {
        wait_secs: None,
        min_valid_secs: None,
        ..options.token.clone()
    };
    let present = match token::fetch(args.clone()) {
        // It is being replaced already.
        Err(failure) if failure.exit == Exit::TryLater => return Ok(()),
        present => present?,
    };
    if asked.secret.as_ref().is_some_and(|it| *it != present.token) {
        return Ok(());
    }
    say(Request::Refresh(args))
}

/// What git says about the credential.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    protocol: String,
    /// With the port, if git has one.
    host: String,
    username: Option<String>,
    /// What the server has refused.
    secret: Option<Secret>,
    /// git can send a header with any scheme (git 2.46).
    any_scheme: bool,
}

impl Asked {
    /// Reads attributes up to an empty line; those of later versions are skipped.
    fn parse(input: &[u8]) -> Self {
        let mut asked = Asked::default();
        let lines = input.split(|byte| *byte == b'\n');
        let lines = lines.take_while(|line| !line.is_empty());
        let pair = |line| std::str::from_utf8(line).ok()?.split_once('=');
        for (key, value) in lines.filter_map(pair) {
            match key {
                "protocol" => value.clone_into(&mut asked.protocol),
                "host" => value.clone_into(&mut asked.host),
                "username" if !value.is_empty() => asked.username = Some(value.to_owned()),
                "password" | "credential" => asked.secret = Some(Secret::new(value.to_owned())),
                "capability[]" => asked.any_scheme |= value == "authtype",
                _ => {}
            }
        }
        asked
    }

    /// Whether this is about git's own protocol over HTTP, not mail.
    fn is_http(&self) -> bool {
        matches!(self.protocol.as_str(), "http" | "https")
    }

    /// Whether others on the network would see the token. Of mail git doesn't say: `smtp` is the
    /// word for TLS, too.
    fn is_in_clear(&self) -> bool {
        let url = Url::parse(&format!("http://{}", self.host));
        self.protocol == "http" && !url.is_ok_and(|url| is_loopback(&url))
    }
}

/// The attributes that git is to use.
fn answer(options: &GitCredentialOptions, asked: &Asked, held: &Held) -> SecretBytes {
    let mut text = String::new();
    let as_header = options.bearer && asked.any_scheme && asked.is_http();
    if as_header {
        text.push_str("capability[]=authtype\nauthtype=Bearer\n");
    } else if let Some(user) = user(options, asked, held) {
        text.push_str(&format!("username={user}\n"));
    }
    if let Some(expiry) = held.expiry_unix {
        text.push_str(&format!("password_expiry_utc={expiry}\n"));
    }
    let name = if as_header { "credential" } else { "password" };
    let line = format!("{name}={}\n", held.token.expose());
    SecretBytes::new((text + &line).into_bytes())
}

/// The user for this credential. An account's `login_hint` is a mailbox, which means nothing to a
/// forge.
fn user<'a>(
    options: &'a GitCredentialOptions,
    asked: &'a Asked,
    held: &'a Held,
) -> Option<&'a str> {
    let own = match asked.is_http() {
        true => Some(FORGE_USER),
        false => held.login_hint.as_deref(),
    };
    let user = options.token.user().or(asked.username.as_deref());
    user.or(own.filter(|own| !own.contains(char::is_control)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::Form;

    fn held() -> Held {
        Held {
            token: Secret::new("at=1".into()),
            expiry_unix: Some(1_800_000_000),
            login_hint: Some("me@example.com".into()),
            provider: None,
            scopes: Vec::new(),
        }
    }

    fn text(options: &GitCredentialOptions, input: &str) -> String {
        let answer = answer(options, &Asked::parse(input.as_bytes()), &held());
        String::from_utf8(answer.to_vec()).unwrap()
    }

    #[test]
    fn the_answer_names_the_user_the_life_and_the_token() {
        let plain = GitCredentialOptions::default();
        let named = GitCredentialOptions {
            token: ShowArgs {
                form: Form {
                    user: Some("x-token-auth".into()),
                    ..Form::default()
                },
                ..ShowArgs::default()
            },
            ..GitCredentialOptions::default()
        };
        let rest = "password_expiry_utc=1800000000\npassword=at=1\n";
        for (options, input, user) in [
            (&plain, "protocol=smtp\nhost=h:587\n", "me@example.com"),
            (&plain, "protocol=smtp\nusername=you\n", "you"),
            (&plain, "protocol=smtp\nusername=\n", "me@example.com"),
            (&plain, "protocol=https\nhost=h\npath=a.git\n", "oauth2"),
            (&plain, "protocol=https\nusername=you\n\nusername=x", "you"),
            (&named, "protocol=https\nusername=you\n", "x-token-auth"),
            (&named, "protocol=smtp\nhost=h\n", "x-token-auth"),
        ] {
            assert_eq!(
                text(options, input),
                format!("username={user}\n{rest}"),
                "{input}"
            );
        }
        let nobody = Held {
            login_hint: Some("a\nb".into()),
            expiry_unix: None,
            ..held()
        };
        let asked = Asked::parse(b"protocol=smtp\n");
        assert_eq!(*answer(&plain, &asked, &nobody), b"password=at=1\n");
    }

    #[test]
    fn a_header_is_for_a_git_that_can_send_one() {
        let bearer = GitCredentialOptions {
            bearer: true,
            ..GitCredentialOptions::default()
        };
        let modern = "capability[]=authtype\ncapability[]=state\nprotocol=https\nhost=h\n";
        assert_eq!(
            text(&bearer, modern),
            "capability[]=authtype\nauthtype=Bearer\npassword_expiry_utc=1800000000\n\
             credential=at=1\n"
        );
        let basic = "username=oauth2\npassword_expiry_utc=1800000000\npassword=at=1\n";
        assert_eq!(text(&GitCredentialOptions::default(), modern), basic);
        assert_eq!(text(&bearer, "protocol=https\nhost=h\n"), basic);
    }

    #[test]
    fn a_token_isnt_for_http_on_a_network() {
        for (input, in_clear) in [
            ("protocol=http\nhost=git.example\n", true),
            ("protocol=http\nhost=git.example:80\n", true),
            ("protocol=http\nhost=127.0.0.1.example\n", true),
            ("protocol=http\n", true),
            ("protocol=http\nhost=127.0.0.1:8080\n", false),
            ("protocol=http\nhost=[::1]:8080\n", false),
            ("protocol=http\nhost=[::1]\n", false),
            ("protocol=http\nhost=localhost:80\n", false),
            ("protocol=https\nhost=git.example\n", false),
            ("protocol=smtp\nhost=mail.example:587\n", false),
        ] {
            assert_eq!(
                Asked::parse(input.as_bytes()).is_in_clear(),
                in_clear,
                "{input}"
            );
        }
    }

    #[test]
    fn what_isnt_understood_is_skipped() {
        let input = b"\xff=x\nprotocol=https\nnonsense\nwwwauth[]=Basic\npassword=p=q\n\nhost=late";
        assert_eq!(
            Asked::parse(input),
            Asked {
                protocol: "https".into(),
                secret: Some(Secret::new("p=q".into())),
                ..Asked::default()
            }
        );
        assert_eq!(Asked::parse(b""), Asked::default());
    }
}
