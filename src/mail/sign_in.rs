//! A sign-in with its token: bytes of the server go in, bytes for it come out. All that it keeps is
//! bounded, and none of what it tells has the token in it.

use super::{
    Challenge, Goal, MailVerdict, Mechanism, Protocol, Reply, Server, State, Tls, choose,
    is_for_a_session, mechanisms,
};
use crate::{
    oauth::sasl,
    secret::{Scrubber, Secret, SecretBytes},
    text::sanitize,
};

/// What stands where the token was: nothing that is shown may have it, whatever a server says.
const TOKEN: &str = "[token]";

/// How long a server's line may be, in bytes: twice what IMAP recommends to accept (RFC 7162, 4).
const MAX_LINE_BYTES: usize = 16 << 10;

/// How many lines a server may send: a long greeting, a long list, a long farewell.
const MAX_LINES: usize = 500;

/// How much a server may send, in bytes: many times what that takes.
const MAX_BYTES: usize = 256 << 10;

/// What is to be done next.
#[derive(Debug)]
#[must_use]
pub enum Action {
    /// Read from the server and give [`SignIn::feed`] what came, or [`SignIn::hung_up`].
    Read,
    /// Send all of this, which may have the token.
    Send(SecretBytes),
    /// Begin TLS, and call [`SignIn::secured`].
    StartTls,
    /// Nothing; the session is there.
    SignedIn(Session),
    /// Nothing; there is no session.
    Refused(MailRefusal),
}

/// A session that has begun: the token was accepted and, where there is one, the mailbox can be opened.
#[derive(Debug)]
pub struct Session {
    /// How the token was sent.
    pub mechanism: Mechanism,
    /// What the server can do, TLS and signing in aside: IMAP's capabilities, the lines of POP3's
    /// `CAPA` or of SMTP's `EHLO`, each without its frame. They are the server's own words.
    pub capabilities: Vec<String>,
    /// What the server has said since.
    pub rest: Vec<u8>,
}

/// Why there is no session.
#[derive(Debug)]
pub struct MailRefusal {
    /// What the server did; its texts may have the token.
    pub verdict: MailVerdict,
    /// The same in a line that says so of "it", made safe for a terminal, and without the token.
    pub reason: String,
}

impl MailRefusal {
    /// It says nothing about the token, and may be over soon.
    pub fn is_passing(&self) -> bool {
        matches!(
            self.verdict,
            MailVerdict::Refused { passing: true, .. }
                | MailVerdict::Unavailable(_)
                | MailVerdict::HungUp
        )
    }
}

/// One sign-in at one server.
pub struct SignIn {
    protocol: Protocol,
    goal: Goal,
    state: State,
    /// TLS protects the connection.
    is_secure: bool,
    /// It doesn't leave the machine, so that it needs no TLS.
    loopback: bool,
    token: Secret,
    oauthbearer: Option<Secret>,
    xoauth2: Option<Secret>,
    /// What was received and isn't used.
    input: Vec<u8>,
    bytes: usize,
    lines: usize,
    /// The capabilities, or the lines of a reply that isn't complete.
    heard: Vec<String>,
    /// What the server can do for somebody who is signed in.
    capabilities: Vec<String>,
    /// What is to be done before another line is looked at.
    next: Option<Action>,
    /// The server's first line.
    pub greeting: Option<String>,
    /// What both sides have said since this was taken last, made safe: `S:` is the server, `C:` the
    /// client. Only for [`Goal::Trial`].
    pub transcript: Vec<String>,
}

