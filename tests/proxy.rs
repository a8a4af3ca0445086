//! Proxies: programs that know a user and a password sign in to them, and they to a mail server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use base64::{Engine, engine::general_purpose::STANDARD};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use crate::support::PATIENCE;
use crate::support::browser;
use crate::support::daemon::{Daemon, children, gone};
use crate::support::mail::{MailServer, Manners, Protocol, Tls};
use crate::support::provider::{Provider, Scripted};
use crate::support::tls::Authority;
use crate::support::wait;

const ME: &str = "me@example.com";
const HINT: &str = "auth_uri_fields = { \"login_hint\": \"me@example.com\" };";

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A program that talks to a proxy, line by line.
struct Program(BufReader<Box<dyn Stream>>);

impl Program {
    fn at_path(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Program(BufReader::new(Box::new(stream)))
    }

    fn at_port(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Program(BufReader::new(Box::new(stream)))
    }

    fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next line; empty at the end.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        // One that was hung up on may have been reset.
        let _ = self.0.read_line(&mut line);
        line.trim_end().to_owned()
    }

    /// Says `line`, and hears what begins so, which other lines may come before.
    #[track_caller]
    fn ask(&mut self, line: &str, answer: &str) -> String {
        self.say(&format!("{line}\r\n"));
        loop {
            let heard = self.hear();
            if heard.starts_with(answer) {
                return heard;
            }
            assert!(!heard.is_empty(), "no {answer:?} after {line:?}");
        }
    }
}

/// A port that no other test is given: it stays bound, which keeps nobody from listening there who reuses
/// addresses, as the proxies do.
pub fn free_port() -> u16 {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let bound = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    bound.port()
}

fn scheme(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Imap => "imap",
        Protocol::Pop3 => "pop3",
        Protocol::Smtp => "smtp",
        Protocol::Irc => "irc",
    }
}

fn server(protocol: Protocol) -> MailServer {
    MailServer::start(Manners::of(protocol, Tls::Never).admit(ME, "at-1"))
}

fn block(address: &str, protocol: Protocol, port: u16, more: &str) -> String {
    let scheme = scheme(protocol);
    format!(
        "proxy \"{address}\" {{ account = \"work\"; server = \"{scheme}://127.0.0.1:{port}\"; {more} }}\n"
    )
}

/// A daemon that is signed in.
fn started(provider: &Provider, blocks: &str) -> Daemon {
    let mut daemon = Daemon::new(&(provider.account_with("work", HINT) + blocks));
    daemon.start();
    daemon.sign_in("work");
    daemon
}

