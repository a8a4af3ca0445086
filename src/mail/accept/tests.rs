use super::*;

/// How much is read at once.
const PIECES: [usize; 3] = [1, 3, 1000];

/// What a program hears when it says all of `said` in pieces, what it comes to, and what is left.
fn play(mut acceptor: Acceptor, said: &[u8], length: usize) -> (String, Accepted, Vec<u8>) {
    let (mut input, mut output) = (Vec::new(), acceptor.greeting().into_bytes());
    let mut pieces = said.chunks(length);
    let accepted = loop {
        let Some(piece) = pieces.next() else {
            break Accepted::More;
        };
        input.extend_from_slice(piece);
        match acceptor.feed(&mut input, &mut output) {
            Accepted::More => {}
            Accepted::StartTls => acceptor.secured(),
            end => break end,
        }
    };
    input.extend(pieces.flatten());
    (String::from_utf8(output).unwrap(), accepted, input)
}

fn acceptor(protocol: Protocol) -> Acceptor {
    Acceptor::new(protocol, Vec::new(), false)
}

/// With TLS on demand.
fn in_clear(protocol: Protocol) -> Acceptor {
    Acceptor::new(protocol, Vec::new(), true)
}

fn signs_in(user: &str, password: &str) -> Accepted {
    Accepted::SignIn(UserPassword {
        user: user.into(),
        password: Secret::new(password.into()),
    })
}

/// What a program hears after the greeting, whatever pieces its commands come in.
fn heard(new: fn(Protocol) -> Acceptor, protocol: Protocol, said: &[u8]) -> (String, Accepted) {
    let greeting = new(protocol).greeting();
    let mut played = PIECES.map(|length| {
        let (heard, accepted, _) = play(new(protocol), said, length);
        let heard = heard.strip_prefix(&greeting).unwrap().to_owned();
        (heard, accepted)
    });
    assert_eq!(played[0], played[1], "{said:?}");
    assert_eq!(played[1], played[2], "{said:?}");
    std::mem::replace(&mut played[0], (String::new(), Accepted::More))
}

