//! Signing in to a server with an access token: IMAP, POP3, SMTP and IRC as state machines that know
//! no socket and no clock. What a line means is up to each protocol; a [`SignIn`] has the token, takes
//! bytes, and says which to send. Programs without OAuth2 are met by [`Front`], once somebody is signed
//! in, and by an [`accept::Acceptor`], which wants their password first.

pub mod accept;
pub mod autoconfig;
mod challenge;
mod claims;
mod front;
pub mod hints;
mod imap;
mod irc;
mod pop3;
mod sign_in;
mod smtp;

pub use crate::config::{Protocol, Server, Tls};
pub use challenge::Challenge;
pub use claims::Claims;
pub use front::{Front, Passage, refuse};
pub use sign_in::{Action, MailRefusal, Session, SignIn};

use crate::text::sanitize;

/// How the token is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 7628.
    Oauthbearer,
    /// Google's, from before there was an RFC.
    Xoauth2,
}

impl Mechanism {
    /// As servers list it.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Oauthbearer => "OAUTHBEARER",
            Mechanism::Xoauth2 => "XOAUTH2",
        }
    }

    /// What a client says to a challenge that tells why it is refused, so that the refusal can
    /// follow: the octet 1 in base64 (RFC 7628, 3.2.3), or nothing.
    fn resignation(self) -> &'static str {
        match self {
            Mechanism::Oauthbearer => "AQ==",
            Mechanism::Xoauth2 => "",
        }
    }
}

/// What somebody signs in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// To see whether the mailbox can be opened, and to leave.
    Trial,
    /// A program that goes on with the session, and has to know what the server can do.
    Session,
}

/// Why there is no session. All texts are the server's, made safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailVerdict {
    /// The token was accepted, but the mailbox can't be opened, for this reason.
    #[error("signed in, but the mailbox can't be opened: {0}")]
    NoMailbox(String),
    /// The token was refused.
    #[error("refused the token, sent with {}: {text}{}", mechanism.name(), in_brackets(challenge))]
    Refused {
        /// How it was sent.
        mechanism: Mechanism,
        /// What the server says about it in JSON.
        challenge: Option<Challenge>,
        /// What else it says.
        text: String,
        /// The server is in trouble, and says nothing about the token.
        passing: bool,
    },
    /// The server doesn't take tokens.
    #[error("offers {}", but(offered))]
    NotOffered {
        /// The ways to sign in that it offers.
        offered: Vec<String>,
        /// It allows no sign-in on this connection (IMAP's LOGINDISABLED).
        disabled: bool,
    },
    /// Only XOAUTH2 is offered, and it needs a user.
    #[error("offers XOAUTH2 alone, which needs a user")]
    NoUser,
    /// TLS is needed and isn't offered.
    #[error("offers no TLS")]
    NoTls,
    /// TLS is needed, and this is what the server says to that.
    #[error("has no TLS now: {0}")]
    TlsRefused(String),
    /// The server doesn't want to talk now, for this reason.
    #[error("doesn't want to talk: {0}")]
    Unavailable(String),
    /// The server's line isn't this protocol.
    #[error("says what isn't expected: {0}")]
    Nonsense(String),
    /// The server closed the connection.
    #[error("hung up")]
    HungUp,
    /// The server says too much, or at the wrong time: what it does.
    #[error("{0}")]
    Unruly(&'static str),
}

/// The reason for a refusal, behind the server's text.
fn in_brackets(challenge: &Option<Challenge>) -> String {
    let shown = challenge.as_ref().map(|it| format!(" ({it})"));
    shown.unwrap_or_default()
}

/// The ways to sign in that are offered in place of those with a token.
fn but(offered: &[String]) -> String {
    match offered {
        [] => "no way to sign in".into(),
        _ => format!(
            "neither OAUTHBEARER nor XOAUTH2, but {}",
            offered.join(", ")
        ),
    }
}

/// What the server was asked last.
enum State {
    Greeting,
    Capabilities,
    StartTls,
    Auth(Mechanism),
    /// It has the token; and what it says about it, if that was refused.
    Responded(Mechanism, Option<Challenge>),
    Mailbox(Mechanism),
    /// What it can do now (IMAP).
    Session(Mechanism),
}

/// What a line of the server says about that.
enum Reply {
    /// There is more to come.
    Part,
    Good,
    /// No, and why.
    Bad(String),
    /// It waits for the token, or has a challenge.
    Continue(String),
    /// It asks whether anybody is there, and this is the answer.
    Ping(String),
    /// It hangs up.
    Bye(String),
    Nonsense,
}

/// What a protocol's commands are called.
struct Commands {
    capabilities: &'static str,
    tls: &'static str,
    /// Without the mechanism.
    auth: &'static str,
    /// What shows that the mailbox can be opened.
    mailbox: Option<&'static str>,
    farewell: &'static str,
    /// How a line is read, beside those that were heard before.
    read: fn(&State, &str, &mut Vec<String>) -> Reply,
    /// Whether a refusal says nothing about the token.
    is_passing: fn(&str) -> bool,
}