/// The same with a proxy of this server at a port, whose password is `right`.
fn started_at_port(provider: &Provider, protocol: Protocol, server: &MailServer) -> (u16, Daemon) {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let password = "password_cmd = \"echo right\";";
    let blocks = block(&address, protocol, server.port, password);
    (port, started(provider, &blocks))
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

fn sessions(daemon: &Daemon) -> u64 {
    let status = daemon.run(&["status", "-j"]).ok().to_owned();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let proxies = status["proxies"].as_array().unwrap();
    proxies
        .iter()
        .map(|it| it["sessions"].as_u64().unwrap())
        .sum()
}

/// Every way in of every protocol, each line with the beginning of its answer.
#[test]
fn programs_sign_in_with_the_password_and_the_server_sees_the_token() {
    let plain = base64("\0me\0hunter \"2\"");
    let (user, password) = (base64("me"), base64("hunter \"2\""));
    let provider = Provider::start();
    let servers = [Protocol::Imap, Protocol::Pop3, Protocol::Smtp].map(|it| (it, server(it)));
    let port_of = |protocol| {
        servers
            .iter()
            .find(|(it, _)| *it == protocol)
            .unwrap()
            .1
            .port
    };
    let (imap, pop3, smtp) = (Protocol::Imap, Protocol::Pop3, Protocol::Smtp);
    let ports = [imap, pop3, smtp].map(|protocol| (protocol, free_port()));
    let blocks: String = ports
        .iter()
        .map(|(protocol, port)| {
            let address = format!("127.0.0.1:{port}");
            let command = "password_cmd = \"echo 'hunter \\\"2\\\"'\";";
            block(&address, *protocol, port_of(*protocol), command)
        })
        .collect();
    let daemon = started(&provider, &blocks);
    let bare = |lines: &[(&str, &str)]| -> Vec<(String, String)> {
        let own = |(line, answer): &(&str, &str)| ((*line).to_owned(), (*answer).to_owned());
        lines.iter().map(own).collect()
    };
    let ways = [
        (
            imap,
            bare(&[(
                "a LOGIN me \"hunter \\\"2\\\"\"",
                "a OK [CAPABILITY IMAP4rev1] ",
            )]),
        ),
        (
            imap,
            bare(&[("a login {2}", "+ "), ("me {10+}\r\nhunter \"2\"", "a OK")]),
        ),
        (
            imap,
            bare(&[(&format!("a AUTHENTICATE PLAIN {plain}"), "a OK")]),
        ),
        (
            imap,
            bare(&[("a authenticate plain", "+"), (&plain, "a OK")]),
        ),
        (
            imap,
            bare(&[
                (&format!("a AUTHENTICATE LOGIN {user}"), "+ UGFz"),
                (&password, "a OK"),
            ]),
        ),
        (
            imap,
            bare(&[
                ("a AUTHENTICATE LOGIN", "+ VXNl"),
                (&user, "+"),
                (&password, "a OK"),
            ]),
        ),
        (
            pop3,
            bare(&[
                ("CAPA", "."),
                ("USER me", "+OK"),
                ("PASS hunter \"2\"", "+OK"),
            ]),
        ),
        (pop3, bare(&[(&format!("AUTH PLAIN {plain}"), "+OK")])),
        (pop3, bare(&[("auth plain", "+"), (&plain, "+OK")])),
        (
            smtp,
            bare(&[
                ("EHLO x", "250 AUTH"),
                (&format!("AUTH PLAIN {plain}"), "235"),
            ]),
        ),
        // An old printer.
        (
            smtp,
            bare(&[
                ("helo x", "250"),
                ("auth login", "334"),
                (&user, "334"),
                (&password, "235"),
            ]),
        ),
    ];
    for (protocol, lines) in ways {
        let port = ports.iter().find(|(it, _)| *it == protocol).unwrap().1;
        let mut program = Program::at_port(port);
        program.hear();
        for (line, answer) in &lines {
            program.ask(line, answer);
        }
        let (line, answer) = match protocol {
            Protocol::Imap => ("b NOOP", "b OK fine"),
            Protocol::Pop3 => ("STAT", "+OK fine"),
            Protocol::Smtp | Protocol::Irc => ("MAIL FROM:<a@b>", "250 fine"),
        };
        assert_eq!(program.ask(line, ""), answer, "after {lines:?}");
    }
    wait::until("all sessions to end", || {
        (sessions(&daemon) == 0).then_some(())
    });
}

/// Many lines of IRC's, and longer than those of IMAP's servers are allowed to be.
#[test]
fn a_token_of_8_kib_gets_through_each_of_them_and_a_tunnel() {
    let token: &'static str = format!("token{}", "x".repeat(8 << 10)).leak();
    let provider = Provider::start();
    let all = [
        Protocol::Imap,
        Protocol::Pop3,
        Protocol::Smtp,
        Protocol::Irc,
    ];
    let servers = all.map(|protocol| {
        let user = if protocol == Protocol::Irc { "" } else { ME };
        let manners = Manners::of(protocol, Tls::Never).admit(user, token);
        (protocol, MailServer::start(manners))
    });
    let blocks: String = servers
        .iter()
        .map(|(protocol, server)| {
            let path = format!("~/{}", scheme(*protocol));
            block(&path, *protocol, server.port, "")
        })
        .collect();
    let reply = serde_json::json!({
        "access_token": token, "token_type": "Bearer", "expires_in": 3600, "refresh_token": "r",
    });
    provider.script("/token", Scripted::json(200, &reply));
    let daemon = started(&provider, &blocks);
    let plain = base64("\0a\0b");
    for (name, line, answer) in [
        ("imap", "a LOGIN a b".into(), "a OK"),
        ("pop3", format!("AUTH PLAIN {plain}"), "+OK signed in"),
        ("smtp", format!("AUTH PLAIN {plain}"), "235 "),
        (
            "irc",
            "PASS b\r\nNICK me\r\nUSER me 0 * :me".into(),
            ":mail.test 001 me",
        ),
    ] {
        let mut program = Program::at_path(&daemon.path("home").join(name));
        program.ask(&line, answer);
    }
    let (_, imap) = &servers[0];
    let url = format!("imap://127.0.0.1:{}", imap.port);
    let said = daemon.run_with(&["tunnel", "work", &url], b"b LOGOUT\r\n");
    assert!(said.ok().starts_with("* PREAUTH "), "{}", said.stdout);
}

/// irssi says `PASS` after `CAP END`, others before anything; some know SASL.
#[test]
fn irc_programs_sign_in_with_pass_or_sasl() {
    let provider = Provider::start();
    let server = MailServer::start(Manners::of(Protocol::Irc, Tls::Never).admit("", "at-1"));
    let (port, _daemon) = started_at_port(&provider, Protocol::Irc, &server);
    let register = "NICK me\r\nUSER me 0 * :me";
    let plain = format!("AUTHENTICATE {}", base64("\0me\0right"));
    let (welcome, good) = (":mail.test 001 me", ":pizauth 903");
    for lines in [
        vec![("CAP LS 302", ":pizauth CAP * LS :sasl")],
        vec![("PASS right\r\nNICK me\r\nUSER me 0 * :me", welcome)],
        vec![
            ("CAP LS 302", ":pizauth CAP * LS "),
            ("CAP REQ :multi-prefix", ":pizauth CAP * NAK "),
            (
                "NICK me\r\nUSER me 0 * :me\r\nCAP END\r\nPASS right",
                welcome,
            ),
        ],
        vec![
            ("CAP LS", ":pizauth CAP * LS "),
            ("CAP REQ :sasl", ":pizauth CAP * ACK :sasl"),
            ("AUTHENTICATE PLAIN", "AUTHENTICATE +"),
            (&plain, good),
            ("NICK me\r\nUSER me 0 * :me\r\nCAP END", welcome),
        ],
        vec![
            ("CAP LS 302\r\nCAP REQ :sasl", ":pizauth CAP * ACK :sasl"),
            ("AUTHENTICATE PLAIN", "AUTHENTICATE +"),
            (&plain, ":pizauth CAP * NEW :multi-prefix"),
            ("NICK me\r\nUSER me 0 * :me\r\nCAP END", welcome),
        ],
        vec![
            ("CAP LS", ":pizauth CAP * LS "),
            (register, ""),
            ("CAP REQ :sasl\r\nAUTHENTICATE PLAIN", "AUTHENTICATE +"),
            (&plain, good),
            ("CAP END", welcome),
        ],
        vec![("PASS wrong\r\nNICK me\r\nUSER me 0 * :me", "ERROR :wrong ")],
    ] {
        let mut program = Program::at_port(port);
        for (line, answer) in lines {
            match answer {
                "" => program.say(&format!("{line}\r\n")),
                answer => drop(program.ask(line, answer)),
            }
        }
    }
    let heard = server.heard();
    assert!(
        !heard.iter().any(|line| line.contains("right")),
        "{heard:?}"
    );
}

#[test]
fn wrong_passwords_are_refused_late_and_seldom() {
    let provider = Provider::start();
    let server = server(Protocol::Imap);
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let blocks = block(
        &address,
        Protocol::Imap,
        server.port,
        "password_cmd = \"echo right\";",
    );
    let daemon = started(&provider, &blocks);
    let mut program = Program::at_port(port);
    for _ in 0..3 {
        let began = Instant::now();
        program.ask("a LOGIN me wrong", "a NO [AUTHENTICATIONFAILED] ");
        assert!(began.elapsed().as_millis() >= 900);
    }
    assert_eq!(program.hear(), "* BYE too many wrong passwords");
    assert_eq!(program.hear(), "");
    assert_eq!(server.heard(), Vec::<String>::new());
    let told = format!("WARN - proxy {address}: wrong passwords: 1");
    assert_eq!(daemon.log().wait_line(&told), told);
}

#[test]
fn many_wrong_passwords_keep_nobody_out_and_are_one_line_in_the_log() {
    let provider = Provider::start();
    let server = server(Protocol::Imap);
    let (port, daemon) = started_at_port(&provider, Protocol::Imap, &server);
    let mut wrong: Vec<_> = (0..60).map(|_| Program::at_port(port)).collect();
    for program in &mut wrong {
        program.say(&"a LOGIN me guessed\r\n".repeat(3));
    }
    let mut program = Program::at_port(port);
    program.ask("a LOGIN me right", "a OK");
    for program in &mut wrong {
        program.ask("", "* BYE too many wrong passwords");
        assert_eq!(program.hear(), "");
    }
    program.ask("b NOOP", "b OK fine");
    let log = daemon.log().text();
    assert_eq!(log.matches("wrong passwords: ").count(), 1, "{log}");
    assert!(!log.contains("guessed") && !log.contains("at-1"), "{log}");
}

#[test]
fn a_path_needs_no_password_and_what_is_pipelined_arrives() {
    let provider = Provider::start();
    let server = server(Protocol::Imap);
    let mut daemon = started(&provider, &block("~/mail", Protocol::Imap, server.port, ""));
    let path = daemon.path("home/mail");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    let mut program = Program::at_path(&path);
    program.say("a LOGIN \"\" \"\"\r\nb NOOP\r\nc NOOP\r\n");
    program.ask("d NOOP", "a OK");
    let half = children(proxies(&daemon)[0])[0];
    wait::until("the process that fetched the token to be gone", || {
        children(half).is_empty().then_some(())
    });
    assert_eq!(program.hear(), "b OK fine");
    assert_eq!(program.hear(), "c OK fine");
    assert_eq!(program.hear(), "d OK fine");
    assert_eq!(sessions(&daemon), 1);
    let status = daemon.run(&["status"]).ok().to_owned();
    assert!(
        status.ends_with("\nproxy ~/mail: 1 session of work\n"),
        "{status}"
    );
    program.ask("e LOGOUT", "e OK bye");
    assert_eq!(program.hear(), "");
    daemon.shutdown();
    assert!(!path.exists());
}

#[test]
fn before_the_sign_in_only_what_is_needed_is_answered() {
    let provider = Provider::start();
    let server = server(Protocol::Imap);
    let daemon = started(&provider, &block("~/mail", Protocol::Imap, server.port, ""));
    let mut program = Program::at_path(&daemon.path("home/mail"));
    let capabilities = program.ask("a CAPABILITY", "* CAPABILITY ");
    assert!(capabilities.contains(" AUTH=PLAIN"), "{capabilities}");
    program.ask("b NOOP", "b OK");
    program.ask("c ID (\"name\" \"x\")", "* ID NIL");
    program.ask("d SELECT INBOX", "d BAD ");
    program.ask("e LOGOUT", "e OK");
    assert_eq!(program.hear(), "");
    let mut program = Program::at_path(&daemon.path("home/mail"));
    program.say(&"x".repeat(100_000));
    assert!(program.ask("", "* BYE").contains("too long"));
    assert_eq!(server.heard(), Vec::<String>::new());
}

#[test]
fn without_a_token_a_program_is_told_why() {
    let provider = Provider::start();
    let servers = [Protocol::Imap, Protocol::Pop3, Protocol::Smtp].map(|it| (it, server(it)));
    let blocks: String = servers
        .iter()
        .map(|(protocol, server)| {
            block(
                &format!("~/{}", scheme(*protocol)),
                *protocol,
                server.port,
                "",
            )
        })
        .collect();
    let mut daemon = Daemon::new(&(provider.account_with("work", HINT) + &blocks));
    daemon.start();
    let plain = base64("\0a\0b");
    for (name, line, answer) in [
        ("imap", "a LOGIN a b".into(), "a NO [UNAVAILABLE] "),
        ("pop3", format!("AUTH PLAIN {plain}"), "-ERR [SYS/TEMP] "),
        ("smtp", format!("AUTH PLAIN {plain}"), "454 4.7.0 "),
    ] {
        let mut program = Program::at_path(&daemon.path("home").join(name));
        let told = program.ask(&line, answer);
        assert!(told.contains("unavailable until authorised"), "{told}");
        assert!(!told.contains("http"), "{told}");
    }
    daemon.sign_in("work");
    let mut program = Program::at_path(&daemon.path("home/imap"));
    program.ask("a LOGIN a b", "a OK");
}

#[test]
fn a_server_that_refuses_is_told_and_tls_is_checked() {
    let provider = Provider::start();
    let authority = Authority::new();
    let good = Tls::OnDemand(authority.certify("127.0.0.1"));
    let bad = Tls::OnDemand(authority.certify("other.example"));
    let refusing = Manners::of(Protocol::Imap, Tls::Never).admit(ME, "another");
    let servers = [
        ("good", Manners::of(Protocol::Imap, good).admit(ME, "at-1")),
        ("bad", Manners::of(Protocol::Imap, bad).admit(ME, "at-1")),
        ("refusing", refusing),
        (
            "odd",
            Manners::of(Protocol::Imap, Tls::Never).with("GREETING", "hello\n"),
        ),
        (
            "gone",
            Manners::of(Protocol::Imap, Tls::Never).with("CAPABILITY", ""),
        ),
    ]
    .map(|(name, manners)| (name, MailServer::start(manners)));
    let blocks: String = servers
        .iter()
        .map(|(name, server)| block(&format!("~/{name}"), Protocol::Imap, server.port, ""))
        .collect();
    let mut daemon = Daemon::new(&(provider.account_with("work", HINT) + &blocks));
    let trusted = daemon.path("ca.pem");
    fs::write(&trusted, authority.pem()).unwrap();
    daemon.env("SSL_CERT_FILE", trusted.to_str().unwrap());
    daemon.start();
    daemon.sign_in("work");
    for (name, words) in [
        ("good", "OK "),
        ("bad", "certificate is for other.example, not for 127.0.0.1"),
        ("refusing", "refused the token"),
        ("odd", "says what isn't expected: hello"),
        ("gone", ": hung up"),
    ] {
        let mut program = Program::at_path(&daemon.path("home").join(name));
        let told = program.ask("a LOGIN a b", "a ");
        assert!(told.contains(words), "{name}: {told}");
        assert!(!told.contains("at-1"));
    }
}

/// A certificate and its key, in files that a proxy is told of.
fn with_certificate(daemon: &Daemon) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let files = ["cert.pem", "key.pem"].map(|name| daemon.path(name));
    fs::write(&files[0], made.cert.pem()).unwrap();
    fs::write(&files[1], made.signing_key.serialize_pem()).unwrap();
    let [certificate, key] = files.map(|file| file.display().to_string());
    format!("certificate = \"{certificate}\"; key = \"{key}\"; password_cmd = \"echo right\";")
}