#[test]
fn every_way_to_sign_in_is_understood() {
    let ls = ":pizauth CAP * LS :sasl\r\n";
    let ack = ":pizauth CAP * ACK :sasl\r\nAUTHENTICATE +\r\n";
    for (protocol, said, told, user, password) in [
        (Imap, "a LOGIN me secret\r\n", "", "me", "secret"),
        (Imap, "a LOGIN me secret\n", "", "me", "secret"),
        (
            Imap,
            "a login \"m\\\"e\" \"s e\\\\t{3}\"\r\n",
            "",
            "m\"e",
            "s e\\t{3}",
        ),
        (
            Imap,
            "a LOGIN {2}\r\nme {3}\r\na\"b\r\n",
            "+ go on\r\n+ go on\r\n",
            "me",
            "a\"b",
        ),
        (
            Imap,
            "a LOGIN {2+}\r\nme {4+}\r\n\r\nab\r\n",
            "",
            "me",
            "\r\nab",
        ),
        (Imap, "a LOGIN \"me\" {2}\nä\n", "+ go on\r\n", "me", "ä"),
        (Imap, "a LOGIN me \"\"\n", "", "me", ""),
        (Imap, "a LOGIN \"\" {0+}\r\n\r\n", "", "", ""),
        (Imap, "a AUTHENTICATE PLAIN AG1lAHB3\r\n", "", "me", "pw"),
        (
            Imap,
            "a authenticate plain\r\nYQBtZQBwdw==\r\n",
            "+ \r\n",
            "me",
            "pw",
        ),
        (
            Imap,
            "a AUTHENTICATE LOGIN\r\nbWU=\r\ncHc=\r\n",
            "+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\n",
            "me",
            "pw",
        ),
        // curl 7.88.1, as it is and with AUTH=LOGIN.
        (
            Imap,
            "A001 CAPABILITY\r\nA002 AUTHENTICATE PLAIN AG1lAHB3\r\n",
            "* CAPABILITY IMAP4rev1 ID SASL-IR AUTH=PLAIN AUTH=LOGIN\r\nA001 OK done\r\n",
            "me",
            "pw",
        ),
        (
            Imap,
            "A001 CAPABILITY\r\nA002 AUTHENTICATE LOGIN bWU=\r\ncHc=\r\n",
            "* CAPABILITY IMAP4rev1 ID SASL-IR AUTH=PLAIN AUTH=LOGIN\r\nA001 OK done\r\n\
             + UGFzc3dvcmQ6\r\n",
            "me",
            "pw",
        ),
        // getmail 6.18.
        (
            Imap,
            "NJPD0 CAPABILITY\r\nNJPD1 LOGIN me \"pw\"\r\n",
            "* CAPABILITY IMAP4rev1 ID SASL-IR AUTH=PLAIN AUTH=LOGIN\r\nNJPD0 OK done\r\n",
            "me",
            "pw",
        ),
        // mpop 1.4.18 with `auth plain`.
        (
            Pop3,
            "CAPA\r\nAUTH PLAIN\r\nAG1lAHB3\r\n",
            "+OK\r\nTOP\r\nUIDL\r\nUSER\r\nSASL PLAIN LOGIN\r\n.\r\n+ \r\n",
            "me",
            "pw",
        ),
        // swaks 20201014.
        (
            Smtp,
            "EHLO vm\r\nAUTH LOGIN\r\nbWU=\r\ncHc=\r\n",
            "250-localhost\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n250 AUTH=PLAIN LOGIN\r\n\
             334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n",
            "me",
            "pw",
        ),
        // smtplib's second way, after a refusal of the first.
        (
            Smtp,
            "noop\r\nAUTH LOGIN bWU=\r\ncHc=\r\n",
            "250 2.0.0 done\r\n334 UGFzc3dvcmQ6\r\n",
            "me",
            "pw",
        ),
        (
            Pop3,
            "USER m e\r\nPASS  a b \r\n",
            "+OK done\r\n",
            "m e",
            " a b ",
        ),
        (Pop3, "user me\npass \n", "+OK done\r\n", "me", ""),
        (Pop3, "AUTH PLAIN\r\nAG1lAHB3\r\n", "+ \r\n", "me", "pw"),
        (Pop3, "AUTH PLAIN AG1lAHB3\r\n", "", "me", "pw"),
        (
            Pop3,
            "AUTH LOGIN\r\nbWU=\r\ncHc=\r\n",
            "+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\n",
            "me",
            "pw",
        ),
        // A printer's.
        (
            Smtp,
            "auth login\r\nbWU=\r\ncHc=\r\n",
            "334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n",
            "me",
            "pw",
        ),
        // Outlook's; and without padding.
        (
            Smtp,
            "HELO x\r\nAUTH LOGIN bWU\r\ncHc\r\n",
            "250 localhost\r\n334 UGFzc3dvcmQ6\r\n",
            "me",
            "pw",
        ),
        (Smtp, "AUTH PLAIN AG1lAHB3\r\n", "", "me", "pw"),
        (Smtp, "AUTH PLAIN\nAG1lAHB3\n", "334 \r\n", "me", "pw"),
        (
            Smtp,
            "AUTH LOGIN =\r\n=\r\n",
            "334 UGFzc3dvcmQ6\r\n",
            "",
            "",
        ),
        (
            Irc,
            "PASS :p w\r\nNICK a\r\nNICK b\r\nUSER a 0 * :A B\r\n",
            "",
            "",
            "p w",
        ),
        // irssi 1.4.3, with a password and with SASL.
        (
            Irc,
            "CAP LS 302\r\nJOIN :\r\nCAP END\r\nPASS pw\r\nNICK a\r\nUSER r r 127.0.0.1 :r\r\n",
            &format!("{ls}:pizauth 451 * :sign in first\r\n"),
            "",
            "pw",
        ),
        (
            Irc,
            "CAP LS 302\r\nJOIN :\r\nCAP REQ :sasl\r\nAUTHENTICATE PLAIN\r\n\
             AUTHENTICATE bWUAbWUAcHc=\r\n",
            &format!("{ls}:pizauth 451 * :sign in first\r\n{ack}"),
            "me",
            "pw",
        ),
        // WeeChat 3.8.
        (
            Irc,
            "PASS pw\r\nCAP LS 302\r\nNICK a\r\nUSER root 0 * :root\r\nCAP END\r\n",
            ls,
            "",
            "pw",
        ),
        // One that says its password last.
        (
            Irc,
            "CAP LS 302\r\nNICK a\r\nUSER a 0 * :A\r\nCAP REQ :multi-prefix\r\nCAP END\r\nPASS pw\r\n",
            &format!("{ls}:pizauth CAP * NAK :multi-prefix\r\n"),
            "",
            "pw",
        ),
        (
            Irc,
            "CAP LS\r\nNICK a\r\nCAP REQ :sasl\r\nAUTHENTICATE PLAIN\r\nAUTHENTICATE AG1lAHB3\r\n",
            &format!("{ls}{ack}"),
            "me",
            "pw",
        ),
    ] {
        let got = heard(acceptor, protocol, said.as_bytes());
        assert_eq!(got, (told.to_owned(), signs_in(user, password)), "{said:?}");
    }
}

