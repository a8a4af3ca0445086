//! `pizauth test`: sign-ins at mail servers of our own, over real TLS.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::support::command::Output;
use crate::support::daemon::Daemon;
use crate::support::mail::{MailServer, Manners, Protocol, Tls};
use crate::support::provider::{Dormant, Provider};
use crate::support::tls::{Authority, self_signed};

pub const ME: &str = "me@example.com";

/// A daemon that is signed in, in a world that trusts one authority and has no mail programs.
pub struct World {
    pub daemon: Daemon,
    pub authority: Authority,
    _provider: Provider,
}

impl World {
    pub fn new() -> Self {
        World::with("auth_uri_fields = { \"login_hint\": \"me@example.com\" };")
    }

    fn with(options: &str) -> Self {
        let provider = Provider::start();
        let mut daemon = Daemon::new(&provider.account_with("work", options));
        let authority = Authority::new();
        let trusted = daemon.path("ca.pem");
        fs::write(&trusted, authority.pem()).unwrap();
        fs::create_dir(daemon.path("bin")).unwrap();
        fs::create_dir(daemon.path("sasl2")).unwrap();
        for (name, path) in [
            ("SSL_CERT_FILE", trusted),
            ("PATH", daemon.path("bin")),
            ("SASL_PATH", daemon.path("sasl2")),
        ] {
            daemon.env(name, path.to_str().unwrap());
        }
        daemon.start();
        daemon.sign_in("work");
        World {
            daemon,
            authority,
            _provider: provider,
        }
    }

    pub fn at_once(&self) -> Tls {
        Tls::AtOnce(self.authority.certify("127.0.0.1"))
    }

    pub fn on_demand(&self) -> Tls {
        Tls::OnDemand(self.authority.certify("127.0.0.1"))
    }

    /// Runs the command against `server`, checks its first line, and gives the rest with the URL
    /// that was used cut short.
    fn test(&self, scheme: &str, server: &MailServer, args: &[&str]) -> (i32, String) {
        let url = format!("{scheme}://127.0.0.1:{}", server.port);
        let output = self
            .daemon
            .run(&[&["test"], args, &["work", &url]].concat());
        let rest = rest(&output);
        (output.status, rest.replace(&url, "SERVER"))
    }
}

/// What follows the line about the token.
fn rest(output: &Output) -> String {
    for secret in ["at-1", "YXQtM"] {
        assert!(
            !output.stdout.contains(secret) && !output.stderr.contains(secret),
            "{output:?}"
        );
    }
    let (first, rest) = output.stdout.split_once('\n').unwrap_or_default();
    let about = (
        "work: a token of 4 bytes, valid for ",
        ", scopes mail offline",
    );
    assert!(
        first.starts_with(about.0) && first.ends_with(about.1),
        "{output:?}"
    );
    rest.to_owned() + &output.stderr
}

#[test]
fn every_protocol_lets_somebody_in_who_has_the_right_token() {
    let world = World::new();
    for (protocol, secure, plain) in [
        (Protocol::Imap, "imaps", "imap"),
        (Protocol::Pop3, "pop3s", "pop3"),
        (Protocol::Smtp, "smtps", "smtp"),
    ] {
        for mechanism in ["OAUTHBEARER", "XOAUTH2"] {
            for (scheme, tls) in [
                (secure, world.at_once()),
                (plain, world.on_demand()),
                // Nobody else can listen.
                (plain, Tls::Never),
            ] {
                let manners = Manners::of(protocol, tls);
                let manners = manners.with_mechanisms(&["PLAIN", mechanism]);
                let server = MailServer::start(manners.admit(ME, "at-1"));
                assert_eq!(
                    world.test(scheme, &server, &[]),
                    (0, format!("SERVER: signed in as {ME} with {mechanism}\n")),
                    "{scheme}"
                );
                let bye = match protocol {
                    Protocol::Imap => "a9 LOGOUT",
                    Protocol::Pop3 | Protocol::Smtp | Protocol::Irc => "QUIT",
                };
                server.wait_for(bye);
            }
        }
    }
}

#[test]
fn an_irc_server_is_told_a_user_only_if_one_is_named() {
    let world = World::new();
    for (admitted, args, told) in [
        ("", &[][..], "SERVER: signed in with OAUTHBEARER\n"),
        (
            "me",
            &["--user", "me"],
            "SERVER: signed in as me with OAUTHBEARER\n",
        ),
    ] {
        for (scheme, tls) in [("ircs", world.at_once()), ("irc", Tls::Never)] {
            let manners =
                Manners::of(Protocol::Irc, tls).with_mechanisms(&["PLAIN", "OAUTHBEARER"]);
            let server = MailServer::start(manners.admit(admitted, "at-1"));
            assert_eq!(world.test(scheme, &server, args), (0, told.into()));
            server.wait_for("QUIT");
        }
    }
    let server = MailServer::start(Manners::of(Protocol::Irc, world.at_once()));
    let (status, told) = world.test("ircs", &server, &[]);
    assert_eq!(status, 77);
    let words = "SERVER: refused the token, sent with OAUTHBEARER: no (status 401, scope mail)\n";
    assert!(told.starts_with(words), "{told}");
}

