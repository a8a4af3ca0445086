//! What to look at when a server refuses a token, and what certain mail programs can't do with one.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;

use super::{Challenge, Claims, MailVerdict, Mechanism, Protocol, Server};
use crate::{
    providers::{Provider, Purpose, grants},
    text::sanitize,
    time::humane,
};

/// How far two clocks may be apart before it is worth a word, in seconds: more than any server
/// takes to answer, less than the life of a token.
const MAX_SKEW_SECS: i64 = 300;

/// The longest token that mbsync takes from a command, in bytes: its buffer has 8192, for the line
/// end and the final zero, too.
const MBSYNC_MAX: usize = 8190;

/// The same of neomutt, for XOAUTH2, whose buffer may grow to 4096 bytes.
const NEOMUTT_XOAUTH2_MAX: usize = 4094;

/// The same of neomutt for OAUTHBEARER: 512 bytes.
const NEOMUTT_OAUTHBEARER_MAX: usize = 510;

/// What is known of the token.
#[derive(Debug, Default)]
pub struct TokenFacts {
    /// In bytes.
    pub length: usize,
    /// Granted or, where the provider doesn't say, asked for.
    pub scopes: Vec<String>,
    /// Its own word.
    pub claims: Option<Claims>,
    /// Whose it is.
    pub provider: Option<&'static Provider>,
}

/// A server's refusal, and the circumstances.
#[derive(Debug)]
pub struct Case<'a> {
    /// Which server.
    pub server: &'a Server,
    /// What came of it.
    pub verdict: &'a MailVerdict,
    /// Its first line.
    pub greeting: &'a str,
    /// Who tried to sign in.
    pub user: Option<&'a str>,
    /// With what.
    pub token: &'a TokenFacts,
    /// This machine's time, in seconds since 1970.
    pub now: i64,
}

/// What may be wrong, the likeliest first; nothing when nothing is.
pub fn of(case: &Case) -> Vec<String> {
    let hint = match case.verdict {
        MailVerdict::HungUp | MailVerdict::Unruly(_) => return Vec::new(),
        MailVerdict::Refused {
            passing: false,
            mechanism,
            challenge,
            text,
        } => return refused(case, *mechanism, challenge.as_ref(), text),
        MailVerdict::Refused { .. } | MailVerdict::Unavailable(_) => {
            "the server is in trouble, and says nothing about the token: try again later"
        }
        MailVerdict::NoMailbox(_) => match case.user {
            Some(user) => {
                return vec![format!(
                    "the token is valid, but perhaps not for `{user}`: name the mailbox \
                     that signed in with `--user`, or sign in as that user"
                )];
            }
            None => "name the mailbox with `--user`",
        },
        MailVerdict::NotOffered { disabled: true, .. } => {
            "the server allows no sign-in on this connection (LOGINDISABLED): try imaps://"
        }
        MailVerdict::NotOffered { .. } => match (case.server.protocol, case.server.port) {
            (Protocol::Smtp, 25) => {
                "port 25 is for mail between servers: try smtps:// or smtp:// with port 587"
            }
            _ => "the administrator of the server has to set it up, or it has no OAuth2 at all",
        },
        MailVerdict::NoUser => {
            "name the mailbox with `--user`, or with `login_hint` in the account's `auth_uri_fields`"
        }
        MailVerdict::NoTls | MailVerdict::TlsRefused(_) => {
            "a token is sent without TLS to a loopback address only; many servers have TLS from the \
             start on another port: imaps://, pop3s://, smtps://"
        }
        MailVerdict::Nonsense(_) => {
            "does the URL's scheme fit the port? imap, pop3 and smtp begin without TLS, imaps, pop3s \
             and smtps with it"
        }
    };
    vec![hint.to_owned()]
}

/// What some servers say, and what to do about it; one a line.
const SAID: &str = include_str!("said.txt");

