//! SMTP (RFC 5321; RFC 4954 for AUTH): TLS and sign in; no mail is begun.

use super::{
    Ask, Challenge, Mechanism, Situation, Step, Verdict, ask_for, no_tls, nonsense, strip,
    unavailable,
};
use crate::text::sanitize;

pub struct Smtp {
    situation: Situation,
    state: State,
    /// The lines of a reply that isn't complete.
    lines: Vec<String>,
}

enum State {
    Greeting,
    Ehlo,
    StartTls,
    Auth(Mechanism),
    Responded(Mechanism, Option<Challenge>),
}

/// What a client without a name of its own calls itself (RFC 5321, 4.1.3): this machine's name is
/// nobody's business here.
const EHLO: &str = "EHLO [127.0.0.1]";

impl Smtp {
    pub fn new(situation: Situation) -> Self {
        Smtp {
            situation,
            state: State::Greeting,
            lines: Vec::new(),
        }
    }

    pub fn secured(&mut self) -> Step {
        self.situation.secure = true;
        self.send(EHLO.into(), State::Ehlo)
    }

    fn send(&mut self, command: String, state: State) -> Step {
        self.state = state;
        Step::Send(command)
    }

    pub fn line(&mut self, line: &str) -> Step {
        let (code, rest) = line.split_at_checked(3).unwrap_or((line, ""));
        let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
        let (Some(code), true) = (code.parse::<u16>().ok(), is_code) else {
            return nonsense(line);
        };
        let (last, text) = match (rest.strip_prefix('-'), rest.strip_prefix(' ')) {
            (Some(text), _) => (false, text),
            (None, Some(text)) => (true, text),
            (None, None) if rest.is_empty() => (true, ""),
            (None, None) => return nonsense(line),
        };
        self.lines.push(text.to_owned());
        match last {
            true => {
                let lines = std::mem::take(&mut self.lines);
                self.reply(code, &lines, line)
            }
            false => Step::Read,
        }
    }

    fn reply(&mut self, code: u16, lines: &[String], line: &str) -> Step {
        let text = format!("{code} {}", lines.join(" "));
        match (&mut self.state, code) {
            (State::Greeting, 220) => self.send(EHLO.into(), State::Ehlo),
            (State::Greeting | State::Ehlo, 400..=599) => unavailable(&text),
            (State::Ehlo, 250) => self.begin(lines),
            (State::StartTls, 220) => Step::StartTls,
            (State::StartTls, 400..=599) => no_tls(&text),
            (State::Auth(mechanism), 334) => {
                let mechanism = *mechanism;
                self.state = State::Responded(mechanism, None);
                Step::Respond(mechanism)
            }
            (State::Responded(mechanism, _), 334) => {
                let mechanism = *mechanism;
                let challenge = lines.first().and_then(|text| Challenge::decode(text));
                self.state = State::Responded(mechanism, challenge);
                Step::Send(mechanism.resignation().into())
            }
            (State::Responded(mechanism, _), 235) => Step::End(Verdict::SignedIn(*mechanism)),
            (State::Auth(mechanism), 400..=599) => refused(*mechanism, None, &text, code),
            (State::Responded(mechanism, challenge), 400..=599) => {
                refused(*mechanism, challenge.take(), &text, code)
            }
            _ => nonsense(line),
        }
    }

    /// What the server can do is known.
    fn begin(&mut self, lines: &[String]) -> Step {
        // The first is a greeting.
        let extensions = lines.iter().skip(1).map(|line| line.trim());
        let has_tls = extensions
            .clone()
            .any(|it| it.eq_ignore_ascii_case("STARTTLS"));
        let lists = extensions.filter_map(|it| strip(it, "AUTH ").or(strip(it, "AUTH=")));
        let offered: Vec<String> = lists
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect();
        match ask_for(self.situation, has_tls, &offered, false) {
            Err(verdict) => Step::End(verdict),
            Ok(Ask::Tls) => self.send("STARTTLS".into(), State::StartTls),
            Ok(Ask::SignIn(mechanism)) => {
                self.send(format!("AUTH {}", mechanism.name()), State::Auth(mechanism))
            }
        }
    }
}

