//! Signing in to a mail server with an access token: IMAP, POP3 and SMTP as state machines. Lines go
//! in, lines to send come out, and in the end a verdict. They know no socket, no clock and no token:
//! where the token is to be sent, they say so.

pub mod autoconfig;
mod challenge;
mod claims;
pub mod hints;
mod imap;
mod pop3;
mod server;
mod smtp;

pub use challenge::Challenge;
pub use claims::Claims;
pub use server::{Protocol, Server, Tls};

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

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum MailStep {
    /// Read a line.
    Read,
    /// Send this line, and read one.
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
    /// The token was accepted, but the mailbox can't be opened.
    NoMailbox {
        /// Why.
        text: String,
    },
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
    /// TLS is needed and isn't offered.
    NoTls {
        /// What the server says to that.
        text: String,
    },
    /// The server doesn't want to talk now.
    Unavailable {
        /// Why.
        text: String,
    },
    /// What the server says isn't this protocol.
    Nonsense {
        /// Its line.
        text: String,
    },
}

/// One session with one server.
pub struct Dialogue {
    protocol: Protocol,
    situation: Situation,
    state: State,
    /// The capabilities, or the lines of a reply that isn't complete.
    heard: Vec<String>,
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
}

impl Protocol {
    fn commands(self) -> Commands {
        match self {
            Protocol::Imap => imap::COMMANDS,
            Protocol::Pop3 => pop3::COMMANDS,
            Protocol::Smtp => smtp::COMMANDS,
        }
    }
}

impl Dialogue {
    /// It begins with a line from the server.
    pub fn new(protocol: Protocol, situation: Situation) -> Self {
        Dialogue {
            protocol,
            situation,
            state: State::Greeting,
            heard: Vec::new(),
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
        let read = match self.protocol {
            Protocol::Imap => imap::read,
            Protocol::Pop3 => pop3::read,
            Protocol::Smtp => smtp::read,
        };
        match read(&self.state, line, &mut self.heard) {
            Reply::Part => MailStep::Read,
            Reply::Good => self.good(line),
            Reply::Bad(text) => self.bad(&text),
            Reply::Continue(text) => self.go_on(&text, line),
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
            State::Responded(mechanism, _) => match self.protocol.commands().mailbox {
                Some(command) => self.send(command, State::Mailbox(mechanism)),
                None => MailStep::End(MailVerdict::SignedIn(mechanism)),
            },
            State::Mailbox(mechanism) => MailStep::End(MailVerdict::SignedIn(mechanism)),
        }
    }

    fn bad(&mut self, text: &str) -> MailStep {
        match &mut self.state {
            State::Greeting | State::Capabilities => unavailable(text),
            State::StartTls => MailStep::End(MailVerdict::NoTls {
                text: sanitize(text),
            }),
            State::Auth(mechanism) => refused(self.protocol, *mechanism, None, text),
            State::Responded(mechanism, challenge) => {
                refused(self.protocol, *mechanism, challenge.take(), text)
            }
            State::Mailbox(_) => MailStep::End(MailVerdict::NoMailbox {
                text: sanitize(text),
            }),
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
                MailStep::Send(mechanism.resignation().into())
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
        let heard = std::mem::take(&mut self.heard);
        let heard = heard.iter().map(|it| it.trim());
        let has = |wanted: &str| heard.clone().any(|it| it.eq_ignore_ascii_case(wanted));
        let has_tls = has("STARTTLS") || has("STLS");
        let names = ["AUTH=", "AUTH ", "SASL "];
        let lists = heard
            .clone()
            .filter_map(|it| names.iter().find_map(|name| strip(it, name)));
        let offered: Vec<String> = lists
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect();
        match ask_for(self.situation, has_tls, &offered, has("LOGINDISABLED")) {
            Err(verdict) => MailStep::End(verdict),
            Ok(Ask::Tls) => self.send(commands.tls, State::StartTls),
            Ok(Ask::SignIn(mechanism)) => {
                let command = format!("{} {}", commands.auth, mechanism.name());
                self.send(&command, State::Auth(mechanism))
            }
        }
    }
}

fn refused(
    protocol: Protocol,
    mechanism: Mechanism,
    challenge: Option<Challenge>,
    text: &str,
) -> MailStep {
    let text = sanitize(text);
    let passing = match protocol {
        Protocol::Imap => text.contains(imap::PASSING),
        Protocol::Pop3 => pop3::PASSING.iter().any(|code| text.contains(code)),
        // 4yz: try again later (RFC 5321, 4.2.1).
        Protocol::Smtp => text.starts_with('4'),
    };
    MailStep::End(MailVerdict::Refused {
        mechanism,
        challenge,
        text,
        passing,
    })
}

/// What a server that has told what it can do is to be asked for next.
enum Ask {
    Tls,
    SignIn(Mechanism),
}

/// TLS comes before the token, which never leaves the machine without it.
fn ask_for(
    situation: Situation,
    has_tls: bool,
    mechanisms: &[String],
    disabled: bool,
) -> Result<Ask, MailVerdict> {
    match (situation.secure, has_tls, situation.loopback) {
        (false, true, _) => Ok(Ask::Tls),
        (false, false, false) => Err(MailVerdict::NoTls {
            text: String::new(),
        }),
        (true, ..) | (false, false, true) => {
            choose(mechanisms, situation.has_user, disabled).map(Ask::SignIn)
        }
    }
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
    MailStep::End(MailVerdict::Nonsense {
        text: sanitize(line),
    })
}

fn unavailable(text: &str) -> MailStep {
    MailStep::End(MailVerdict::Unavailable {
        text: sanitize(text),
    })
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
        let mut dialogue = Dialogue::new(protocol, situation);
        for (line, step) in lines {
            let done = match *line {
                "TLS" => dialogue.secured(),
                line => dialogue.line(line),
            };
            assert_eq!(done, *step, "after {line:?} of {lines:?}");
        }
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