impl Protocol {
    fn commands(self) -> Commands {
        match self {
            Protocol::Imap => imap::COMMANDS,
            Protocol::Pop3 => pop3::COMMANDS,
            Protocol::Smtp => smtp::COMMANDS,
            Protocol::Irc => irc::COMMANDS,
        }
    }

    /// The lines that carry a response.
    fn respond(self, response: &str) -> String {
        match self {
            Protocol::Irc => irc::respond(response),
            Protocol::Imap | Protocol::Pop3 | Protocol::Smtp => format!("{response}\r\n"),
        }
    }
}

/// What follows the words that announce mechanisms.
fn mechanisms(capability: &str) -> Option<&str> {
    let words = ["AUTH=", "AUTH ", "SASL ", "SASL="];
    words.iter().find_map(|word| strip(capability, word))
}

/// Whether a capability is still of use when TLS and the sign-in are done.
fn is_for_a_session(capability: &str) -> bool {
    let mut done = "STARTTLS STLS TLS STS LOGINDISABLED SASL-IR AUTH SASL".split(' ');
    let capability = capability.trim();
    let name = capability.split('=').next().unwrap_or_default();
    mechanisms(capability).is_none()
        // It has to fit between brackets, on a line.
        && !capability.contains(|c: char| c.is_control() || c == ']')
        && !done.any(|it| name.eq_ignore_ascii_case(it))
}

/// The mechanism to use of those that are offered: the standard's, where there is a choice.
fn choose(offered: &[String], has_user: bool, disabled: bool) -> Result<Mechanism, MailVerdict> {
    let offers = |mechanism: Mechanism| {
        let mut all = offered.iter();
        all.any(|name| name.eq_ignore_ascii_case(mechanism.name()))
    };
    if offers(Mechanism::Oauthbearer) {
        Ok(Mechanism::Oauthbearer)
    } else if !offers(Mechanism::Xoauth2) {
        Err(MailVerdict::NotOffered {
            offered: offered.iter().map(|name| sanitize(name)).collect(),
            disabled,
        })
    } else if !has_user {
        Err(MailVerdict::NoUser)
    } else {
        Ok(Mechanism::Xoauth2)
    }
}

