//! What the server's processes read of each other: a peer that somebody else has taken over may
//! send anything.

use std::{
    io::Read,
    os::{fd::AsFd, unix::net::UnixStream},
    time::Duration,
};

use pizauth::{
    config,
    core::{Core, CoreState, Cx, Entropy, Ports, STATE_VERSION, ShowRequest},
    server::fuzzing::{
        HookOrder, Key, Line, MAX_BYTES, Next, OrderLine, VARIABLES, send, stored, take_over,
        would_run,
    },
    time::{Instant, Now, Wall},
};
use serde_json::Value;

/// A length and a number of descriptors, in the machine's byte order.
const HEADER: usize = 8;

/// How many descriptors one input sends: fewer than a process may have.
const MAX_SENT: usize = 300;

/// How long a descriptor may take to be closed everywhere: a test beside this one may just be forking.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// Whatever a peer writes, and whatever descriptors it sends along: a line gives out exactly the
/// messages that are whole, each with its own descriptors, up to the first thing that makes no sense;
/// and no descriptor stays open.
///
/// Each step is three bytes and what they count: how it is written, how many bytes, and how many
/// descriptors.
pub fn peer_line(data: &[u8]) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (mut witness, passed) = UnixStream::pair().unwrap();
    let mut line = Line::<(), Value>::new(ours);
    let mut peer = Peer {
        stream: theirs,
        passed,
        sent: Vec::new(),
        starts: Vec::new(),
    };
    let mut heard = Vec::new();
    let mut rest = data;
    while let [how, length, count, more @ ..] = rest {
        let (bytes, after) = more.split_at(more.len().min(usize::from(*length)));
        rest = after;
        peer.step(*how, bytes, usize::from(*count));
        if how & 8 != 0 {
            listen(&mut line, &mut heard);
        }
    }
    listen(&mut line, &mut heard);
    assert_eq!(heard, peer.expected());
    drop((line, peer));
    // It reads the end when nobody has the other side any more.
    witness.set_read_timeout(Some(CLOSED_WITHIN)).unwrap();
    assert_eq!(witness.read(&mut [0]).ok(), Some(0), "a descriptor stays");
}

/// Takes what is there: what each message says, and how many descriptors it brings.
fn listen(line: &mut Line<(), Value>, heard: &mut Vec<(Value, usize)>) {
    loop {
        match line.try_recv() {
            Ok(Next::Message(message)) => heard.push((message.body, message.fds.len())),
            Ok(Next::Nothing) => return,
            Ok(Next::Lost) => panic!("there is room for all descriptors"),
            Ok(Next::End) => panic!("the peer is still there"),
            Err(_) => {
                let again = line.try_recv();
                assert!(again.is_err(), "a broken line goes on");
                return;
            }
        }
    }
}

struct Peer {
    stream: UnixStream,
    passed: UnixStream,
    sent: Vec<u8>,
    /// Where descriptors went along, and how many.
    starts: Vec<(usize, usize)>,
}

impl Peer {
    fn step(&mut self, how: u8, bytes: &[u8], count: usize) {
        let header = |count: usize| {
            let number = |number: usize| u32::try_from(number).unwrap().to_ne_bytes();
            [number(bytes.len()), number(count)].concat()
        };
        let whole = [header(count), bytes.to_vec()].concat();
        match how % 6 {
            0 => self.write(bytes, count),
            1 => self.write(&whole, count),
            2 => self.write(&whole, count.saturating_add(1)),
            3 => self.write(&whole, 0),
            // The descriptors come later than their message begins.
            4 => {
                self.write(&header(count), 0);
                self.write(bytes, count);
            }
            _ => {
                for byte in &whole {
                    self.write(&[*byte], 0);
                }
            }
        }
    }

    fn write(&mut self, bytes: &[u8], count: usize) {
        let before: usize = self.starts.iter().map(|(_, count)| count).sum();
        let count = count.min(MAX_SENT.saturating_sub(before)).min(200);
        if bytes.is_empty() {
            return;
        }
        let fds = vec![self.passed.as_fd(); count];
        let sent = send(&self.stream, bytes, &fds);
        if let Ok(length) = sent {
            self.starts.push((self.sent.len(), count));
            self.sent.extend(bytes.iter().take(length));
        }
    }

    /// What a line is to make of all that was sent.
    fn expected(&self) -> Vec<(Value, usize)> {
        let mut found = Vec::new();
        let mut at = 0_usize;
        while let Some((length, rest)) = self.sent[at..].split_first_chunk::<4>() {
            let Some((count, rest)) = rest.split_first_chunk::<4>() else {
                break;
            };
            let [length, count] = [length, count].map(|it| u32::from_ne_bytes(*it) as usize);
            let (1..=MAX_BYTES, Some(body)) = (length, rest.get(..length)) else {
                break;
            };
            let end = at + HEADER + length;
            let brought = self
                .starts
                .iter()
                .filter(|(from, _)| (at..end).contains(from));
            let brought: usize = brought.map(|(_, count)| count).sum();
            match serde_json::from_slice(body) {
                Ok(body) if brought == count => found.push((body, count)),
                _ => break,
            }
            at = end;
        }
        found
    }
}