#[test]
fn what_else_is_said_before_is_answered() {
    let capa = "+OK\r\nTOP\r\nUIDL\r\nUSER\r\nSASL PLAIN LOGIN\r\n.\r\n";
    let ehlo = "250-localhost\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n250 AUTH=PLAIN LOGIN\r\n";
    for (protocol, said, told, is_end) in [
        (Imap, "a NOOP\r\n", "a OK done\r\n", false),
        (
            Imap,
            "a ID (\"name\" \"x\")\r\n",
            "* ID NIL\r\na OK done\r\n",
            false,
        ),
        (
            Imap,
            "a LOGOUT\r\nb NOOP\r\n",
            "* BYE until then\r\na OK done\r\n",
            true,
        ),
        (Imap, "\r\n", "* BAD sign in first\r\n", false),
        // Nothing is repeated that may be a password.
        (Imap, "AG1lAHB3\r\n", "* BAD sign in first\r\n", false),
        (
            Imap,
            "a ENABLE UTF8=ACCEPT\r\n",
            "a BAD sign in first\r\n",
            false,
        ),
        (Imap, "a LOGIN me\r\n", "a BAD sign in first\r\n", false),
        (
            Imap,
            "a STARTTLS\r\n",
            "a BAD there is no TLS here\r\n",
            false,
        ),
        (
            Imap,
            "a AUTHENTICATE GSSAPI\r\n",
            "a NO use PLAIN or LOGIN\r\n",
            false,
        ),
        (
            Imap,
            "a AUTHENTICATE PLAIN\r\n*\r\n",
            "+ \r\na BAD no sign-in\r\n",
            false,
        ),
        (
            Imap,
            "a AUTHENTICATE PLAIN =\r\n",
            "a BAD no sign-in\r\n",
            false,
        ),
        (Imap, "{4+}\r\na\r\nb NOOP\r\n", "a b OK done\r\n", false),
        (Pop3, "CAPA\r\n", capa, false),
        (Pop3, "NOOP\r\n", "+OK done\r\n", false),
        (Pop3, "quit\r\n", "+OK done\r\n", true),
        (Pop3, "STAT\r\n", "-ERR sign in first\r\n", false),
        (Pop3, "STLS\r\n", "-ERR there is no TLS here\r\n", false),
        (
            Smtp,
            "STARTTLS\r\n",
            "502 5.5.1 there is no TLS here\r\n",
            false,
        ),
        (Pop3, "AUTH\r\n", "+OK\r\nPLAIN\r\nLOGIN\r\n.\r\n", false),
        (
            Pop3,
            "AUTH LOGIN\r\n*\r\n",
            "+ VXNlcm5hbWU6\r\n-ERR no sign-in\r\n",
            false,
        ),
        (Smtp, "EHLO x\r\n", ehlo, false),
        (
            Smtp,
            "RSET\r\nnoop x\r\n",
            "250 2.0.0 done\r\n250 2.0.0 done\r\n",
            false,
        ),
        (Smtp, "QUIT\r\n", "221 2.0.0 done\r\n", true),
        (
            Smtp,
            "MAIL FROM:<>\r\nHELP\r\nVRFY me\r\n",
            &"530 5.7.0 sign in first\r\n".repeat(3),
            false,
        ),
        (
            Smtp,
            "AUTH NTLM\r\n",
            "504 5.5.4 use PLAIN or LOGIN\r\n",
            false,
        ),
        (
            Smtp,
            "AUTH PLAIN\r\n*\r\n",
            "334 \r\n501 5.5.2 no sign-in\r\n",
            false,
        ),
        (
            Smtp,
            "AUTH PLAIN bWUAcHc=\r\n",
            "501 5.5.2 no sign-in\r\n",
            false,
        ),
        (
            Irc,
            "PING :x\r\nJOIN #a\r\nCAP LIST\r\n",
            "PONG :x\r\n:pizauth 451 * :sign in first\r\n:pizauth CAP * LIST :sasl\r\n",
            false,
        ),
        (
            Irc,
            "CAP REQ :sasl\r\nAUTHENTICATE EXTERNAL\r\nAUTHENTICATE PLAIN\r\nAUTHENTICATE *\r\n",
            ":pizauth CAP * ACK :sasl\r\n:pizauth 904 * :use PLAIN or LOGIN\r\n\
             AUTHENTICATE +\r\n:pizauth 904 * :no sign-in\r\n",
            false,
        ),
        // The negotiation isn't over, or somebody unnamed.
        (
            Irc,
            "CAP LS\r\nPASS x\r\nNICK n\r\nUSER u 0 * :r\r\n",
            ":pizauth CAP * LS :sasl\r\n",
            false,
        ),
        (Irc, "PASS x\r\nUSER u 0 * :r\r\n", "", false),
        (Irc, "QUIT :x\r\n", "ERROR :until then\r\n", true),
    ] {
        let end = if is_end {
            Accepted::End
        } else {
            Accepted::More
        };
        let got = heard(acceptor, protocol, said.as_bytes());
        assert_eq!(got, (told.to_owned(), end), "{said:?}");
    }
}

