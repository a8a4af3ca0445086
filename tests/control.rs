//! The control socket under bad company: garbage, oversize, silence, haste and delay cost nobody
//! else anything; and a client that meets a bad server never takes half an answer for a whole one.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Uid;

use crate::support::PATIENCE;
use crate::support::command::{Output, Running};
use crate::support::daemon::Daemon;
use crate::support::provider::Provider;

/// What a `show` of the account `work` sends.
const SHOW: &[u8] = b"pizauth 1 show 18\n{\"account\":\"work\"}";

/// How long `show` may take beside others that are silent or slow: far more than it needs on a
/// busy machine, less than the five seconds after which the server gives the others up.
const PROMPT_SECS: u64 = 4;

fn connect(daemon: &Daemon) -> UnixStream {
    let stream = UnixStream::connect(daemon.socket_path()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that the server says until it hangs up. A reset is a way of that too, when it didn't read
/// all that was sent.
fn answer(mut stream: UnixStream) -> String {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&said)),
    }
    String::from_utf8(said).unwrap()
}

fn refusal(why: &str) -> String {
    format!("pizauth 1 1 {}\n{why}", why.len())
}

/// Everything is as it was: the daemon answers, and at once.
#[track_caller]
fn assert_well(daemon: &Daemon) {
    let started = Instant::now();
    assert_eq!(daemon.token("work"), "at-1");
    let took = started.elapsed();
    assert!(took.as_secs() < PROMPT_SECS, "show took {took:?}");
}

fn signed_in(provider: &Provider) -> Daemon {
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    daemon
}

#[test]
fn what_is_no_request_is_refused_with_the_reason() {
    let provider = Provider::start();
    let daemon = signed_in(&provider);
    let foreign = "this is not pizauth's protocol";
    let version = "client and server speak different versions of the protocol";
    for (bytes, why) in [
        (&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], foreign),
        (b"\n", foreign),
        (b"\0\0\0\0\n", foreign),
        (b"\xff\xfe\n", foreign),
        (b"showtoken work\n", foreign),
        (b"pizauth 1 show\n", foreign),
        (b"pizauth 1 show -1\n", foreign),
        (b"pizauth 1 show 99999999999999999999999\n", foreign),
        (&[b'x'; 128], foreign),
        (&[b'x'; 100_000], foreign),
        (b"pizauth 2 show 18\n{\"account\":\"work\"}", version),
        (b"pizauth 0 dump 0\n", version),
        (
            b"pizauth 1 frob 0\n",
            "unknown request: is the client newer than the server?",
        ),
        (
            b"pizauth 1 show 65537\n",
            "a request of 65537 bytes is too large",
        ),
        (
            b"pizauth 1 restore 67108865\n",
            "a request of 67108865 bytes is too large",
        ),
        (
            b"pizauth 1 show 2\n{}",
            "bad arguments of `show`: missing field `account` at line 1 column 2",
        ),
    ] {
        let mut stream = connect(&daemon);
        // It may hang up before it has read everything.
        let _ = stream.write_all(bytes);
        let shown = String::from_utf8_lossy(bytes.get(..40).unwrap_or(bytes)).into_owned();
        assert_eq!(answer(stream), refusal(why), "{shown:?}");
    }
    assert_well(&daemon);
}

