//! A server: IMAP, POP3, SMTP and IRC as far as signing in with a token goes, for SMTP as far as
//! taking mail, and for IRC as far as being welcome. It notes every line that it hears.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::PATIENCE;
use super::tls::Face;
use super::wait::Watched;

/// Which language it speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Protocol {
    Imap,
    Pop3,
    Smtp,
    Irc,
}

/// When it speaks TLS.
#[derive(Clone, Debug)]
pub enum Tls {
    Never,
    AtOnce(Face),
    /// Once it is asked to.
    OnDemand(Face),
}

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    pub protocol: Protocol,
    pub tls: Tls,
    pub mechanisms: Vec<&'static str>,
    /// Who may sign in, and with which token.
    pub admits: Option<(&'static str, &'static str)>,
    /// What it says to others before it refuses them, not yet encoded.
    pub challenge: Option<String>,
    /// What it answers, in place of the usual, to lines that begin so: `$TAG` stands for the
    /// command's tag, and an empty answer means that it hangs up. `GREETING` is such a beginning.
    pub instead: Vec<(&'static str, &'static str)>,
}

impl Manners {
    /// It offers both mechanisms and admits nobody.
    pub fn of(protocol: Protocol, tls: Tls) -> Self {
        Manners {
            protocol,
            tls,
            mechanisms: vec!["PLAIN", "XOAUTH2", "OAUTHBEARER"],
            admits: None,
            challenge: Some(r#"{"status":"401","schemes":"bearer","scope":"mail"}"#.into()),
            instead: Vec::new(),
        }
    }

    /// `user` may sign in with `token`.
    pub fn admit(mut self, user: &'static str, token: &'static str) -> Self {
        self.admits = Some((user, token));
        self
    }

    /// It knows these mechanisms.
    pub fn with_mechanisms(mut self, mechanisms: &[&'static str]) -> Self {
        self.mechanisms = mechanisms.to_vec();
        self
    }

    /// It answers so when the client says what begins so.
    pub fn with(mut self, beginning: &'static str, answer: &'static str) -> Self {
        self.instead.push((beginning, answer));
        self
    }

    fn instead(&self, line: &str) -> Option<&'static str> {
        let found = self
            .instead
            .iter()
            .find(|(start, _)| line.starts_with(start));
        found.map(|(_, answer)| *answer)
    }
}

/// The running server. Its thread ends with the tests.
pub struct MailServer {
    pub port: u16,
    heard: Arc<Watched<Vec<String>>>,
}

impl MailServer {
    /// Starts one on a port of the system's choice.
    pub fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let heard = Arc::new(Watched::default());
        let theirs = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (manners, heard) = (manners.clone(), Arc::clone(&theirs));
                thread::spawn(move || {
                    // A client that leaves, or that dislikes the certificate, is the test's business.
                    let _ = Session::new(stream, manners, heard).and_then(Session::run);
                });
            }
        });
        MailServer { port, heard }
    }

    /// What it was told until now, in every session; `TLS` where that began.
    pub fn heard(&self) -> Vec<String> {
        self.heard.read(Vec::clone)
    }

    /// Waits until it has been told `line`.
    pub fn wait_for(&self, line: &str) {
        let found = self.heard.try_wait(PATIENCE, |heard| {
            heard.iter().any(|it| it == line).then_some(())
        });
        assert!(found.is_some(), "no {line:?} in {:?}", self.heard());
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Wire {
    fn secure(self, face: &Face) -> io::Result<Self> {
        let (Wire::Plain(stream), Face::Tls(config)) = (self, face) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let config: Arc<ServerConfig> = Arc::clone(config);
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream = stream;
        connection.complete_io(&mut stream)?;
        Ok(Wire::Tls(Box::new(StreamOwned::new(connection, stream))))
    }

    fn both(&mut self) -> &mut dyn ReadWrite {
        match self {
            Wire::Plain(stream) => stream,
            Wire::Tls(stream) => stream.as_mut(),
        }
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

struct Session {
    port: u16,
    wire: Wire,
    manners: Manners,
    heard: Arc<Watched<Vec<String>>>,
    secure: bool,
}

/// Whether there is more to say.
#[derive(PartialEq)]
enum Then {
    GoOn,
    HangUp,
}

impl Session {
    fn new(
        stream: TcpStream,
        manners: Manners,
        heard: Arc<Watched<Vec<String>>>,
    ) -> io::Result<Self> {
        let mut session = Session {
            port: stream.local_addr()?.port(),
            wire: Wire::Plain(stream),
            manners,
            heard,
            secure: false,
        };
        if let Tls::AtOnce(face) = session.manners.tls.clone() {
            session = session.secured(&face)?;
        }
        Ok(session)
    }

    fn secured(mut self, face: &Face) -> io::Result<Self> {
        self.wire = self.wire.secure(face)?;
        self.secure = true;
        self.note("TLS");
        Ok(self)
    }

    fn note(&self, line: &str) {
        self.heard.change(|heard| heard.push(line.to_owned()));
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        let text = text.replace('\n', "\r\n");
        self.wire.both().write_all(text.as_bytes())
    }

    fn hear(&mut self) -> io::Result<String> {
        let line = self.hear_quietly()?;
        self.note(&line);
        Ok(line)
    }

    fn hear_quietly(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while byte != *b"\n" {
            self.wire.both().read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        let line = String::from_utf8_lossy(&line);
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn run(mut self) -> io::Result<()> {
        let greeting = match self.manners.protocol {
            Protocol::Imap => "* OK mail.test ready\n",
            Protocol::Pop3 => "+OK mail.test ready\n",
            Protocol::Smtp => "220 mail.test ESMTP\n",
            Protocol::Irc => "",
        };
        let greeting = self.manners.instead("GREETING").unwrap_or(greeting);
        self.say(greeting)?;
        loop {
            let line = self.hear()?;
            let (tag, command) = match self.manners.protocol {
                Protocol::Imap => line.split_once(' ').unwrap_or(("*", &line)),
                Protocol::Pop3 | Protocol::Smtp | Protocol::Irc => ("", line.as_str()),
            };
            match self.manners.instead(command) {
                Some("") => return Ok(()),
                Some(answer) => {
                    self.say(&answer.replace("$TAG", tag))?;
                    continue;
                }
                None => {}
            }
            if let ("STARTTLS" | "STLS", Tls::OnDemand(face)) = (command, self.manners.tls.clone())
            {
                match self.manners.protocol {
                    Protocol::Smtp => self.say("220 go ahead\n")?,
                    Protocol::Imap | Protocol::Pop3 | Protocol::Irc => {
                        self.done(tag, "go ahead")?
                    }
                }
                self = self.secured(&face)?;
                continue;
            }
            if self.answer(tag, command)? == Then::HangUp {
                return Ok(());
            }
        }
    }

    fn done(&mut self, tag: &str, text: &str) -> io::Result<()> {
        let good = match self.manners.protocol {
            Protocol::Imap => format!("{tag} OK {text}\n"),
            Protocol::Pop3 => format!("+OK {text}\n"),
            Protocol::Smtp => format!("250 {text}\n"),
            Protocol::Irc => format!(":mail.test NOTICE me :{text}\n"),
        };
        self.say(&good)
    }

    fn answer(&mut self, tag: &str, command: &str) -> io::Result<Then> {
        let mut words = command.split(' ');
        match (words.next().unwrap_or_default(), words.next()) {
            ("CAPABILITY", None) => {
                let auth = self
                    .manners
                    .mechanisms
                    .iter()
                    .map(|it| format!(" AUTH={it}"));
                let caps = format!(
                    "IMAP4rev1{}{}",
                    self.tls_word(" STARTTLS"),
                    auth.collect::<String>()
                );
                self.say(&format!("* CAPABILITY {caps}\n"))?;
                self.done(tag, "listed")?;
            }
            ("CAPA", None) => {
                let list = self.manners.mechanisms.join(" ");
                let tls = self.tls_word("STLS\n");
                self.say(&format!("+OK here they are\n{tls}SASL {list}\n.\n"))?;
            }
            ("EHLO", _) => {
                let list = self.manners.mechanisms.join(" ");
                let tls = self.tls_word("250-STARTTLS\n");
                self.say(&format!(
                    "250-mail.test\n{tls}250-AUTH {list}\n250 8BITMIME\n"
                ))?;
            }
            ("CAP", Some("LS")) => {
                let list = self.manners.mechanisms.join(",");
                self.say(&format!(
                    ":mail.test CAP * LS * :multi-prefix\n:mail.test CAP * LS :sasl={list}\n"
                ))?;
            }
            ("CAP", Some("REQ")) => self.say(":mail.test CAP * ACK :sasl\n")?,
            ("CAP", Some("END")) => self.say(":mail.test 001 me :Welcome\n")?,
            ("NICK" | "USER", _) => {}
            ("AUTHENTICATE" | "AUTH", Some(_)) => self.sign_in(tag, words.next())?,
            ("DATA", None) => self.take_mail()?,
            ("EXAMINE" | "STAT" | "MAIL" | "RCPT" | "NOOP" | "RSET", _) => {
                self.done(tag, "fine")?;
            }
            ("LOGOUT" | "QUIT", None) => {
                match self.manners.protocol {
                    Protocol::Smtp => self.say("221 bye\n")?,
                    Protocol::Irc => self.say("ERROR :bye\n")?,
                    Protocol::Imap | Protocol::Pop3 => self.done(tag, "bye")?,
                }
                return Ok(Then::HangUp);
            }
            _ => self.bad(tag, "what?")?,
        }
        Ok(Then::GoOn)
    }

    fn tls_word<'a>(&self, word: &'a str) -> &'a str {
        match (&self.manners.tls, self.secure) {
            (Tls::OnDemand(_), false) => word,
            _ => "",
        }
    }

    fn bad(&mut self, tag: &str, text: &str) -> io::Result<()> {
        let bad = match self.manners.protocol {
            Protocol::Imap => format!("{tag} NO {text}\n"),
            Protocol::Pop3 => format!("-ERR {text}\n"),
            Protocol::Smtp => format!("535 {text}\n"),
            Protocol::Irc => format!(":mail.test 904 * :{text}\n"),
        };
        self.say(&bad)
    }

    fn sign_in(&mut self, tag: &str, initial: Option<&str>) -> io::Result<()> {
        let go_on = match self.manners.protocol {
            Protocol::Smtp => "334",
            Protocol::Imap | Protocol::Pop3 => "+",
            Protocol::Irc => "AUTHENTICATE",
        };
        let response = match initial {
            Some(initial) => initial.to_owned(),
            None => {
                match self.manners.protocol {
                    Protocol::Irc => self.say("AUTHENTICATE +\n")?,
                    Protocol::Imap | Protocol::Pop3 | Protocol::Smtp => {
                        self.say(&format!("{go_on} \n"))?;
                    }
                }
                self.hear_response()?
            }
        };
        let response = STANDARD.decode(response).unwrap_or_default();
        let response = String::from_utf8_lossy(&response);
        let admitted = self.manners.admits.is_some_and(|(user, token)| {
            let port = self.port;
            let xoauth2 = format!("user={user}\x01auth=Bearer {token}\x01\x01");
            let user = Some(user).filter(|user| !user.is_empty());
            let user = user.map_or(String::new(), |user| format!("a={user}"));
            let oauthbearer = format!(
                "n,{user},\x01host=127.0.0.1\x01port={port}\x01auth=Bearer {token}\x01\x01"
            );
            response == xoauth2 || response == oauthbearer
        });
        if admitted {
            return match self.manners.protocol {
                Protocol::Smtp => self.say("235 welcome\n"),
                Protocol::Irc => self.say(":mail.test 903 * :welcome\n"),
                Protocol::Imap | Protocol::Pop3 => self.done(tag, "welcome"),
            };
        }
        if let Some(challenge) = self.manners.challenge.clone() {
            self.say(&format!("{go_on} {}\n", STANDARD.encode(challenge)))?;
            self.hear()?;
        }
        self.bad(tag, "no")
    }

    /// IRC's comes in pieces.
    fn hear_response(&mut self) -> io::Result<String> {
        if self.manners.protocol != Protocol::Irc {
            return self.hear();
        }
        let mut response = String::new();
        loop {
            let line = self.hear()?;
            let piece = line.strip_prefix("AUTHENTICATE ").unwrap_or_default();
            response.push_str(piece.trim_start_matches('+'));
            if piece.len() < 400 {
                return Ok(response);
            }
        }
    }

    fn take_mail(&mut self) -> io::Result<()> {
        self.say("354 go on\n")?;
        while self.hear_quietly()? != "." {}
        self.say("250 taken\n")
    }
}
