//! A proxy between a program and a mail server, beside stunnel(8) in the same place and a program that
//! speaks TLS itself: how fast a long answer comes and at what cost, what `show` waits for meanwhile, how
//! long a sign-in takes, and what a thousand idle sessions keep.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::ring::default_provider, pki_types::PrivateKeyDer,
};

use crate::{
    report::{Report, median, millis, percentile},
    world::{World, field},
};

/// How long the answer is, in bytes.
const LONG: usize = 1 << 30;

/// How often each way has its turn.
const TURNS: usize = 3;

/// How many sign-ins are measured.
const SIGN_INS: usize = 50;

/// How many sessions are idle.
const IDLE: usize = 1000;

const PASSWORD: &str = "a-password";

/// An IMAP server that takes any token, and knows one command more: `GET`, with a number of bytes.
fn serve(config: Arc<ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, config) = (stream.unwrap(), config.clone());
            // A thousand of them.
            let thread = thread::Builder::new().stack_size(128 << 10);
            let _ = thread.spawn(move || {
                stream.set_nodelay(true).unwrap();
                let tls = ServerConnection::new(config).unwrap();
                talk(BufReader::new(StreamOwned::new(tls, stream)))
            });
        }
    });
    port
}

fn talk(mut stream: BufReader<StreamOwned<ServerConnection, TcpStream>>) -> Option<()> {
    const ABLE: &str = "CAPABILITY IMAP4rev1 SASL-IR AUTH=OAUTHBEARER";
    let piece = vec![b'x'; 64 << 10];
    write!(stream.get_mut(), "* OK [{ABLE}] ready\r\n").ok()?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let out = stream.get_mut();
        match words[..] {
            [tag, "CAPABILITY"] => write!(out, "* {ABLE}\r\n{tag} OK done\r\n").ok()?,
            [tag, "AUTHENTICATE", _] => {
                write!(out, "+ \r\n").ok()?;
                stream.read_line(&mut String::new()).ok()?;
                write!(stream.get_mut(), "{tag} OK [CAPABILITY IMAP4rev1] in\r\n").ok()?;
            }
            [tag, "AUTHENTICATE", _, _] => {
                write!(out, "{tag} OK [CAPABILITY IMAP4rev1] in\r\n").ok()?
            }
            [_, "GET", count] => {
                let mut left: usize = count.parse().ok()?;
                while left > 0 {
                    let now = left.min(piece.len());
                    out.write_all(&piece[..now]).ok()?;
                    left -= now;
                }
                out.flush().ok()?;
            }
            _ => write!(out, "* BAD\r\n").ok()?,
        }
    }
}

/// Reads so many bytes.
fn swallow(stream: &mut impl Read, mut left: usize) {
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        let want = left.min(buffer.len());
        let count = stream.read(&mut buffer[..want]).unwrap();
        assert!(count > 0, "it ended early");
        left -= count;
    }
}

