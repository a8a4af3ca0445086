//! What a client may take before anything is known of it: a restricted socket's clients never take
//! the user's own place, descriptors or memory, and hear no more than they are meant to.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use url::{Position, Url};

use crate::faults::starved;
use crate::support::PATIENCE;
use crate::support::browser;
use crate::support::daemon::Daemon;
use crate::support::provider::{Provider, Scripted};
use crate::support::wait;

/// How many clients want to wait where there are descriptors for 256: far more than fit.
const CROWD: usize = 300;

/// Every verb that there is.
const VERBS: [&str; 16] = [
    "auth", "await", "dump", "import", "info", "redirect", "refresh", "reload", "restart",
    "restore", "revoke", "save", "show", "shutdown", "status", "watch",
];

/// What restricted sockets may allow.
const ALLOWED: [&str; 3] = ["refresh", "show", "status"];

/// Says something, and nothing else.
fn say(socket: &Path, words: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // One that is sent away at once may not take it.
    let _ = stream.write_all(words.as_bytes());
    stream
}

/// A reply: its exit code and the body.
fn reply(mut stream: UnixStream) -> (u8, String) {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => {}
    }
    let said = String::from_utf8(said).unwrap();
    let (head, body) = said.split_once('\n').expect("a reply");
    let code = head.split(' ').nth(2).unwrap().parse().unwrap();
    (code, body.to_owned())
}

fn request(verb: &str, body: &str) -> String {
    format!("pizauth 1 {verb} {}\n{body}", body.len())
}

fn door(rules: &str) -> String {
    format!("socket \"~/door\" {{ accounts = [\"work\"]; {rules} }}\n")
}

/// One daemon with few descriptors, an account with tokens and one without, and a restricted socket
/// for the latter.
fn world(limits: &str, directory: &Path) -> (Provider, Daemon) {
    let provider = Provider::start();
    let accounts = provider.account("home") + &provider.account("work");
    let mut daemon = starved(directory, limits, &(accounts + &door("")));
    daemon.start();
    daemon.sign_in("home");
    (provider, daemon)
}

#[test]
fn waiting_on_a_restricted_socket_takes_no_place_of_the_users_own() {
    let directory = tempfile::tempdir().unwrap();
    let (provider, daemon) = world("ulimit -n 256", directory.path());
    let wait = request("show", "{\"account\":\"work\",\"wait_secs\":4000000000}");
    let mut waiting: Vec<_> = (0..CROWD)
        .map(|_| say(&daemon.path("home/door"), &wait))
        .collect();
    let silent: Vec<_> = (0..CROWD)
        .map(|_| say(&daemon.path("home/door"), "pizauth 1 show 18\n"))
        .collect();
    // The one that has waited longest is sent away with the reason.
    let (code, why) = reply(waiting.remove(0));
    assert_eq!(code, 75);
    let longest = "too many clients are waiting, and this one has waited longest";
    assert_eq!(why, longest);
    daemon.token("home");
    daemon.run(&["status"]).ok();
    let asked = provider.requests("/token").len();
    daemon.run(&["refresh", "home"]).ok();
    provider.wait_for("/token", asked + 1);
    // The user's own wait is as long as it was meant to be.
    let own = daemon.spawn(&["show", "-w", "1m", "work"]);
    daemon.sign_in("work");
    assert_eq!(own.finish().ok().lines().count(), 1);
    // So is that of the last who came: whoever was sent away was there before all who stayed.
    let codes: Vec<u8> = waiting.into_iter().map(|it| reply(it).0).collect();
    assert!(codes.is_sorted_by(|a, b| a >= b), "{codes:?}");
    assert_eq!((codes.first(), codes.last()), (Some(&75), Some(&0)));
    drop(silent);
}

#[test]
fn what_is_not_allowed_is_refused_by_its_first_line() {
    for number in 0..1 << ALLOWED.len() {
        let names = (0..ALLOWED.len()).filter(|it| number & (1 << it) != 0);
        let allow: Vec<&str> = names.map(|it| ALLOWED[it]).collect();
        if allow.is_empty() {
            continue;
        }
        let provider = Provider::start();
        let rules = door(&format!("allow = {allow:?};"));
        let mut daemon = Daemon::new(&(provider.account("work") + &rules));
        daemon.start();
        for verb in VERBS {
            let mut stream = say(
                &daemon.path("home/door"),
                &format!("pizauth 1 {verb} 4096\n"),
            );
            if allow.contains(&verb) {
                // It is waited for.
                stream.set_nonblocking(true).unwrap();
                let heard = stream.read(&mut [0]).map_err(|error| error.kind());
                assert_eq!(heard, Err(ErrorKind::WouldBlock), "{verb}");
                continue;
            }
            let why = match ALLOWED.contains(&verb) {
                true => format!("this socket doesn't allow `{verb}`"),
                false => "this socket doesn't allow that".into(),
            };
            assert_eq!(reply(stream), (1, why), "{verb}");
        }
        let large = say(
            &daemon.path("home/door"),
            &format!("pizauth 1 {} 4097\n", allow[0]),
        );
        let why = "a request of 4097 bytes is too large".into();
        assert_eq!(reply(large), (1, why));
    }
}

