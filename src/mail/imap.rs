//! IMAP (RFC 9051, 6.2): TLS, sign in, and look at the inbox without changing it.

use super::{
    Ask, Challenge, Mechanism, Situation, Step, Verdict, ask_for, no_tls, nonsense, strip,
    unavailable,
};
use crate::text::sanitize;

pub struct Imap {
    situation: Situation,
    state: State,
    capabilities: Vec<String>,
}

enum State {
    Greeting,
    Capability,
    StartTls,
    Authenticate(Mechanism),
    Responded(Mechanism, Option<Challenge>),
    /// Looking at the inbox: some servers let anybody's token in, and tell only then.
    Examine(Mechanism),
}

/// Commands come one at a time, so that a tag for each would tell no more.
const TAG: &str = "a1";

/// A line of the server, by what it is about.
enum Line<'a> {
    /// `* …`
    Untagged(&'a str),
    /// `+ …`
    Continue(&'a str),
    Good,
    Bad(&'a str),
}

fn read(line: &str) -> Option<Line<'_>> {
    if let Some(rest) = line.strip_prefix('+') {
        return Some(Line::Continue(rest.trim_start()));
    }
    let (tag, rest) = line.split_once(' ')?;
    match tag {
        "*" => Some(Line::Untagged(rest)),
        TAG => {
            let bad = strip(rest, "NO").or(strip(rest, "BAD"));
            let good = strip(rest, "OK").map(|_| Line::Good);
            good.or(bad.map(Line::Bad))
        }
        _ => None,
    }
}

impl Imap {
    pub fn new(situation: Situation) -> Self {
        Imap {
            situation,
            state: State::Greeting,
            capabilities: Vec::new(),
        }
    }

    pub fn secured(&mut self) -> Step {
        self.situation.secure = true;
        self.ask_capability()
    }

    fn ask_capability(&mut self) -> Step {
        // What was said without TLS counts no longer (RFC 9051, 6.2.1).
        self.capabilities.clear();
        self.send("CAPABILITY", State::Capability)
    }

    fn send(&mut self, command: &str, state: State) -> Step {
        self.state = state;
        Step::Send(format!("{TAG} {command}"))
    }

    pub fn line(&mut self, line: &str) -> Step {
        match read(line) {
            None => nonsense(line),
            Some(Line::Untagged(rest)) => self.untagged(rest, line),
            Some(Line::Continue(text)) => self.go_on(text, line),
            Some(Line::Good) => self.good(line),
            Some(Line::Bad(text)) => self.bad(text, line),
        }
    }

    fn untagged(&mut self, rest: &str, line: &str) -> Step {
        if let Some(text) = strip(rest, "BYE") {
            return match &mut self.state {
                State::Responded(mechanism, challenge) => {
                    refused(*mechanism, challenge.take(), text)
                }
                _ => unavailable(text),
            };
        }
        if let State::Greeting = self.state {
            return match strip(rest, "OK") {
                Some(_) => self.ask_capability(),
                None => nonsense(line),
            };
        }
        if let (State::Capability, Some(list)) = (&self.state, strip(rest, "CAPABILITY ")) {
            let words = list.split_whitespace().map(str::to_owned);
            self.capabilities.extend(words);
        }
        Step::Read
    }

    fn go_on(&mut self, text: &str, line: &str) -> Step {
        match self.state {
            State::Authenticate(mechanism) => {
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

    fn good(&mut self, line: &str) -> Step {
        match self.state {
            State::Capability => self.begin(),
            State::StartTls => Step::StartTls,
            State::Responded(mechanism, _) => self.send("EXAMINE INBOX", State::Examine(mechanism)),
            State::Examine(mechanism) => Step::End(Verdict::SignedIn(mechanism)),
            State::Greeting | State::Authenticate(_) => nonsense(line),
        }
    }

    fn bad(&mut self, text: &str, line: &str) -> Step {
        match &mut self.state {
            State::StartTls => no_tls(text),
            State::Authenticate(mechanism) => refused(*mechanism, None, text),
            State::Responded(mechanism, challenge) => refused(*mechanism, challenge.take(), text),
            State::Examine(_) => Step::End(Verdict::NoMailbox {
                text: sanitize(text),
            }),
            State::Greeting | State::Capability => nonsense(line),
        }
    }

    /// The capabilities are known.
    fn begin(&mut self) -> Step {
        let has = |wanted: &str| {
            let mut all = self.capabilities.iter();
            all.any(|name| name.eq_ignore_ascii_case(wanted))
        };
        let has_tls = has("STARTTLS");
        let disabled = has("LOGINDISABLED");
        let offered = self
            .capabilities
            .iter()
            .filter_map(|name| strip(name, "AUTH="));
        let offered: Vec<String> = offered.map(str::to_owned).collect();
        match ask_for(self.situation, has_tls, &offered, disabled) {
            Err(verdict) => Step::End(verdict),
            Ok(Ask::Tls) => self.send("STARTTLS", State::StartTls),
            // Without the response, which would fit on the same line where the server has SASL-IR:
            // all servers know this way.
            Ok(Ask::SignIn(mechanism)) => self.send(
                &format!("AUTHENTICATE {}", mechanism.name()),
                State::Authenticate(mechanism),
            ),
        }
    }
}

fn refused(mechanism: Mechanism, challenge: Option<Challenge>, text: &str) -> Step {
    let text = sanitize(text);
    Step::End(Verdict::Refused {
        mechanism,
        challenge,
        // RFC 5530, 3.
        passing: text.contains("[UNAVAILABLE]"),
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

    const LISTED: &str = "a1 OK listed";

    fn imap(situation: Situation, lines: &[(&str, Step)]) {
        play(Protocol::Imap, situation, lines);
    }

    #[test]
    fn a_token_that_is_taken_opens_the_inbox() {
        imap(
            SECURE,
            &[
                ("* OK [CAPABILITY IMAP4rev1] hi", send("a1 CAPABILITY")),
                ("* CAPABILITY IMAP4rev1 SASL-IR", Step::Read),
                ("* CAPABILITY AUTH=PLAIN auth=xoauth2", Step::Read),
                (LISTED, send("a1 AUTHENTICATE XOAUTH2")),
                ("+ ", Step::Respond(Mechanism::Xoauth2)),
                ("* CAPABILITY IMAP4rev1 IDLE", Step::Read),
                ("a1 OK in", send("a1 EXAMINE INBOX")),
                ("* 3 EXISTS", Step::Read),
                ("* OK [UIDVALIDITY 1] fine", Step::Read),
                (
                    "a1 ok [READ-ONLY] done",
                    Step::End(Verdict::SignedIn(Mechanism::Xoauth2)),
                ),
            ],
        );
    }

    #[test]
    fn tls_comes_before_anything_else_and_what_was_said_before_is_forgotten() {
        let plain = Situation {
            secure: false,
            ..SECURE
        };
        imap(
            plain,
            &[
                ("* OK hi", send("a1 CAPABILITY")),
                ("* CAPABILITY STARTTLS AUTH=OAUTHBEARER", Step::Read),
                (LISTED, send("a1 STARTTLS")),
                ("a1 OK go", Step::StartTls),
                ("TLS", send("a1 CAPABILITY")),
                ("* CAPABILITY STARTTLS AUTH=XOAUTH2", Step::Read),
                (LISTED, send("a1 AUTHENTICATE XOAUTH2")),
            ],
        );
        let none = |text: &str| Step::End(Verdict::NoTls { text: text.into() });
        let offer = ("* CAPABILITY AUTH=OAUTHBEARER", Step::Read);
        let hello = || ("* OK hi", send("a1 CAPABILITY"));
        imap(plain, &[hello(), offer, (LISTED, none(""))]);
        let offer = ("* CAPABILITY STARTTLS", Step::Read);
        let asked = (LISTED, send("a1 STARTTLS"));
        let no = ("a1 NO not today", none("not today"));
        imap(plain, &[hello(), offer, asked, no]);
    }

    #[test]
    fn on_loopback_tls_is_used_if_it_is_there() {
        let local = Situation {
            secure: false,
            loopback: true,
            has_user: false,
        };
        for (offer, then) in [
            (
                "* CAPABILITY AUTH=OAUTHBEARER",
                "a1 AUTHENTICATE OAUTHBEARER",
            ),
            ("* CAPABILITY STARTTLS AUTH=OAUTHBEARER", "a1 STARTTLS"),
        ] {
            let hello = ("* OK hi", send("a1 CAPABILITY"));
            imap(local, &[hello, (offer, Step::Read), (LISTED, send(then))]);
        }
    }

    #[test]
    fn a_refusal_comes_with_all_that_the_server_says() {
        let challenge = Challenge {
            status: Some("400".into()),
            scope: Some("mail".into()),
            ..Challenge::default()
        };
        // {"status":"400","schemes":"Bearer","scope":"mail"}
        let json = "+ eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJtYWlsIn0=";
        for (mechanism, resignation) in [(Mechanism::Oauthbearer, "AQ=="), (Mechanism::Xoauth2, "")]
        {
            let offer = format!("* CAPABILITY AUTH={}", mechanism.name());
            let begun = format!("a1 AUTHENTICATE {}", mechanism.name());
            imap(
                SECURE,
                &[
                    ("* OK hi", send("a1 CAPABILITY")),
                    (&offer, Step::Read),
                    (LISTED, send(&begun)),
                    ("+", Step::Respond(mechanism)),
                    (json, send(resignation)),
                    (
                        "a1 NO [AUTHENTICATIONFAILED] bad \u{1b}[31m",
                        refused(
                            mechanism,
                            Some(challenge.clone()),
                            "[AUTHENTICATIONFAILED] bad [31m",
                        ),
                    ),
                ],
            );
        }
    }

    fn signing_in() -> Vec<(&'static str, Step)> {
        vec![
            ("* OK hi", send("a1 CAPABILITY")),
            ("* CAPABILITY AUTH=XOAUTH2", Step::Read),
            (LISTED, send("a1 AUTHENTICATE XOAUTH2")),
        ]
    }

    #[test]
    fn every_way_to_be_refused_is_told_apart() {
        let begin = || ("+ ", Step::Respond(Mechanism::Xoauth2));
        let passing = Step::End(Verdict::Refused {
            mechanism: Mechanism::Xoauth2,
            challenge: None,
            text: "[UNAVAILABLE] later".into(),
            passing: true,
        });
        let no = |text| refused(Mechanism::Xoauth2, None, text);
        let mailbox = Step::End(Verdict::NoMailbox {
            text: "not connected".into(),
        });
        for rest in [
            vec![("a1 BAD what?", no("what?"))],
            vec![
                begin(),
                ("a1 NO AUTHENTICATE failed.", no("AUTHENTICATE failed.")),
            ],
            vec![begin(), ("* BYE enough", no("enough"))],
            vec![begin(), ("a1 NO [UNAVAILABLE] later", passing)],
            vec![
                begin(),
                ("a1 OK in", send("a1 EXAMINE INBOX")),
                ("a1 NO not connected", mailbox),
            ],
        ] {
            imap(SECURE, &[signing_in(), rest].concat_steps());
        }
    }

    /// Steps can't be cloned, so tables are put together by moving them.
    trait ConcatSteps {
        fn concat_steps(self) -> Vec<(&'static str, Step)>;
    }

    impl ConcatSteps for [Vec<(&'static str, Step)>; 2] {
        fn concat_steps(self) -> Vec<(&'static str, Step)> {
            self.into_iter().flatten().collect()
        }
    }

    #[test]
    fn a_server_that_has_no_use_for_tokens_or_for_us_says_so() {
        let hello = || ("* OK hi", send("a1 CAPABILITY"));
        let not_offered = Step::End(Verdict::NotOffered {
            offered: vec!["PLAIN".into()],
            disabled: true,
        });
        imap(
            SECURE,
            &[
                hello(),
                ("* CAPABILITY AUTH=PLAIN LOGINDISABLED", Step::Read),
                (LISTED, not_offered),
            ],
        );
        let busy = |text: &str| Step::End(Verdict::Unavailable { text: text.into() });
        let odd = |text: &str| Step::End(Verdict::Nonsense { text: text.into() });
        imap(SECURE, &[("* BYE too many", busy("too many"))]);
        imap(SECURE, &[("* PREAUTH hi", odd("* PREAUTH hi"))]);
        imap(SECURE, &[("220 mail ESMTP", odd("220 mail ESMTP"))]);
        imap(SECURE, &[("", odd(""))]);
        imap(SECURE, &[hello(), ("a1 BAD no", odd("a1 BAD no"))]);
        imap(SECURE, &[hello(), ("a2 OK fine", odd("a2 OK fine"))]);
        imap(SECURE, &[hello(), ("+ go", odd("+ go"))]);
        let mut early = signing_in();
        early.push(("a1 OK already", odd("a1 OK already")));
        imap(SECURE, &early);
    }
}
