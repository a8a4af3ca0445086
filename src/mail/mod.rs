//! Signing in to a server with an access token: IMAP, POP3, SMTP and IRC as state machines that know
//! no socket and no clock. A [`Dialogue`] takes lines, and says which lines to send and where the token
//! goes; a [`SignIn`] has the token, takes bytes, and is what the commands use.

pub mod autoconfig;
mod challenge;
mod claims;
mod front;
pub mod hints;
mod imap;
mod irc;
mod pop3;
mod server;
mod sign_in;
mod smtp;

pub use challenge::Challenge;
pub use claims::Claims;
pub use front::{Front, Passage, refuse};
pub use server::{Protocol, Server, Tls};
pub use sign_in::{Action, MailRefusal, Session, SignIn};

use std::fmt;

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

/// What is known of a connection before anything was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// TLS protects it already.
    pub secure: bool,
    /// It doesn't leave the machine, so that it needs no TLS.
    pub loopback: bool,
    /// There is a user to name.
    pub has_user: bool,
}

/// What somebody signs in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// To see whether the mailbox can be opened, and to leave.
    Trial,
    /// A program that goes on with the session, and has to know what the server can do.
    Session,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum MailStep {
    /// Read a line.
    Read,
    /// Send this line, or these with CRLF between them, and read one.
    Send(String),
    /// Send the token as this mechanism has it (its initial response, in base64), and read a line.
    Respond(Mechanism),
    /// Begin TLS, and call [`Dialogue::secured`].
    StartTls,
    /// Nothing; this has come of it.
    End(MailVerdict),
}

/// What came of it. All texts are the server's, made safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailVerdict {
    /// The token was accepted and, where there is one, the mailbox can be opened.
    SignedIn(Mechanism),
    /// The token was accepted, but the mailbox can't be opened, for this reason.
    NoMailbox(String),
    /// The token was refused.
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
    NotOffered {
        /// The ways to sign in that it offers.
        offered: Vec<String>,
        /// It allows no sign-in on this connection (IMAP's LOGINDISABLED).
        disabled: bool,
    },
    /// Only XOAUTH2 is offered, and it needs a user.
    NoUser,
    /// TLS is needed and isn't offered; this is what the server says to that, if it was asked.
    NoTls(String),
    /// The server doesn't want to talk now, for this reason.
    Unavailable(String),
    /// The server's line isn't this protocol.
    Nonsense(String),
    /// The server closed the connection.
    HungUp,
    /// The server says too much, or at the wrong time: what it does.
    Unruly(&'static str),
}

impl fmt::Display for MailVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MailVerdict::SignedIn(mechanism) => write!(f, "signed in with {}", mechanism.name()),
            MailVerdict::NoMailbox(text) => {
                write!(f, "signed in, but the mailbox can't be opened: {text}")
            }
            MailVerdict::Refused {
                mechanism,
                challenge,
                text,
                ..
            } => {
                let name = mechanism.name();
                write!(f, "refused the token, sent with {name}: {text}")?;
                challenge
                    .as_ref()
                    .map_or(Ok(()), |challenge| write!(f, " ({challenge})"))
            }
            MailVerdict::NotOffered { offered, .. } if offered.is_empty() => {
                f.write_str("offers no way to sign in")
            }
            MailVerdict::NotOffered { offered, .. } => {
                let offered = offered.join(", ");
                write!(f, "offers neither OAUTHBEARER nor XOAUTH2, but {offered}")
            }
            MailVerdict::NoUser => f.write_str("offers XOAUTH2 alone, which needs a user"),
            MailVerdict::NoTls(text) if text.is_empty() => f.write_str("offers no TLS"),
            MailVerdict::NoTls(text) => write!(f, "has no TLS now: {text}"),
            MailVerdict::Unavailable(text) => write!(f, "doesn't want to talk: {text}"),
            MailVerdict::Nonsense(text) => write!(f, "says what isn't expected: {text}"),
            MailVerdict::HungUp => f.write_str("hung up"),
            MailVerdict::Unruly(what) => f.write_str(what),
        }
    }
}

/// One session with one server.
pub struct Dialogue {
    protocol: Protocol,
    situation: Situation,
    goal: Goal,
    state: State,
    /// The capabilities, or the lines of a reply that isn't complete.
    heard: Vec<String>,
    /// What the server can do for somebody who is signed in.
    capabilities: Vec<String>,
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

impl Dialogue {
    /// It begins with [`Dialogue::start`].
    pub fn new(protocol: Protocol, situation: Situation, goal: Goal) -> Self {
        Dialogue {
            protocol,
            situation,
            goal,
            state: State::Greeting,
            heard: Vec::new(),
            capabilities: Vec::new(),
        }
    }

    /// Most servers speak first.
    pub fn start(&mut self) -> MailStep {
        match self.protocol {
            Protocol::Irc => self.ask_capabilities(),
            Protocol::Imap | Protocol::Pop3 | Protocol::Smtp => MailStep::Read,
        }
    }

    /// TLS has begun.
    pub fn secured(&mut self) -> MailStep {
        self.situation.secure = true;
        self.ask_capabilities()
    }

    /// What to say before hanging up.
    pub fn farewell(&self) -> &'static str {
        self.protocol.commands().farewell
    }

    /// The server has said `line`, which has no line end.
    pub fn line(&mut self, line: &str) -> MailStep {
        let read = self.protocol.commands().read;
        match read(&self.state, line, &mut self.heard) {
            Reply::Part => MailStep::Read,
            Reply::Good => self.good(line),
            Reply::Bad(text) => self.bad(&text),
            Reply::Continue(text) => self.go_on(&text, line),
            Reply::Ping(answer) => MailStep::Send(answer),
            Reply::Bye(text) => match self.state {
                State::Responded(..) => self.bad(&text),
                _ => unavailable(&text),
            },
            Reply::Nonsense => nonsense(line),
        }
    }

