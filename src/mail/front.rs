//! What a program hears that comes to a session in which somebody is signed in already, until the
//! server itself answers it.

use super::{Protocol, Server, Session};
use crate::text::sanitize;

/// How long a line may be that is looked at, in bytes: IRC's longest (IRCv3's "Message Tags").
const MAX_LINE_BYTES: usize = 8191 + 512;

/// How long a reason may be, in bytes: the shortest lines are SMTP's and IRC's, of 512 (RFC 5321,
/// 4.5.3.1.5; RFC 2812, 2.3).
const MAX_REASON_BYTES: usize = 480;

/// How long a list of capabilities may be, in bytes, which stands on such a line.
const MAX_LIST_BYTES: usize = 400;

/// The side of a session that a program sees.
pub struct Front {
    protocol: Protocol,
    host: String,
    capabilities: Vec<String>,
    /// A line that isn't complete.
    input: Vec<u8>,
    /// It negotiates IRC's capabilities, and will end that.
    is_negotiating: bool,
    /// The program talks to the server.
    is_through: bool,
}

/// What follows from what the program said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// For the program.
    pub answer: String,
    /// For the server.
    pub passed: Vec<u8>,
}

impl Front {
    /// Before a session at `server`.
    pub fn new(server: &Server, session: &Session) -> Self {
        Front {
            protocol: server.protocol,
            host: server.host.clone(),
            capabilities: session.capabilities.clone(),
            input: Vec::new(),
            is_negotiating: false,
            is_through: server.protocol == Protocol::Imap,
        }
    }

    /// What the program hears first.
    pub fn greeting(&self) -> String {
        let host = &self.host;
        match self.protocol {
            Protocol::Imap => {
                let list = self.capabilities.join(" ");
                format!("* PREAUTH [CAPABILITY {list}] signed in at {host} by pizauth\r\n")
            }
            Protocol::Pop3 => format!("+OK signed in at {host} by pizauth\r\n"),
            Protocol::Smtp => format!("220 {host} ESMTP pizauth\r\n"),
            Protocol::Irc => String::new(),
        }
    }

    /// The program has said this. Once it is through, everything is for the server.
    pub fn feed(&mut self, bytes: &[u8]) -> Passage {
        let mut passage = Passage::default();
        self.input.extend_from_slice(bytes);
        while !self.is_through {
            let end = self.input.iter().position(|byte| *byte == b'\n');
            let Some(end) = end else {
                self.is_through = self.input.len() > MAX_LINE_BYTES;
                break;
            };
            let rest = self.input.split_off(end + 1);
            let line = std::mem::replace(&mut self.input, rest);
            self.answer(line, &mut passage);
        }
        if self.is_through {
            passage.passed.append(&mut self.input);
        }
        passage
    }

    fn answer(&mut self, line: Vec<u8>, passage: &mut Passage) {
        let line_in_capitals = line.to_ascii_uppercase();
        let mut words = line_in_capitals.split(u8::is_ascii_whitespace);
        let word = words.next().unwrap_or_default();
        match (self.protocol, word) {
            (Protocol::Pop3, b"USER") => passage.answer += "+OK\r\n",
            (Protocol::Pop3, b"CAPA") => {
                passage.answer += &capa(&["USER"], &self.capabilities);
            }
            (Protocol::Pop3, b"PASS") => {
                passage.answer += "+OK signed in\r\n";
                self.is_through = true;
            }
            // As often as it asks: the server would offer it ways to sign in.
            (Protocol::Smtp, b"EHLO") => {
                passage.answer += &ehlo(&self.host, &[], &self.capabilities);
            }
            (Protocol::Smtp, b"HELO") => passage.answer += &format!("250 {}\r\n", self.host),
            (Protocol::Irc, b"CAP") if words.next() == Some(b"LS") => {
                self.is_negotiating = true;
                passage.answer += &cap("LS *", "LS", &self.capabilities);
            }
            // One that negotiates goes on with what the sign-in has begun, and ends it.
            (Protocol::Irc, word) => {
                self.is_through = matches!(word, b"CAP" | b"USER");
                passage.passed.extend(&line);
                if word == b"USER" && !self.is_negotiating {
                    passage.passed.extend(b"CAP END\r\n");
                }
            }
            _ => {
                passage.passed.extend(line);
                self.is_through = true;
            }
        }
    }
}

/// What `CAPA` is answered: its own lines, and what a server can do besides.
pub(super) fn capa(own: &[&str], capabilities: &[String]) -> String {
    let lines = listed(own, capabilities).join("\r\n");
    format!("+OK\r\n{lines}\r\n.\r\n")
}