#[test]
fn the_dialogue_can_be_read_and_has_no_token() {
    let world = World::new();
    let server = |protocol, tls| {
        let manners = Manners::of(protocol, tls).with_mechanisms(&["XOAUTH2"]);
        MailServer::start(manners.admit(ME, "at-1"))
    };
    let imap = server(Protocol::Imap, world.on_demand());
    let (status, dialogue) = world.test("imap", &imap, &["-v"]);
    assert_eq!(status, 0);
    assert_eq!(
        dialogue,
        "-- SERVER\n\
         S: * OK mail.test ready\n\
         C: a1 CAPABILITY\n\
         S: * CAPABILITY IMAP4rev1 STARTTLS AUTH=XOAUTH2\n\
         S: a1 OK listed\n\
         C: a1 STARTTLS\n\
         S: a1 OK go ahead\n\
         =: TLS\n\
         C: a1 CAPABILITY\n\
         S: * CAPABILITY IMAP4rev1 AUTH=XOAUTH2\n\
         S: a1 OK listed\n\
         C: a1 AUTHENTICATE XOAUTH2\n\
         S: +\n\
         C: [token]\n\
         S: a1 OK welcome\n\
         C: a1 EXAMINE INBOX\n\
         S: a1 OK fine\n\
         C: a9 LOGOUT\n\
         SERVER: signed in as me@example.com with XOAUTH2\n"
    );
    let pop3 = server(Protocol::Pop3, world.at_once());
    let (status, dialogue) = world.test("pop3s", &pop3, &["--verbose", "--user", "you"]);
    assert_eq!(status, 77);
    assert_eq!(
        dialogue,
        "-- SERVER\n\
         S: +OK mail.test ready\n\
         C: CAPA\n\
         S: +OK here they are\n\
         S: SASL XOAUTH2\n\
         S: .\n\
         C: AUTH XOAUTH2\n\
         S: +\n\
         C: [token]\n\
         S: + eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIiwic2NvcGUiOiJtYWlsIn0=\n\
         C: \n\
         S: -ERR no\n\
         C: QUIT\n\
         SERVER: refused the token, sent with XOAUTH2: no (status 401, scope mail)\n  \
         hint: was it `you` who signed in? A token is for one mailbox\n  \
         hint: the scopes may be those of another service: compare them with what the server's \
         provider asks for\n\
         ERROR - the sign-in failed\n"
    );
}

#[test]
fn a_server_that_repeats_the_token_gives_nothing_away() {
    let world = World::new();
    let response = STANDARD.encode(format!("user={ME}\x01auth=Bearer at-1\x01\x01"));
    let echo: &'static str = format!("a1 NO I don't like at-1 and {response}\n").leak();
    let manners = Manners::of(Protocol::Imap, world.at_once())
        .with_mechanisms(&["XOAUTH2"])
        // What the client sends without a space has no tag.
        .with(response.clone().leak(), "never\n");
    let server = MailServer::start(manners.with("AUTHENTICATE", echo));
    let (status, told) = world.test("imaps", &server, &["-v"]);
    assert_eq!(status, 77);
    assert!(
        told.contains("\nS: a1 NO I don't like [token] and [token]\n"),
        "{told}"
    );
    assert!(
        told.contains(
            "\nSERVER: refused the token, sent with XOAUTH2: I don't like [token] and [token]\n"
        ),
        "{told}"
    );
}