#[test]
fn programs_speak_tls_at_once_or_when_asked() {
    let provider = Provider::start();
    let servers = [server(Protocol::Imap), server(Protocol::Smtp)];
    let mut daemon = Daemon::new("");
    let tls = with_certificate(&daemon);
    let ports = [free_port(), free_port()];
    let [at_once, asked] = ports.map(|port| format!("127.0.0.1:{port}"));
    let blocks = block(&at_once, Protocol::Imap, servers[0].port, &tls)
        + &block(
            &asked,
            Protocol::Smtp,
            servers[1].port,
            &format!("{tls} tls = starttls;"),
        );
    daemon.write_config(&(provider.account_with("work", HINT) + &blocks));
    daemon.start();
    daemon.sign_in("work");

    let secured = |stream| {
        let stream = browser::handshake(stream, "localhost").unwrap();
        Program(BufReader::new(Box::new(stream)))
    };
    let mut program = secured(TcpStream::connect(("127.0.0.1", ports[0])).unwrap());
    program.ask("a LOGIN me right", "a OK");
    // What is asked for and the answer are longer than anything that is copied at once.
    let long = "x".repeat(200_000);
    program.ask(&format!("b NOOP {long}"), "b OK fine");
    program.ask("c LOGOUT", "c OK bye");
    assert_eq!(program.hear(), "");

    let stream = TcpStream::connect(("127.0.0.1", ports[1])).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut program = Program(BufReader::new(Box::new(stream.try_clone().unwrap())));
    program.ask("EHLO x", "250 STARTTLS");
    program.ask("AUTH LOGIN", "5");
    program.ask("STARTTLS", "220 ");
    let mut program = secured(stream);
    program.ask("EHLO x", "250 AUTH");
    let plain = base64("\0me\0right");
    program.ask(&format!("AUTH PLAIN {plain}"), "235 ");
    program.ask("MAIL FROM:<a@b>", "250 fine");
    assert_eq!(sessions(&daemon), 1);
}