/// What `EHLO` is answered: the server's name, and the same.
pub(super) fn ehlo(host: &str, own: &[&str], capabilities: &[String]) -> String {
    let mut lines = listed(own, capabilities);
    lines.insert(0, host);
    let last = lines.pop().unwrap_or_default();
    let lines: String = lines.iter().map(|it| format!("250-{it}\r\n")).collect();
    format!("{lines}250 {last}\r\n")
}

fn listed<'a>(own: &[&'a str], capabilities: &'a [String]) -> Vec<&'a str> {
    let others = capabilities.iter().map(String::as_str);
    let others = others.filter(|it| !own.contains(it));
    own.iter().copied().chain(others).collect()
}

/// What IRC's servers say of capabilities, in lines that are short enough: `part` begins those that
/// another one follows, and `last` the last.
pub(super) fn cap(part: &str, last: &str, capabilities: &[String]) -> String {
    let mut lines = vec![String::new()];
    for it in capabilities {
        match lines.last_mut() {
            Some(line) if line.len() + it.len() < MAX_LIST_BYTES => line.extend([it, " "]),
            _ => lines.push(format!("{it} ")),
        }
    }
    let end = lines.pop().unwrap_or_default();
    let verbs = lines.iter().map(|line| (part, line)).chain([(last, &end)]);
    let line =
        |(verb, list): (&str, &String)| format!(":pizauth CAP * {verb} :{}\r\n", list.trim_end());
    verbs.map(line).collect()
}

/// The codes of a reply in IMAP, POP3, SMTP and IRC, and its text.
pub(super) type ProgramReply<'a> = ([&'a str; 4], &'a str);

/// A reply in one line, its text made safe. IMAP's has a tag.
pub(super) fn program_reply(protocol: Protocol, tag: &str, (codes, text): ProgramReply) -> String {
    let mut text = sanitize(text);
    while text.len() > MAX_REASON_BYTES {
        text.pop();
    }
    let [imap, pop3, smtp, irc] = codes;
    match protocol {
        Protocol::Imap => format!("{tag} {imap} {text}\r\n"),
        Protocol::Pop3 => format!("{pop3} {text}\r\n"),
        Protocol::Smtp => format!("{smtp} {text}\r\n"),
        Protocol::Irc => format!("{irc} :{text}\r\n"),
    }
}

