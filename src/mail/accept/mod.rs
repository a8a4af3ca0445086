//! Standing in front of a server: what is said to a program until it has signed in with a user and a
//! password, in IMAP, POP3, SMTP and IRC. Bytes go in, replies and in the end a sign-in come out. What
//! a program sends after that stays in its input, for the server.

mod imap;
mod irc;
#[cfg(test)]
mod tests;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use super::{
    Protocol::{self, Imap, Irc, Pop3, Smtp},
    front::{self, ProgramReply},
};
use crate::{secret::Secret, text::sanitize};

/// How long a command may be, in bytes, its literals included: many times what any needs that comes
/// before a sign-in.
const MAX_COMMAND_BYTES: usize = 8 << 10;

/// How many commands there may be before a sign-in: programs send a handful.
const MAX_COMMANDS: u32 = 100;

/// How much may wait to be sent when a command is answered, in bytes: the lists of several large servers.
const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// What the proxy calls itself in SMTP.
const HOST: &str = "localhost";

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Accepted {
    /// Nothing yet: wait for more.
    More,
    /// Send what there is to send and begin TLS; then [`Acceptor::secured`] goes on.
    StartTls,
    /// A sign-in, to which [`Acceptor::admit`] or [`Acceptor::refuse`] replies.
    SignIn(UserPassword),
    /// The end.
    End,
}

/// What a program signs in with.
#[derive(Debug, PartialEq, Eq)]
pub struct UserPassword {
    /// Who it says it is; empty where only a password is said (IRC).
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// Why a program isn't signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramRefusal<'a> {
    /// Its password is wrong.
    Password,
    /// There is no session now, for this reason.
    Unavailable(&'a str),
}

/// One program before its sign-in.
pub struct Acceptor {
    protocol: Protocol,
    /// What the server can do for somebody who is signed in, as far as it is known.
    capabilities: Vec<String>,
    /// There is no sign-in before TLS.
    needs_tls: bool,
    commands: u32,
    /// A command that isn't complete: its words, and how long the literal is that follows.
    words: Vec<String>,
    literal: Option<usize>,
    /// The tag of IMAP's command.
    tag: String,
    /// POP3's `USER`.
    user: String,
    irc: irc::IrcProgram,
    /// What was said in a SASL exchange, and waits for another message.
    sasl: Option<String>,
}

/// What a command is answered, and what comes next.
type Reaction = (String, Accepted);

const DONE: ProgramReply = (["OK", "+OK", "250 2.0.0", ""], "done");
const BEGIN_TLS: ProgramReply = (["OK", "+OK", "220 2.0.0", ""], "begin TLS");
const NO_TLS: ProgramReply = (["BAD", "-ERR", "502 5.5.1", ""], "there is no TLS here");
// RFC 9051, 7.1; RFC 2554, 6.
const NO_PRIVACY: [&str; 4] = ["NO [PRIVACYREQUIRED]", "-ERR", "538 5.7.11", ""];
// RFC 4954, 6.
const FIRST: [&str; 4] = ["BAD", "-ERR", "530 5.7.0", ":pizauth 451 *"];
const MECHANISM: [&str; 4] = ["NO", "-ERR", "504 5.5.4", ":pizauth 904 *"];
const MESSAGE: [&str; 4] = ["BAD", "-ERR", "501 5.5.2", ":pizauth 904 *"];
// What a refused sign-in gets in IMAP, POP3 and SMTP (RFC 5530, 3; RFC 3206, 4; RFC 4954, 6).
const REFUSED: [&str; 3] = ["NO [AUTHENTICATIONFAILED]", "-ERR [AUTH]", "535 5.7.8"];
const UNAVAILABLE: [&str; 3] = ["NO [UNAVAILABLE]", "-ERR [SYS/TEMP]", "454 4.7.0"];
/// What a wrong password is told, since it may well be the right one of the server.
const WRONG: &str = "wrong password: the one of pizauth's proxy is needed";

impl Acceptor {
    /// `capabilities` are those of a [`super::Session`]; with `starttls`, TLS comes before the sign-in.
    pub fn new(protocol: Protocol, capabilities: Vec<String>, starttls: bool) -> Self {
        Acceptor {
            protocol,
            capabilities,
            needs_tls: starttls,
            commands: 0,
            words: Vec::new(),
            literal: None,
            tag: "*".into(),
            user: String::new(),
            irc: irc::IrcProgram::default(),
            sasl: None,
        }
    }

