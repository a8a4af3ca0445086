//! POP3 (RFC 1939; RFC 5034 for AUTH): TLS, sign in, and count the mails.

use super::{Commands, Reply, State};

pub const COMMANDS: Commands = Commands {
    capabilities: "CAPA",
    tls: "STLS",
    // The response comes on a line of its own: it is longer than a command may be (RFC 5034, 4).
    auth: "AUTH",
    mailbox: Some("STAT"),
    farewell: "QUIT",
    read,
    // RFC 2449, 8.1; RFC 3206, 4.
    is_passing: |text| {
        let codes = ["[SYS/TEMP]", "[IN-USE]", "[LOGIN-DELAY]"];
        codes.iter().any(|code| text.contains(code))
    },
};

fn read(state: &State, line: &str, heard: &mut Vec<String>) -> Reply {
    let listing = matches!(state, State::Capabilities);
    if listing && (!heard.is_empty() || line.starts_with("+OK")) {
        // The list begins after the line that announces it.
        if line == "." && !heard.is_empty() {
            heard.remove(0);
            return Reply::Good;
        }
        heard.push(line.into());
        return Reply::Part;
    }
    match (line.strip_prefix("-ERR"), line.strip_prefix('+')) {
        // Without that command there is no list of mechanisms.
        (Some(_), _) if listing => Reply::Good,
        (Some(text), _) => Reply::Bad(text.into()),
        (None, Some(text)) if text.starts_with("OK") => Reply::Good,
        (None, Some(text)) => Reply::Continue(text.into()),
        (None, None) => Reply::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Challenge, MailVerdict, Mechanism, Protocol,
        tests::{MailStep, SECURE, Situation, play, refused, send},
    };

    fn pop3(situation: Situation, lines: &[(&str, MailStep)]) {
        play(Protocol::Pop3, situation, lines);
    }

    #[test]
    fn a_token_goes_on_a_line_of_its_own_and_the_mails_are_counted() {
        pop3(
            SECURE,
            &[
                ("+OK ready <1@x>", send("CAPA")),
                ("+OK list", MailStep::Read),
                ("TOP", MailStep::Read),
                ("sasl PLAIN XOAUTH2", MailStep::Read),
                ("STLS", MailStep::Read),
                (".", send("AUTH XOAUTH2")),
                ("+ ", MailStep::Respond(Mechanism::Xoauth2)),
                ("+OK in", send("STAT")),
                ("+OK 3 4711", MailStep::SignedIn(Mechanism::Xoauth2)),
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
                ("+OK list", MailStep::Read),
                ("SASL OAUTHBEARER", MailStep::Read),
                ("STLS", MailStep::Read),
                (".", send("STLS")),
                ("+OK go", MailStep::StartTls),
                ("TLS", send("CAPA")),
                ("+OK list", MailStep::Read),
                (
                    ".",
                    MailStep::End(MailVerdict::NotOffered {
                        offered: vec![],
                        disabled: false,
                    }),
                ),
            ],
        );
        let none = |text: &str| MailStep::End(MailVerdict::TlsRefused(text.into()));
        pop3(
            plain,
            &[
                ("+OK ready", send("CAPA")),
                ("-ERR what?", MailStep::End(MailVerdict::NoTls)),
            ],
        );
        let list = || {
            [
                ("+OK ready", send("CAPA")),
                ("+OK", MailStep::Read),
                ("STLS", MailStep::Read),
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
                ("+OK list", MailStep::Read),
                ("SASL OAUTHBEARER", MailStep::Read),
                (".", send("AUTH OAUTHBEARER")),
                ("+ ", MailStep::Respond(Mechanism::Oauthbearer)),
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
                MailStep::End(MailVerdict::Refused {
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
                    MailStep::End(MailVerdict::NoMailbox("locked".into())),
                ),
            ],
        ] {
            let lines: Vec<_> = signing_in().into_iter().chain(rest).collect();
            pop3(SECURE, &lines);
        }
        let busy = MailStep::End(MailVerdict::Unavailable("busy".into()));
        pop3(SECURE, &[("-ERR busy", busy)]);
        let odd = |text: &str| MailStep::End(MailVerdict::Nonsense(text.into()));
        pop3(SECURE, &[("* OK IMAP", odd("* OK IMAP"))]);
        pop3(SECURE, &[("+ now", odd("+ now"))]);
    }
}
