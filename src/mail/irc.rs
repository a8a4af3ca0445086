//! IRC: sign in before a nick is named (IRCv3's "Capability Negotiation" and "SASL Authentication").
//! The client speaks first. The registration stays open, for whoever goes on with it.

use super::{Commands, Reply, State};
use crate::text::sanitize;

pub const COMMANDS: Commands = Commands {
    capabilities: "CAP LS 302",
    // Never offered.
    tls: "STARTTLS",
    // What is asked for is listed, so there is no need to wait for the answer.
    auth: "CAP REQ :sasl\r\nAUTHENTICATE",
    mailbox: None,
    farewell: "QUIT",
    read,
    is_passing: |_| false,
};

/// How much of a response fits on a line, in bytes; one that ends with a full line is followed by an
/// empty one ("SASL Authentication", the AUTHENTICATE command).
pub const CHUNK_BYTES: usize = 400;

/// The lines that carry `response`.
pub fn respond(response: &str) -> String {
    let mut lines = String::new();
    let mut rest = response;
    loop {
        let (chunk, left) = rest.split_at_checked(CHUNK_BYTES).unwrap_or((rest, ""));
        let shown = if chunk.is_empty() { "+" } else { chunk };
        lines.push_str(&format!("AUTHENTICATE {shown}\r\n"));
        if chunk.len() < CHUNK_BYTES {
            return lines;
        }
        rest = left;
    }
}

fn read(state: &State, line: &str, heard: &mut Vec<String>) -> Reply {
    let Some((command, params)) = parse(line) else {
        return Reply::Nonsense;
    };
    let last = params.last().copied().unwrap_or_default();
    let second = params.get(1).copied().unwrap_or_default();
    match (command, state) {
        ("PING", _) => Reply::Ping(format!("PONG :{}", sanitize(last))),
        ("ERROR", _) => Reply::Bye(last.into()),
        ("CAP", State::Capabilities) if second.eq_ignore_ascii_case("LS") => {
            let listed = last.split(' ').filter(|it| !it.is_empty());
            // A server may list none of its mechanisms.
            heard.extend(listed.map(|it| match it.eq_ignore_ascii_case("sasl") {
                true => "SASL=OAUTHBEARER".to_owned(),
                false => it.to_owned(),
            }));
            match params.get(2) {
                Some(&"*") => Reply::Part,
                _ => Reply::Good,
            }
        }
        // No such command: no capabilities.
        ("410" | "421" | "451", State::Capabilities) => Reply::Good,
        ("410" | "421" | "451" | "902" | "904" | "905" | "906" | "907", _) => {
            Reply::Bad(last.into())
        }
        ("CAP", State::Auth(_)) if second.eq_ignore_ascii_case("NAK") => {
            Reply::Bad("it doesn't enable SASL".into())
        }
        ("AUTHENTICATE", _) => Reply::Continue(last.trim_start_matches('+').into()),
        ("903", State::Responded(..)) => Reply::Good,
        _ => Reply::Part,
    }
}