    /// What the program is greeted with.
    pub fn greeting(&self) -> String {
        let imap = format!("OK [CAPABILITY {}]", self.own().join(" "));
        match self.protocol {
            Irc => String::new(),
            _ => self.line(([&imap, "+OK", "220 localhost ESMTP", ""], "pizauth")),
        }
    }

    /// Takes whole commands out of `input`, and puts replies into `output`, until one needs more than
    /// a reply. Nothing stays in `input` that came in clear after the command that begins TLS: it may
    /// be another machine's (RFC 9051, 11.1).
    pub fn feed(&mut self, input: &mut Vec<u8>, output: &mut Vec<u8>) -> Accepted {
        loop {
            let (reply, accepted) = match self.take(input, output) {
                Ok(Some(words)) => self.answer(words),
                Ok(None) => return Accepted::More,
                Err(why) => (self.bye(why), Accepted::End),
            };
            output.extend(reply.into_bytes());
            match accepted {
                Accepted::More => continue,
                Accepted::StartTls => input.clear(),
                Accepted::SignIn(_) | Accepted::End => {}
            }
            return accepted;
        }
    }

    /// The words of the next whole command. In IMAP quotes and literals are undone; elsewhere what
    /// follows the first one is one word, since a password may have blanks, even at its ends.
    fn take(
        &mut self,
        input: &mut Vec<u8>,
        output: &mut Vec<u8>,
    ) -> Result<Option<Vec<String>>, &'static str> {
        let is_imap = self.protocol == Imap && self.sasl.is_none();
        loop {
            let line = || input.iter().position(|byte| *byte == b'\n');
            let end = self.literal.or_else(|| Some(line()? + 1));
            let end = end.unwrap_or(input.len() + 1);
            let bytes = self.words.iter().map(|word| word.len() + 1).sum::<usize>();
            if end.saturating_add(bytes) > MAX_COMMAND_BYTES {
                return Err("the command is too long");
            }
            if end > input.len() {
                return Ok(None);
            }
            let piece: Vec<u8> = input.drain(..end).collect();
            let piece = String::from_utf8_lossy(&piece);
            if self.literal.take().is_some() {
                self.words.push(piece.into_owned());
                continue;
            }
            let line = piece.trim_end_matches(['\r', '\n']);
            let (words, literal) = match is_imap {
                true => imap::words(line),
                false => (line.splitn(2, ' ').map(str::to_owned).collect(), None),
            };
            self.words.extend(words);
            let Some((length, waits)) = literal else {
                break;
            };
            self.literal = Some(length);
            if waits {
                output.extend(b"+ go on\r\n");
            }
        }
        self.commands += 1;
        if self.commands > MAX_COMMANDS || output.len() > MAX_OUTPUT_BYTES {
            return Err("there are too many commands");
        }
        Ok(Some(std::mem::take(&mut self.words)))
    }

    fn answer(&mut self, mut words: Vec<String>) -> Reaction {
        if self.protocol == Imap && self.sasl.is_none() {
            // A line of one word may be a password that comes too late, and isn't repeated.
            self.tag = match words.len() {
                0 | 1 => "*".into(),
                _ => sanitize(&words.remove(0)),
            };
        }
        let verb = words.first().map(|verb| verb.to_ascii_uppercase());
        let verb = verb.unwrap_or_default();
        let rest = words.get(1..).unwrap_or_default();
        match (self.protocol, self.sasl.take()) {
            // Its messages have a command's name.
            (Irc, said) => irc::answer(self, said, &verb, &rest.concat()),
            (_, Some(said)) => self.go_on(&said, &words.concat()),
            (_, None) => self.obey(&verb, rest),
        }
    }