#[test]
fn nobody_signs_in_before_tls() {
    let list = "IMAP4rev1 ID SASL-IR STARTTLS LOGINDISABLED";
    let imap = "a NO [PRIVACYREQUIRED] begin TLS first\r\n";
    let smtp = "538 5.7.11 begin TLS first\r\n";
    let ehlo = "250-localhost\r\n250-8BITMIME\r\n250 STARTTLS\r\n";
    for (protocol, said, told, end) in [
        (
            Imap,
            "a CAPABILITY\r\n",
            format!("* CAPABILITY {list}\r\na OK done\r\n"),
            Accepted::More,
        ),
        (
            Imap,
            "a LOGIN {2+}\r\nme x\r\n",
            imap.into(),
            Accepted::More,
        ),
        (
            Imap,
            "a AUTHENTICATE PLAIN AG1lAHB3\r\n",
            imap.into(),
            Accepted::More,
        ),
        (
            Imap,
            "a STARTTLS\r\nb LOGIN me x\r\n",
            "a OK begin TLS\r\n".into(),
            signs_in("me", "x"),
        ),
        (
            Imap,
            "a STARTTLS\r\nb STARTTLS\r\n",
            "a OK begin TLS\r\nb BAD there is no TLS here\r\n".into(),
            Accepted::More,
        ),
        (
            Pop3,
            "CAPA\r\nUSER me\r\nPASS x\r\nAUTH PLAIN\r\n",
            format!(
                "+OK\r\nTOP\r\nUIDL\r\nSTLS\r\n.\r\n{}",
                "-ERR begin TLS first\r\n".repeat(3)
            ),
            Accepted::More,
        ),
        (
            Pop3,
            "STLS\r\nUSER me\r\nPASS x\r\n",
            "+OK begin TLS\r\n+OK done\r\n".into(),
            signs_in("me", "x"),
        ),
        (
            Smtp,
            "EHLO x\r\nAUTH LOGIN\r\nMAIL FROM:<>\r\n",
            format!("{ehlo}{smtp}530 5.7.0 sign in first\r\n"),
            Accepted::More,
        ),
        (
            Smtp,
            "STARTTLS\r\nAUTH PLAIN AG1lAHB3\r\n",
            "220 2.0.0 begin TLS\r\n".into(),
            signs_in("me", "pw"),
        ),
    ] {
        // What comes with the command that begins TLS would be dropped.
        for line in [true, false] {
            let mut acceptor = in_clear(protocol);
            let (mut input, mut output, mut got) = (Vec::new(), Vec::new(), Accepted::More);
            let lines = said.split_inclusive('\n').map(str::as_bytes);
            let pieces: Vec<&[u8]> = match line {
                true => lines.collect(),
                false => said.as_bytes().chunks(1).collect(),
            };
            for piece in pieces {
                input.extend_from_slice(piece);
                got = acceptor.feed(&mut input, &mut output);
                if got == Accepted::StartTls {
                    acceptor.secured();
                }
            }
            let got = (String::from_utf8(output).unwrap(), got);
            assert_eq!(got, (told.clone(), end_of(&end)), "{said:?}");
        }
    }
}

