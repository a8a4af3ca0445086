//! `pizauth tunnel`: programs that know no OAuth2 come to mail servers of our own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::socket::{setsockopt, sockopt};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::support::command::{Output, Running};
use crate::support::daemon::Daemon;
use crate::support::mail::{MailServer, Manners, Protocol, Tls};
use crate::support::provider::{Gate, Provider, Scripted};
use crate::support::tls::self_signed;
use crate::trial::{ME, World};

fn url(scheme: &str, port: u16) -> String {
    format!("{scheme}://127.0.0.1:{port}")
}

/// A program's dialogue: what it says, and the line that it waits for then.
fn converse(tunnel: &mut Running, lines: &[(&str, &str)]) {
    for (line, answer) in lines {
        if !line.is_empty() {
            tunnel.say(line);
        }
        tunnel.stdout.wait_line(answer);
    }
}

#[test]
fn a_program_finds_itself_signed_in_whatever_it_speaks() {
    let world = World::new();
    for (protocol, secure, plain, admitted, dialogue) in [
        (
            Protocol::Imap,
            "imaps",
            "imap",
            ME,
            &[
                (
                    "",
                    "* PREAUTH [CAPABILITY IMAP4rev1] signed in at 127.0.0.1 by pizauth",
                ),
                ("x1 NOOP", "x1 OK fine"),
                ("x2 LOGOUT", "x2 OK bye"),
            ][..],
        ),
        (
            Protocol::Pop3,
            "pop3s",
            "pop3",
            ME,
            &[
                ("", "+OK signed in at 127.0.0.1 by pizauth"),
                ("CAPA", "."),
                ("USER anybody", "+OK"),
                ("PASS anything", "+OK signed in"),
                ("STAT", "+OK fine"),
                ("QUIT", "+OK bye"),
            ],
        ),
        (
            Protocol::Smtp,
            "smtps",
            "smtp",
            ME,
            &[
                ("", "220 127.0.0.1 ESMTP pizauth"),
                ("EHLO me", "250 8BITMIME"),
                ("MAIL FROM:<me@example.com>", "250 fine"),
                ("QUIT", "221 bye"),
            ],
        ),
        (
            Protocol::Irc,
            "ircs",
            "irc",
            "",
            &[
                ("NICK me\nUSER me 0 * :me", ":mail.test 001 me :Welcome"),
                ("QUIT", "ERROR :bye"),
            ],
        ),
        (
            Protocol::Irc,
            "ircs",
            "irc",
            "",
            &[
                ("CAP LS", ":pizauth CAP * LS :multi-prefix"),
                (
                    "NICK me\nUSER me 0 * :me\nCAP END",
                    ":mail.test 001 me :Welcome",
                ),
                ("QUIT", "ERROR :bye"),
            ],
        ),
    ] {
        for (scheme, tls) in [
            (secure, world.at_once()),
            (plain, world.on_demand()),
            (plain, Tls::Never),
        ] {
            if let (Protocol::Irc, Tls::OnDemand(_)) = (protocol, &tls) {
                continue;
            }
            let server = MailServer::start(Manners::of(protocol, tls).admit(admitted, "at-1"));
            let url = url(scheme, server.port);
            let mut tunnel = world.daemon.spawn(&["tunnel", "work", &url]);
            converse(&mut tunnel, dialogue);
            // The server has hung up, and the program hasn't.
            assert!(
                tunnel.wait().is_some_and(|status| status.success()),
                "{url}"
            );
            assert_eq!(tunnel.stderr.text(), "");
            let heard = server.heard();
            assert!(
                !heard.iter().any(|line| line.starts_with("PASS")),
                "{heard:?}"
            );
        }
    }
}

/// Runs the command, with a program that says nothing.
fn refused(world: &World, scheme: &str, server: &MailServer) -> Output {
    let output = world
        .daemon
        .run(&["tunnel", "work", &url(scheme, server.port)]);
    for secret in ["at-1", "YXQtM"] {
        assert!(!format!("{output:?}").contains(secret), "{output:?}");
    }
    output
}

