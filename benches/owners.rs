//! Fifty processes that want the same token at once, and a provider whose refresh tokens can be used
//! once: what becomes of the sign-in, by who owns the refresh token.

use std::{
    collections::HashMap,
    env,
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};

use crate::{
    report::{Report, millis, percentile},
    world::World,
};

/// How many processes want each token.
const PROCESSES: usize = 50;

/// How many tokens expire, one after the other, each of an account of its own.
const EXPIRIES: usize = 100;

/// How long the provider takes, as providers do.
const DELAY: Duration = Duration::from_millis(20);

/// The variable that makes this program one of the fifty: the provider's port.
const PORT: &str = "PIZAUTH_BENCH_OWNER";

/// What the provider has seen.
#[derive(Default)]
struct Seen {
    /// The number of the refresh token that counts, by account; none once it was used twice.
    current: HashMap<String, Option<usize>>,
    requests: usize,
    reuses: usize,
}

/// A token endpoint that gives a new refresh token each time, and ends a sign-in whose old one comes
/// again (RFC 9700, 4.14.2).
struct Provider {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Provider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let theirs = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, seen) = (stream.unwrap(), theirs.clone());
                thread::spawn(move || answer(stream, &seen));
            }
        });
        Provider { port, seen }
    }
}

/// One request and its reply.
fn answer(mut stream: TcpStream, seen: &Mutex<Seen>) -> Option<()> {
    let form = body(&mut stream)?;
    let token = form
        .split('&')
        .find_map(|pair| pair.strip_prefix("refresh_token="))?;
    let (account, number) = token.split_once('.')?;
    let number: usize = number.split('.').next()?.parse().ok()?;
    let next = {
        let mut seen = seen.lock().unwrap();
        seen.requests += 1;
        let current = seen.current.entry(account.to_owned()).or_insert(Some(0));
        let next = current.filter(|it| *it == number).map(|it| it + 1);
        *current = next;
        seen.reuses += usize::from(next.is_none());
        next
    };
    // why: the delay is the provider's.
    thread::sleep(DELAY);
    let (status, json) = match next {
        Some(next) => (
            "200 OK",
            format!(
                r#"{{"access_token":"token-{next}","token_type":"Bearer","expires_in":3600,"refresh_token":"{account}.{next}."}}"#
            ),
        ),
        None => ("400 Bad Request", r#"{"error":"invalid_grant"}"#.to_owned()),
    };
    let length = json.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all((head + &json).as_bytes()).ok()
}

/// The body of a message, as long as its head says.
fn body(stream: &mut TcpStream) -> Option<String> {
    let (mut input, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&input);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))?;
            if body.len() >= length.trim().parse().ok()? {
                return Some(body.to_owned());
            }
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => input.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
}

/// One of the fifty, where each looks after a file of tokens by itself: whether it has got a token.
/// The file is what many a script keeps: the refresh token, and the access token once there is one.
fn ask_alone(file: &Path, port: u16, locked: bool) -> Option<()> {
    let wanted = if locked {
        FlockArg::LockExclusive
    } else {
        FlockArg::LockShared
    };
    let _lock = Flock::lock(File::open(file.parent()?).ok()?, wanted).ok()?;
    let kept = fs::read_to_string(file).ok()?;
    let (refresh_token, access_token) = kept.split_once('\n')?;
    if !access_token.is_empty() {
        return Some(());
    }
    let form = format!("grant_type=refresh_token&refresh_token={refresh_token}");
    let length = form.len();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(
        stream,
        "POST /token HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{form}"
    )
    .ok()?;
    let reply: serde_json::Value = serde_json::from_str(&body(&mut stream)?).ok()?;
    let member = |name: &str| reply[name].as_str();
    let new = format!("{}\n{}", member("refresh_token")?, member("access_token")?);
    let beside = file.with_extension(std::process::id().to_string());
    fs::write(&beside, new).ok()?;
    fs::rename(beside, file).ok()
}

/// Where this program was started as one of the fifty, it is that and ends.
pub fn be_one() {
    let Ok(port) = env::var(PORT) else { return };
    let words: Vec<String> = env::args().skip(1).collect();
    let [file, way] = words.as_slice() else {
        return;
    };
    let done = ask_alone(Path::new(file), port.parse().unwrap(), way == "locked");
    std::process::exit(if done.is_some() { 0 } else { 1 });
}

/// A way of owning: gets an account's token ready to expire, and is then one of the fifty.
struct Way<'a> {
    name: &'a str,
    prepare: Box<dyn Fn(usize) + 'a>,
    ask: Box<dyn Fn(usize) -> Command + 'a>,
}

fn measure(report: &mut Report, provider: &Provider, way: &Way) {
    let (mut waits, mut without) = (Vec::new(), 0);
    for number in 0..EXPIRIES {
        (way.prepare)(number);
        let started = Instant::now();
        let mut all: Vec<_> = (0..PROCESSES)
            .map(|_| {
                (way.ask)(number)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for one in &mut all {
            without += usize::from(!one.wait().unwrap().success());
        }
        waits.push(millis(started.elapsed()));
    }
    let seen = provider.seen.lock().unwrap();
    let lost = seen.current.values().filter(|it| it.is_none()).count();
    report.row(way.name, "token requests", seen.requests as f64, "");
    report.row(
        way.name,
        "of these with a spent refresh token",
        seen.reuses as f64,
        "",
    );
    report.row(way.name, "sign-ins lost", lost as f64, "");
    report.row(way.name, "processes without a token", without as f64, "");
    report.row(
        way.name,
        "ms till all have ended, median",
        percentile(&mut waits, 50.0),
        "",
    );
    report.row(
        way.name,
        "ms till all have ended, p99",
        percentile(&mut waits, 99.0),
        "",
    );
}

/// Three ways, each with a provider of its own.
pub fn owners(report: &mut Report) {
    report.section("50 processes at 100 expiries, refresh tokens that can be used once");
    for (name, word) in [
        ("each for itself", "free"),
        ("each under a lock of the file", "locked"),
    ] {
        let provider = Provider::start();
        let dir = tempfile::tempdir().unwrap();
        let file = |number: usize| -> PathBuf { dir.path().join(format!("a{number}")) };
        let way = Way {
            name,
            prepare: Box::new(|number| fs::write(file(number), format!("a{number}.0.\n")).unwrap()),
            ask: Box::new(|number| {
                let mut command = Command::new(env::current_exe().unwrap());
                command
                    .env(PORT, provider.port.to_string())
                    .arg(file(number))
                    .arg(word);
                command
            }),
        };
        measure(report, &provider, &way);
    }
    let provider = Provider::start();
    let world = World::of_provider(&format!("http://localhost:{}", provider.port), EXPIRIES);
    let way = Way {
        name: "pizauth",
        prepare: Box::new(|number| world.restore_expired(&format!("a{number}"))),
        ask: Box::new(|number| {
            world.command(
                world.binary(),
                &["show", "--wait", "30s", &format!("a{number}")],
            )
        }),
    };
    measure(report, &provider, &way);
}
