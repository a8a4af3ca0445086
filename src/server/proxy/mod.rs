//! The proxies: sockets at which programs that know only a user and a password sign in, and are
//! signed in at a mail server with an account's token. They run in a process of their own, which the
//! monitor forks for the proxies of one configuration.
//!
//! That process has given up the user's files, programs and sockets. What takes those it asks of its
//! other half ([`privileged`]): a proxy's password, and a token of a proxy's account. It has a thread
//! for each program that signs in ([`door`]), and one that copies for all whose sign-in is over. When
//! the holder tells it to drain, since the configuration has changed or a successor is there, it takes
//! no more programs and ends after the last session; when its line to the holder ends, it ends at once.

mod door;
mod listen;
mod privileged;

use std::os::fd::{AsFd, OwnedFd};
use std::{fs::File, io, iter, os::unix::net::UnixStream, sync::Arc, thread};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::ClientConfig;

use self::{door::Entrance, privileged::ErrandLine};
use crate::relay::dial;
use crate::relay::pump::{CHUNK_BYTES, Pump};
use crate::serve::Listener;
use crate::server::base::error::cant;
use crate::server::base::{config_file, guard, limits, sandbox};
use crate::server::ipc::helper_messages::{HelperContext, HelperReply, HelperRequest, ReplyLine};
use crate::server::ipc::line::{Line, Message, Next};
use crate::server::ipc::memfd;
use crate::{alarm::Alarm, error::Failure, lock::Lock, paths};

/// How many programs may be signing in at once; others wait. Each has a thread.
const MAX_SIGN_INS: usize = 256;

/// The stack of such a thread, in bytes: checking certificates goes deepest.
const STACK: usize = 512 << 10;

/// How many descriptors a program takes at most: its sign-in tries several addresses at once.
const PER_PROGRAM: usize = 6;

/// How many are left for the process itself.
const RESERVE: usize = 64;

/// Serves the proxies of the configuration for the holder at the other end of `line`.
///
/// # Errors
/// When the line breaks.
pub fn serve(context: &HelperContext, line: UnixStream) -> io::Result<()> {
    let mut line = ReplyLine::new(line);
    let open = match line.recv()? {
        Some(Message {
            body: HelperRequest::Proxies,
            fds,
        }) => fds,
        Some(_) => return Err(io::Error::other("it begins with the proxies")),
        None => return Ok(()),
    };
    match Worker::begin(context, open) {
        Ok(mut worker) => {
            let listeners = worker
                .listeners
                .iter()
                .map(|(_, listener)| listener.as_fd());
            let fds: Vec<_> = iter::once(worker.counts.as_fd()).chain(listeners).collect();
            line.send(&Ok(HelperReply::Done), &fds)?;
            worker.run(line)
        }
        Err(failure) => line.send(&Err(failure), &[]),
    }
}

/// What all threads share.
struct Shared {
    proxies: Vec<Entrance>,
    /// To the half that has the user's rights.
    privileged: Lock<ErrandLine>,
    tls: Arc<ClientConfig>,
    /// What the sign-ins have brought.
    begun: Lock<Vec<Session>>,
    /// Wakes the main thread.
    alarm: Arc<Alarm>,
}

/// Whether programs that are silent keep others waiting. Each that signs in shares this.
fn is_full(shared: &Arc<Shared>) -> bool {
    Arc::strong_count(shared) > MAX_SIGN_INS
}

/// A session, and the number of its proxy.
type Session = (usize, Pump);

/// The main thread.
struct Worker {
    shared: Arc<Shared>,
    /// Each with the number of its proxy.
    listeners: Vec<(usize, Listener)>,
    sessions: Vec<Session>,
    /// How many sessions each proxy has, for the holder.
    counts: File,
    /// How many descriptors the process may have.
    descriptors: usize,
    drains: bool,
}

impl Worker {
    /// Opens everything, and takes the process's rights away. Sockets that are `open` already are
    /// taken.
    fn begin(context: &HelperContext, open: Vec<OwnedFd>) -> Result<Self, Failure> {
        let text = config_file::read(&context.config_file)?;
        let config = config_file::parse(&context.config_file, &text)?;
        let listeners = listen::listen(&config.proxies, open)?;
        let proxies = config.proxies.iter().map(Entrance::new);
        let proxies = proxies.collect::<Result<Vec<_>, _>>()?;
        let counts = memfd::counts(proxies.len()).map_err(cant)?;
        let tls = dial::tls()?;
        let privileged = privileged::fork(config.proxies).map_err(cant)?;
        limits::more_descriptors();
        let mut sandbox = sandbox::harden();
        sandbox.confine(&paths::address()?.socket);
        sandbox.deny_calls();
        let shared = Shared {
            proxies,
            privileged: Lock::new(Line::new(privileged)),
            tls,
            begun: Lock::default(),
            alarm: Arc::new(Alarm::new().map_err(cant)?),
        };
        Ok(Worker {
            shared: Arc::new(shared),
            listeners,
            sessions: Vec::new(),
            counts,
            descriptors: limits::descriptors(),
            drains: false,
        })
    }