/// More of them than may sign in at once.
#[test]
fn a_crowd_of_silent_programs_keeps_nobody_out() {
    let provider = Provider::start();
    let server = server(Protocol::Imap);
    let (port, daemon) = started_at_port(&provider, Protocol::Imap, &server);
    let silent = |_| TcpStream::connect(("127.0.0.1", port)).unwrap();
    let crowd: Vec<_> = (0..300).map(silent).collect();
    let mut program = Program::at_port(port);
    program.ask("a LOGIN me right", "a OK");
    assert_eq!(sessions(&daemon), 1);
    drop(crowd);
}

#[test]
fn a_password_that_cannot_be_had_is_told() {
    let provider = Provider::start();
    let server = server(Protocol::Imap);
    let flag = "test -e $HOME/unlocked && echo right";
    let block = block(
        "~/mail",
        Protocol::Imap,
        server.port,
        &format!("password_cmd = \"{flag}\";"),
    );
    let daemon = started(&provider, &block);
    let mut program = Program::at_path(&daemon.path("home/mail"));
    let told = program.ask("a LOGIN me right", "a NO [UNAVAILABLE] ");
    assert!(
        told.ends_with("password_cmd failed: exit status: 1"),
        "{told}"
    );
    fs::write(daemon.path("home/unlocked"), "").unwrap();
    program.ask("b LOGIN me wrong", "b NO [AUTHENTICATIONFAILED] ");
    program.ask("c LOGIN me right", "c OK");
}