/// The same again: a sign-in has a secret, which isn't copied.
fn end_of(end: &Accepted) -> Accepted {
    match end {
        Accepted::SignIn(it) => signs_in(&it.user, it.password.expose()),
        Accepted::More => Accepted::More,
        Accepted::StartTls => Accepted::StartTls,
        Accepted::End => Accepted::End,
    }
}

/// RFC 9051, 11.1: another machine may have put it there.
#[test]
fn what_came_in_clear_with_the_command_that_begins_tls_is_forgotten() {
    for (protocol, said) in [
        (Imap, "a STARTTLS\r\nb LOGIN mallory x\r\n"),
        (Pop3, "STLS\r\nUSER mallory\r\nPASS x\r\n"),
        (Smtp, "STARTTLS\r\nRSET\r\nAUTH PLAIN AG1lAHB3\r\n"),
    ] {
        let mut acceptor = in_clear(protocol);
        let (mut input, mut output) = (said.as_bytes().to_vec(), Vec::new());
        let accepted = acceptor.feed(&mut input, &mut output);
        assert_eq!((accepted, input), (Accepted::StartTls, Vec::new()));
        acceptor.secured();
        let (mut input, told) = (Vec::new(), output.len());
        assert_eq!(acceptor.feed(&mut input, &mut output), Accepted::More);
        assert_eq!(output.len(), told);
    }
}

#[test]
fn what_follows_a_sign_in_is_left_for_the_server() {
    for (protocol, said, rest) in [
        (
            Imap,
            "a LOGIN {2+}\r\nme x\r\nb SELECT {5}\r\nINBOX",
            "b SELECT {5}\r\nINBOX",
        ),
        (
            Pop3,
            "USER me\r\nPASS x\r\nSTAT\r\nQUIT\r\n",
            "STAT\r\nQUIT\r\n",
        ),
        (
            Smtp,
            "AUTH PLAIN AG1lAHB3\r\nMAIL FROM:<a@b>\r\n",
            "MAIL FROM:<a@b>\r\n",
        ),
        (
            Irc,
            "PASS x\r\nNICK n\r\nUSER u 0 * :r\r\nJOIN #a",
            "JOIN #a",
        ),
    ] {
        for length in PIECES {
            let (_, accepted, left) = play(acceptor(protocol), said.as_bytes(), length);
            assert!(matches!(accepted, Accepted::SignIn(_)), "{accepted:?}");
            assert_eq!(String::from_utf8(left).unwrap(), rest);
        }
    }
}

