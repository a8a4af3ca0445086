//! The daemon's end of its line to the monitor: orders, and hands (hand.rs) for what the daemon
//! can't do itself since it has given up the file system and running programs.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::poll::{PollTimeout, poll};

use super::{
    hand::{Answer, Deed, Done},
    job::take_line,
    monitor::{Order, Sent},
    other, pass,
    place::FileId,
    seals::{self, Seal, Seals},
    verbs::ReadConfig,
};
use crate::{error::Failure, secret::Secret};

/// How long the monitor may take to take an order or to do what it does itself: it takes
/// microseconds, and must not keep the end of a session waiting.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a name may take to be looked up at most: no request waits longer.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a hand may take for anything else: a file system that hangs must not hang the daemon.
/// A program that is tried before a restart has a limit of its own, which is shorter.
const HAND_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the end may take that the successor brings: milliseconds.
const END_TIMEOUT_MILLIS: u16 = 5_000;

/// Where orders go, and what gives them weight.
pub struct Broker {
    line: Mutex<UnixStream>,
    /// The seals of the configuration in force, and of the one before: something of that may still
    /// be under way.
    seals: Mutex<[Seals; 2]>,
}

impl Broker {
    /// `line` leads to the monitor.
    ///
    /// # Errors
    /// When it isn't fit for that.
    pub fn new(line: UnixStream) -> io::Result<Self> {
        line.set_write_timeout(Some(TIMEOUT))?;
        Ok(Broker {
            line: Mutex::new(line),
            seals: Mutex::default(),
        })
    }

    /// A configuration is about to come into force.
    pub fn learn(&self, seals: Seals) {
        let mut known = self.seals.lock().unwrap_or_else(PoisonError::into_inner);
        known.swap(0, 1);
        let [current, _] = &mut *known;
        *current = seals;
    }

    /// The seal of what a configuration has under this option.
    pub fn seal(&self, option: &str, value: &str) -> Option<Seal> {
        let known = self.seals.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find_map(|seals| seals.find(option, value))
    }

    /// The seals of the configuration in force.
    pub fn seals(&self) -> Seals {
        let known = self.seals.lock().unwrap_or_else(PoisonError::into_inner);
        let [current, _] = &*known;
        current.clone()
    }

    /// A process that does what this one can't.
    ///
    /// # Errors
    /// When the monitor is gone.
    pub fn hand(&self) -> Result<Hand, Failure> {
        let (ours, theirs) = pair()?;
        let limits = ours.set_read_timeout(Some(HAND_TIMEOUT));
        limits.map_err(unheard)?;
        self.send(Order::Hand, &[theirs.as_fd()]).map_err(unheard)?;
        Ok(Hand(ours))
    }

    /// Tells the service manager something, in the monitor's name; `fds` go along.
    ///
    /// # Errors
    /// When it can't be told.
    pub fn notify(&self, text: String, fds: &[BorrowedFd]) -> io::Result<()> {
        self.tell(Order::Notify(text), fds)
    }

    /// Has the monitor hold back signals from now on, or pass them on again. What it has passed on
    /// before has arrived when this returns.
    ///
    /// # Errors
    /// When it can't be told.
    pub fn hold_signals(&self, hold: bool) -> io::Result<()> {
        self.tell(Order::Hold(hold), &[])
    }