#[test]
fn a_program_is_told_why_there_is_no_session_and_so_is_the_user() {
    let world = World::new();
    let imap = || Manners::of(Protocol::Imap, world.at_once());
    let response = STANDARD.encode(format!("user={ME}\x01auth=Bearer at-1\x01\x01"));
    let echo: &'static str = format!("$TAG NO I don't like at-1 and {response}\n").leak();
    let endless: &'static str = "x".repeat(1 << 20).leak();
    let many: &'static str = "* OK more\n".repeat(600).leak();
    for (scheme, manners, status, told) in [
        (
            "imaps",
            imap(),
            77,
            "refused the token, sent with OAUTHBEARER: no (status 401, scope mail)",
        ),
        (
            "imaps",
            imap().with("GREETING", "\x00\x1b[31m!?\n"),
            76,
            "says what isn't expected: [31m!?",
        ),
        (
            "imaps",
            imap().with("GREETING", "* BYE too busy\n"),
            75,
            "doesn't want to talk: too busy",
        ),
        (
            "imaps",
            imap().with("GREETING", endless),
            76,
            "sends a line without end",
        ),
        (
            "imaps",
            imap().with("CAPABILITY", many),
            76,
            "doesn't stop talking",
        ),
        ("imaps", imap().with("CAPABILITY", ""), 75, "hung up"),
        (
            "imaps",
            imap()
                .with_mechanisms(&["OAUTHBEARER"])
                .with("AUTHENTICATE", echo),
            77,
            "refused the token, sent with OAUTHBEARER: I don't like [token] and [token]",
        ),
        (
            "imaps",
            Manners::of(Protocol::Imap, Tls::AtOnce(self_signed("127.0.0.1"))),
            76,
            "TLS fails: the server's certificate is from an unknown authority (self-signed, or a \
             corporate proxy that inspects TLS?)",
        ),
        (
            "imaps",
            Manners::of(
                Protocol::Imap,
                Tls::AtOnce(world.authority.certify("mail.test")),
            ),
            76,
            "TLS fails: the server's certificate is for mail.test, not for 127.0.0.1",
        ),
        (
            "pop3",
            Manners::of(Protocol::Pop3, Tls::Never),
            77,
            "refused the token, sent with OAUTHBEARER: no (status 401, scope mail)",
        ),
        (
            "smtp",
            Manners::of(Protocol::Smtp, Tls::Never),
            77,
            "refused the token, sent with OAUTHBEARER: 535 no (status 401, scope mail)",
        ),
        (
            "irc",
            Manners::of(Protocol::Irc, Tls::Never),
            77,
            "refused the token, sent with OAUTHBEARER: no (status 401, scope mail)",
        ),
    ] {
        let begin = match manners.protocol {
            Protocol::Imap => "* BYE",
            Protocol::Pop3 => "-ERR [SYS/TEMP]",
            Protocol::Smtp => "421 4.7.0",
            Protocol::Irc => "ERROR :",
        };
        let gap = if begin.ends_with(':') { "" } else { " " };
        let server = MailServer::start(manners);
        let reason = format!("{}: {told}", url(scheme, server.port));
        let output = refused(&world, scheme, &server);
        assert_eq!(output.stdout, format!("{begin}{gap}{reason}\r\n"));
        let first = output.stderr.lines().next().unwrap_or_default();
        assert_eq!(first, format!("ERROR - {reason}"));
        assert_eq!(output.status, status, "{output:?}");
    }
}

#[test]
fn without_a_token_nothing_is_tried_and_the_status_is_that_of_show() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    let server = MailServer::start(Manners::of(Protocol::Imap, Tls::Never).admit(ME, "at-1"));
    let url = url("imap", server.port);
    let tunnel = |daemon: &Daemon, args: &[&str]| {
        let output = daemon.run(&[&["tunnel"], args].concat());
        let first = output.stderr.lines().next().unwrap_or_default();
        let reason = first
            .strip_prefix("ERROR - ")
            .unwrap_or_default()
            .to_owned();
        (output.status, reason, output.stdout)
    };
    let (status, reason, stdout) = tunnel(&daemon, &["work", &url]);
    assert_eq!((status, reason.as_str()), (69, "pizauth is not running"));
    assert_eq!(stdout, "* BYE pizauth is not running\r\n");
    daemon.start();
    let (status, _, stdout) = tunnel(&daemon, &["other", &url]);
    assert_eq!((status, stdout.starts_with("* BYE ")), (67, true));
    let (status, reason, stdout) = tunnel(&daemon, &["work", &url]);
    assert_eq!(status, 77);
    assert!(
        reason.starts_with("Access token unavailable until authorised with URL http"),
        "{reason}"
    );
    assert!(stdout.starts_with("* BYE Access token unavailable until authorised with URL http"));
    for wrong in ["127.0.0.1:993", "https://127.0.0.1", ""] {
        let (status, reason, stdout) = tunnel(&daemon, &["work", wrong]);
        assert!(
            status == 64 && stdout.is_empty() && !reason.is_empty(),
            "{wrong}"
        );
    }
    assert_eq!(server.heard(), Vec::<String>::new());
    // A person is waited for if that was asked for.
    let waiting = daemon.spawn(&["tunnel", "-w", "1m", "--user", ME, "work", &url]);
    daemon.sign_in("work");
    waiting
        .stdout
        .wait_line("* PREAUTH [CAPABILITY IMAP4rev1] ");
}