    fn run(&mut self, mut line: ReplyLine) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        while !(self.drains && self.sessions.is_empty() && Arc::strong_count(&self.shared) == 1) {
            let (is_new, is_ready) = self.wait(&line)?;
            loop {
                match line.try_recv()? {
                    Next::Nothing => break,
                    Next::End => return Ok(()),
                    // Only one more thing is said: what listens is the next process's.
                    Next::Message(_) | Next::Lost => {
                        self.drains = true;
                        self.listeners.clear();
                    }
                }
            }
            let before = self.sessions.len();
            self.copy(&is_ready, &mut chunk);
            self.shared.alarm.clear();
            let mut begun = self.shared.begun.with(std::mem::take);
            if self.sessions.len() < before || !begun.is_empty() {
                self.sessions.append(&mut begun);
                self.count();
            }
            let new = is_new.iter().enumerate().filter(|(_, is_new)| **is_new);
            new.for_each(|(at, _)| self.accept(at));
        }
        Ok(())
    }

    /// Whether there is room for another program.
    fn accepts(&self) -> bool {
        let programs = Arc::strong_count(&self.shared).saturating_add(self.sessions.len());
        let taken = programs.saturating_mul(PER_PROGRAM).saturating_add(RESERVE);
        !is_full(&self.shared) && taken < self.descriptors
    }

    /// Sleeps until there is something to do: which listeners have a program, and which descriptors of
    /// the sessions are ready.
    fn wait(&self, line: &ReplyLine) -> io::Result<(Vec<bool>, Vec<bool>)> {
        let line = line.socket();
        let half = self.shared.privileged.with(|line| line.socket());
        let own = [line.as_fd(), self.shared.alarm.as_fd(), half.as_fd()].into_iter();
        let accepts = self.accepts();
        let listeners = self.listeners.iter().filter(|_| accepts);
        let listening = listeners.map(|(_, listener)| listener.as_fd());
        let heard = own
            .chain(listening)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let mut fds: Vec<_> = heard.collect();
        let sessions_from = fds.len();
        fds.extend(self.sessions.iter().flat_map(|(_, pump)| pump.fds()));
        match poll(&mut fds, PollTimeout::NONE) {
            // Without memory it is as if something had happened: there may be some the next time.
            Ok(_) | Err(Errno::EINTR | Errno::ENOMEM | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut is_ready: Vec<_> = fds.iter().map(|fd| fd.any() == Some(true)).collect();
        let of_sessions = is_ready.split_off(sessions_from);
        let of_listeners = is_ready.split_off(3);
        match is_ready.pop() {
            // The holder starts another one.
            Some(true) => Err(io::Error::other(
                "the half with the user's rights was killed",
            )),
            _ => Ok((of_listeners, of_sessions)),
        }
    }

    /// Copies in the sessions what there is, and lets go of those that are over.
    fn copy(&mut self, is_ready: &[bool], chunk: &mut [u8]) {
        let mut is_ready = is_ready.iter().copied();
        self.sessions.retain_mut(|(_, pump)| {
            let ready = pump.ready(&mut is_ready);
            if ready == [false; 3] {
                pump.rest();
            } else if !matches!(pump.turn(ready, chunk), Ok(true)) {
                // What broke is the program's to notice.
                let _ = pump.end();
                return false;
            }
            true
        });
    }

    /// Tells the holder how many sessions each proxy has.
    fn count(&self) {
        for number in 0..self.shared.proxies.len() {
            let sessions = self.sessions.iter().filter(|(of, _)| *of == number);
            let _ = memfd::set_count(&self.counts, number, sessions.count());
        }
    }

    /// Lets a program in that is at this listener.
    fn accept(&mut self, at: usize) {
        let Some((number, listener)) = self.listeners.get(at) else {
            return;
        };
        let (number, Ok(socket)) = (*number, listener.accept()) else {
            return;
        };
        let shared = self.shared.clone();
        let thread = thread::Builder::new()
            .name("sign-in".into())
            .stack_size(STACK);
        // Without a thread for it the program is hung up on.
        let _ = thread.spawn(move || {
            let admitted = guard::job("a sign-in", || door::admit(&shared, number, socket));
            if let Some(Ok(Some(pump))) = admitted {
                shared.begun.with(|begun| begun.push((number, pump)));
            }
            let alarm = shared.alarm.clone();
            drop(shared);
            alarm.ring();
        });
    }
}
