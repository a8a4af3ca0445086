//! IMAP (RFC 9051, 6.2): TLS, sign in, and look at the inbox without changing it.

use super::{Commands, Reply, State, strip};

pub const COMMANDS: Commands = Commands {
    capabilities: "a1 CAPABILITY",
    tls: "a1 STARTTLS",
    // Without the response, which would fit on the same line where the server has SASL-IR: all
    // servers know this way.
    auth: "a1 AUTHENTICATE",
    // Some servers accept any token, and refuse it only here.
    mailbox: Some("a1 EXAMINE INBOX"),
    farewell: "a9 LOGOUT",
    read,
    // RFC 5530, 3.
    is_passing: |text| text.contains("[UNAVAILABLE]"),
};

/// Commands are sent one at a time, so one tag does for all.
const TAG: &str = "a1";

fn read(state: &State, line: &str, heard: &mut Vec<String>) -> Reply {
    if let Some(rest) = line.strip_prefix('+') {
        return Reply::Continue(rest.trim_start().into());
    }
    match (line.split_once(' '), state) {
        (Some(("*", rest)), state) => untagged(state, rest, heard),
        (Some((TAG, _)), State::Greeting) => Reply::Nonsense,
        (Some((TAG, rest)), state) => match strip(rest, "NO").or(strip(rest, "BAD")) {
            Some(_) if matches!(state, State::Capabilities) => Reply::Nonsense,
            Some(text) => Reply::Bad(text.into()),
            None => match (strip(rest, "OK"), state) {
                (Some(text), State::Responded(..)) => {
                    let code = strip(text.trim_start(), "[CAPABILITY ");
                    list(code.and_then(|code| code.split(']').next()), heard);
                    Reply::Good
                }
                (Some(_), _) => Reply::Good,
                (None, _) => Reply::Nonsense,
            },
        },
        _ => Reply::Nonsense,
    }
}

fn list(capabilities: Option<&str>, heard: &mut Vec<String>) {
    let capabilities = capabilities.unwrap_or_default().split_whitespace();
    heard.extend(capabilities.map(str::to_owned));
}

fn untagged(state: &State, rest: &str, heard: &mut Vec<String>) -> Reply {
    if let Some(text) = strip(rest, "BYE") {
        return Reply::Bye(text.into());
    }
    match state {
        State::Greeting => strip(rest, "OK").map_or(Reply::Nonsense, |_| Reply::Good),
        State::Capabilities | State::Responded(..) | State::Session(_) => {
            list(strip(rest, "CAPABILITY "), heard);
            Reply::Part
        }
        _ => Reply::Part,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Challenge, MailVerdict, Mechanism, Protocol,
        tests::{MailStep, SECURE, Situation, play, refused, send},
    };

    const LISTED: &str = "a1 OK listed";

    fn imap(situation: Situation, lines: &[(&str, MailStep)]) {
        play(Protocol::Imap, situation, lines);
    }

    #[test]
    fn a_token_that_is_taken_opens_the_inbox() {
        imap(
            SECURE,
            &[
                ("* OK [CAPABILITY IMAP4rev1] hi", send("a1 CAPABILITY")),
                ("* CAPABILITY IMAP4rev1 SASL-IR", MailStep::Read),
                ("* CAPABILITY AUTH=PLAIN auth=xoauth2", MailStep::Read),
                (LISTED, send("a1 AUTHENTICATE XOAUTH2")),
                ("+ ", MailStep::Respond(Mechanism::Xoauth2)),
                ("* CAPABILITY IMAP4rev1 IDLE", MailStep::Read),
                ("a1 OK in", send("a1 EXAMINE INBOX")),
                ("* 3 EXISTS", MailStep::Read),
                ("* OK [UIDVALIDITY 1] fine", MailStep::Read),
                (
                    "a1 ok [READ-ONLY] done",
                    MailStep::SignedIn(Mechanism::Xoauth2),
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
                ("* CAPABILITY STARTTLS AUTH=OAUTHBEARER", MailStep::Read),
                (LISTED, send("a1 STARTTLS")),
                ("a1 OK go", MailStep::StartTls),
                ("TLS", send("a1 CAPABILITY")),
                ("* CAPABILITY STARTTLS AUTH=XOAUTH2", MailStep::Read),
                (LISTED, send("a1 AUTHENTICATE XOAUTH2")),
            ],
        );
        let none = |text: &str| MailStep::End(MailVerdict::TlsRefused(text.into()));
        let offer = ("* CAPABILITY AUTH=OAUTHBEARER", MailStep::Read);
        let hello = || ("* OK hi", send("a1 CAPABILITY"));
        imap(
            plain,
            &[hello(), offer, (LISTED, MailStep::End(MailVerdict::NoTls))],
        );
        let offer = ("* CAPABILITY STARTTLS", MailStep::Read);
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
            imap(
                local,
                &[hello, (offer, MailStep::Read), (LISTED, send(then))],
            );
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
                    (&offer, MailStep::Read),
                    (LISTED, send(&begun)),
                    ("+", MailStep::Respond(mechanism)),
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

    fn signing_in() -> Vec<(&'static str, MailStep)> {
        vec![
            ("* OK hi", send("a1 CAPABILITY")),
            ("* CAPABILITY AUTH=XOAUTH2", MailStep::Read),
            (LISTED, send("a1 AUTHENTICATE XOAUTH2")),
        ]
    }

    #[test]
    fn every_way_to_be_refused_is_told_apart() {
        let begin = || ("+ ", MailStep::Respond(Mechanism::Xoauth2));
        let passing = MailStep::End(MailVerdict::Refused {
            mechanism: Mechanism::Xoauth2,
            challenge: None,
            text: "[UNAVAILABLE] later".into(),
            passing: true,
        });
        let no = |text| refused(Mechanism::Xoauth2, None, text);
        let mailbox = MailStep::End(MailVerdict::NoMailbox("not connected".into()));
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
        fn concat_steps(self) -> Vec<(&'static str, MailStep)>;
    }

    impl ConcatSteps for [Vec<(&'static str, MailStep)>; 2] {
        fn concat_steps(self) -> Vec<(&'static str, MailStep)> {
            self.into_iter().flatten().collect()
        }
    }

    #[test]
    fn a_server_that_has_no_use_for_tokens_or_for_us_says_so() {
        let hello = || ("* OK hi", send("a1 CAPABILITY"));
        let not_offered = MailStep::End(MailVerdict::NotOffered {
            offered: vec!["PLAIN".into()],
            disabled: true,
        });
        imap(
            SECURE,
            &[
                hello(),
                ("* CAPABILITY AUTH=PLAIN LOGINDISABLED", MailStep::Read),
                (LISTED, not_offered),
            ],
        );
        let busy = |text: &str| MailStep::End(MailVerdict::Unavailable(text.into()));
        let odd = |text: &str| MailStep::End(MailVerdict::Nonsense(text.into()));
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