#[test]
fn a_refresh_is_waited_for() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    // It has expired when the refresh is sent, ten seconds later at the earliest.
    provider.set(|it| it.expires_in = Some(1));
    daemon.sign_in("work");
    provider.set(|it| it.expires_in = Some(3600));
    let gate = Gate::new();
    provider.script("/token", Scripted::gated(&gate));
    let refresh = daemon.spawn(&["refresh", "work"]);
    provider.wait_for("/token", 2);
    provider.unscript("/token");
    let manners = Manners::of(Protocol::Imap, Tls::Never).with_mechanisms(&["OAUTHBEARER"]);
    let server = MailServer::start(manners.admit(ME, "at-2"));
    let tunnel = daemon.spawn(&["tunnel", "--user", ME, "work", &url("imap", server.port)]);
    gate.open();
    tunnel.stdout.wait_line("* PREAUTH ");
    drop(refresh);
}

/// A server without TLS that lets everybody in, and then does what it likes.
fn raw_server(then: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut said = |text: &[u8], lines: usize| {
            stream.write_all(text).unwrap();
            let mut heard = [0];
            for _ in 0..lines {
                while heard != *b"\n" {
                    stream.read_exact(&mut heard).unwrap();
                }
                heard = [0];
            }
        };
        said(b"+OK\r\n", 1);
        said(b"+OK\r\nSASL OAUTHBEARER\r\n.\r\n", 1);
        said(b"+ \r\n", 1);
        said(b"+OK\r\n", 0);
        then(stream);
    });
    port
}

fn piped(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn a_half_that_is_closed_leaves_the_other_open() {
    let world = World::new();
    let port = raw_server(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    });
    let sent: Vec<u8> = (0..3_000_000u32).flat_map(|at| at.to_le_bytes()).collect();
    let mut command = world
        .daemon
        .command(&["tunnel", "work", &url("pop3", port)]);
    let mut tunnel = piped(&mut command);
    let mut stdin = tunnel.stdin.take().unwrap();
    let said = [b"USER me\r\nPASS it\r\n", sent.as_slice()].concat();
    thread::spawn(move || stdin.write_all(&said).unwrap());
    let mut came = Vec::new();
    tunnel
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut came)
        .unwrap();
    let greeting = b"+OK signed in at 127.0.0.1 by pizauth\r\n+OK\r\n+OK signed in\r\n";
    let echo = came.strip_prefix(greeting.as_slice()).unwrap();
    assert!(echo == sent, "{} bytes came back", echo.len());
    assert!(tunnel.wait().unwrap().success());
}

#[test]
fn the_last_words_of_a_server_that_hangs_up_reach_a_program_that_talks_on() {
    /// More than the pipe to the program and the tunnel take, so that some wait in the socket; and
    /// not more than it takes, since what the server's system still has goes with the reset.
    const WORDS: usize = 110_000;
    let world = World::new();
    let (hung_up, has_hung_up) = std::sync::mpsc::channel();
    let port = raw_server(move |mut stream| {
        stream.write_all(&[b'x'; WORDS]).unwrap();
        stream.write_all(b"too much\r\n").unwrap();
        // This waits until all has come, in seconds.
        let linger = nix::libc::linger {
            l_onoff: 1,
            l_linger: 20,
        };
        setsockopt(&stream, sockopt::Linger, &linger).unwrap();
        drop(stream);
        hung_up.send(()).unwrap();
    });
    let mut command = world
        .daemon
        .command(&["tunnel", "work", &url("pop3", port)]);
    let mut tunnel = piped(command.stderr(Stdio::piped()));
    let mut stdin = tunnel.stdin.take().unwrap();
    stdin.write_all(b"USER me\r\nPASS it\r\n").unwrap();
    has_hung_up.recv().unwrap();
    // The first of these is answered with a reset, and one of the others meets it.
    for _ in 0..50 {
        let _ = stdin.write_all(b"NOOP\r\n");
        // why: each is to be a write of its own, and nothing tells when a reset has come.
        thread::sleep(Duration::from_millis(2));
    }
    let output = tunnel.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.ends_with("xtoo much\r\n"), "{} bytes", said.len());
    assert_eq!(output.status.code(), Some(75), "{said}");
}