    fn good(&mut self, line: &str) -> MailStep {
        match self.state {
            State::Greeting => self.ask_capabilities(),
            State::Capabilities => self.begin(),
            State::StartTls => MailStep::StartTls,
            State::Auth(_) => nonsense(line),
            State::Responded(mechanism, _) => self.go_in(mechanism),
            State::Mailbox(mechanism) | State::Session(mechanism) => self.end(mechanism),
        }
    }

    /// The token was accepted.
    fn go_in(&mut self, mechanism: Mechanism) -> MailStep {
        match (self.goal, self.protocol, self.protocol.commands().mailbox) {
            (Goal::Trial, _, Some(command)) => self.send(command, State::Mailbox(mechanism)),
            // Many say so unasked (RFC 9051, 6.2.2).
            (Goal::Session, Protocol::Imap, _) if self.heard.is_empty() => {
                let command = self.protocol.commands().capabilities;
                self.send(command, State::Session(mechanism))
            }
            _ => self.end(mechanism),
        }
    }

    fn end(&mut self, mechanism: Mechanism) -> MailStep {
        if self.protocol == Protocol::Imap {
            self.capabilities = std::mem::take(&mut self.heard);
        }
        self.capabilities.retain(|it| is_for_a_session(it));
        MailStep::End(MailVerdict::SignedIn(mechanism))
    }

    fn bad(&mut self, text: &str) -> MailStep {
        match &mut self.state {
            State::Greeting | State::Capabilities | State::Session(_) => unavailable(text),
            State::StartTls => MailStep::End(MailVerdict::NoTls(sanitize(text))),
            State::Auth(mechanism) => refused(self.protocol, *mechanism, None, text),
            State::Responded(mechanism, challenge) => {
                refused(self.protocol, *mechanism, challenge.take(), text)
            }
            State::Mailbox(_) => MailStep::End(MailVerdict::NoMailbox(sanitize(text))),
        }
    }

    fn go_on(&mut self, text: &str, line: &str) -> MailStep {
        match self.state {
            State::Auth(mechanism) => {
                self.state = State::Responded(mechanism, None);
                MailStep::Respond(mechanism)
            }
            State::Responded(mechanism, _) => {
                self.state = State::Responded(mechanism, Challenge::decode(text));
                let lines = self.protocol.respond(mechanism.resignation());
                MailStep::Send(lines.trim_end().into())
            }
            _ => nonsense(line),
        }
    }

    fn ask_capabilities(&mut self) -> MailStep {
        self.send(self.protocol.commands().capabilities, State::Capabilities)
    }

    fn send(&mut self, command: &str, state: State) -> MailStep {
        self.state = state;
        MailStep::Send(command.into())
    }

    /// The capabilities are known.
    fn begin(&mut self) -> MailStep {
        let commands = self.protocol.commands();
        // What was said without TLS counts no longer afterwards (RFC 9051, 6.2.1; RFC 2595, 4).
        self.capabilities = std::mem::take(&mut self.heard);
        let heard = self.capabilities.iter().map(|it| it.trim());
        let has = |wanted: &str| heard.clone().any(|it| it.eq_ignore_ascii_case(wanted));
        let has_tls = has("STARTTLS") || has("STLS");
        let lists = heard.clone().filter_map(mechanisms);
        let offered: Vec<String> = lists
            .flat_map(|list| list.split([' ', '\t', ',']))
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        let disabled = has("LOGINDISABLED");
        // TLS comes before the token, which never leaves the machine without it.
        match (self.situation.secure, has_tls, self.situation.loopback) {
            (false, true, _) => return self.send(commands.tls, State::StartTls),
            (false, false, false) => return MailStep::End(MailVerdict::NoTls(String::new())),
            (true, ..) | (false, false, true) => {}
        }
        match choose(&offered, self.situation.has_user, disabled) {
            Err(verdict) => MailStep::End(verdict),
            Ok(mechanism) => {
                let command = format!("{} {}", commands.auth, mechanism.name());
                self.send(&command, State::Auth(mechanism))
            }
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
    let done = [
        "STARTTLS",
        "STLS",
        "LOGINDISABLED",
        "SASL-IR",
        "AUTH",
        "SASL",
    ];
    let capability = capability.trim();
    mechanisms(capability).is_none()
        // It has to fit between brackets, on a line.
        && !capability.contains(|c: char| c.is_control() || c == ']')
        && !done.iter().any(|it| capability.eq_ignore_ascii_case(it))
}

fn refused(
    protocol: Protocol,
    mechanism: Mechanism,
    challenge: Option<Challenge>,
    text: &str,
) -> MailStep {
    let text = sanitize(text);
    MailStep::End(MailVerdict::Refused {
        mechanism,
        challenge,
        passing: (protocol.commands().is_passing)(&text),
        text,
    })
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

fn nonsense(line: &str) -> MailStep {
    MailStep::End(MailVerdict::Nonsense(sanitize(line)))
}

fn unavailable(text: &str) -> MailStep {
    MailStep::End(MailVerdict::Unavailable(sanitize(text)))
}

/// `line` without `start`, in letters of any case.
fn strip<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    let (head, rest) = line.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut dialogue = Dialogue::new(protocol, situation, goal);
        for (line, step) in lines {
            let done = match *line {
                "START" => dialogue.start(),
                "TLS" => dialogue.secured(),
                line => dialogue.line(line),
            };
            assert_eq!(done, *step, "after {line:?} of {lines:?}");
        }
        dialogue.capabilities
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
        let end = || MailStep::End(MailVerdict::SignedIn(Oauthbearer));
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