    fn tell(&self, order: Order, fds: &[BorrowedFd]) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(TIMEOUT))?;
        let all: Vec<_> = std::iter::once(theirs.as_fd())
            .chain(fds.iter().copied())
            .collect();
        self.send(order, &all)?;
        drop(theirs);
        match read(&ours)?.0 {
            Ok(_) => Ok(()),
            Err(trouble) => Err(io::Error::other(trouble.what)),
        }
    }

    /// Has the monitor become the program that is there now, with the state in `memory` and what
    /// that counts; it ends this process first thing. Returns only when it couldn't. With `reload`
    /// the successor reloads.
    pub fn become_successor(
        &self,
        memory: BorrowedFd,
        fds: &[BorrowedFd],
        reload: bool,
    ) -> io::Error {
        let outcome = UnixStream::pair().and_then(|(ours, theirs)| {
            let kept: Vec<_> = std::iter::once(memory).chain(fds.iter().copied()).collect();
            for some in kept.chunks(pass::MAX_FDS) {
                self.send(Order::Keep, some)?;
            }
            let order = Order::Become {
                kept: kept.len(),
                reload,
            };
            self.send(order, &[theirs.as_fd()])?;
            drop(theirs);
            read(&ours)
        });
        match outcome {
            Ok((Err(trouble), ..)) => io::Error::other(trouble.what),
            Ok((Ok(_), ..)) => io::Error::other("the monitor makes no sense"),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                // The monitor is another program now, and everything is that one's.
                #[cfg(all(debug_assertions, target_os = "linux"))]
                super::intruder::stay();
                let _ = poll(&mut [], PollTimeout::from(END_TIMEOUT_MILLIS));
                io::Error::other("the monitor didn't take the order")
            }
            Err(error) => error,
        }
    }

    fn send(&self, order: Order, fds: &[BorrowedFd]) -> io::Result<()> {
        let sent = Sent {
            order,
            fds: fds.len(),
        };
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        pass::write_line(&line, &sent, fds)
    }
}

fn unheard(error: io::Error) -> Failure {
    other(&format!("the monitor doesn't hear: {error}"))
}

fn pair() -> Result<(UnixStream, UnixStream), Failure> {
    UnixStream::pair().map_err(|error| other(&format!("can't open a line: {error}")))
}

/// An answer, what has come along, and what has come behind it already.
type Heard = (Answer, Option<OwnedFd>, Vec<u8>);

/// Waits for an answer; the end of the line is one, too, as an error.
fn read(line: &UnixStream) -> io::Result<Heard> {
    let (mut buffer, mut text, mut fds) = ([0; 1024], Vec::new(), Vec::new());
    loop {
        match pass::recv(line, &mut buffer, &mut fds)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => text.extend(buffer.iter().take(count)),
        }
        if let Some(answer) = take_line(&mut text) {
            return Ok((serde_json::from_slice(&answer)?, fds.pop(), text));
        }
    }
}

/// A hand, as long as this is held.
pub struct Hand(UnixStream);

impl Hand {
    /// Reads the server's configuration as `parse` does, and the seals of what it names.
    ///
    /// # Errors
    /// When it can't be read, or `parse` doesn't like it.
    pub fn config<T>(
        &self,
        parse: impl FnOnce(ReadConfig) -> Result<T, Failure>,
    ) -> Result<(T, Seals), Failure> {
        let unread = |error: io::Error| other(&format!("can't read the configuration: {error}"));
        let (done, _, begun) = self.ask(&Deed::ReadConfig, None)?;
        let mut line = BufReader::new(begun.chain(&self.0));
        let mut bytes = vec![0; done.bytes];
        line.read_exact(&mut bytes).map_err(unread)?;
        // The hand reads the same bytes at the same time.
        let parsed = parse(ReadConfig {
            bytes,
            shared: done.shared,
        })?;
        let mut sealed = Vec::new();
        line.read_until(b'\n', &mut sealed).map_err(unread)?;
        let sealed = serde_json::from_slice(&sealed).map_err(|error| unread(error.into()))?;
        Ok((parsed, Seals::new(sealed)))
    }

    /// Makes the directory of the control socket, or checks the one that is there.
    pub fn prepare(&self) -> Result<(), Failure> {
        self.done(&Deed::Prepare, None)
    }

    /// Opens the lock's file.
    pub fn lock_file(&self) -> Result<File, Failure> {
        self.opened(&Deed::OpenLock).map(File::from)
    }

    /// Listens on the control socket; `None` when another server answers there.
    pub fn listen_control(&self) -> Result<Option<(UnixListener, FileId)>, Failure> {
        let answer = self.ask(&Deed::ListenControl, None)?;
        match answer.0.taken {
            true => Ok(None),
            false => listening(answer).map(Some),
        }
    }