#[test]
fn every_failure_is_told_in_its_own_way() {
    let world = World::new();
    let tls = || world.at_once();
    let imap = || Manners::of(Protocol::Imap, tls());
    let smtp = || Manners::of(Protocol::Smtp, tls());
    for (scheme, manners, status, told) in [
        (
            "imaps",
            imap().admit(ME, "at-1").with(
                "EXAMINE",
                "$TAG NO User is authenticated but not connected.\n",
            ),
            77,
            "SERVER: signed in, but the mailbox can't be opened: User is authenticated but not connected.\n  \
             hint: the token is valid, but perhaps not for `me@example.com`",
        ),
        (
            "imaps",
            imap().with(
                "CAPABILITY",
                "* CAPABILITY IMAP4rev1 LOGINDISABLED\n$TAG OK\n",
            ),
            76,
            "SERVER: offers no way to sign in\n  hint: the server allows no sign-in on this connection \
             (LOGINDISABLED)",
        ),
        (
            "smtps",
            smtp().with_mechanisms(&["PLAIN", "LOGIN"]),
            76,
            "SERVER: offers neither OAUTHBEARER nor XOAUTH2, but PLAIN, LOGIN\n  hint: the administrator",
        ),
        (
            "smtps",
            smtp().with("GREETING", "421 too\u{1b}[31m busy\n"),
            75,
            "SERVER: doesn't want to talk: 421 too [31m busy\n  hint: the server is in trouble",
        ),
        (
            "smtps",
            smtp().with("AUTH", "454 4.7.0 later\n"),
            75,
            "SERVER: refused the token, sent with OAUTHBEARER: 454 4.7.0 later\n  hint: the server is in \
             trouble",
        ),
        (
            "smtps",
            imap(),
            76,
            "SERVER: says what isn't expected: * OK mail.test ready\n  hint: does the URL's scheme fit",
        ),
        (
            "imaps",
            Manners::of(Protocol::Imap, Tls::Never),
            76,
            "SERVER: TLS fails: the answer is not TLS\n  hint: the server doesn't begin with TLS",
        ),
        (
            "imaps",
            Manners::of(Protocol::Imap, Tls::AtOnce(self_signed("127.0.0.1"))),
            76,
            // Its issuer calls itself what the authority does.
            "SERVER: TLS fails: the server's certificate is from an unknown authority (self-signed, or",
        ),
        (
            "imaps",
            Manners::of(
                Protocol::Imap,
                Tls::AtOnce(world.authority.certify("mail.test")),
            ),
            76,
            "SERVER: TLS fails: the server's certificate is for mail.test, not for 127.0.0.1\n  hint: check",
        ),
        (
            "imaps",
            Manners::of(
                Protocol::Imap,
                Tls::AtOnce(world.authority.certify_formerly("127.0.0.1")),
            ),
            76,
            "SERVER: TLS fails: the server's certificate expired on 2002-01-01 00:00 UTC (this",
        ),
        (
            "imaps",
            imap().with("CAPABILITY", ""),
            75,
            "SERVER: hung up\n",
        ),
    ] {
        let server = MailServer::start(manners);
        let (code, text) = world.test(scheme, &server, &[]);
        assert!(text.starts_with(told), "{text}\nnot\n{told}");
        assert_eq!(code, status, "{text}");
        assert!(text.ends_with("ERROR - the sign-in failed\n"), "{text}");
    }
}

#[test]
fn what_comes_before_tls_is_not_taken_for_what_comes_after() {
    let world = World::new();
    let early = "$TAG OK go ahead\n* CAPABILITY AUTH=XOAUTH2\n";
    let manners = Manners::of(Protocol::Imap, world.on_demand()).with("STARTTLS", early);
    let server = MailServer::start(manners);
    let (status, told) = world.test("imap", &server, &[]);
    assert_eq!(status, 76);
    assert_eq!(
        told,
        "SERVER: says something before TLS has begun, which another machine may have sent\n\
         ERROR - the sign-in failed\n"
    );
}

#[test]
fn no_token_leaves_the_machine_without_tls() {
    let world = World::new();
    for (scheme, protocol) in [
        ("imap", Protocol::Imap),
        ("pop3", Protocol::Pop3),
        ("smtp", Protocol::Smtp),
    ] {
        let server = MailServer::start(Manners::of(protocol, Tls::Never).admit(ME, "at-1"));
        // No loopback address by its looks, but it leads there.
        let url = format!("{scheme}://0.0.0.0:{}", server.port);
        let output = world.daemon.run(&["test", "work", &url]);
        assert_eq!(output.status, 76, "{output:?}");
        let told =
            format!("\n{url}: offers no TLS\n  hint: a token is sent without TLS to a loopback");
        assert!(output.stdout.contains(&told), "{output:?}");
        let heard = server.heard();
        assert!(!heard.iter().any(|line| line.contains("AUTH")), "{heard:?}");
    }
}

#[test]
fn a_server_that_floods_is_left() {
    let world = World::new();
    let endless: &'static str = "x".repeat(40_000).leak();
    let many: &'static str = "* OK more\n".repeat(600).leak();
    for (answer, told) in [
        (endless, "SERVER: sends a line without end\n"),
        (many, "SERVER: doesn't stop talking\n"),
    ] {
        let manners = Manners::of(Protocol::Imap, world.at_once()).with("CAPABILITY", answer);
        let server = MailServer::start(manners);
        let (status, text) = world.test("imaps", &server, &[]);
        assert!(status == 76 && text.starts_with(told), "{status} {text}");
    }
}