/// The proxies' processes.
fn proxies(daemon: &Daemon) -> Vec<Pid> {
    let runner = daemon.hook_runner();
    let others = [Some(daemon.holder()), runner];
    let all = children(daemon.pid().unwrap());
    all.into_iter()
        .filter(|pid| !others.contains(&Some(*pid)))
        .collect()
}

#[test]
fn a_reload_opens_and_closes_and_leaves_sessions_alone() {
    let provider = Provider::start();
    let server = server(Protocol::Imap);
    let account = provider.account_with("work", HINT);
    let config = |name: &str| account.clone() + &block(name, Protocol::Imap, server.port, "");
    let mut daemon = Daemon::new(&config("~/one"));
    daemon.start();
    daemon.sign_in("work");
    let mut program = Program::at_path(&daemon.path("home/one"));
    program.ask("a LOGIN a b", "a OK");
    daemon.write_config(&config("~/two"));
    daemon.run(&["reload"]).ok();
    assert!(!daemon.path("home/one").exists());
    let mut other = Program::at_path(&daemon.path("home/two"));
    other.ask("a LOGIN a b", "a OK");
    program.ask("b NOOP", "b OK fine");
    // A config that can't be opened changes nothing.
    daemon.write_config(&config("~/none/three"));
    assert!(daemon.run(&["reload"]).stderr.contains("none/three"));
    other.ask("b NOOP", "b OK fine");
    daemon.write_config(&account);
    daemon.run(&["reload"]).ok();
    assert!(!daemon.path("home/two").exists());
    other.ask("c NOOP", "c OK fine");
    let process = proxies(&daemon)[0];
    drop((program, other));
    wait::until("the proxy to end", || gone(process));
}

