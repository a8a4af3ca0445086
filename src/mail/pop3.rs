//! POP3 (RFC 1939; RFC 5034 for AUTH): TLS, sign in, and count the mails.

use super::{
    Ask, Challenge, Mechanism, Situation, Step, Verdict, ask_for, no_tls, nonsense, strip,
    unavailable,
};
use crate::text::sanitize;

pub struct Pop3 {
    situation: Situation,
    state: State,
    mechanisms: Vec<String>,
    has_tls: bool,
}

enum State {
    Greeting,
    /// `CAPA` was sent.
    Capa,
    /// It was accepted, and the list follows.
    List,
    StartTls,
    Auth(Mechanism),
    Responded(Mechanism, Option<Challenge>),
    Stat(Mechanism),
}

impl Pop3 {
    pub fn new(situation: Situation) -> Self {
        Pop3 {
            situation,
            state: State::Greeting,
            mechanisms: Vec::new(),
            has_tls: false,
        }
    }

    pub fn secured(&mut self) -> Step {
        self.situation.secure = true;
        self.ask_capabilities()
    }

    fn ask_capabilities(&mut self) -> Step {
        // What was said without TLS counts no longer (RFC 2595, 4).
        self.mechanisms.clear();
        self.has_tls = false;
        self.send("CAPA".into(), State::Capa)
    }

    fn send(&mut self, command: String, state: State) -> Step {
        self.state = state;
        Step::Send(command)
    }

    pub fn line(&mut self, line: &str) -> Step {
        if let State::List = self.state {
            return self.listed(line);
        }
        if line.starts_with("+OK") {
            self.good(line)
        } else if let Some(text) = line.strip_prefix("-ERR") {
            self.bad(text)
        } else if let Some(text) = line.strip_prefix('+') {
            self.go_on(text, line)
        } else {
            nonsense(line)
        }
    }

    fn listed(&mut self, line: &str) -> Step {
        if line == "." {
            return self.begin();
        }
        if let Some(list) = strip(line, "SASL ") {
            self.mechanisms = list.split_whitespace().map(str::to_owned).collect();
        }
        self.has_tls |= line.trim().eq_ignore_ascii_case("STLS");
        Step::Read
    }

    fn good(&mut self, line: &str) -> Step {
        match self.state {
            State::Greeting => self.ask_capabilities(),
            State::Capa => {
                self.state = State::List;
                Step::Read
            }
            State::StartTls => Step::StartTls,
            State::Responded(mechanism, _) => self.send("STAT".into(), State::Stat(mechanism)),
            State::Stat(mechanism) => Step::End(Verdict::SignedIn(mechanism)),
            State::List | State::Auth(_) => nonsense(line),
        }
    }

    fn bad(&mut self, text: &str) -> Step {
        match &mut self.state {
            State::Greeting => unavailable(text),
            // It has no such command, and so no list of mechanisms.
            State::Capa | State::List => self.begin(),
            State::StartTls => no_tls(text),
            State::Auth(mechanism) => refused(*mechanism, None, text),
            State::Responded(mechanism, challenge) => refused(*mechanism, challenge.take(), text),
            State::Stat(_) => Step::End(Verdict::NoMailbox {
                text: sanitize(text),
            }),
        }
    }

    fn go_on(&mut self, text: &str, line: &str) -> Step {
        match self.state {
            State::Auth(mechanism) => {
                self.state = State::Responded(mechanism, None);
                Step::Respond(mechanism)
            }
            State::Responded(mechanism, _) => {
                self.state = State::Responded(mechanism, Challenge::decode(text));
                Step::Send(mechanism.resignation().into())
            }
            _ => nonsense(line),
        }
    }

    /// The capabilities are known.
    fn begin(&mut self) -> Step {
        match ask_for(self.situation, self.has_tls, &self.mechanisms, false) {
            Err(verdict) => Step::End(verdict),
            Ok(Ask::Tls) => self.send("STLS".into(), State::StartTls),
            // The response comes on a line of its own: it is longer than a command may be
            // (RFC 5034, 4).
            Ok(Ask::SignIn(mechanism)) => {
                self.send(format!("AUTH {}", mechanism.name()), State::Auth(mechanism))
            }
        }
    }
}