/// A relay that can't pass on what the program says would not pass on the reason either. And a program
/// such as fdm(1) reads no more of stderr when it has been refused.
#[test]
fn a_socket_stays_open_until_the_reason_has_been_read_and_stderr_has_it_first() {
    let daemon = Daemon::new("");
    let mut command = daemon.command(&["tunnel", "work", "irc://127.0.0.1:1"]);
    let (mut program, end) = UnixStream::pair().unwrap();
    let begin = Instant::now();
    command.stdin(OwnedFd::from(end.try_clone().unwrap()));
    command.stdout(OwnedFd::from(end.try_clone().unwrap()));
    command.stderr(OwnedFd::from(end));
    let mut tunnel = command.spawn().unwrap();
    drop(command);
    let mut told = String::new();
    program.read_to_string(&mut told).unwrap();
    let lines: Vec<_> = told.lines().collect();
    let [on_stderr, hint, on_stdout] = lines[..] else {
        panic!("{told}");
    };
    assert_eq!(on_stderr, "ERROR - pizauth is not running");
    assert!(hint.starts_with("hint: "), "{hint}");
    assert_eq!(on_stdout, "ERROR :pizauth is not running");
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(tunnel.wait().unwrap().code(), Some(69));
}

#[test]
fn what_a_program_doesnt_read_waits_at_the_server() {
    const MUCH: usize = 64 << 20;
    let world = World::new();
    let (blocked, is_blocked) = std::sync::mpsc::channel();
    let port = raw_server(move |mut stream| {
        // So long nothing moves: who sends waits for who reads.
        stream
            .set_write_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let piece = vec![b'x'; 1 << 20];
        let mut left = MUCH;
        while left > 0 {
            match stream.write(&piece[..left.min(piece.len())]) {
                Ok(count) => left -= count,
                Err(_) => blocked.send(left).unwrap(),
            }
        }
    });
    let mut command = world
        .daemon
        .command(&["tunnel", "work", &url("pop3", port)]);
    let mut tunnel = piped(&mut command);
    assert!(is_blocked.recv().unwrap() > 0);
    if let Ok(status) = fs::read_to_string(format!("/proc/{}/status", tunnel.id())) {
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        let peak: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak < 32 << 10, "{peak} kB");
    }
    let mut came = Vec::new();
    tunnel
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut came)
        .unwrap();
    assert!(came.len() > MUCH, "{} bytes", came.len());
    assert!(tunnel.wait().unwrap().success());
}

#[test]
fn much_goes_through_tls_unchanged() {
    let world = World::new();
    let text: String = (0..400_000).map(|at| format!("{at}\n")).collect();
    let answer: &'static str = format!("{text}$TAG OK done\n").leak();
    let manners = Manners::of(Protocol::Imap, world.at_once()).with("FETCH", answer);
    let server = MailServer::start(manners.admit(ME, "at-1"));
    let mut tunnel = world
        .daemon
        .spawn(&["tunnel", "work", &url("imaps", server.port)]);
    converse(
        &mut tunnel,
        &[("x FETCH", "x OK done"), ("y LOGOUT", "y OK bye")],
    );
    let output = tunnel.finish();
    let (_, rest) = output.stdout.split_once("\r\n").unwrap();
    let all = text.replace('\n', "\r\n") + "x OK done\r\ny OK bye\r\n";
    assert!(rest == all, "{} bytes of {}", rest.len(), all.len());
}

#[test]
fn a_tunnel_whose_program_has_gone_goes_too() {
    let world = World::new();
    let (gone, is_gone) = std::sync::mpsc::channel();
    // It doesn't hang up by itself.
    let port = raw_server(move |mut stream| {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        gone.send(stream).unwrap();
    });
    let mut command = world
        .daemon
        .command(&["tunnel", "work", &url("pop3", port)]);
    let mut tunnel = piped(&mut command);
    let mut greeting = [0; 4];
    tunnel
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut greeting)
        .unwrap();
    drop((tunnel.stdin.take(), tunnel.stdout.take()));
    assert!(tunnel.wait().unwrap().success());
    drop(is_gone.recv());
}