    /// A command of IMAP (RFC 9051), POP3 (RFC 1939, RFC 5034) or SMTP (RFC 5321, RFC 4954).
    fn obey(&mut self, verb: &str, rest: &[String]) -> Reaction {
        let done = self.line(DONE);
        let own = self.own().join(" ");
        let more = |reply: String| (reply, Accepted::More);
        match (self.protocol, verb, rest) {
            (_, "AUTH" | "AUTHENTICATE" | "LOGIN" | "USER" | "PASS", _) if self.needs_tls => {
                self.say((NO_PRIVACY, "begin TLS first"))
            }
            (Imap, "CAPABILITY", _) => more(format!("* CAPABILITY {own}\r\n{done}")),
            (Imap, "ID", _) => more(format!("* ID NIL\r\n{done}")),
            (Imap, "LOGOUT", _) => (format!("* BYE until then\r\n{done}"), Accepted::End),
            (Imap, "LOGIN", [user, password]) => self.sign_in(user, password),
            (Pop3, "CAPA", _) => more(front::capa(self.own(), &self.capabilities)),
            (Pop3, "USER", _) => {
                self.user = rest.concat();
                more(done)
            }
            (Pop3, "PASS", _) => self.sign_in(&self.user, &rest.concat()),
            (Pop3, "AUTH", []) => more("+OK\r\nPLAIN\r\nLOGIN\r\n.\r\n".into()),
            (Smtp, "EHLO", _) => more(front::ehlo(HOST, self.own(), &self.capabilities)),
            (Smtp, "HELO", _) => more(format!("250 {HOST}\r\n")),
            (Smtp, "QUIT", _) => ("221 2.0.0 done\r\n".into(), Accepted::End),
            (Pop3, "QUIT", _) => (done, Accepted::End),
            (Smtp, "RSET", _) | (_, "NOOP", _) => more(done),
            (_, "STARTTLS" | "STLS", _) if self.needs_tls => {
                (self.line(BEGIN_TLS), Accepted::StartTls)
            }
            (_, "STARTTLS" | "STLS", _) => self.say(NO_TLS),
            (_, "AUTHENTICATE" | "AUTH", _) => self.authenticate(&rest.join(" ")),
            _ => self.say((FIRST, "sign in first")),
        }
    }