#[test]
fn a_long_sasl_message_comes_in_chunks_to_irc() {
    let password = "x".repeat(900);
    let packed = base64::engine::general_purpose::STANDARD.encode(format!("\0me\0{password}"));
    let mut said = String::from("AUTHENTICATE PLAIN\r\n");
    for chunk in packed.as_bytes().chunks(CHUNK) {
        let chunk = std::str::from_utf8(chunk).unwrap();
        said += &format!("AUTHENTICATE {chunk}\r\n");
    }
    assert_eq!(packed.len() % CHUNK, 8);
    let got = heard(acceptor, Irc, said.as_bytes());
    assert_eq!(
        got,
        ("AUTHENTICATE +\r\n".into(), signs_in("me", &password))
    );
    // A full last line is followed by an empty one.
    let password = "x".repeat(296);
    let packed = base64::engine::general_purpose::STANDARD.encode(format!("\0me\0{password}"));
    assert_eq!(packed.len(), CHUNK);
    let said = format!("AUTHENTICATE PLAIN\r\nAUTHENTICATE {packed}\r\nAUTHENTICATE +\r\n");
    let got = heard(acceptor, Irc, said.as_bytes());
    assert_eq!(
        got,
        ("AUTHENTICATE +\r\n".into(), signs_in("me", &password))
    );
}

const CHUNK: usize = crate::mail::irc::CHUNK_BYTES;

#[test]
fn replies_have_the_shape_of_their_protocol() {
    let long = format!("no\r\n\u{1b}[31m{}", "ü".repeat(400));
    for (protocol, said, refused, denied, admitted) in [
        (
            Imap,
            "a7 LOGIN a b\r\n",
            "a7 NO [UNAVAILABLE] ",
            "a7 NO [AUTHENTICATIONFAILED] ",
            "a7 OK [CAPABILITY IDLE X] signed in\r\n",
        ),
        (
            Pop3,
            "USER a\r\nPASS b\r\n",
            "-ERR [SYS/TEMP] ",
            "-ERR [AUTH] ",
            "+OK signed in\r\n",
        ),
        (
            Smtp,
            "AUTH PLAIN AGEAYg==\r\n",
            "454 4.7.0 ",
            "535 5.7.8 ",
            "235 2.7.0 signed in\r\n",
        ),
        (
            Irc,
            "PASS x\r\nNICK n\r\nUSER u 0 * :r\r\n",
            ":pizauth 464 * :",
            ":pizauth 464 * :",
            "",
        ),
        (
            Irc,
            "CAP REQ sasl\r\nPASS x\r\nNICK n\r\nAUTHENTICATE PLAIN\r\nAUTHENTICATE AGEAYg==\r\n",
            ":pizauth 904 * :",
            ":pizauth 904 * :",
            ":pizauth 903 * :signed in\r\n",
        ),
    ] {
        let mut acceptor = acceptor(protocol);
        let (mut input, mut output) = (said.as_bytes().to_vec(), Vec::new());
        let accepted = acceptor.feed(&mut input, &mut output);
        assert!(matches!(accepted, Accepted::SignIn(_)), "{said:?}");
        for (refusal, begin, why) in [
            (ProgramRefusal::Unavailable("why\nnot"), refused, "why not"),
            (ProgramRefusal::Password, denied, WRONG),
        ] {
            let end = match protocol {
                Irc => format!("ERROR :{why}\r\n"),
                _ => String::new(),
            };
            let reply = acceptor.refuse(refusal);
            assert_eq!(reply, format!("{begin}{why}\r\n{end}"));
            assert_eq!(acceptor.has_ended(), !end.is_empty());
        }
        for line in acceptor
            .refuse(ProgramRefusal::Unavailable(&long))
            .split_terminator("\r\n")
        {
            assert!(line.len() <= 510 && !line.contains(char::is_control));
        }
        assert_eq!(acceptor.admit(&["IDLE".into(), "X".into()]), admitted);
        let opening = match (protocol, admitted) {
            (Irc, "") => "NICK n\r\nUSER u 0 * :r\r\nCAP END\r\n",
            (Irc, _) => "NICK n\r\n",
            _ => "",
        };
        assert_eq!(acceptor.opening(), opening);
        assert!(acceptor.bye("x").ends_with("x\r\n"));
    }
}

