use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::*;
use crate::serve::{Remote, remote};

/// How long a test waits for what must happen before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The descriptors of an ordinary server.
const MANY: usize = 8192;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length";

/// A scripted endpoint with the paths `/` and `/cb`; its answer is in the parameters.
struct Script {
    calls: Sender<(ConnId, String)>,
    left: Sender<ConnId>,
}

impl CallbackHandler for Script {
    fn has_host(&self, _scheme: &str, host: &str) -> bool {
        host == "mail.example.org"
    }

    fn has_path(&self, _scheme: &str, path: &str) -> bool {
        path == "/" || path == "/cb"
    }

    fn callback(&mut self, id: ConnId, at: &Url, params: &str) -> Result<String, SignInPage> {
        let (scheme, host, path) = (at.scheme(), at.host_str().unwrap(), at.path());
        self.calls
            .send((id, format!("{scheme} {host} {path} {params}")))
            .unwrap();
        let account = "work".to_owned();
        match params.split('=').next_back().unwrap() {
            "stale" => Err(SignInPage::Stale),
            "wait" => Ok(account),
            "stuck" => Ok("stuck".into()),
            "failed" => Err(refused()),
            _ => Err(authorised()),
        }
    }

    fn awaited(&self, account: &str) -> (Option<String>, Option<String>) {
        let trouble = (account == "stuck").then(|| "no route to host".into());
        (Some("login.example".into()), trouble)
    }

    fn sign_in_at(&mut self, name: &str) -> Option<Result<Option<String>, SignInPage>> {
        (name == SHORT).then(|| Ok(Some("https://login.example/?long".into())))
    }

    fn sign_in_again(&mut self, account: &str) -> Option<String> {
        (account == "work").then(|| "https://login.example/?again".into())
    }

    fn left(&mut self, id: ConnId) {
        let _ = self.left.send(id);
    }
}

const SHORT: &str = "abcDEF-_0123456789abcd";

fn authorised() -> SignInPage {
    SignInPage::Authorised {
        account: "work".into(),
        remarks: Vec::new(),
    }
}

fn refused() -> SignInPage {
    SignInPage::Refused {
        account: "work".into(),
        reason: "denied".into(),
        hint: None,
    }
}