impl SignIn {
    /// Signs `user` in at `server`, to which a connection is open: with TLS, if it has that at once.
    /// `loopback` says that it doesn't leave the machine.
    pub fn new(
        server: &Server,
        loopback: bool,
        user: Option<&str>,
        token: &Secret,
        goal: Goal,
    ) -> Self {
        // Other names can't be sent.
        let user = user.filter(|user| !user.is_empty() && !user.contains(char::is_control));
        let (host, port) = (Some(server.host.as_str()), Some(server.port));
        let oauthbearer = sasl::oauthbearer(user, host, port, token).ok();
        let xoauth2 = sasl::xoauth2(user.unwrap_or_default(), token).ok();
        let mut sign_in = SignIn {
            protocol: server.protocol,
            goal,
            state: State::Greeting,
            is_secure: server.tls == Tls::AtOnce,
            loopback,
            token: Secret::new(token.expose().to_owned()),
            oauthbearer,
            xoauth2,
            input: Vec::new(),
            bytes: 0,
            lines: 0,
            heard: Vec::new(),
            capabilities: Vec::new(),
            next: None,
            greeting: None,
            transcript: Vec::new(),
        };
        // Most servers speak first.
        if server.protocol == Protocol::Irc {
            sign_in.next = Some(sign_in.ask_capabilities());
        }
        sign_in
    }