fn refused(
    case: &Case,
    mechanism: Mechanism,
    challenge: Option<&Challenge>,
    text: &str,
) -> Vec<String> {
    let mut hints = Vec::new();
    hints.extend(clocks(case));
    hints.extend(other_user(case));
    hints.extend(scope(case, challenge));
    let known = SAID.lines().filter_map(|line| line.split_once(": "));
    let said = known.filter(|(words, _)| text.contains(words));
    hints.extend(said.map(|(_, hint)| hint.to_owned()));
    if !hints.is_empty() {
        return hints;
    }
    hints.push(match case.user {
        Some(user) => format!("was it `{user}` who signed in? A token is for one mailbox"),
        None if mechanism == Mechanism::Oauthbearer => {
            "name the mailbox with `--user`, if the server doesn't take it from the token".into()
        }
        None => "name the mailbox with `--user`".into(),
    });
    hints.push(
        "the scopes may be those of another service: compare them with what the server's provider asks for"
            .into(),
    );
    hints
}

/// A token whose time hasn't come or is over, and a server with another idea of the time.
fn clocks(case: &Case) -> Option<String> {
    let claims = case.token.claims.as_ref();
    let early = claims.and_then(|it| Some(it.not_before?.saturating_sub(case.now)));
    let late = claims.and_then(|it| Some(case.now.saturating_sub(it.expires?)));
    let apart = time_in(case.greeting).map(|it| it.abs_diff(case.now));
    let span = |secs: i64| humane(Duration::from_secs(secs.unsigned_abs()));
    if let Some(secs) = early.filter(|secs| *secs > MAX_SKEW_SECS) {
        return Some(format!(
            "this machine's clock is slow: the token was issued {} from now",
            span(secs)
        ));
    }
    if let Some(secs) = late.filter(|secs| *secs > 0) {
        return Some(format!(
            "by its own word, the token expired {} ago: this machine's clock was wrong when it was \
             obtained, or is now",
            span(secs)
        ));
    }
    let secs = apart.filter(|secs| *secs > MAX_SKEW_SECS.unsigned_abs())?;
    Some(format!(
        "this machine's clock and the server's are {} apart",
        humane(Duration::from_secs(secs))
    ))
}

/// The time in a greeting, as many SMTP servers have it (RFC 5322, 3.3), in seconds since 1970.
fn time_in(greeting: &str) -> Option<i64> {
    let words: Vec<&str> = greeting.split_whitespace().collect();
    let is_day =
        |word: &&str| ["Mon,", "Tue,", "Wed,", "Thu,", "Fri,", "Sat,", "Sun,"].contains(word);
    let day = words.iter().position(is_day)?;
    let date = words.get(day..day + 6)?.join(" ");
    let time = DateTimeParser::new().parse_timestamp(&date).ok()?;
    Some(time.as_second())
}

fn other_user(case: &Case) -> Option<String> {
    let theirs = case.token.claims.as_ref()?.user.as_ref()?;
    let named = case.user?;
    (!theirs.eq_ignore_ascii_case(named)).then(|| {
        format!("the token is for `{theirs}`, not for `{named}`: sign in as that user, or correct `--user`")
    })
}

/// The scope that is missing, by the provider's own rules or the server's word.
fn scope(case: &Case, challenge: Option<&Challenge>) -> Option<String> {
    let scopes = match &case.token.claims {
        Some(claims) if !claims.scopes.is_empty() => &claims.scopes,
        _ => &case.token.scopes,
    };
    let purpose = match case.server.protocol {
        Protocol::Imap => Purpose::Imap,
        Protocol::Pop3 => Purpose::Pop3,
        Protocol::Smtp => Purpose::Smtp,
        Protocol::Irc => Purpose::Other,
    };
    let known = (case.token.provider).filter(|it| it.has_server(&case.server.host));
    let wanted = known.and_then(|provider| provider.scope_for(purpose));
    let wanted = wanted.map(str::to_owned).or_else(|| {
        let scope = challenge?.scope.as_ref()?;
        // A server may name several.
        let missing = scope.split_whitespace().find(|it| !grants(scopes, it));
        missing.map(str::to_owned)
    })?;
    if grants(scopes, &wanted) {
        return None;
    }
    let has = match scopes.is_empty() {
        true => "none that is known".into(),
        false => sanitize(&scopes.join(" ")),
    };
    Some(format!(
        "the server wants the scope {wanted}, and the token has {has}: add it to the account's `scopes`, \
         and sign in again"
    ))
}