#[test]
fn irc_programs_of_version_302_are_told_what_the_server_can_do() {
    let can = ["server-time", "chghost=x"].map(str::to_owned);
    let new = ":pizauth CAP * NEW :server-time chghost=x\r\n";
    let register = "NICK n\r\nUSER u 0 * :r\r\n";
    let sasl = "CAP REQ :sasl\r\nAUTHENTICATE PLAIN\r\nAUTHENTICATE AGEAYg==\r\n";
    for (said, told) in [
        (format!("PASS x\r\n{register}"), ""),
        (format!("CAP LS\r\nCAP END\r\nPASS x\r\n{register}"), ""),
        (format!("CAP LS 301\r\nCAP END\r\nPASS x\r\n{register}"), ""),
        (
            format!("CAP LS 302\r\nCAP END\r\nPASS x\r\n{register}"),
            new,
        ),
        (
            format!("PASS x\r\ncap ls :303\r\n{register}CAP END\r\n"),
            new,
        ),
        (format!("CAP LS\r\n{sasl}"), ":pizauth 903 * :signed in\r\n"),
        // Before the answer after which some end the negotiation.
        (
            format!("CAP LS 302\r\nCAP LIST\r\n{sasl}"),
            &format!("{new}:pizauth 903 * :signed in\r\n"),
        ),
    ] {
        let mut acceptor = acceptor(Irc);
        let (mut input, mut output) = (said.as_bytes().to_vec(), Vec::new());
        let accepted = acceptor.feed(&mut input, &mut output);
        assert!(matches!(accepted, Accepted::SignIn(_)), "{said:?}");
        assert_eq!(acceptor.admit(&can), told, "{said:?}");
        assert!(!acceptor.admit(&[]).contains("NEW"));
    }
    // No line is longer than it may be.
    let many: Vec<_> = (100..300).map(|it| format!("cap-{it}")).collect();
    let lines = front::cap("NEW", "NEW", &many);
    let lines: Vec<_> = lines.split_terminator("\r\n").collect();
    assert!(
        lines
            .iter()
            .all(|line| (400..=510).contains(&line.len()) || line.ends_with("299"))
    );
    let listed = lines.iter().flat_map(|line| {
        line.strip_prefix(":pizauth CAP * NEW :")
            .unwrap()
            .split(' ')
    });
    assert!(listed.eq(&many));
}

#[test]
fn a_refused_program_tries_again() {
    for (protocol, first, again, told) in [
        (Imap, "a LOGIN me x\r\n", "b LOGIN me y\r\n", "b NO "),
        (
            Pop3,
            "USER me\r\nPASS x\r\n",
            "USER me\r\nPASS y\r\n",
            "-ERR ",
        ),
        (
            Smtp,
            "AUTH PLAIN AG1lAHg=\r\n",
            "AUTH PLAIN AG1lAHk=\r\n",
            "535 ",
        ),
    ] {
        let mut acceptor = acceptor(protocol);
        let mut input = format!("{first}{again}").into_bytes();
        let mut output = Vec::new();
        let accepted = acceptor.feed(&mut input, &mut output);
        assert_eq!(accepted, signs_in("me", "x"));
        let accepted = acceptor.feed(&mut input, &mut output);
        assert_eq!(accepted, signs_in("me", "y"));
        let refusal = acceptor.refuse(ProgramRefusal::Password);
        assert!(refusal.starts_with(told), "{refusal}");
    }
}