#[test]
fn a_request_that_ends_too_early_is_refused() {
    let provider = Provider::start();
    let daemon = signed_in(&provider);
    for end in 0..SHOW.len() {
        let mut stream = connect(&daemon);
        stream.write_all(&SHOW[..end]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let said = answer(stream);
        let nothing_was_asked = end == 0 && said.is_empty();
        assert!(
            nothing_was_asked || said == refusal("the request is incomplete"),
            "{end}: {said:?}"
        );
    }
    assert_well(&daemon);
}

#[test]
fn a_request_in_single_bytes_is_a_request() {
    let provider = Provider::start();
    let daemon = signed_in(&provider);
    let mut stream = connect(&daemon);
    for byte in SHOW {
        stream.write_all(std::slice::from_ref(byte)).unwrap();
        // Another client in between, so that the bytes don't arrive as one.
        if byte == &b' ' {
            assert_well(&daemon);
        }
    }
    assert_eq!(answer(stream), "pizauth 1 0 4\nat-1");
    // What comes behind a request is nobody's.
    let mut stream = connect(&daemon);
    stream.write_all(&[SHOW, SHOW].concat()).unwrap();
    assert_eq!(answer(stream), "pizauth 1 0 4\nat-1");
}

// Covers: half-requests, H1
#[test]
fn silence_costs_nobody_anything_and_is_given_up() {
    let provider = Provider::start();
    let daemon = signed_in(&provider);
    let silent: Vec<UnixStream> = (0..100)
        .map(|number| {
            let mut stream = connect(&daemon);
            // Some begin a request and never end it.
            if number % 2 == 0 {
                stream.write_all(&SHOW[..20]).unwrap();
            }
            stream
        })
        .collect();
    for _ in 0..3 {
        assert_well(&daemon);
    }
    for stream in silent {
        assert_eq!(answer(stream), "");
    }
    assert_well(&daemon);
}

#[test]
fn many_that_connect_and_go_leave_nothing_behind() {
    let provider = Provider::start();
    let daemon = signed_in(&provider);
    for _ in 0..500 {
        drop(connect(&daemon));
    }
    // Those that ask and don't stay for the answer as well.
    for _ in 0..100 {
        connect(&daemon).write_all(SHOW).unwrap();
    }
    assert_well(&daemon);
    if cfg!(target_os = "linux") {
        let pid = daemon.holder();
        let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        crate::support::wait::until("the connections' end", || (open() < 50).then_some(()));
    }
}

// Covers: H1
#[test]
fn a_slow_reader_gets_all_and_holds_up_nobody() {
    let provider = Provider::start();
    // An answer larger than what a socket takes without a reader.
    let names: Vec<String> = (0..4000)
        .map(|number| format!("account-{number:04}"))
        .collect();
    let accounts: String = names.iter().map(|name| provider.account(name)).collect();
    let mut daemon = Daemon::new(&(provider.account("work") + &accounts));
    daemon.start_with(&[]);
    daemon.sign_in("work");
    let mut slow = connect(&daemon);
    slow.write_all(b"pizauth 1 status 0\n").unwrap();
    let mut first = [0; 1];
    slow.read_exact(&mut first).unwrap();
    // The answer is on its way, and more than the socket's buffer holds is still to come.
    assert_well(&daemon);
    let mut said = String::from_utf8(first.to_vec()).unwrap();
    said.push_str(&answer(slow));
    let (head, body) = said.split_once('\n').unwrap();
    assert_eq!(head, format!("pizauth 1 0 {}", body.len()));
    assert!(body.len() > 300_000, "{}", body.len());
    let status: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        status["accounts"].as_array().unwrap().len(),
        names.len() + 1
    );
    // One that never reads is given up.
    let mut never = connect(&daemon);
    never.write_all(b"pizauth 1 status 0\n").unwrap();
    assert_well(&daemon);
}

#[test]
fn a_hundred_clients_at_once_are_all_served() {
    let provider = Provider::start();
    let daemon = signed_in(&provider);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..100)
            .map(|_| {
                scope.spawn(|| {
                    let mut stream = connect(&daemon);
                    stream.write_all(SHOW).unwrap();
                    answer(stream)
                })
            })
            .collect();
        for client in clients {
            assert_eq!(client.join().unwrap(), "pizauth 1 0 4\nat-1");
        }
    });
}

// Covers: other-user
#[test]
fn another_users_process_is_not_heard() {
    if !Uid::effective().is_root() {
        // Nobody else can be acted as.
        return;
    }
    let provider = Provider::start();
    let daemon = signed_in(&provider);
    // Even when the directories don't keep it away.
    for path in ["", "run", "run/pizauth", "run/pizauth/pizauth.sock"] {
        fs::set_permissions(daemon.path(path), PermissionsExt::from_mode(0o777)).unwrap();
    }
    // Others could replace what is in it, which a client wouldn't bear.
    fs::set_permissions(daemon.path("run"), PermissionsExt::from_mode(0o1777)).unwrap();
    let mut command = std::process::Command::new("perl");
    let script = "use IO::Socket::UNIX; $SIG{PIPE} = 'IGNORE'; \
                  my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die \"no way: $!\\n\"; \
                  print $s \"pizauth 1 show 18\\n{\\\"account\\\":\\\"work\\\"}\"; $s->flush; \
                  print \"connected \", join '', <$s>";
    command.args(["-e", script]).arg(daemon.socket_path());
    std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Without perl there is nobody to act it.
    if let Ok(child) = command.spawn() {
        let output = Running::of(child).finish();
        assert_eq!(output.stdout, "connected ", "{output:?}");
        let refused = "WARN - refused a client of uid 65534 on the control socket";
        daemon.log().wait_line(refused);
    }
    fs::set_permissions(daemon.path("run/pizauth"), PermissionsExt::from_mode(0o700)).unwrap();
    assert_well(&daemon);
}