    /// What can be done before a sign-in, and what every server can. Literals without a pause (RFC 7888)
    /// are taken, but not announced: the server may not know them.
    fn own(&self) -> &'static [&'static str] {
        match (self.protocol, self.needs_tls) {
            (Imap, true) => &["IMAP4rev1 ID SASL-IR STARTTLS LOGINDISABLED"],
            (Imap, false) => &["IMAP4rev1 ID SASL-IR AUTH=PLAIN AUTH=LOGIN"],
            (Pop3, true) => &["TOP", "UIDL", "STLS"],
            (Pop3, false) => &["TOP", "UIDL", "USER", "SASL PLAIN LOGIN"],
            (Smtp, true) => &["8BITMIME", "STARTTLS"],
            // Some old programs read only the second form.
            (Smtp, false) => &["8BITMIME", "AUTH PLAIN LOGIN", "AUTH=PLAIN LOGIN"],
            (Irc, _) => &[],
        }
    }

    /// TLS has begun. Nothing was said before that could count.
    pub fn secured(&mut self) {
        self.needs_tls = false;
    }

    /// The program is signed in at a server that can do this: what to say to it.
    pub fn admit(&self, capabilities: &[String]) -> String {
        let imap = format!("OK [CAPABILITY {}]", capabilities.join(" "));
        let done = self.line(([&imap, "+OK", "235 2.7.0", ":pizauth 903 *"], "signed in"));
        // It can ask for them before it ends its negotiation. (Others don't know of version 302.)
        let news = match self.irc.is_notified && !capabilities.is_empty() {
            true => front::cap("NEW", "NEW", capabilities),
            false => String::new(),
        };
        match self.protocol {
            // It has no answer to a password.
            Irc if self.irc.password.is_some() => news,
            _ => news + &done,
        }
    }

    /// What the server is sent before what the program sends.
    pub fn opening(&self) -> String {
        let irc = &self.irc;
        // One that negotiates ends that itself.
        let is_open = self.protocol != Irc || irc.negotiating;
        let end = if is_open { "" } else { "CAP END\r\n" };
        format!("{}{}{end}", irc.nick, irc.user)
    }

    /// The program isn't signed in, and may try again unless it [has ended](Acceptor::has_ended).
    pub fn refuse(&self, refusal: ProgramRefusal) -> String {
        let irc = match self.irc.password {
            Some(_) => ":pizauth 464 *",
            None => ":pizauth 904 *",
        };
        let ([imap, pop3, smtp], why) = match refusal {
            ProgramRefusal::Password => (REFUSED, WRONG),
            ProgramRefusal::Unavailable(why) => (UNAVAILABLE, why),
        };
        let bye = Some(self.bye(why)).filter(|_| self.has_ended());
        self.line(([imap, pop3, smtp, irc], why)) + &bye.unwrap_or_default()
    }

    /// Whether a program that was refused has to come again: those of IRC go on without a password if
    /// they aren't sent away.
    pub fn has_ended(&self) -> bool {
        self.protocol == Irc
    }

    /// Why the connection ends.
    pub fn bye(&self, why: &str) -> String {
        front::refuse(self.protocol, why)
    }

    fn say(&self, reply: ProgramReply) -> Reaction {
        (self.line(reply), Accepted::More)
    }

    fn line(&self, reply: ProgramReply) -> String {
        front::program_reply(self.protocol, &self.tag, reply)
    }

    fn sign_in(&self, user: &str, password: &str) -> Reaction {
        let (user, password) = (user.to_owned(), Secret::new(password.to_owned()));
        (
            String::new(),
            Accepted::SignIn(UserPassword { user, password }),
        )
    }

    /// Begins an exchange: `words` are a mechanism and perhaps the first message.
    fn authenticate(&mut self, words: &str) -> Reaction {
        let mut words = words.split_whitespace();
        let mechanism = words.next().unwrap_or_default();
        let said = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => "",
            // It is in no RFC. Its two messages, user and password, make one of PLAIN.
            "LOGIN" => "\0",
            _ => return self.say((MECHANISM, "use PLAIN or LOGIN")),
        };
        match words.next() {
            Some(message) => self.go_on(said, message),
            None => self.ask(said),
        }
    }

    /// Asks for a message, after these.
    fn ask(&mut self, said: &str) -> Reaction {
        // "Username:" and "Password:" in base64.
        let challenge = match said {
            "" => "",
            "\0" => "VXNlcm5hbWU6",
            _ => "UGFzc3dvcmQ6",
        };
        self.sasl = Some(said.to_owned());
        let line = match self.protocol {
            Smtp => format!("334 {challenge}\r\n"),
            Irc => "AUTHENTICATE +\r\n".into(),
            Imap | Pop3 => format!("+ {challenge}\r\n"),
        };
        (line, Accepted::More)
    }

    /// The program's message in an exchange, after these. An empty one is `=` on a command's line (RFC
    /// 4959, 3), and `*` cancels it, which is no base64.
    fn go_on(&mut self, said: &str, message: &str) -> Reaction {
        let bytes = STANDARD_NO_PAD.decode(message.trim().trim_end_matches('='));
        let text = String::from_utf8_lossy(bytes.as_deref().unwrap_or_default());
        let text = format!("{said}{text}");
        // RFC 4616, 2.
        match (&text.splitn(3, '\0').collect::<Vec<_>>()[..], bytes.is_ok()) {
            ([_, user, password], true) => self.sign_in(user, password),
            ([_, _], true) if !said.is_empty() => self.ask(&format!("{text}\0")),
            _ => self.say((MESSAGE, "no sign-in")),
        }
    }
}