fn refused(mechanism: Mechanism, challenge: Option<Challenge>, text: &str) -> Step {
    let text = sanitize(text);
    Step::End(Verdict::Refused {
        mechanism,
        challenge,
        // RFC 2449, 8.1; RFC 3206, 4.
        passing: ["[SYS/TEMP]", "[IN-USE]", "[LOGIN-DELAY]"]
            .iter()
            .any(|code| text.contains(code)),
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{
        Protocol,
        tests::{SECURE, play, refused, send},
    };
    use super::*;

    fn pop3(situation: Situation, lines: &[(&str, Step)]) {
        play(Protocol::Pop3, situation, lines);
    }

    #[test]
    fn a_token_goes_on_a_line_of_its_own_and_the_mails_are_counted() {
        pop3(
            SECURE,
            &[
                ("+OK ready <1@x>", send("CAPA")),
                ("+OK list", Step::Read),
                ("TOP", Step::Read),
                ("sasl PLAIN XOAUTH2", Step::Read),
                ("STLS", Step::Read),
                (".", send("AUTH XOAUTH2")),
                ("+ ", Step::Respond(Mechanism::Xoauth2)),
                ("+OK in", send("STAT")),
                (
                    "+OK 3 4711",
                    Step::End(Verdict::SignedIn(Mechanism::Xoauth2)),
                ),
            ],
        );
    }

    #[test]
    fn tls_comes_first() {
        let plain = Situation {
            secure: false,
            ..SECURE
        };
        pop3(
            plain,
            &[
                ("+OK ready", send("CAPA")),
                ("+OK list", Step::Read),
                ("SASL OAUTHBEARER", Step::Read),
                ("STLS", Step::Read),
                (".", send("STLS")),
                ("+OK go", Step::StartTls),
                ("TLS", send("CAPA")),
                ("+OK list", Step::Read),
                (
                    ".",
                    Step::End(Verdict::NotOffered {
                        offered: vec![],
                        disabled: false,
                    }),
                ),
            ],
        );
        let none = |text: &str| Step::End(Verdict::NoTls { text: text.into() });
        pop3(
            plain,
            &[("+OK ready", send("CAPA")), ("-ERR what?", none(""))],
        );
        let list = || {
            [
                ("+OK ready", send("CAPA")),
                ("+OK", Step::Read),
                ("STLS", Step::Read),
            ]
        };
        let [a, b, c] = list();
        pop3(
            plain,
            &[a, b, c, (".", send("STLS")), ("-ERR no", none("no"))],
        );
    }

    #[test]
    fn refusals_and_trouble_are_told_apart() {
        let signing_in = || {
            vec![
                ("+OK ready", send("CAPA")),
                ("+OK list", Step::Read),
                ("SASL OAUTHBEARER", Step::Read),
                (".", send("AUTH OAUTHBEARER")),
                ("+ ", Step::Respond(Mechanism::Oauthbearer)),
            ]
        };
        let challenge = Challenge {
            status: Some("invalid_token".into()),
            ..Challenge::default()
        };
        let mechanism = Mechanism::Oauthbearer;
        for rest in [
            vec![("-ERR [AUTH] no", refused(mechanism, None, "[AUTH] no"))],
            vec![
                // {"status":"invalid_token"}
                ("+ eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=", send("AQ==")),
                ("-ERR no", refused(mechanism, Some(challenge), "no")),
            ],
            vec![(
                "-ERR [SYS/TEMP] later",
                Step::End(Verdict::Refused {
                    mechanism,
                    challenge: None,
                    text: "[SYS/TEMP] later".into(),
                    passing: true,
                }),
            )],
            vec![
                ("+OK in", send("STAT")),
                (
                    "-ERR locked",
                    Step::End(Verdict::NoMailbox {
                        text: "locked".into(),
                    }),
                ),
            ],
        ] {
            let lines: Vec<_> = signing_in().into_iter().chain(rest).collect();
            pop3(SECURE, &lines);
        }
        let busy = Step::End(Verdict::Unavailable {
            text: "busy".into(),
        });
        pop3(SECURE, &[("-ERR busy", busy)]);
        let odd = |text: &str| Step::End(Verdict::Nonsense { text: text.into() });
        pop3(SECURE, &[("* OK IMAP", odd("* OK IMAP"))]);
        pop3(SECURE, &[("+ now", odd("+ now"))]);
    }
}