struct Server {
    http: u16,
    https: u16,
    has_v6: bool,
    identity: Arc<Identity>,
    remote: Remote,
    pages: Arc<Pages>,
    calls: Receiver<(ConnId, String)>,
    left: Receiver<ConnId>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Server {
    fn start() -> Self {
        Self::start_with(limits(MANY), WAIT_TIMEOUT)
    }

    fn start_with(limits: Limits, wait_timeout: Duration) -> Self {
        let identity = Arc::new(Identity::generate(&["mail.example.org"]).unwrap());
        let plain = Site {
            sockets: bind("127.0.0.1", 0, &mut Vec::new()).unwrap(),
            identity: None,
        };
        let secure = Site {
            sockets: bind("localhost", 0, &mut Vec::new()).unwrap(),
            identity: Some(identity.clone()),
        };
        let (http, https) = (plain.port().unwrap(), secure.port().unwrap());
        let has_v6 = plain.sockets.len() == 2;
        let (call_sender, calls) = mpsc::channel();
        let (left_sender, left) = mpsc::channel();
        let script = Script {
            calls: call_sender,
            left: left_sender,
        };
        let (remote, inbox) = remote().unwrap();
        let pages = Pages::new(name);
        let theirs = pages.clone();
        let sites = vec![plain, secure];
        let thread =
            std::thread::spawn(move || run(limits, wait_timeout, sites, script, theirs, inbox));
        Server {
            http,
            https,
            has_v6,
            identity,
            remote,
            pages,
            calls,
            left,
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        patient(TcpStream::connect((Ipv4Addr::LOCALHOST, self.http)).unwrap())
    }

    fn settle(&self, id: ConnId, outcome: &SignInPage) {
        self.remote.send(id, self.pages.promise(id, outcome), true);
    }

    /// The status code of the page that the browser ends on, and the endpoint's call, if there was
    /// one.
    fn ask(&self, request: &str) -> (String, Option<String>) {
        let reply = self.say(request);
        let call = self.calls.try_recv().ok().map(|(_, call)| call);
        (status(&self.follow(reply)), call)
    }

    /// The reply to a request over http.
    fn say(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        rest(stream)
    }

    /// The page that a reply sends the browser on to, if it does.
    fn follow(&self, reply: String) -> String {
        match location(&reply) {
            Some(path) => self.say(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")),
            None => reply,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.remote.stop();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn rest(mut stream: impl Read) -> String {
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

/// Names that nobody else has had.
fn name() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("name-{}", LAST.fetch_add(1, Ordering::Relaxed))
}

/// Where a reply sends the browser, by 303 and without anything of what it has brought.
fn location(reply: &str) -> Option<&str> {
    let (_, rest) = reply.split_once("\r\nLocation: ")?;
    assert_eq!(status(reply), "303");
    let path = rest.split("\r\n").next()?;
    assert!(
        path.starts_with("/pizauth/") && !path.contains('?'),
        "{path}"
    );
    Some(path)
}

fn status(reply: &str) -> String {
    reply.split(' ').nth(1).unwrap_or("none").to_owned()
}

#[test]
fn only_callbacks_reach_the_endpoint() {
    let server = Server::start();
    let port = server.http;
    let called =
        |host: &str, path: &str, params: &str| Some(format!("http {host} {path} {params}"));
    let ok = "code=c&state=ok";
    let long = "x".repeat(9_000);
    for (request, expected, call) in [
        (
            format!("GET /?{ok} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"),
            "200",
            called("localhost", "/", ok),
        ),
        (
            format!("GET /cb?{ok} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
            "200",
            called("127.0.0.1", "/cb", ok),
        ),
        (
            format!("GET /?{ok} HTTP/1.1\r\nHost: [::1]:{port}\r\n\r\n"),
            "200",
            called("[::1]", "/", ok),
        ),
        (
            format!("GET /?{ok} HTTP/1.1\r\nHost: Mail.Example.org\r\n\r\n"),
            "200",
            called("mail.example.org", "/", ok),
        ),
        (
            format!("GET http://localhost:{port}?{ok} HTTP/1.1\r\nHost: x\r\n\r\n"),
            "200",
            called("localhost", "/", ok),
        ),
        (
            format!("POST / HTTP/1.1\r\nHost: localhost\r\n{FORM}: 15\r\n\r\n{ok}"),
            "200",
            called("localhost", "/", ok),
        ),
        (
            "GET /?error=no HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            "200",
            called("localhost", "/", "error=no"),
        ),
        (
            "GET /?state=stale HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            "404",
            called("localhost", "/", "state=stale"),
        ),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            "200",
            None,
        ),
        (
            "GET /?statement=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            "200",
            None,
        ),
        (
            "GET /favicon.ico HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            "404",
            None,
        ),
        (
            format!("GET /other?{ok} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            "404",
            None,
        ),
        (
            format!("HEAD /?{ok} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            "200",
            None,
        ),
        (
            format!("HEAD /other?{ok} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            "404",
            None,
        ),
        (
            format!("OPTIONS /?{ok} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            "204",
            None,
        ),
        (
            format!("PUT /?{ok} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            "405",
            None,
        ),
        (
            format!("GET /?{ok} HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
            "421",
            None,
        ),
        (
            format!("GET /?{ok} HTTP/1.1\r\nHost: localhost:1\r\n\r\n"),
            "421",
            None,
        ),
        (
            format!("GET http://evil.example/?{ok} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            "421",
            None,
        ),
        (format!("GET /?{ok} HTTP/1.1\r\n\r\n"), "400", None),
        (
            format!("GET /?{ok}&x={long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            "414",
            None,
        ),
        (
            format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n{ok}"),
            "415",
            None,
        ),
        (
            format!("POST /?{ok} HTTP/1.1\r\nHost: localhost\r\n{FORM}: 0\r\n\r\n"),
            "200",
            None,
        ),
    ] {
        assert_eq!(
            server.ask(&request),
            (expected.to_owned(), call),
            "{request}"
        );
    }
}

// Covers: H10
#[test]
fn every_reply_is_guarded() {
    let server = Server::start();
    let get = |path: &str| server.say(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let (ok, stale) = (get("/?state=ok"), get("/?state=stale"));
    let pages = [&ok, &stale].map(|reply| get(location(reply).unwrap()));
    let [shown, told] = pages;
    let nothing = get("/nothing");
    assert!(!nothing.contains("ok"), "{nothing}");
    for reply in [ok, stale, shown, told, get("/"), get("/pizauth/x"), nothing] {
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        for field in [
            &format!("Content-Length: {}", body.len()),
            "Content-Type: text/html; charset=utf-8",
            "Cache-Control: no-store",
            "Referrer-Policy: no-referrer",
            "X-Content-Type-Options: nosniff",
            "Cross-Origin-Resource-Policy: same-origin",
            "Connection: close",
        ] {
            assert!(
                head.split("\r\n").any(|line| line == field),
                "{field} in {head}"
            );
        }
        let policy = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; \
            base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
        let found = head
            .split("\r\n")
            .find_map(|line| line.strip_prefix(policy));
        let script = found.unwrap_or_else(|| panic!("no policy in {head}"));
        // Nothing runs but the script that helps with a fragment.
        let idle = "; script-src 'sha256-o9lSw3QKS0p4afQtNOg7ncMDmSVBYksmeu/HuFLG9qY='";
        assert_eq!(script, if body.contains("<script") { idle } else { "" });
    }
    let reply = server.say("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(
        reply.ends_with("\r\n\r\n") && !reply.contains("Content-Length: 0"),
        "{reply}"
    );
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    let server = Server::start();
    let mut stream = server.connect();
    stream.set_nodelay(true).unwrap();
    for byte in b"GET /cb?code=c&state=ok HTTP/1.1\r\nHost: localhost\r\nCookie: a=b\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    assert!(server.follow(rest(stream)).contains("is authorised"));
    assert_eq!(
        server.calls.try_recv().unwrap().1,
        "http localhost /cb code=c&state=ok"
    );
}

#[test]
fn both_loopback_addresses_are_served() {
    let server = Server::start();
    if !server.has_v6 {
        return;
    }
    let mut stream = patient(TcpStream::connect((Ipv6Addr::LOCALHOST, server.http)).unwrap());
    write!(
        stream,
        "GET /?state=ok HTTP/1.1\r\nHost: [::1]:{}\r\n\r\n",
        server.http
    )
    .unwrap();
    assert!(server.follow(rest(stream)).contains("is authorised"));
}

/// The code doesn't stay in the address bar, and what a page tells it tells to one browser, for a
/// while: whoever has no address of one learns nothing.
#[test]
fn outcomes_are_shown_elsewhere() {
    let server = Server::start();
    let get = |path: &str| server.say(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let form = format!("POST /cb HTTP/1.1\r\nHost: localhost\r\n{FORM}: 15\r\n\r\ncode=c&state=ok");
    let replies = [get("/?code=c&state=ok"), server.say(&form)];
    let [first, second] = replies.each_ref().map(|reply| location(reply).unwrap());
    assert_ne!(first, second);
    for path in [first, second, first] {
        assert!(get(path).contains("is authorised"));
        let bare = server.say(&format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(
            (status(&bare).as_str(), bare.ends_with("\r\n\r\n")),
            ("200", true)
        );
        let evil = server.say(&format!(
            "GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n"
        ));
        assert_eq!(status(&evil), "421");
    }
    let stale = get("/?state=stale");
    assert_eq!(location(&stale), Some("/pizauth/stale"));
    assert!(get("/pizauth/stale").contains("no longer valid"));
    for path in ["/pizauth/", "/pizauth/name", &format!("{first}x")] {
        let reply = get(path);
        assert_eq!(status(&reply), "404");
        assert!(reply.contains("no longer there") && !reply.contains("work"));
        assert!(reply.contains("the sign-in goes on"), "{reply}");
    }
    // However many come with guesses, what is kept stays; and of real ones, the latest.
    for _ in 0..100 {
        get("/?state=stale");
    }
    assert_eq!(status(&get(first)), "200");
    for _ in 0..64 {
        get("/?code=c&state=ok");
    }
    assert_eq!(status(&get(first)), "404");
}

#[test]
fn half_open_connections_keep_no_callback_out() {
    // Both ends of each connection are in this process: what the server doesn't keep, the test does.
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(4_096)), hard).unwrap();
    let server = Server::start();
    let mut silent = Vec::new();
    for number in 0..1_100 {
        let mut stream = server.connect();
        if number % 2 == 0 {
            // One that was dropped already may refuse it.
            let _ = stream.write_all(b"GET /?state=");
        }
        silent.push(stream);
    }
    let ok = "GET /?state=ok HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(
        server.ask(ok),
        ("200".into(), Some("http localhost / state=ok".into()))
    );
}

// Covers: H10
#[test]
fn an_oversized_head_is_refused_and_cut() {
    let server = Server::start();
    let mut stream = server.connect();
    let cookies = format!("Cookie: {}\r\n", "y".repeat(1_000)).repeat(140);
    write!(stream, "GET / HTTP/1.1\r\nHost: localhost\r\n{cookies}").unwrap();
    assert_eq!(status(&rest(stream)), "431");
}

/// What other programs have set for `localhost`, and what a proxy adds.
// Covers: 92
#[test]
fn a_response_with_many_cookies_and_headers_is_taken() {
    let server = Server::start();
    let cookies = format!("Cookie: {}\r\n", "y".repeat(1_000)).repeat(66);
    let headers = "X-Trace: 1\r\n".repeat(300);
    let head = format!("GET /?state=ok HTTP/1.1\r\nHost: localhost\r\n{cookies}{headers}\r\n");
    let call = Some("http localhost / state=ok".into());
    assert_eq!(server.ask(&head), ("200".into(), call));
}

#[test]
fn waiting_browsers_get_the_outcome() {
    let server = Server::start();
    let mut stream = server.connect();
    stream
        .write_all(b"GET /?state=wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let (id, _) = server.calls.recv_timeout(PATIENCE).unwrap();
    server.settle(id, &refused());
    let reply = server.follow(rest(stream));
    assert_eq!(status(&reply), "403");
    assert!(reply.contains("denied"));
    assert_eq!(server.left.recv_timeout(PATIENCE), Ok(id));
}

#[test]
fn a_wait_that_is_too_long_or_too_crowded_ends_with_a_page() {
    let wait = "GET /?state=wait HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let hurried = Server::start_with(limits(MANY), Duration::from_millis(1));
    for (state, reason) in [("wait", false), ("stuck", true)] {
        let request = format!("GET /?state={state} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let sent_on = hurried.say(&request);
        let page = hurried.follow(sent_on.clone());
        assert_eq!(status(&page), "202");
        assert!(page.contains("Refresh: 2\r\n") && page.contains("login.example"));
        assert_eq!(page.contains("no route to host"), reason, "{page}");
        // The same page has the outcome, once there is one, and for good.
        let (id, _) = hurried.calls.recv_timeout(PATIENCE).unwrap();
        hurried.settle(id, &authorised());
        hurried.pages.promise(
            id,
            &SignInPage::Waiting {
                account: "work".into(),
            },
        );
        let page = hurried.follow(sent_on);
        assert!(page.contains("is authorised") && !page.contains("Refresh:"));
    }
    let share = Share {
        parked: 2,
        ..limits(MANY).first
    };
    let crowded = Server::start_with(
        Limits {
            first: share,
            others: share,
            ..limits(MANY)
        },
        WAIT_TIMEOUT,
    );
    let waiting = [(); 4].map(|()| {
        let mut stream = crowded.connect();
        stream.write_all(wait.as_bytes()).unwrap();
        (crowded.calls.recv_timeout(PATIENCE).unwrap().0, stream)
    });
    // The first make way for the others, and their sign-ins go on.
    let [(_, first), (_, second), third, fourth] = waiting;
    for stream in [first, second] {
        assert_eq!(status(&crowded.follow(rest(stream))), "202");
    }
    for (id, stream) in [third, fourth] {
        let outcome = SignInPage::Authorised {
            account: "work".into(),
            remarks: Vec::new(),
        };
        let reply = crowded.pages.reply(&outcome);
        crowded.remote.send(id, reply, true);
        assert_eq!(status(&crowded.follow(rest(stream))), "200");
    }
    let server = Server::start();
    let mut stream = server.connect();
    stream.write_all(wait.as_bytes()).unwrap();
    server.calls.recv_timeout(PATIENCE).unwrap();
    server.remote.stop();
    assert_eq!(status(&rest(stream)), "503");
}

#[test]
fn a_short_address_leads_on_and_tells_strangers_nothing() {
    let server = Server::start();
    for (target, code) in [
        (format!("/{SHORT}"), "302"),
        (format!("/{SHORT}?"), "302"),
        (format!("/{SHORT}x"), "404"),
        (format!("/{SHORT}/"), "404"),
        (format!("/{SHORT}?a=b"), "404"),
        (format!("/{}", SHORT.to_lowercase()), "404"),
        ("/abcDEF-_0123456789abcX".to_owned(), "404"),
    ] {
        for method in ["GET", "HEAD"] {
            let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let reply = server.say(&request);
            assert_eq!(status(&reply), code, "{request}");
            let location = reply.contains("Location: https://login.example/?long\r\n");
            assert_eq!(location, code == "302", "{reply}");
            assert!(reply.contains("Cache-Control: no-store\r\n"), "{reply}");
            assert!(
                reply.contains("Referrer-Policy: no-referrer\r\n"),
                "{reply}"
            );
        }
        let other = format!("GET {target} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        assert_eq!(status(&server.say(&other)), "421");
    }
    assert!(server.calls.try_recv().is_err());
}

/// The page of a failed sign-in, and its alone, can ask for another one, once.
#[test]
fn a_failed_sign_in_can_be_tried_again_from_its_own_page_alone() {
    let server = Server::start();
    let token = || {
        let page = server.say("GET /?state=failed HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let page = server.follow(page);
        assert_eq!(status(&page), "403");
        let (_, token) = page.split_once("name=\"token\" value=\"").expect("a form");
        token.split('"').next().unwrap().to_owned()
    };
    let ask = |fields: &str, body: &str| {
        let length = body.len();
        server.say(&format!(
            "POST /pizauth/again HTTP/1.1\r\nHost: localhost\r\n{fields}{FORM}: {length}\r\n\r\n{body}"
        ))
    };
    let leads_on = |reply: &str| reply.contains("Refresh: 0; url=https://login.example/?again\r\n");
    let first = token();
    for fields in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: none\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: http://localhost:1\r\n",
        "Origin: https://localhost\r\n",
    ] {
        let reply = ask(fields, &format!("token={first}"));
        assert!(!leads_on(&reply), "{fields}");
        assert!(reply.contains("Location: /pizauth/stale\r\n"), "{reply}");
    }
    for body in ["", "token=", "token=x", &format!("x={first}"), &first] {
        assert!(!leads_on(&ask("", body)), "{body}");
    }
    let get = format!("GET /pizauth/again?token={first} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(status(&server.say(&get)), "404");
    // None of these has used it up.
    assert!(leads_on(&ask("", &format!("token={first}"))));
    assert!(!leads_on(&ask("", &format!("token={first}"))));
    let own = "Origin: null\r\nSec-Fetch-Site: same-origin\r\n";
    assert!(leads_on(&ask(own, &format!("token={}", token()))));
    let named = "Origin: http://localhost\r\n";
    assert!(leads_on(&ask(named, &format!("token={}", token()))));
}

#[test]
fn tls_on_the_http_port_gets_an_alert_and_consumes_nothing() {
    let server = Server::start();
    let mut stream = server.connect();
    stream
        .write_all(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0])
        .unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    assert_eq!(reply, TLS_ALERT);
    assert!(server.calls.try_recv().is_err());
}

#[test]
fn http_on_the_https_port_is_told_to_use_https() {
    let server = Server::start();
    let mut stream = patient(TcpStream::connect((Ipv4Addr::LOCALHOST, server.https)).unwrap());
    stream
        .write_all(b"GET /?state=ok HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let reply = rest(stream);
    assert_eq!(status(&reply), "400");
    assert!(reply.contains("needs https"));
    assert!(server.calls.try_recv().is_err());
}

/// A client that trusts the server's certificate and nothing else.
fn secure(
    server: &Server,
    name: &str,
    version: &'static rustls::SupportedProtocolVersion,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(server.identity.der.0.clone()))
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.https)).unwrap();
    StreamOwned::new(client, patient(stream))
}

#[test]
fn https_serves_callbacks_and_says_goodbye() {
    let server = Server::start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for name in ["localhost", "127.0.0.1", "::1", "mail.example.org"] {
            let mut stream = secure(&server, name, version);
            stream
                .write_all(b"GET /?state=ok HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .unwrap();
            // Without close_notify this would be an error.
            let reply = server.follow(rest(&mut stream));
            assert!(reply.contains("is authorised"), "{name}");
            assert_eq!(
                server.calls.try_recv().unwrap().1,
                "https localhost / state=ok"
            );
        }
    }
}

#[test]
fn https_waits_too_and_takes_its_request_in_pieces() {
    let server = Server::start();
    let mut stream = secure(&server, "localhost", &rustls::version::TLS13);
    for piece in [
        "POST /cb HTTP/1.1\r\nHost: loc",
        "alhost\r\n",
        &format!("{FORM}: 15000\r\n\r\n"),
    ] {
        stream.write_all(piece.as_bytes()).unwrap();
        stream.flush().unwrap();
    }
    let body = format!("x={}&state=wait", "y".repeat(15_000 - 13));
    stream.write_all(body.as_bytes()).unwrap();
    let (id, call) = server.calls.recv_timeout(PATIENCE).unwrap();
    assert!(call.ends_with("yy&state=wait"));
    server.settle(id, &authorised());
    assert!(server.follow(rest(&mut stream)).contains("is authorised"));
}

#[test]
fn a_client_that_rejects_the_certificate_harms_nobody() {
    let server = Server::start();
    let mut stream = secure(&server, "other.example", &rustls::version::TLS13);
    assert!(stream.write_all(b"GET / HTTP/1.1\r\n\r\n").is_err());
    let mut stream = secure(&server, "localhost", &rustls::version::TLS13);
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    assert_eq!(status(&rest(&mut stream)), "200");
}