/// `line` without `start`, in letters of any case.
fn strip<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    let (head, rest) = line.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    /// What is to be done when the server has said a line.
    #[derive(Debug, PartialEq)]
    pub enum MailStep {
        Read,
        /// These lines, with CRLF between them.
        Send(String),
        /// The token as this mechanism has it.
        Respond(Mechanism),
        StartTls,
        SignedIn(Mechanism),
        End(MailVerdict),
    }

    /// What is known of a connection before anything was said.
    #[derive(Clone, Copy)]
    pub struct Situation {
        pub secure: bool,
        pub loopback: bool,
        pub has_user: bool,
    }

    /// Plays a table of lines against an engine: what the server says, and what is done then.
    pub fn play(protocol: Protocol, situation: Situation, lines: &[(&str, MailStep)]) {
        play_for(Goal::Trial, protocol, situation, lines);
    }

    /// The same for one goal; gives what the server can do in the end.
    pub fn play_for(
        goal: Goal,
        protocol: Protocol,
        situation: Situation,
        lines: &[(&str, MailStep)],
    ) -> Vec<String> {
        let tls = match situation.secure {
            true => Tls::AtOnce,
            false => Tls::OnDemand,
        };
        let server = Server {
            protocol,
            tls,
            host: "mail.test".into(),
            port: 1,
            user: None,
        };
        let user = situation.has_user.then_some("me");
        let token = Secret::new("eyJhbGciOiJSUzI1NiJ9.payload.signature".into());
        let mut sign_in = SignIn::new(&server, situation.loopback, user, &token, goal);
        let mut capabilities = Vec::new();
        for (line, step) in lines {
            match *line {
                "START" => {}
                "TLS" => sign_in.secured(),
                line => sign_in.feed(format!("{line}\r\n").as_bytes()),
            }
            let done = match sign_in.next_action() {
                Action::Read => MailStep::Read,
                Action::Send(bytes) => {
                    let sent = std::str::from_utf8(&bytes).unwrap();
                    let is_sent = |mechanism: &Mechanism| {
                        let response = sign_in.response(*mechanism);
                        response.is_some_and(|it| protocol.respond(it) == sent)
                    };
                    let mut mechanisms = [Mechanism::Oauthbearer, Mechanism::Xoauth2].into_iter();
                    let line = || send(sent.strip_suffix("\r\n").unwrap());
                    mechanisms
                        .find(is_sent)
                        .map_or_else(line, MailStep::Respond)
                }
                Action::StartTls => MailStep::StartTls,
                Action::SignedIn(session) => {
                    capabilities = session.capabilities;
                    MailStep::SignedIn(session.mechanism)
                }
                Action::Refused(refusal) => MailStep::End(refusal.verdict),
            };
            assert_eq!(done, *step, "after {line:?} of {lines:?}");
        }
        capabilities
    }

    pub fn send(line: &str) -> MailStep {
        MailStep::Send(line.into())
    }

    pub fn refused(mechanism: Mechanism, challenge: Option<Challenge>, text: &str) -> MailStep {
        MailStep::End(MailVerdict::Refused {
            mechanism,
            challenge,
            text: text.into(),
            passing: false,
        })
    }

    /// Over TLS, with a user.
    pub const SECURE: Situation = Situation {
        secure: true,
        loopback: false,
        has_user: true,
    };

    #[test]
    fn a_session_is_told_what_the_server_can_do_then() {
        use Mechanism::Oauthbearer;
        let end = || MailStep::SignedIn(Oauthbearer);
        let respond = || MailStep::Respond(Oauthbearer);
        let imap = |rest: Vec<(&'static str, MailStep)>| {
            let begin = [
                ("* OK hi", send("a1 CAPABILITY")),
                ("* CAPABILITY IMAP4rev1 AUTH=OAUTHBEARER", MailStep::Read),
                ("a1 OK", send("a1 AUTHENTICATE OAUTHBEARER")),
                ("+ ", respond()),
            ];
            let lines: Vec<_> = begin.into_iter().chain(rest).collect();
            play_for(Goal::Session, Protocol::Imap, SECURE, &lines)
        };
        let asked = ("a1 OK in", send("a1 CAPABILITY"));
        let all = "* CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN SASL-IR LOGINDISABLED starttls";
        for rest in [
            vec![("a1 OK [CAPABILITY IMAP4rev1 IDLE AUTH=X] in", end())],
            vec![(all, MailStep::Read), ("a1 OK in", end())],
            vec![asked, (all, MailStep::Read), ("a1 OK", end())],
        ] {
            assert_eq!(imap(rest), ["IMAP4rev1", "IDLE"]);
        }
        let pop3 = [
            ("+OK hi", send("CAPA")),
            ("+OK list", MailStep::Read),
            ("TOP", MailStep::Read),
            ("SASL OAUTHBEARER", MailStep::Read),
            ("STLS", MailStep::Read),
            ("EXPIRE 60", MailStep::Read),
            (".", send("AUTH OAUTHBEARER")),
            ("+", respond()),
            ("+OK in", end()),
        ];
        let can = play_for(Goal::Session, Protocol::Pop3, SECURE, &pop3);
        assert_eq!(can, ["TOP", "EXPIRE 60"]);
        let smtp = [
            ("220 hi", send("EHLO [127.0.0.1]")),
            ("250-mail.test", MailStep::Read),
            ("250-SIZE 1000", MailStep::Read),
            ("250-AUTH=PLAIN", MailStep::Read),
            ("250 AUTH OAUTHBEARER", send("AUTH OAUTHBEARER")),
            ("334 ", respond()),
            ("235 in", end()),
        ];
        let can = play_for(Goal::Session, Protocol::Smtp, SECURE, &smtp);
        assert_eq!(can, ["SIZE 1000"]);
        let irc = [
            ("START", send("CAP LS 302")),
            (
                ":s CAP * LS * :sts=duration=9 tls  Batch sasl=PLAIN,OAUTHBEARER",
                MailStep::Read,
            ),
            (
                ":s CAP * LS :a.b/c=d=e,f sasl",
                send("CAP REQ :sasl\r\nAUTHENTICATE OAUTHBEARER"),
            ),
            ("AUTHENTICATE +", respond()),
            (":s 903 * :in", end()),
        ];
        let can = play_for(Goal::Session, Protocol::Irc, SECURE, &irc);
        assert_eq!(can, ["Batch", "a.b/c=d=e,f"]);
    }

    #[test]
    fn the_standards_mechanism_is_preferred_and_needs_no_user() {
        let of = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (offered, has_user, chosen) in [
            (
                "PLAIN XOAUTH2 OAUTHBEARER",
                true,
                Ok(Mechanism::Oauthbearer),
            ),
            ("oauthbearer", false, Ok(Mechanism::Oauthbearer)),
            ("PLAIN xoauth2", true, Ok(Mechanism::Xoauth2)),
            ("XOAUTH2", false, Err(MailVerdict::NoUser)),
            (
                "PLAIN XOAUTH",
                true,
                Err(MailVerdict::NotOffered {
                    offered: of("PLAIN XOAUTH"),
                    disabled: false,
                }),
            ),
        ] {
            assert_eq!(choose(&of(offered), has_user, false), chosen, "{offered}");
        }
    }
}