#[test]
fn the_servers_capabilities_are_announced_once_they_are_known() {
    for (protocol, known, said, told) in [
        (
            Pop3,
            &["TOP", "EXPIRE 9"][..],
            "CAPA\r\n",
            "+OK\r\nTOP\r\nUIDL\r\nUSER\r\nSASL PLAIN LOGIN\r\nEXPIRE 9\r\n.\r\n",
        ),
        (
            Smtp,
            &["SIZE 9", "8BITMIME"],
            "EHLO x\r\n",
            "250-localhost\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n250-AUTH=PLAIN LOGIN\r\n250 SIZE 9\r\n",
        ),
    ] {
        let known = known.iter().map(|it| (*it).to_owned()).collect();
        let mut acceptor = Acceptor::new(protocol, known, false);
        let (mut input, mut output) = (said.as_bytes().to_vec(), Vec::new());
        assert_eq!(acceptor.feed(&mut input, &mut output), Accepted::More);
        assert_eq!(String::from_utf8(output).unwrap(), told);
    }
}

#[test]
fn what_has_no_end_is_ended() {
    let long = "is too long\r\n";
    let many = "too many commands\r\n";
    for protocol in [Imap, Pop3, Smtp, Irc] {
        for (said, told) in [
            ("x".repeat(9_000), long),
            ("x\r\n".repeat(101), many),
            ("AUTH PLAIN\r\n".repeat(101), many),
        ] {
            for length in PIECES {
                let (heard, accepted, _) = play(acceptor(protocol), said.as_bytes(), length);
                assert_eq!(accepted, Accepted::End, "{protocol:?}");
                assert!(heard.ends_with(told), "{heard}");
            }
        }
    }
    for said in [
        "a LOGIN {9000}\r\n".to_owned(),
        "a LOGIN {99999999999999999999999+}\r\n".to_owned(),
        "a LOGIN {4000}\r\n".to_owned() + &"x".repeat(4_000) + " {5000}\r\n",
        "a LOGIN".to_owned() + &" {0+}\r\n".repeat(9_000),
    ] {
        let (heard, accepted, _) = play(acceptor(Imap), said.as_bytes(), 1000);
        assert_eq!(accepted, Accepted::End, "{said:.40}");
        assert!(heard.ends_with(long), "{heard:.400}");
    }
    // A large server's lists, again and again.
    let known = vec!["x".repeat(1_000); 10];
    let mut acceptor = Acceptor::new(Smtp, known, false);
    let (mut input, mut output) = ("EHLO x\r\n".repeat(50).into_bytes(), Vec::new());
    assert_eq!(acceptor.feed(&mut input, &mut output), Accepted::End);
    assert!(output.len() < 100_000);
}

#[test]
fn no_bytes_are_too_strange() {
    for (protocol, said) in [
        (Imap, &b"a LOGIN \xff \"\xfe\xff\"\r\n"[..]),
        (Imap, b"a LOGIN me {2+}\r\n\xff\0\r\n"),
        (Imap, b"a AUTHENTICATE PLAIN AP8A/w==\r\n"),
        (Pop3, b"USER \xff\r\nPASS \xff\xff\r\n"),
        (Smtp, b"AUTH PLAIN AP8A/w==\r\n"),
        (Irc, b"PASS \xff\r\nNICK \xff\r\nUSER \xff\r\n"),
    ] {
        let (_, accepted) = heard(acceptor, protocol, said);
        assert!(matches!(accepted, Accepted::SignIn(_)), "{said:?}");
    }
}