/// A message's command and parameters (RFC 2812, 2.3.1, with IRCv3's tags before it). Numbers come
/// from servers, which say who they are; SMTP's don't.
fn parse(line: &str) -> Option<(&str, Vec<&str>)> {
    let after = |line: &'_ str, mark: char| match line.strip_prefix(mark) {
        Some(word) => word.find(' ').map(|end| end + mark.len_utf8()),
        None => Some(0),
    };
    let line = line.get(after(line, '@')?..)?.trim_start();
    let has_source = line.starts_with(':');
    let line = line.get(after(line, ':')?..)?.trim_start();
    let (middle, trailing) = match line.split_once(" :") {
        Some((middle, trailing)) => (middle, Some(trailing)),
        None => (line, None),
    };
    let mut words = middle.split(' ').filter(|word| !word.is_empty());
    let command = words.next()?;
    let is_number = command.len() == 3 && command.bytes().all(|it| it.is_ascii_digit());
    let is_word = command.bytes().all(|it| it.is_ascii_uppercase());
    let is_one = (is_number && has_source) || is_word;
    is_one.then(|| (command, words.chain(trailing).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::{
        Challenge, MailVerdict, Mechanism, Protocol,
        tests::{MailStep, SECURE, play, refused, send},
    };
    use super::*;

    const BEGIN: (&str, &str) = ("START", "CAP LS 302");
    const AUTH: &str = "CAP REQ :sasl\r\nAUTHENTICATE OAUTHBEARER";

    fn irc(lines: Vec<(&str, MailStep)>) {
        let mut all = vec![(BEGIN.0, send(BEGIN.1))];
        all.extend(lines);
        play(Protocol::Irc, SECURE, &all);
    }

    fn responding() -> Vec<(&'static str, MailStep)> {
        vec![
            (":irc.test CAP * LS :sasl=PLAIN,OAUTHBEARER", send(AUTH)),
            (":irc.test CAP * ACK :sasl", MailStep::Read),
            ("AUTHENTICATE +", MailStep::Respond(Mechanism::Oauthbearer)),
        ]
    }

    #[test]
    fn a_token_is_taken_before_a_nick_is_named() {
        let mut lines = vec![
            (":irc.test NOTICE * :Looking you up", MailStep::Read),
            ("PING :a b", send("PONG :a b")),
            (
                ":irc.test CAP * LS * :multi-prefix cap-notify",
                MailStep::Read,
            ),
            (":irc.test CAP * LS :away-notify sasl", send(AUTH)),
            ("@time=12:00 :irc.test CAP * ACK :sasl", MailStep::Read),
            (
                ":irc.test AUTHENTICATE +",
                MailStep::Respond(Mechanism::Oauthbearer),
            ),
            (
                ":irc.test 900 * * me :You are now logged in",
                MailStep::Read,
            ),
        ];
        let end = MailStep::SignedIn(Mechanism::Oauthbearer);
        lines.push((":irc.test 903 * :SASL authentication successful", end));
        irc(lines);
    }

    #[test]
    fn what_a_server_doesnt_have_is_told() {
        let none = |offered: &[&str]| {
            let offered = offered.iter().map(|it| (*it).to_owned()).collect();
            MailStep::End(MailVerdict::NotOffered {
                offered,
                disabled: false,
            })
        };
        irc(vec![(
            ":s CAP * LS :sasl=PLAIN,EXTERNAL",
            none(&["PLAIN", "EXTERNAL"]),
        )]);
        irc(vec![(":s CAP * LS :multi-prefix saslx", none(&[]))]);
        irc(vec![(":s 421 * CAP :Unknown command", none(&[]))]);
        let nak = refused(Mechanism::Oauthbearer, None, "it doesn't enable SASL");
        irc(vec![
            (":s CAP * LS :sasl", send(AUTH)),
            (":s CAP * NAK :sasl", nak),
        ]);
        let bye = |text: &str| MailStep::End(MailVerdict::Unavailable(text.into()));
        irc(vec![("ERROR :Closing Link \u{7}", bye("Closing Link"))]);
        for line in [
            "* OK IMAP4rev1",
            "+OK pop",
            "220 mail ESMTP",
            "HTTP/1.1 400",
            "",
            ":x",
            "@y",
            "@y :x ",
        ] {
            let odd = MailStep::End(MailVerdict::Nonsense(line.trim_end().into()));
            irc(vec![(line, odd)]);
        }
    }

    #[test]
    fn a_refusal_comes_with_all_that_the_server_says() {
        let no = |challenge, text: &str| refused(Mechanism::Oauthbearer, challenge, text);
        let challenge = Challenge {
            status: Some("400".into()),
            ..Challenge::default()
        };
        for rest in [
            vec![(
                ":s 904 * :SASL authentication failed",
                no(None, "SASL authentication failed"),
            )],
            vec![
                // {"status":"400"}
                (
                    "AUTHENTICATE eyJzdGF0dXMiOiI0MDAifQ==",
                    send("AUTHENTICATE AQ=="),
                ),
                (":s 904 * :no", no(Some(challenge), "no")),
            ],
            vec![("ERROR :enough", no(None, "enough"))],
        ] {
            irc(responding().into_iter().chain(rest).collect());
        }
        let mut early = vec![(":s CAP * LS :sasl=OAUTHBEARER", send(AUTH))];
        early.push((":s 908 * PLAIN :are available", MailStep::Read));
        early.push((":s 904 * :what?", no(None, "what?")));
        irc(early);
    }

    #[test]
    fn a_response_is_cut_and_ends_with_a_line_that_isnt_full() {
        for (length, lengths) in [
            (0, vec![1]),
            (1, vec![1]),
            (399, vec![399]),
            (400, vec![400, 1]),
            (401, vec![400, 1]),
            (800, vec![400, 400, 1]),
        ] {
            let lines = respond(&"x".repeat(length));
            let lines: Vec<&str> = lines.strip_suffix("\r\n").unwrap().split("\r\n").collect();
            let chunks = lines
                .iter()
                .map(|line| line.strip_prefix("AUTHENTICATE ").unwrap());
            assert_eq!(
                chunks.map(str::len).collect::<Vec<_>>(),
                lengths,
                "{length}"
            );
            assert_eq!(lines.last().unwrap().ends_with('+'), length % 400 == 0);
        }
    }
}