/// Whatever the hook runner reads, it runs only what has the configuration's capability, and tells
/// it only what hooks are told. The first byte says whether the bytes are a message or all that a
/// peer writes.
pub fn hook_order(data: &[u8]) {
    let Some((how, body)) = data.split_first() else {
        return;
    };
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut line = OrderLine::new(ours);
    let length = u32::try_from(body.len()).unwrap().to_ne_bytes();
    let bytes = match how & 1 {
        0 => [&length, &[0; 4], body].concat(),
        _ => body.to_vec(),
    };
    let _ = send(&theirs, &bytes, &[]);
    while let Ok(Next::Message(message)) = line.try_recv() {
        let written = serde_json::to_value(&message.body).unwrap();
        let again: HookOrder = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&again).unwrap(), written);
        let HookOrder::Run(job) = &message.body else {
            continue;
        };
        assert!(!job.words().is_empty());
        let key = Key::of([7; 32]);
        assert!(!would_run(&Key::of([8; 32]), job), "another server's job");
        if would_run(&key, job) {
            let foreign = |(name, _): &(String, String)| !VARIABLES.contains(&name.as_str());
            assert!(!job.env.iter().any(foreign), "{job:?}");
            let mut other = job.clone();
            other.command.push(' ');
            assert!(!would_run(&key, &other), "another command");
        }
    }
}

/// Whatever a successor is given for a state, it refuses that, or reads it as it would write it, and
/// goes on: no panic, no timer that spins, and a state that its own successor can read.
pub fn handover(data: &[u8]) {
    taken_over(data);
    taken_over(
        &[
            b"pizauth handover ",
            STATE_VERSION.to_string().as_bytes(),
            b"\n",
            data,
        ]
        .concat(),
    );
}

fn taken_over(bytes: &[u8]) {
    let Ok((written, config, state)) = take_over(bytes) else {
        return;
    };
    let json = bytes.splitn(2, |byte| *byte == b'\n').nth(1).unwrap();
    let first: Value = serde_json::from_slice(&written).unwrap();
    let prefix = &bytes[..bytes.len() - json.len()];
    let (again, ..) = take_over(&[prefix, &written].concat()).expect("to read it again");
    assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), first);
    goes_on(Core::new(config, Ports::default()), state);
}

/// Whatever a token holder has left in the memory from which another one goes on, or a service
/// manager has kept: as the memory itself, and as what its head vouches for.
pub fn stored_state(data: &[u8]) {
    let _ = stored(data, false);
    let version = STATE_VERSION.to_string();
    let named = [b"pizauth state ", version.as_bytes(), b"\n", data].concat();
    for bytes in [data, &named] {
        let Ok(Some((written, ports, state))) = stored(bytes, true) else {
            continue;
        };
        let head = bytes.len() - bytes.splitn(2, |byte| *byte == b'\n').nth(1).unwrap().len();
        let again = stored(&[&bytes[..head], &written].concat(), true);
        let (again, ..) = again.unwrap().expect("to read it again");
        assert_eq!(again, written);
        let seed: Value =
            serde_json::from_slice(include_bytes!("../corpus/handover/everything")).unwrap();
        let config = config::parse("x", seed["config"]["text"].as_str().unwrap()).unwrap();
        goes_on(Core::new(config, ports), state);
    }
}

/// What a core does first with such a state.
fn goes_on(mut core: Core, state: CoreState) {
    let names: Vec<_> = core
        .config()
        .accounts
        .iter()
        .map(|it| it.name.clone())
        .collect();
    let now = Now {
        instant: Instant::from_millis(1_000_100_000),
        wall: Wall::from_millis(1_750_000_100_000),
    };
    let mut feed = |event: &mut dyn FnMut(&mut Core, &mut Cx)| {
        event(
            &mut core,
            &mut Cx {
                now,
                entropy: &mut Same,
            },
        );
        while core.next_effect().is_some() {}
    };
    let mut state = Some(state);
    feed(&mut |core, cx| core.adopt(cx, state.take().unwrap()));
    feed(&mut |core, cx| core.remind_again(cx, false));
    feed(&mut |core, cx| core.tick(cx));
    for name in &names {
        feed(&mut |core, cx| drop(core.ask(cx, name, ShowRequest::default())));
    }
    feed(&mut |core, cx| core.tick(cx));
    let next = core.poll_timeout();
    assert!(
        next.is_none_or(|at| at > now.instant),
        "the timer would spin"
    );
    let text = serde_json::to_string(&core.state(now)).unwrap();
    serde_json::from_str::<CoreState>(&text).expect("a state that can be read");
}

struct Same;

impl Entropy for Same {
    fn bytes32(&mut self) -> [u8; 32] {
        [9; 32]
    }
}