#[test]
fn a_user_is_named_where_one_is_needed() {
    let world = World::with("");
    let server = |mechanism| {
        let manners = Manners::of(Protocol::Smtp, world.at_once()).with_mechanisms(&[mechanism]);
        MailServer::start(manners.admit("you", "at-1"))
    };
    let xoauth2 = server("XOAUTH2");
    let (status, told) = world.test("smtps", &xoauth2, &[]);
    assert_eq!(status, 64);
    assert!(
        told.starts_with(
            "SERVER: offers XOAUTH2 alone, which needs a user\n  hint: name the mailbox"
        ),
        "{told}"
    );
    assert_eq!(
        world.test("smtps", &xoauth2, &["--user", "you"]),
        (0, "SERVER: signed in as you with XOAUTH2\n".into())
    );
    let url = format!("smtps://you@127.0.0.1:{}", xoauth2.port);
    let output = world.daemon.run(&["test", "work", &url]);
    assert!(
        output.ok().ends_with(": signed in as you with XOAUTH2\n"),
        "{output:?}"
    );
    // This one says itself whose a token is.
    let (_, told) = world.test("smtps", &server("OAUTHBEARER"), &[]);
    assert!(
        told.contains("hint: name the mailbox with `--user`, if"),
        "{told}"
    );
}

#[test]
fn several_servers_are_tried_and_the_first_failure_counts() {
    let world = World::new();
    let good = Manners::of(Protocol::Imap, world.at_once()).admit(ME, "at-1");
    let good = MailServer::start(good);
    let bad = MailServer::start(Manners::of(Protocol::Smtp, world.at_once()));
    let down = Dormant::new();
    let url = |scheme: &str, port: u16| format!("{scheme}://127.0.0.1:{port}");
    let down = down.url("").replace("http", "pop3s");
    let (good, bad) = (url("imaps", good.port), url("smtps", bad.port));
    let output = world.daemon.run(&["test", "work", &down, &good, &bad]);
    assert_eq!(output.status, 75);
    assert_eq!(output.stderr, "ERROR - 2 of 3 sign-ins failed\n");
    let lines: Vec<&str> = output.stdout.lines().skip(1).collect();
    let begin = [
        format!("{down}: can't be reached: Connection refused"),
        format!("{good}: signed in as {ME} with OAUTHBEARER"),
        format!("{bad}: refused the token, sent with OAUTHBEARER: 535 no (status 401, scope mail)"),
    ];
    for (line, begin) in lines.iter().zip(begin) {
        assert!(line.starts_with(&begin), "{output:?}");
    }
}

#[test]
fn mail_programs_that_could_not_use_the_token_are_named() {
    let world = World::new();
    let server = MailServer::start(Manners::of(Protocol::Imap, world.at_once()).admit(ME, "at-1"));
    let program = world.daemon.path("bin/mbsync");
    fs::write(&program, "").unwrap();
    let signed_in = format!("SERVER: signed in as {ME} with OAUTHBEARER\n");
    assert_eq!(world.test("imaps", &server, &[]), (0, signed_in.clone()));
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let (status, told) = world.test("imaps", &server, &[]);
    assert_eq!(status, 0);
    let note = "note: mbsync needs a plugin of Cyrus SASL for XOAUTH2, and none was found";
    assert!(told.starts_with(&(signed_in.clone() + note)), "{told}");
    fs::write(world.daemon.path("sasl2/libkdexoauth2.so.3"), "").unwrap();
    assert_eq!(world.test("imaps", &server, &[]), (0, signed_in));
}

#[test]
fn without_a_token_or_a_server_nothing_is_tried() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    let output = daemon.run(&["test", "-u", "work", "imaps://127.0.0.1"]);
    assert_eq!(
        output.failed(77),
        "ERROR - Access token unavailable until authorised\n"
    );
    daemon.sign_in("work");
    let output = daemon.run(&["test", "work"]);
    assert_eq!(
        output.failed(64),
        "ERROR - the mail servers of this provider aren't known\nhint: name them, as in \
         imaps://mail.example.com and smtp://mail.example.com:587\n"
    );
    let output = daemon.run(&["test", "work", "https://mail.example"]);
    assert!(
        output
            .failed(64)
            .starts_with("ERROR - a URL names no mail server: its scheme is none of imaps, imap"),
        "{output:?}"
    );
    daemon.run(&["test", "play"]).failed(67);
}