/// The mail programs that this machine has, as far as they have limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    /// mbsync, of isync.
    pub mbsync: bool,
    /// A plugin of Cyrus SASL that knows XOAUTH2 or OAUTHBEARER, without which mbsync doesn't.
    pub sasl_plugin: bool,
    /// neomutt.
    pub neomutt: bool,
}

/// What they can't do with a token of `length` bytes, or at all.
pub fn of_programs(programs: Programs, length: usize) -> Vec<String> {
    let mut hints = Vec::new();
    if programs.mbsync && !programs.sasl_plugin {
        hints.push(
            "mbsync needs a plugin of Cyrus SASL for XOAUTH2, and none was found (in Debian \
             libsasl2-modules-kdexoauth2, elsewhere cyrus-sasl-xoauth2 or sasl2-oauth)"
                .into(),
        );
    }
    if programs.mbsync && length > MBSYNC_MAX {
        hints.push(format!(
            "mbsync takes tokens of up to {MBSYNC_MAX} bytes, and this one has {length}"
        ));
    }
    if programs.neomutt && length > NEOMUTT_XOAUTH2_MAX {
        hints.push(format!(
            "neomutt takes tokens of up to {NEOMUTT_XOAUTH2_MAX} bytes, and this one has {length}"
        ));
    } else if programs.neomutt && length > NEOMUTT_OAUTHBEARER_MAX {
        hints.push(format!(
            "neomutt takes tokens of up to {NEOMUTT_OAUTHBEARER_MAX} bytes for oauthbearer, and this one \
             has {length}: have xoauth2 in its imap_authenticators and smtp_authenticators"
        ));
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22 05:20:00 UTC.
    const NOW: i64 = 1_795_324_800;

    fn refusal(text: &str, challenge: Option<Challenge>) -> MailVerdict {
        MailVerdict::Refused {
            mechanism: Mechanism::Xoauth2,
            challenge,
            text: text.into(),
            passing: false,
        }
    }

    fn hints(url: &str, verdict: &MailVerdict, greeting: &str, token: &TokenFacts) -> Vec<String> {
        of(&Case {
            server: &Server::parse(url).unwrap(),
            verdict,
            greeting,
            user: Some("me@example.com"),
            token,
            now: NOW,
        })
    }

    fn claiming(claims: Claims) -> TokenFacts {
        TokenFacts {
            claims: Some(claims),
            ..TokenFacts::default()
        }
    }

    #[test]
    fn a_token_is_compared_with_the_circumstances() {
        let no = refusal("no", None);
        let microsoft = |scopes: &[&str]| TokenFacts {
            scopes: scopes.iter().map(|it| (*it).into()).collect(),
            provider: Provider::named("microsoft"),
            ..TokenFacts::default()
        };
        let wants = |scope: &str| {
            refusal(
                "no",
                Some(Challenge {
                    scope: Some(scope.into()),
                    ..Challenge::default()
                }),
            )
        };
        let basic = "550 5.7.30 Basic authentication is not supported for Client Submission.";
        let disabled = "535 5.7.139 SmtpClientAuthentication is disabled for the Tenant.";
        let (imap, smtp) = ("imaps://m.example", "smtp://smtp.office365.com");
        let late = "220 m.example ready at Sun, 22 Nov 2026 05:10:00 +0000";
        let nobody = TokenFacts::default();
        for (url, verdict, greeting, token, hint) in [
            (
                imap,
                &no,
                "",
                claiming(Claims {
                    not_before: Some(NOW + 600),
                    ..Claims::default()
                }),
                "this machine's clock is slow: the token was issued 10m from now",
            ),
            (
                imap,
                &no,
                "",
                claiming(Claims {
                    expires: Some(NOW - 3600),
                    ..Claims::default()
                }),
                "by its own word, the token expired 1h ago",
            ),
            (smtp, &no, late, TokenFacts::default(), "are 10m apart"),
            (
                imap,
                &no,
                "",
                claiming(Claims {
                    user: Some("you@example.com".into()),
                    ..Claims::default()
                }),
                "the token is for `you@example.com`, not for `me@example.com`",
            ),
            (
                smtp,
                &no,
                "",
                microsoft(&["https://outlook.office.com/IMAP.AccessAsUser.All"]),
                "the server wants the scope https://outlook.office.com/SMTP.Send, and the token has \
                 https://outlook.office.com/IMAP.AccessAsUser.All",
            ),
            (
                imap,
                &wants("mail"),
                "",
                nobody,
                "the server wants the scope mail, and the token has none that is known",
            ),
            (
                smtp,
                &refusal(basic, None),
                "",
                microsoft(&["https://outlook.office365.com/SMTP.Send"]),
                "the server takes no passwords for sending any more",
            ),
            (
                smtp,
                &refusal(disabled, None),
                "",
                microsoft(&["https://outlook.office365.com/SMTP.Send"]),
                "the administrator has to allow \"Authenticated SMTP\"",
            ),
        ] {
            let found = hints(url, verdict, greeting, &token);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(hint), "{found:?} has no {hint:?}");
        }
    }

    #[test]
    fn what_fits_is_no_hint() {
        let token = TokenFacts {
            scopes: vec!["mail".into()],
            claims: Some(Claims {
                user: Some("Me@Example.com".into()),
                not_before: Some(NOW + 60),
                expires: Some(NOW + 60),
                ..Claims::default()
            }),
            ..TokenFacts::default()
        };
        let challenge = Challenge {
            scope: Some("mail".into()),
            ..Challenge::default()
        };
        let on_time = "220 ready at Sun, 22 Nov 2026 06:19:00 +0100 here";
        let found = hints(
            "imaps://m",
            &refusal("no", Some(challenge)),
            on_time,
            &token,
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("was it `me@example.com` who signed in?"));
        assert!(hints("imaps://m", &MailVerdict::HungUp, on_time, &token).is_empty());
        // A token can claim anything.
        for (not_before, expires) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN)] {
            let token = claiming(Claims {
                not_before: Some(not_before),
                expires: Some(expires),
                ..Claims::default()
            });
            let found = hints("imaps://m", &refusal("no", None), "", &token);
            assert!(!found.is_empty());
        }
        for greeting in ["", "220 Sun, 22", "Sun, 32 Nov 2026 06:19:00 +0100", "Sun,"] {
            assert_eq!(time_in(greeting), None, "{greeting}");
        }
    }

    #[test]
    fn the_limits_of_programs_are_told_to_those_who_have_them() {
        let all = Programs {
            mbsync: true,
            sasl_plugin: true,
            neomutt: true,
        };
        let without_plugin = Programs {
            sasl_plugin: false,
            ..all
        };
        for (programs, length, about) in [
            (Programs::default(), 100_000, vec![]),
            (all, 510, vec![]),
            (
                all,
                511,
                vec!["neomutt takes tokens of up to 510 bytes for oauthbearer"],
            ),
            (
                all,
                4094,
                vec!["neomutt takes tokens of up to 510 bytes for oauthbearer"],
            ),
            (
                all,
                4095,
                vec!["neomutt takes tokens of up to 4094 bytes, and"],
            ),
            (
                all,
                8191,
                vec![
                    "mbsync takes tokens of up to 8190 bytes",
                    "neomutt takes tokens of",
                ],
            ),
            (without_plugin, 1, vec!["mbsync needs a plugin"]),
        ] {
            let hints = of_programs(programs, length);
            assert_eq!(hints.len(), about.len(), "{hints:?}");
            for (hint, about) in hints.iter().zip(about) {
                assert!(hint.starts_with(about), "{hint}");
            }
        }
    }
}