/// What `show` makes of a server that answers `reply` and hangs up.
fn shown(reply: &[u8]) -> Output {
    answered(&["show", "work"], &[(SHOW, reply)])
}

/// What the client makes of a server that answers just these requests so, and hangs up each time.
fn answered(args: &[&str], answers: &[(&[u8], &[u8])]) -> Output {
    let daemon = Daemon::new("");
    fs::create_dir(daemon.path("run/pizauth")).unwrap();
    fs::set_permissions(daemon.path("run/pizauth"), PermissionsExt::from_mode(0o700)).unwrap();
    let listener = UnixListener::bind(daemon.socket_path()).unwrap();
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            for (request, reply) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut said = vec![0; request.len()];
                stream.read_exact(&mut said).unwrap();
                assert_eq!(said, *request);
                // The client may have heard enough.
                let _ = stream.write_all(reply);
            }
        });
        let output = daemon.run(args);
        server.join().unwrap();
        output
    })
}

/// A watcher that loses the server hears that, wherever in an event it was.
#[test]
fn a_watcher_hears_that_the_server_has_gone() {
    let event = b"{\"event\":\"watching\"}";
    let event = [format!("pizauth 1 0 {}\n", event.len()).as_bytes(), event].concat();
    for end in 0..=event.len() {
        let news = [&event[..], &event[..end]].concat();
        let info = (&b"pizauth 1 info 0\n"[..], &b"pizauth 1 0 2\n{}"[..]);
        let output = answered(&["watch", "-j"], &[info, (b"pizauth 1 watch 0\n", &news)]);
        assert_eq!(output.status, 69, "{end}: {output:?}");
        let gone = "ERROR - trouble with the server: it has gone\n";
        assert_eq!(output.stderr, gone, "{end}");
    }
}

#[test]
fn a_client_gives_up_on_a_server_that_says_nothing() {
    let daemon = Daemon::new("");
    fs::create_dir(daemon.path("run/pizauth")).unwrap();
    fs::set_permissions(daemon.path("run/pizauth"), PermissionsExt::from_mode(0o700)).unwrap();
    let _listener = UnixListener::bind(daemon.socket_path()).unwrap();
    // A server of ours, that is.
    let lock = fs::File::create(daemon.path("run/pizauth/pizauth.lock")).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    let clients = [&["show", "work"][..], &["status"]].map(|args| daemon.spawn(args));
    for client in clients {
        assert_eq!(
            client.finish().failed(75),
            "ERROR - the server doesn't answer\nhint: is it stopped, or the machine overloaded?\n"
        );
    }
}

// Covers: H2, I7
#[test]
fn a_client_takes_no_part_of_an_answer_for_the_whole() {
    let whole = b"pizauth 1 0 5\ntoken";
    assert_eq!(shown(whole).ok(), "token\n");
    for end in 0..whole.len() {
        let output = shown(&whole[..end]);
        if whole[..end].contains(&b'\n') {
            let stderr = "ERROR - trouble with the server: its answer is incomplete\n";
            assert_eq!(output.failed(69), stderr, "{end}");
        } else {
            // It was killed before it had answered, and asked again.
            let said = output.failed(69);
            let whys = [
                "pizauth is not running",
                "it hung up before it had answered",
            ];
            assert!(whys.iter().any(|why| said.contains(why)), "{end}: {said}");
        }
    }
}

#[test]
fn a_client_says_what_is_wrong_with_an_answer() {
    for (reply, status, what) in [
        (
            &b"pizauth 1 0 5\ntoken and more"[..],
            69,
            "trouble with the server: its answer is incomplete",
        ),
        (
            b"HTTP/1.1 200 OK\r\n\r\ntoken",
            69,
            "trouble with the server: this is not pizauth's protocol",
        ),
        (
            b"pizauth 2 0 5\ntoken",
            69,
            "trouble with the server: client and server speak different versions of the protocol",
        ),
        (b"pizauth 1 77 9\nsign in !", 77, "sign in !"),
        (b"pizauth 1 75 3\nnow", 75, "now"),
        // A code that this client doesn't know is still no success.
        (b"pizauth 1 99 3\nodd", 1, "odd"),
        (b"pizauth 1 what 3\nodd", 1, "odd"),
    ] {
        let stderr = format!("ERROR - {what}\n");
        assert_eq!(shown(reply).failed(status), stderr);
    }
}