    /// What to say before hanging up, without its line end.
    pub fn farewell(&self) -> &'static str {
        self.protocol.commands().farewell
    }

    /// The server has sent these.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        self.input.extend_from_slice(bytes);
    }

    /// The server has sent its last byte.
    pub fn hung_up(&self) -> MailRefusal {
        self.refusal(MailVerdict::HungUp)
    }

    /// TLS has begun.
    pub fn secured(&mut self) {
        self.note('=', "TLS");
        self.is_secure = true;
        self.next = Some(self.ask_capabilities());
    }

    /// What is to be done next. After [`Action::SignedIn`] and [`Action::Refused`] it isn't asked.
    pub fn next_action(&mut self) -> Action {
        loop {
            if let Some(action) = self.next.take() {
                return action;
            }
            self.next = match self.line() {
                Ok(None) => return Action::Read,
                Ok(Some(line)) => self.answer(&line),
                Err(what) => return self.refuse(MailVerdict::Unruly(what)),
            };
        }
    }

    /// The server has said `line`; `None` when there is more to come.
    fn answer(&mut self, line: &str) -> Option<Action> {
        let read = self.protocol.commands().read;
        Some(match read(&self.state, line, &mut self.heard) {
            Reply::Part => return None,
            Reply::Good => self.good(line),
            Reply::Bad(text) => self.bad(&text),
            Reply::Continue(text) => self.go_on(&text, line),
            Reply::Ping(answer) => self.send(&answer),
            Reply::Bye(text) => match self.state {
                State::Responded(..) => self.bad(&text),
                _ => self.refuse(MailVerdict::Unavailable(sanitize(&text))),
            },
            Reply::Nonsense => self.nonsense(line),
        })
    }

    fn good(&mut self, line: &str) -> Action {
        match self.state {
            State::Greeting => self.ask_capabilities(),
            State::Capabilities => self.begin(),
            State::StartTls if self.input.is_empty() => Action::StartTls,
            State::StartTls => self.refuse(MailVerdict::Unruly(
                "says something before TLS has begun, which another machine may have sent",
            )),
            State::Auth(_) => self.nonsense(line),
            State::Responded(mechanism, _) => self.go_in(mechanism),
            State::Mailbox(mechanism) | State::Session(mechanism) => self.end(mechanism),
        }
    }

    /// The token was accepted.
    fn go_in(&mut self, mechanism: Mechanism) -> Action {
        let commands = self.protocol.commands();
        match (self.goal, self.protocol, commands.mailbox) {
            (Goal::Trial, _, Some(command)) => self.ask(command, State::Mailbox(mechanism)),
            // Many say so unasked (RFC 9051, 6.2.2).
            (Goal::Session, Protocol::Imap, _) if self.heard.is_empty() => {
                self.ask(commands.capabilities, State::Session(mechanism))
            }
            _ => self.end(mechanism),
        }
    }

    fn end(&mut self, mechanism: Mechanism) -> Action {
        let mut capabilities = match self.protocol {
            Protocol::Imap => std::mem::take(&mut self.heard),
            _ => std::mem::take(&mut self.capabilities),
        };
        capabilities.retain(|it| is_for_a_session(it));
        Action::SignedIn(Session {
            mechanism,
            capabilities,
            rest: std::mem::take(&mut self.input),
        })
    }

    fn bad(&mut self, text: &str) -> Action {
        let text = sanitize(text);
        let (mechanism, challenge) = match &mut self.state {
            State::Greeting | State::Capabilities | State::Session(_) => {
                return self.refuse(MailVerdict::Unavailable(text));
            }
            State::StartTls => return self.refuse(MailVerdict::TlsRefused(text)),
            State::Mailbox(_) => return self.refuse(MailVerdict::NoMailbox(text)),
            State::Auth(mechanism) => (*mechanism, None),
            State::Responded(mechanism, challenge) => (*mechanism, challenge.take()),
        };
        self.refuse(MailVerdict::Refused {
            mechanism,
            challenge,
            passing: (self.protocol.commands().is_passing)(&text),
            text,
        })
    }

    fn go_on(&mut self, text: &str, line: &str) -> Action {
        match self.state {
            State::Auth(mechanism) => self.respond(mechanism),
            State::Responded(mechanism, _) => {
                let lines = self.protocol.respond(mechanism.resignation());
                let state = State::Responded(mechanism, Challenge::decode(text));
                self.ask(lines.trim_end(), state)
            }
            _ => self.nonsense(line),
        }
    }

    fn respond(&mut self, mechanism: Mechanism) -> Action {
        self.state = State::Responded(mechanism, None);
        self.note('C', TOKEN);
        match self.response(mechanism) {
            Some(response) => {
                let lines = self.protocol.respond(response);
                Action::Send(SecretBytes::new(lines.into_bytes()))
            }
            None => self.refuse(MailVerdict::NoUser),
        }
    }

    /// The token as this mechanism has it; `None` if that needs a user, and there is none.
    pub(super) fn response(&self, mechanism: Mechanism) -> Option<&str> {
        let response = match mechanism {
            Mechanism::Oauthbearer => &self.oauthbearer,
            Mechanism::Xoauth2 => &self.xoauth2,
        };
        response.as_ref().map(Secret::expose)
    }

    fn ask_capabilities(&mut self) -> Action {
        self.ask(self.protocol.commands().capabilities, State::Capabilities)
    }

    fn ask(&mut self, command: &str, state: State) -> Action {
        self.state = state;
        self.send(command)
    }

    /// Sends these lines, with CRLF between them.
    fn send(&mut self, lines: &str) -> Action {
        lines.split("\r\n").for_each(|line| self.note('C', line));
        Action::Send(SecretBytes::new(format!("{lines}\r\n").into_bytes()))
    }

    /// The capabilities are known.
    fn begin(&mut self) -> Action {
        let commands = self.protocol.commands();
        // What was said without TLS counts no longer afterwards (RFC 9051, 6.2.1; RFC 2595, 4).
        self.capabilities = std::mem::take(&mut self.heard);
        let heard = self.capabilities.iter().map(|it| it.trim());
        let has = |wanted: &str| heard.clone().any(|it| it.eq_ignore_ascii_case(wanted));
        let has_tls = has("STARTTLS") || has("STLS");
        let lists = heard.clone().filter_map(mechanisms);
        let names = lists.flat_map(|list| list.split([' ', '\t', ',']));
        let names = names.filter(|name| !name.is_empty());
        let offered: Vec<String> = names.map(str::to_owned).collect();
        let disabled = has("LOGINDISABLED");
        // TLS comes before the token, which never leaves the machine without it.
        match (self.is_secure, has_tls, self.loopback) {
            (false, true, _) => return self.ask(commands.tls, State::StartTls),
            (false, false, false) => return self.refuse(MailVerdict::NoTls),
            (true, ..) | (false, false, true) => {}
        }
        let has_user = self.response(Mechanism::Xoauth2).is_some();
        match choose(&offered, has_user, disabled) {
            Err(verdict) => self.refuse(verdict),
            Ok(mechanism) => {
                let command = format!("{} {}", commands.auth, mechanism.name());
                self.ask(&command, State::Auth(mechanism))
            }
        }
    }

    /// The next line, without its end.
    fn line(&mut self) -> Result<Option<String>, &'static str> {
        let end = self.input.iter().position(|byte| *byte == b'\n');
        if end.unwrap_or(self.input.len()) > MAX_LINE_BYTES {
            return Err("sends a line without end");
        }
        let Some(end) = end else {
            return Ok(None);
        };
        self.lines += 1;
        if self.lines > MAX_LINES || self.bytes > MAX_BYTES {
            return Err("doesn't stop talking");
        }
        let rest = self.input.split_off(end + 1);
        let line = std::mem::replace(&mut self.input, rest);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches(['\r', '\n']);
        self.note('S', line);
        self.greeting.get_or_insert_with(|| line.to_owned());
        Ok(Some(line.to_owned()))
    }

    fn note(&mut self, who: char, line: &str) {
        if self.goal == Goal::Trial {
            let line = sanitize(&self.scrub(line));
            self.transcript.push(format!("{who}: {line}"));
        }
    }

    fn nonsense(&self, line: &str) -> Action {
        self.refuse(MailVerdict::Nonsense(sanitize(line)))
    }

    fn refuse(&self, verdict: MailVerdict) -> Action {
        Action::Refused(self.refusal(verdict))
    }

    fn refusal(&self, verdict: MailVerdict) -> MailRefusal {
        MailRefusal {
            reason: self.scrub(&verdict.to_string()),
            verdict,
        }
    }

    /// `text` without the token. This takes longer than all else here.
    pub fn scrub(&self, text: &str) -> String {
        let packed = [self.oauthbearer.as_ref(), self.xoauth2.as_ref()];
        let mut scrubber = Scrubber::default();
        for secret in packed.into_iter().flatten().chain([&self.token]) {
            scrubber.add(secret.expose());
        }
        scrubber.scrub(text, TOKEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "eyJhbGciOiJSUzI1NiJ9.payload.signature";

    fn sign_in(url: &str, loopback: bool) -> SignIn {
        sign_in_for(Goal::Session, url, loopback)
    }

    fn sign_in_for(goal: Goal, url: &str, loopback: bool) -> SignIn {
        let server = Server::parse(url).unwrap();
        let token = Secret::new(LONG.into());
        SignIn::new(&server, loopback, Some("me"), &token, goal)
    }

    /// What is sent, and what ends it, when the server says all of `script` at once or byte by byte.
    fn run(mut sign_in: SignIn, script: &str, step: usize) -> (String, Action) {
        let mut sent = String::new();
        let mut pieces = script.as_bytes().chunks(step);
        loop {
            match sign_in.next_action() {
                Action::Read => match pieces.next() {
                    Some(piece) => sign_in.feed(piece),
                    None => return (sent, Action::Refused(sign_in.hung_up())),
                },
                Action::Send(bytes) => sent.push_str(std::str::from_utf8(&bytes).unwrap()),
                Action::StartTls => sign_in.secured(),
                end => return (sent, end),
            }
        }
    }

    fn reason(action: Action) -> (String, bool) {
        match action {
            Action::Refused(refusal) => (refusal.reason.clone(), refusal.is_passing()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bytes_in_any_pieces_sign_in_and_what_follows_is_kept() {
        let script = "* OK hi\r\n* CAPABILITY IMAP4rev1 AUTH=XOAUTH2\na1 OK\r\n+ \r\n\
                      a1 OK [CAPABILITY IMAP4rev1 IDLE] in\r\n* 3 EXI";
        let packed = sasl::xoauth2("me", &Secret::new(LONG.into())).unwrap();
        for step in [1, 7, 1000] {
            let (sent, end) = run(sign_in("imaps://m", false), script, step);
            let all = format!(
                "a1 CAPABILITY\r\na1 AUTHENTICATE XOAUTH2\r\n{}\r\n",
                packed.expose()
            );
            assert_eq!(sent, all);
            let Action::SignedIn(session) = end else {
                panic!("{end:?}");
            };
            assert_eq!(session.capabilities, ["IMAP4rev1", "IDLE"]);
            // The rest of the piece: byte by byte there is none.
            assert!("* 3 EXI".starts_with(std::str::from_utf8(&session.rest).unwrap()));
            assert_eq!(session.rest.is_empty(), step == 1);
        }
    }

    #[test]
    fn what_a_server_may_not_do_ends_it() {
        let endless = "x".repeat(MAX_LINE_BYTES + 1);
        let many = "* OK more\r\n".repeat(MAX_LINES + 1);
        let much = format!("* {}\r\n", "x".repeat(16_000)).repeat(20);
        let hello = "* OK hi\r\n";
        let early = "* CAPABILITY STARTTLS\r\na1 OK\r\na1 OK go\r\n* CAPABILITY AUTH=XOAUTH2\r\n";
        for (script, told, passing) in [
            ("", "hung up", true),
            ("* OK without an end", "hung up", true),
            (&endless, "sends a line without end", false),
            (&format!("{hello}{many}"), "doesn't stop talking", false),
            (&format!("{hello}{much}"), "doesn't stop talking", false),
            ("\0\u{1b}[31m\r\n", "says what isn't expected: [31m", false),
            ("* BYE busy\r\n", "doesn't want to talk: busy", true),
            (
                &format!("{hello}{early}"),
                "says something before TLS has begun, which another machine may have sent",
                false,
            ),
        ] {
            let (sent, end) = run(sign_in("imap://m", false), script, 100_000);
            assert_eq!(reason(end), (told.to_owned(), passing), "{script:.40}");
            assert!(!sent.contains("AUTHENTICATE"), "{sent}");
        }
    }

    #[test]
    fn a_token_that_is_repeated_is_cut_out() {
        let packed = sasl::oauthbearer(Some("me"), Some("m"), Some(993), &Secret::new(LONG.into()));
        let packed = packed.unwrap();
        let script = format!(
            "* OK hi\r\n* CAPABILITY AUTH=OAUTHBEARER\r\na1 OK\r\n+\r\n\
             a1 NO not {LONG} nor {} \r\n",
            packed.expose()
        );
        let told = "refused the token, sent with OAUTHBEARER: not [token] nor [token]";
        let [unread, lines] = [Goal::Session, Goal::Trial].map(|goal| {
            let mut noted = sign_in_for(goal, "imaps://m", false);
            noted.feed(script.as_bytes());
            let end = loop {
                match noted.next_action() {
                    Action::Send(_) => {}
                    end => break end,
                }
            };
            assert_eq!(reason(end), (told.to_owned(), false));
            noted.transcript
        });
        assert_eq!(unread, Vec::<String>::new());
        assert_eq!(
            lines,
            [
                "S: * OK hi",
                "C: a1 CAPABILITY",
                "S: * CAPABILITY AUTH=OAUTHBEARER",
                "S: a1 OK",
                "C: a1 AUTHENTICATE OAUTHBEARER",
                "S: +",
                "C: [token]",
                "S: a1 NO not [token] nor [token]",
            ]
        );
    }

    #[test]
    fn a_long_token_goes_to_irc_in_pieces() {
        let server = Server::parse("ircs://m").unwrap();
        let token = Secret::new("x".repeat(1000));
        let sign_in = SignIn::new(&server, false, None, &token, Goal::Session);
        let script =
            ":s CAP * LS :sasl\r\n:s CAP * ACK :sasl\r\nAUTHENTICATE +\r\n:s 903 * :in\r\n:s ";
        let (sent, end) = run(sign_in, script, 1000);
        assert!(
            matches!(&end, Action::SignedIn(session) if session.rest == b":s "),
            "{end:?}"
        );
        let begin = "CAP LS 302\r\nCAP REQ :sasl\r\nAUTHENTICATE OAUTHBEARER\r\n";
        let chunks = sent.strip_prefix(begin).unwrap().trim_end().split("\r\n");
        let chunks: Vec<&str> = chunks
            .map(|it| it.strip_prefix("AUTHENTICATE ").unwrap())
            .collect();
        assert_eq!(
            chunks.iter().map(|it| it.len()).collect::<Vec<_>>(),
            [400, 400, 400, 180]
        );
        let token = Secret::new("x".repeat(1000));
        let packed = sasl::oauthbearer(None, Some("m"), Some(6697), &token).unwrap();
        assert_eq!(chunks.concat(), packed.expose());
    }
}
