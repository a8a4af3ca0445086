//! SMTP (RFC 5321; RFC 4954 for AUTH): TLS and sign in; no mail is begun.

use super::{Commands, Reply, State};

pub const COMMANDS: Commands = Commands {
    // What a client without a name of its own calls itself (RFC 5321, 4.1.3): this machine's name
    // isn't given away.
    capabilities: "EHLO [127.0.0.1]",
    tls: "STARTTLS",
    auth: "AUTH",
    mailbox: None,
    farewell: "QUIT",
    read,
    // 4yz: try again later (RFC 5321, 4.2.1).
    is_passing: |text| text.starts_with('4'),
};

fn read(state: &State, line: &str, heard: &mut Vec<String>) -> Reply {
    let (code, rest) = line.split_at_checked(3).unwrap_or((line, ""));
    let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    let (Ok(code), true) = (code.parse::<u16>(), is_code) else {
        return Reply::Nonsense;
    };
    let (last, text) = match (rest.strip_prefix('-'), rest.strip_prefix(' ')) {
        (Some(text), _) => (false, text),
        (None, Some(text)) => (true, text),
        (None, None) if rest.is_empty() => (true, ""),
        (None, None) => return Reply::Nonsense,
    };
    heard.push(text.into());
    if !last {
        return Reply::Part;
    }
    let lines = std::mem::take(heard);
    match (code, state) {
        (220, State::Greeting | State::StartTls) | (235, State::Responded(..)) => Reply::Good,
        (250, State::Capabilities) => {
            // The first line is a greeting.
            heard.extend(lines.into_iter().skip(1));
            Reply::Good
        }
        (334, _) => Reply::Continue(lines.into_iter().next().unwrap_or_default()),
        (400..=599, _) => Reply::Bad(format!("{code} {}", lines.join(" "))),
        _ => Reply::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Challenge, MailVerdict, Mechanism, Protocol,
        tests::{MailStep, SECURE, Situation, play, refused, send},
    };

    const EHLO: &str = super::COMMANDS.capabilities;

    fn smtp(situation: Situation, lines: &[(&str, MailStep)]) {
        play(Protocol::Smtp, situation, lines);
    }

    #[test]
    fn a_token_is_sent_when_it_is_asked_for() {
        smtp(
            SECURE,
            &[
                ("220-welcome", MailStep::Read),
                ("220 mail ESMTP", send(EHLO)),
                ("250-mail hello", MailStep::Read),
                ("250-STARTTLS", MailStep::Read),
                ("250-AUTH=LOGIN", MailStep::Read),
                ("250 auth PLAIN XOAUTH2", send("AUTH XOAUTH2")),
                ("334 ", MailStep::Respond(Mechanism::Xoauth2)),
                ("235 2.7.0 in", MailStep::SignedIn(Mechanism::Xoauth2)),
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
                ("250-AUTH XOAUTH2", MailStep::Read),
                ("250-AUTH XOAUTH2", MailStep::Read),
            ]
        };
        let none = |text: &str| MailStep::End(MailVerdict::TlsRefused(text.into()));
        let asked = || ("250 starttls", send("STARTTLS"));
        for rest in [
            vec![
                asked(),
                ("220 go", MailStep::StartTls),
                ("TLS", send(EHLO)),
                ("250-mail", MailStep::Read),
                ("250 AUTH OAUTHBEARER", send("AUTH OAUTHBEARER")),
            ],
            vec![asked(), ("454 not now", none("454 not now"))],
            vec![("250 SIZE", MailStep::End(MailVerdict::NoTls))],
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
                ("250-mail", MailStep::Read),
                ("250 AUTH XOAUTH2", send("AUTH XOAUTH2")),
            ]
        };
        let begin = || ("334", MailStep::Respond(Mechanism::Xoauth2));
        let challenge = Challenge {
            status: Some("400".into()),
            ..Challenge::default()
        };
        let no = |challenge, text| refused(Mechanism::Xoauth2, challenge, text);
        for rest in [
            vec![("504 what?", no(None, "504 what?"))],
            vec![
                begin(),
                ("535-5.7.8 Bad", MailStep::Read),
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
                    MailStep::End(MailVerdict::Refused {
                        mechanism: Mechanism::Xoauth2,
                        challenge: None,
                        text: "454 4.7.0 later".into(),
                        passing: true,
                    }),
                ),
            ],
            vec![(
                "250 fine",
                MailStep::End(MailVerdict::Nonsense("250 fine".into())),
            )],
        ] {
            let lines: Vec<_> = signing_in().into_iter().chain(rest).collect();
            smtp(SECURE, &lines);
        }
    }

    #[test]
    fn what_isnt_a_reply_is_told() {
        let odd = |text: &str| MailStep::End(MailVerdict::Nonsense(text.into()));
        for line in ["* OK IMAP", "22", "2200 x", "220x", "", "ü20 x", "+20 x"] {
            smtp(SECURE, &[(line, odd(line))]);
        }
        let busy = |text: &str| MailStep::End(MailVerdict::Unavailable(text.into()));
        smtp(SECURE, &[("421 busy", busy("421 busy"))]);
        smtp(
            SECURE,
            &[("220 mail", send(EHLO)), ("502 what?", busy("502 what?"))],
        );
    }
}