    /// Listens on a socket of the configuration.
    pub fn listen(
        &self,
        path: &Arc<str>,
        seals: &Seals,
    ) -> Result<(UnixListener, FileId), Failure> {
        let seal = seals.find(seals::SOCKET, path).unwrap_or_default();
        listening(self.ask(&Deed::Listen(path.clone(), seal), None)?)
    }

    /// Removes the file of a socket, if it is still that one: the control socket's, or that of
    /// `socket`, which listens there.
    pub fn remove_socket(
        &self,
        path: &Path,
        id: FileId,
        socket: Option<BorrowedFd>,
    ) -> Result<(), Failure> {
        let path = path.as_os_str().as_bytes().to_vec();
        self.done(&Deed::RemoveSocket(path, id), socket)
    }

    /// Puts `content` into a token file, in one step.
    pub fn replace(&self, path: &Arc<str>, seal: &Seal, content: &Secret) -> Result<(), Failure> {
        let of = |deed: fn(Arc<str>, Seal) -> Deed| deed(path.clone(), seal.clone());
        let mut file = File::from(self.opened(&of(Deed::Write))?);
        let outcome = file.write_all(content.expose().as_bytes());
        let outcome = outcome
            .map_err(|error| other(&error.to_string()))
            .and_then(|()| self.done(&of(Deed::Replace), None));
        if outcome.is_err() {
            // The error that matters is known.
            let _ = self.done(&of(Deed::Discard), None);
        }
        outcome
    }

    /// Removes a token file.
    pub fn remove(&self, path: &Arc<str>, seal: &Seal) -> Result<(), Failure> {
        self.done(&Deed::Remove(path.clone(), seal.clone()), None)
    }

    /// Looks up the addresses of a host, for at most so long.
    pub fn look_up(
        &self,
        host: &str,
        port: u16,
        limit: Duration,
    ) -> Result<Vec<SocketAddr>, Failure> {
        // None is for ever, to the system.
        let limit = limit.clamp(Duration::from_millis(1), LOOK_UP_TIMEOUT);
        self.0.set_read_timeout(Some(limit)).map_err(unheard)?;
        let (done, ..) = self.ask(&Deed::LookUp(host.into(), port), None)?;
        Ok(done.addresses)
    }

    /// Has the program that is there now look at the state in `memory`.
    ///
    /// # Errors
    /// Why it couldn't take over.
    pub fn try_program(&self, memory: BorrowedFd) -> Result<(), Failure> {
        self.done(&Deed::Try, Some(memory))
    }

    fn opened(&self, deed: &Deed) -> Result<OwnedFd, Failure> {
        let (_, fd, _) = self.ask(deed, None)?;
        fd.ok_or_else(|| other("a descriptor got lost"))
    }

    fn done(&self, deed: &Deed, fd: Option<BorrowedFd>) -> Result<(), Failure> {
        self.ask(deed, fd).map(drop)
    }

    fn ask(
        &self,
        deed: &Deed,
        fd: Option<BorrowedFd>,
    ) -> Result<(Done, Option<OwnedFd>, Vec<u8>), Failure> {
        let fds: Vec<_> = fd.into_iter().collect();
        let outcome = pass::write_line(&self.0, deed, &fds).and_then(|()| read(&self.0));
        let (answer, fd, behind) = outcome.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                other(&format!("{} takes too long", deed.words()))
            }
            _ => other(&format!("{} was broken off: {error}", deed.words())),
        })?;
        Ok((answer?, fd, behind))
    }
}

fn listening(
    (done, fd, _): (Done, Option<OwnedFd>, Vec<u8>),
) -> Result<(UnixListener, FileId), Failure> {
    let (Some(id), Some(fd)) = (done.id, fd) else {
        return Err(other("a descriptor got lost"));
    };
    Ok((fd.into(), id))
}