/// A line that begins so.
fn expect(stream: &mut impl Read, begin: &str) {
    loop {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while byte[0] != b'\n' {
            assert!(stream.read(&mut byte).unwrap() > 0, "no {begin:?}");
            line.push(byte[0]);
        }
        if line.starts_with(begin.as_bytes()) {
            return;
        }
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A program that is signed in at the proxy.
fn enter(port: u16) -> TcpStream {
    let mut stream = connect(port);
    expect(&mut stream, "* OK");
    write!(stream, "a LOGIN me {PASSWORD}\r\n").unwrap();
    expect(&mut stream, "a OK");
    stream
}

/// A program that speaks TLS, and signs in with a token.
fn direct(config: &Arc<ClientConfig>, port: u16) -> StreamOwned<ClientConnection, TcpStream> {
    let name = "localhost".try_into().unwrap();
    let tls = ClientConnection::new(config.clone(), name).unwrap();
    let mut stream = StreamOwned::new(tls, connect(port));
    expect(&mut stream, "* OK");
    write!(stream, "a CAPABILITY\r\n").unwrap();
    expect(&mut stream, "a OK");
    write!(stream, "b AUTHENTICATE OAUTHBEARER eA==\r\n").unwrap();
    expect(&mut stream, "b OK");
    stream
}

/// CPU time of processes, in ms.
fn cpu(pids: &[u32]) -> f64 {
    let of = |pid: &u32| -> f64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let fields: Vec<f64> = fields.map(|it| it.parse().unwrap_or(0.0)).collect();
        // In hundredths of a second, as all Linux systems count.
        (fields[11] + fields[12]) * 10.0
    };
    pids.iter().map(of).sum()
}

fn proportional(pids: &[u32]) -> f64 {
    let of = |pid: &u32| field(&format!("/proc/{pid}/smaps_rollup"), "Pss:");
    pids.iter().map(of).sum()
}

/// stunnel(8) from a port to another one; none where it isn't installed.
fn stunnel(dir: &Path, to: u16) -> Option<(Child, u16)> {
    let port = free_port();
    let config = format!(
        "foreground = yes\npid =\ndebug = 0\n[imap]\nclient = yes\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{to}\nTIMEOUTclose = 0\n"
    );
    let file = dir.join("stunnel.conf");
    fs::write(&file, config).unwrap();
    let mut command = Command::new("stunnel");
    command
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn().ok()?;
    let give_up = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() && Instant::now() < give_up {
        // why: another process has nothing to wake us with.
        thread::sleep(Duration::from_millis(20));
    }
    Some((child, port))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Megabytes a second of a long answer.
fn speed(mut stream: impl Read + Write) -> f64 {
    let begun = Instant::now();
    write!(stream, "g GET {LONG}\r\n").unwrap();
    swallow(&mut stream, LONG);
    LONG as f64 / 1e6 / begun.elapsed().as_secs_f64()
}

/// All three ways to the same mail server.
struct Ways {
    world: World,
    ours: Vec<u32>,
    /// The proxy's port, and the mail server's.
    port: u16,
    mail: u16,
    client: Arc<ClientConfig>,
    stunnel: Option<(Child, u16)>,
    _dir: tempfile::TempDir,
}

impl Ways {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone());
        let server = server.with_safe_default_protocol_versions().unwrap();
        let server = server.with_no_client_auth();
        let server = server.with_single_cert(vec![certificate.clone()], key);
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider);
        let client = client.with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let (mail, port) = (serve(Arc::new(server.unwrap())), free_port());
        let dir = tempfile::tempdir().unwrap();
        let pem = dir.path().join("ca.pem");
        fs::write(&pem, made.cert.pem()).unwrap();
        let block = format!(
            "proxy \"127.0.0.1:{port}\" {{ account = \"a0\"; \
             server = \"imaps://localhost:{mail}\"; password_cmd = \"echo {PASSWORD}\"; }}\n"
        );
        let world = World::with(&block, pem);
        world.restore(3600);
        Ways {
            ours: world.processes(),
            world,
            port,
            mail,
            client: Arc::new(client),
            stunnel: stunnel(dir.path(), mail),
            _dir: dir,
        }
    }

    fn direct(&self) -> StreamOwned<ClientConnection, TcpStream> {
        direct(&self.client, self.mail)
    }

    /// A long answer, by each way in turns.
    fn speeds(&self, report: &mut Report) {
        let (mut by_us, mut by_stunnel, mut by_itself) = (vec![], vec![], vec![]);
        let (mut our_cpu, mut their_cpu) = (vec![], vec![]);
        for _ in 0..TURNS {
            let before = cpu(&self.ours);
            by_us.push(speed(enter(self.port)));
            our_cpu.push(cpu(&self.ours) - before);
            if let Some((child, port)) = &self.stunnel {
                let before = cpu(&[child.id()]);
                by_stunnel.push(speed(between(*port)));
                their_cpu.push(cpu(&[child.id()]) - before);
            }
            by_itself.push(speed(self.direct()));
        }
        let itself = format!("direct {:.0}", median(&mut by_itself));
        let (stunnel, their_cpu) = match self.stunnel {
            Some(_) => (median(&mut by_stunnel), median(&mut their_cpu)),
            None => (f64::NAN, f64::NAN),
        };
        let beside = format!("stunnel {stunnel:.0}, {itself}");
        report.row("1 GiB fetched", "MB/s", median(&mut by_us), &beside);
        let beside = format!("stunnel {their_cpu:.0}");
        report.row("its CPU", "ms", median(&mut our_cpu), &beside);
    }

    /// The slowest of a hundred requests at the control socket, while `copy` copies.
    fn slowest_show(&self, copy: impl FnOnce() + Send) -> f64 {
        let mut times = Vec::new();
        thread::scope(|scope| {
            let copying = scope.spawn(copy);
            while !copying.is_finished() {
                let begun = Instant::now();
                self.world.ask("show", r#"{"account":"a0"}"#);
                times.push(millis(begun.elapsed()));
                // why: those who ask without a pause wait for each other, not for the proxy.
                thread::sleep(Duration::from_millis(1));
            }
        });
        percentile(&mut times, 99.0)
    }

    fn shows(&self, report: &mut Report) {
        // why: there is nothing to wait for.
        let alone = self.slowest_show(|| thread::sleep(Duration::from_secs(2)));
        let (proxy, direct) = (enter(self.port), self.direct());
        let by_itself = self.slowest_show(|| {
            speed(direct);
        });
        let by_us = self.slowest_show(|| {
            speed(proxy);
        });
        let beside = format!("alone {alone:.2}, while it is fetched directly {by_itself:.2}");
        report.row("show meanwhile, the slowest of 100", "ms", by_us, &beside);
    }

    /// The proxies' process, and its half that has the user's rights.
    fn at_rest(&self, report: &mut Report) {
        let children = |pid: &u32| {
            let file = format!("/proc/{pid}/task/{pid}/children");
            let all = fs::read_to_string(file).unwrap_or_default();
            all.split_whitespace()
                .map(|it| it.parse().unwrap())
                .collect()
        };
        let of = |pid: &u32| -> Vec<u32> { [vec![*pid], children(pid)].concat() };
        // The first one is the monitor; of its children only the proxies' has one.
        let halves = self.ours[1..].iter().map(of).find(|it| it.len() == 2);
        let both = halves.map_or(f64::NAN, |halves| proportional(&halves));
        report.row("its two processes at rest (PSS)", "kB", both, "");
    }

    fn sign_ins(&self, report: &mut Report) {
        let time = |enter: &dyn Fn()| {
            let mut times: Vec<f64> = (0..SIGN_INS)
                .map(|_| {
                    let begun = Instant::now();
                    enter();
                    millis(begun.elapsed())
                })
                .collect();
            median(&mut times)
        };
        let beside = format!("direct {:.2}", time(&|| drop(self.direct())));
        let ours = time(&|| drop(enter(self.port)));
        report.row("sign-in", "ms", ours, &beside);
    }

    fn idle(&self, report: &mut Report) {
        let before = proportional(&self.ours);
        let sessions: Vec<_> = (0..IDLE).map(|_| enter(self.port)).collect();
        let kept = (proportional(&self.ours) - before) / IDLE as f64;
        let beside = self.stunnel.as_ref().map(|(child, port)| {
            let before = proportional(&[child.id()]);
            let sessions: Vec<_> = (0..IDLE).map(|_| between(*port)).collect();
            let kept = (proportional(&[child.id()]) - before) / sessions.len() as f64;
            format!("stunnel {kept:.0}")
        });
        let beside = beside.unwrap_or_default();
        report.row("an idle session of 1,000 (PSS)", "kB", kept, &beside);
        let threads = self.world.memory().threads;
        report.row("threads of all processes meanwhile", "", threads, "");
        let before = switches(&self.ours);
        thread::sleep(Duration::from_secs(10));
        let woken = switches(&self.ours) - before;
        report.row("wake-ups in 10 s", "", woken, "");
        drop(sessions);
    }
}

impl Drop for Ways {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.stunnel {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// stunnel's client, which the server greets.
fn between(port: u16) -> TcpStream {
    let mut stream = connect(port);
    expect(&mut stream, "* OK");
    stream
}

/// How often all threads of these have slept.
fn switches(pids: &[u32]) -> f64 {
    let tasks = pids
        .iter()
        .map(|pid| fs::read_dir(format!("/proc/{pid}/task")));
    let tasks = tasks.flatten().flatten().flatten();
    tasks
        .map(|task| {
            let file = format!("{}/status", task.path().display());
            field(&file, "voluntary_ctxt_switches:")
        })
        .sum()
}

pub fn proxy(report: &mut Report) {
    report.section("a proxy, between a program and a mail server with TLS on this machine");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    let ways = Ways::new();
    ways.at_rest(report);
    ways.speeds(report);
    ways.shows(report);
    ways.sign_ins(report);
    ways.idle(report);
}