/// What is announced costs nothing before it comes: neither memory nor time.
#[test]
fn a_length_that_is_announced_takes_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let (_provider, daemon) = world("ulimit -v 65536", directory.path());
    let head = "pizauth 1 restore 67108864\npizauth ";
    let door = daemon.path("home/door");
    let claims: Vec<_> = (0..200)
        .flat_map(|_| [say(&daemon.socket_path(), head), say(&door, head)])
        .collect();
    daemon.token("home");
    drop(claims);
    daemon.run(&["status"]).ok();
    daemon.token("home");
}

/// Each field that signs somebody in, by each verb, on a socket for each choice of what it may allow.
#[test]
fn a_restricted_socket_tells_nobody_how_to_sign_in() {
    let provider = Provider::start();
    let page = provider.url("/activate");
    let answer = serde_json::json!({
        "device_code": "dc-1", "user_code": "USER-1", "verification_uri": page,
        "verification_uri_complete": format!("{page}?c=USER-1"), "expires_in": 600,
        "interval": 600,
    });
    provider.script("/device", Scripted::json(200, &answer));
    let options = format!("device_auth_uri = \"{}\";", provider.url("/device"));
    let choices: Vec<Vec<&str>> = (1..1 << ALLOWED.len())
        .map(|choice| {
            let names = (0..ALLOWED.len()).filter(|it| choice & (1 << it) != 0);
            names.map(|it| ALLOWED[it]).collect()
        })
        .collect();
    let socket = |allow: &Vec<&str>| format!("home/{}", allow.concat());
    let doors = choices.iter().map(|allow| {
        let (name, rules) = (allow.concat(), "accounts = [\"work\"]");
        format!("socket \"~/{name}\" {{ {rules}; allow = {allow:?}; }}\n")
    });
    let doors: String = doors.collect();
    let mut daemon = Daemon::new(&(provider.account_with("work", &options) + &doors));
    daemon.start();
    let shown = wait::until("the code", || {
        let said = daemon.run(&["show", "work"]).stderr;
        said.contains("USER-1").then_some(said)
    });
    let url = shown
        .split("with URL ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    let (_, state) = url.split_once("state=").unwrap();
    let state = state.split('&').next().unwrap();
    let device = provider.url("/device");
    let secrets = [
        "USER-1",
        "dc-1",
        &page,
        &provider.auth_uri(),
        state,
        &device,
    ];
    let own = reply(say(&daemon.socket_path(), "pizauth 1 status 0\n")).1;
    assert!(own.contains("USER-1") && own.contains(&page), "{own}");
    let account = "{\"account\":\"work\"}";
    let more = [
        ("show", "{\"account\":\"work\",\"no_url\":false}"),
        ("show", "{\"account\":\"work\",\"wait_secs\":1}"),
        (
            "show",
            "{\"account\":\"work\",\"min_valid_secs\":60,\"wait_secs\":1}",
        ),
        ("refresh", "{\"account\":\"work\",\"no_url\":false}"),
        ("refresh", "{\"account\":\"work\",\"wait_secs\":1}"),
    ];
    let plain = VERBS.map(|verb| match verb {
        "auth" | "await" | "refresh" | "revoke" | "show" => (verb, account),
        _ => (verb, ""),
    });
    for allow in &choices {
        for (verb, body) in plain.into_iter().chain(more) {
            let (code, said) = reply(say(&daemon.path(&socket(allow)), &request(verb, body)));
            let expected = match verb {
                _ if !allow.contains(&verb) => 1,
                "status" => 0,
                _ => 77,
            };
            assert_eq!(code, expected, "{allow:?} {verb} {said}");
            for secret in secrets {
                assert!(!said.contains(secret), "{allow:?} {verb}: {said}");
            }
            // The rest of it is there.
            let pending = said.contains("\"sign_in\":\"pending\"");
            assert_eq!(pending, code == 0, "{allow:?} {verb}: {said}");
        }
    }
}

/// Between a browser's connection and its request others come, and go on saying something.
#[test]
fn no_flood_drops_a_callback() {
    let provider = Provider::start();
    let names: Vec<String> = (0..30).map(|number| format!("work{number}")).collect();
    let accounts: Vec<_> = names.iter().map(|name| provider.account(name)).collect();
    let mut daemon = Daemon::new(&accounts.concat());
    daemon.start();
    let mut flood: VecDeque<TcpStream> = VecDeque::new();
    for name in &names {
        let callback = browser::callback_of(&daemon.authorization_url(name));
        let callback = Url::parse(&callback).unwrap();
        let connect = || {
            let port = callback.port().unwrap();
            let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        };
        let get = |mut stream: TcpStream, target: &str| {
            let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            said
        };
        let browser = connect();
        flood.extend((0..80).map(|_| connect()));
        for stream in &mut flood {
            // Those that were dropped already can't.
            let _ = stream.write_all(b"G");
        }
        // All of that has been seen when this is answered, and then come a few more.
        get(connect(), "/nothing");
        flood.extend((0..4).map(|_| connect()));
        get(connect(), "/nothing");
        flood.drain(..flood.len() - 80);
        let said = get(browser, &callback[Position::BeforePath..]);
        assert!(said.starts_with("HTTP/1.1 303 "), "{name}: {said}");
        daemon.token(name);
    }
}