#[test]
fn a_restart_keeps_sessions_and_a_crash_costs_no_more_than_them() {
    let provider = Provider::start();
    let server = server(Protocol::Imap);
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let password = "password_cmd = \"echo right\";";
    let blocks = block(&address, Protocol::Imap, server.port, password)
        + &block("~/mail", Protocol::Imap, server.port, "");
    let mut daemon = started(&provider, &blocks);
    let mut old = Program::at_port(port);
    old.ask("a LOGIN a right", "a OK");
    let first = proxies(&daemon)[0];
    daemon.run(&["restart"]).ok();
    old.ask("b NOOP", "b OK fine");
    for mut program in [
        Program::at_port(port),
        Program::at_path(&daemon.path("home/mail")),
    ] {
        program.ask("a LOGIN a right", "a OK");
    }
    old.ask("c NOOP", "c OK fine");
    drop(old);
    wait::until("the old proxy to end", || gone(first));

    let token = daemon.token("work");
    let mut program = Program::at_port(port);
    program.ask("a LOGIN a right", "a OK");
    let second = proxies(&daemon)[0];
    kill(second, Signal::SIGKILL).unwrap();
    assert_eq!(program.hear(), "");
    assert_eq!(daemon.token("work"), token);
    let told = "ERROR - the proxies' process was killed: another one goes on";
    assert_eq!(daemon.log().wait_line(told), told);
    let mut program = Program::at_port(port);
    program.ask("a LOGIN a right", "a OK");
    let third = proxies(&daemon)[0];
    // The half that has the user's rights goes, and the other one with it.
    kill(children(third)[0], Signal::SIGKILL).unwrap();
    wait::until("the proxy to end with its half", || gone(third));
    let mut program = Program::at_port(port);
    program.ask("a LOGIN a right", "a OK");
    let fourth = proxies(&daemon)[0];
    // Their sessions go on without the token holder.
    daemon.kill_holder(Signal::SIGKILL);
    program.ask("b NOOP", "b OK fine");
    wait::until("the session to be known", || {
        (sessions(&daemon) == 1).then_some(())
    });
    daemon.shutdown();
    wait::until("the proxy to end with the server", || gone(fourth));
}