/// What the program hears in place of a greeting: why there is no session.
pub fn refuse(protocol: Protocol, reason: &str) -> String {
    let codes = ["BYE", "-ERR [SYS/TEMP]", "421 4.7.0", "ERROR"];
    program_reply(protocol, "*", (codes, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Mechanism;

    fn front(url: &str, capabilities: &[&str]) -> Front {
        let session = Session {
            mechanism: Mechanism::Xoauth2,
            capabilities: capabilities.iter().map(|it| (*it).to_owned()).collect(),
            rest: Vec::new(),
        };
        Front::new(&Server::parse(url).unwrap(), &session)
    }

    /// What a program gets to hear, and the server, when it says this in pieces of some length.
    fn hear(front: &mut Front, said: &str, length: usize) -> (String, String) {
        let (mut answer, mut passed) = (String::new(), Vec::new());
        for piece in said.as_bytes().chunks(length) {
            let passage = front.feed(piece);
            answer += &passage.answer;
            passed.extend(passage.passed);
        }
        (answer, String::from_utf8(passed).unwrap())
    }

    #[test]
    fn a_program_is_greeted_and_then_left_to_the_server() {
        let ehlo = "250-m\r\n250-SIZE 9\r\n250 PIPELINING\r\n";
        for (url, capabilities, greeting, said, answer, passed) in [
            (
                "imaps://m",
                &["IMAP4rev1", "IDLE"][..],
                "* PREAUTH [CAPABILITY IMAP4rev1 IDLE] signed in at m by pizauth\r\n",
                "a SELECT INBOX\r\nb LOG",
                "",
                "a SELECT INBOX\r\nb LOG",
            ),
            (
                "pop3s://m",
                &["TOP", "UIDL"],
                "+OK signed in at m by pizauth\r\n",
                "capa\r\nUSER me\r\nPASS secret\r\nSTAT\r\nPASS x\r\n",
                "+OK\r\nUSER\r\nTOP\r\nUIDL\r\n.\r\n+OK\r\n+OK signed in\r\n",
                "STAT\r\nPASS x\r\n",
            ),
            (
                "pop3s://m",
                &[],
                "+OK signed in at m by pizauth\r\n",
                "STAT\nUSER\n",
                "",
                "STAT\nUSER\n",
            ),
            (
                "pop3s://m",
                &[],
                "+OK signed in at m by pizauth\r\n",
                "USER me\r\nQUIT\r\n",
                "+OK\r\n",
                "QUIT\r\n",
            ),
            (
                "smtps://m",
                &["SIZE 9", "PIPELINING"],
                "220 m ESMTP pizauth\r\n",
                // Pipelined before the answer, and once more.
                "ehlo me\r\nMAIL FROM:<a@b>\r\nEHLO x\r\n",
                ehlo,
                "MAIL FROM:<a@b>\r\nEHLO x\r\n",
            ),
            (
                "smtps://m",
                &["SIZE 9", "PIPELINING"],
                "220 m ESMTP pizauth\r\n",
                "EHLO me\r\nHELO me\r\nEHLO me\r\nNOOP\r\n",
                &format!("{ehlo}250 m\r\n{ehlo}"),
                "NOOP\r\n",
            ),
            (
                "smtps://m",
                &["SIZE 9"],
                "220 m ESMTP pizauth\r\n",
                "HELO me\r\nMAIL\r\n",
                "250 m\r\n",
                "MAIL\r\n",
            ),
            (
                "smtps://m",
                &[],
                "220 m ESMTP pizauth\r\n",
                "EHLO me\r\n",
                "250 m\r\n",
                "",
            ),
            (
                "smtps://m",
                &[],
                "220 m ESMTP pizauth\r\n",
                "QUIT\r\n",
                "",
                "QUIT\r\n",
            ),
            (
                "ircs://m",
                &[],
                "",
                "NICK me\r\nUSER a 0 * :b\r\nUSER\r\n",
                "",
                "NICK me\r\nUSER a 0 * :b\r\nCAP END\r\nUSER\r\n",
            ),
            (
                "ircs://m",
                &[],
                "",
                "CAP LS 302\r\nNICK me\r\nUSER a 0 * :b\r\nCAP END\r\n",
                ":pizauth CAP * LS :\r\n",
                "NICK me\r\nUSER a 0 * :b\r\nCAP END\r\n",
            ),
            (
                "ircs://m",
                &["batch", "x=y"],
                "",
                "cap ls\r\nCAP LS 302\r\nCAP REQ :batch\r\nCAP LS\r\nUSER a 0 * :b\r\n",
                ":pizauth CAP * LS :batch x=y\r\n:pizauth CAP * LS :batch x=y\r\n",
                "CAP REQ :batch\r\nCAP LS\r\nUSER a 0 * :b\r\n",
            ),
            (
                "ircs://m",
                &[&"x".repeat(390), "and=more", "last"],
                "",
                "CAP LS 302\r\nCAP END\r\n",
                &format!(
                    ":pizauth CAP * LS * :{} and=more\r\n:pizauth CAP * LS :last\r\n",
                    "x".repeat(390)
                ),
                "CAP END\r\n",
            ),
        ] {
            for length in [1, 3, 1000] {
                let mut front = front(url, capabilities);
                assert_eq!(front.greeting(), greeting);
                let heard = hear(&mut front, said, length);
                assert_eq!(
                    heard,
                    (answer.to_owned(), passed.to_owned()),
                    "{url} {said:?}"
                );
            }
        }
    }

    #[test]
    fn a_line_without_end_is_the_servers_affair() {
        let long = "x".repeat(MAX_LINE_BYTES + 1);
        let mut front = front("smtps://m", &[]);
        let (answer, passed) = hear(&mut front, &long, 1000);
        assert_eq!((answer.as_str(), passed.len()), ("", long.len()));
    }

    #[test]
    fn a_reason_fits_on_a_line() {
        let long = format!("no\r\n\u{1b}[31m{}", "ü".repeat(400));
        for (protocol, begin) in [
            (Protocol::Imap, "* BYE no"),
            (Protocol::Pop3, "-ERR [SYS/TEMP] no"),
            (Protocol::Smtp, "421 4.7.0 no"),
            (Protocol::Irc, "ERROR :no"),
        ] {
            let line = refuse(protocol, &long);
            let text = line.strip_suffix("\r\n").unwrap();
            assert!(
                text.starts_with(begin) && !text.contains(char::is_control),
                "{line}"
            );
            assert!((470..512).contains(&line.len()), "{}", line.len());
        }
    }
}