fn refused(mechanism: Mechanism, challenge: Option<Challenge>, text: &str, code: u16) -> Step {
    Step::End(Verdict::Refused {
        mechanism,
        challenge,
        text: sanitize(text),
        passing: code < 500,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{
        Protocol,
        tests::{SECURE, play, refused, send},
    };
    use super::*;

    fn smtp(situation: Situation, lines: &[(&str, Step)]) {
        play(Protocol::Smtp, situation, lines);
    }

    #[test]
    fn a_token_is_sent_when_it_is_asked_for() {
        smtp(
            SECURE,
            &[
                ("220-welcome", Step::Read),
                ("220 mail ESMTP", send(EHLO)),
                ("250-mail hello", Step::Read),
                ("250-STARTTLS", Step::Read),
                ("250-AUTH=LOGIN", Step::Read),
                ("250 auth PLAIN XOAUTH2", send("AUTH XOAUTH2")),
                ("334 ", Step::Respond(Mechanism::Xoauth2)),
                (
                    "235 2.7.0 in",
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
        let hello = || {
            vec![
                ("220 mail", send(EHLO)),
                ("250-AUTH XOAUTH2", Step::Read),
                ("250-AUTH XOAUTH2", Step::Read),
            ]
        };
        let none = |text: &str| Step::End(Verdict::NoTls { text: text.into() });
        let asked = || ("250 starttls", send("STARTTLS"));
        for rest in [
            vec![
                asked(),
                ("220 go", Step::StartTls),
                ("TLS", send(EHLO)),
                ("250-mail", Step::Read),
                ("250 AUTH OAUTHBEARER", send("AUTH OAUTHBEARER")),
            ],
            vec![asked(), ("454 not now", none("454 not now"))],
            vec![("250 SIZE", none(""))],
        ] {
            let lines: Vec<_> = hello().into_iter().chain(rest).collect();
            smtp(plain, &lines);
        }
    }

    #[test]
    fn refusals_and_trouble_are_told_apart() {
        let signing_in = || {
            vec![
                ("220 mail", send(EHLO)),
                ("250-mail", Step::Read),
                ("250 AUTH XOAUTH2", send("AUTH XOAUTH2")),
            ]
        };
        let begin = || ("334", Step::Respond(Mechanism::Xoauth2));
        let challenge = Challenge {
            status: Some("400".into()),
            ..Challenge::default()
        };
        let no = |challenge, text| refused(Mechanism::Xoauth2, challenge, text);
        for rest in [
            vec![("504 what?", no(None, "504 what?"))],
            vec![
                begin(),
                ("535-5.7.8 Bad", Step::Read),
                (
                    "535 5.7.8 see there",
                    no(None, "535 5.7.8 Bad 5.7.8 see there"),
                ),
            ],
            vec![
                begin(),
                // {"status":"400"}
                ("334 eyJzdGF0dXMiOiI0MDAifQ==", send("")),
                ("535 no", no(Some(challenge), "535 no")),
            ],
            vec![
                begin(),
                (
                    "454 4.7.0 later",
                    Step::End(Verdict::Refused {
                        mechanism: Mechanism::Xoauth2,
                        challenge: None,
                        text: "454 4.7.0 later".into(),
                        passing: true,
                    }),
                ),
            ],
            vec![(
                "250 fine",
                Step::End(Verdict::Nonsense {
                    text: "250 fine".into(),
                }),
            )],
        ] {
            let lines: Vec<_> = signing_in().into_iter().chain(rest).collect();
            smtp(SECURE, &lines);
        }
    }

    #[test]
    fn what_isnt_a_reply_is_told() {
        let odd = |text: &str| Step::End(Verdict::Nonsense { text: text.into() });
        for line in ["* OK IMAP", "22", "2200 x", "220x", "", "ü20 x", "+20 x"] {
            smtp(SECURE, &[(line, odd(line))]);
        }
        let busy = |text: &str| Step::End(Verdict::Unavailable { text: text.into() });
        smtp(SECURE, &[("421 busy", busy("421 busy"))]);
        smtp(
            SECURE,
            &[("220 mail", send(EHLO)), ("502 what?", busy("502 what?"))],
        );
    }
}
