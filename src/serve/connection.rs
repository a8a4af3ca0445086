//! One connection's life: a request arrives, perhaps it is parked, a reply leaves.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::{ConnId, Next, Service, Socket, Transport, Turn, Unparked, guarded};

/// How many bytes are read at first: a request nearly always fits, and no more than these are to be
/// wiped for it. After that as many as there are already, so that a long one takes few turns.
const CHUNK: usize = 512;

/// How many bytes are read at once at most: others want their turn.
const MAX_CHUNK: usize = 64 * 1024;

/// How long a peer that has its reply may go on sending before it is cut off. A TCP socket that is
/// closed with bytes unread resets the connection, and the reply may be lost with it.
const LINGER: Duration = Duration::from_secs(2);

/// How many bytes are thrown away for one connection: a browser's form or a client's oversized
/// request, not a stream.
const MAX_DISCARDED: usize = 256 * 1024;

/// How many bytes may wait for a parked peer that doesn't read.
const MAX_BACKLOG: usize = 4 * 1024 * 1024;

/// Whether a connection lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    Drop,
}

/// What the server has noted of a connection, to be brought in step when that has changed.
#[derive(Default)]
pub(super) struct Filed {
    /// What it is watched for.
    pub interest: Option<PollFlags>,
    pub deadline: Option<Instant>,
    pub parked: bool,
}

enum Phase {
    /// The request is arriving.
    Reading { by: Option<Instant> },
    /// The answer isn't known yet, or there will be several.
    Parked {
        by: Option<Instant>,
        /// Whether what is published is for it.
        stream: bool,
    },
    /// All that will be said is in `output`.
    Replying,
    /// All is said; the peer may need a moment to take it.
    Lingering { by: Instant },
}

pub(super) struct Connection<C> {
    pub(super) filed: Filed,
    pub(super) id: ConnId,
    /// The number of the listener that it came by.
    pub(super) listener: usize,
    socket: Socket,
    is_unix: bool,
    transport: Option<Box<dyn Transport>>,
    conn: C,
    phase: Phase,
    /// The request; it may hold an authorization code or a dump.
    input: Vec<u8>,
    /// The reply; it may hold a token.
    output: Vec<u8>,
    /// How much of the output is gone already.
    written: usize,
    /// When the output must be gone; `Some` while there is any.
    write_by: Option<Instant>,
    /// The peer sends no more.
    ended: bool,
    /// All that had arrived was read.
    drained: bool,
    /// The peer has sent more than was wanted.
    excess: bool,
    discarded: usize,
}

impl<C> AsFd for Connection<C> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<C> Connection<C> {
    pub(super) fn new(
        id: ConnId,
        listener: usize,
        (socket, is_unix): (Socket, bool),
        transport: Option<Box<dyn Transport>>,
        conn: C,
        by: Option<Instant>,
    ) -> Self {
        Connection {
            filed: Filed::default(),
            id,
            listener,
            socket,
            is_unix,
            transport,
            conn,
            phase: Phase::Reading { by },
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            write_by: None,
            ended: false,
            drained: false,
            excess: false,
            discarded: 0,
        }
    }

    pub(super) fn is_parked(&self) -> bool {
        matches!(self.phase, Phase::Parked { .. })
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(self.phase, Phase::Parked { stream: true, .. })
    }

    /// What the loss of this connection would cost; the least is dropped when there are too many. It
    /// doesn't depend on what the peer says: who keeps saying a little would outlive those who are about
    /// to say all.
    pub(super) fn worth(&self) -> u8 {
        match self.phase {
            Phase::Lingering { .. } => 0,
            Phase::Reading { .. } => 1,
            Phase::Replying => 2,
            Phase::Parked { .. } => 3,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Reading { by } => by,
            Phase::Lingering { by } => Some(by),
            Phase::Parked { by, .. } => [by, self.write_by].into_iter().flatten().min(),
            Phase::Replying => self.write_by,
        }
    }

    /// What to watch it for; a hang-up is told of unasked.
    pub(super) fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        if !self.ended && !matches!(self.phase, Phase::Replying) {
            flags |= PollFlags::POLLIN;
        }
        if self.write_by.is_some() || self.has_more_to_write() {
            flags |= PollFlags::POLLOUT;
        }
        flags
    }

    fn has_more_to_write(&self) -> bool {
        self.transport.as_ref().is_some_and(|it| it.wants_write())
    }

    /// Ends it; the service hears of it.
    pub(super) fn close<S: Service<Conn = C>>(self, service: &mut S) {
        drop(self.socket);
        let conn = self.conn;
        guarded(|| service.closed(conn));
    }

    /// Does what can be done, by the system's word.
    pub(super) fn attend<S: Service<Conn = C>>(
        &mut self,
        turn: &mut Turn<S>,
        flags: PollFlags,
    ) -> Fate {
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        if flags.intersects(PollFlags::POLLOUT | gone) && self.flush(turn) == Fate::Drop {
            return Fate::Drop;
        }
        if !flags.intersects(PollFlags::POLLIN | gone) {
            return Fate::Keep;
        }
        match self.phase {
            Phase::Reading { .. } => self.read_request(turn),
            // The peer has left.
            Phase::Parked { .. } if flags.intersects(gone) => Fate::Drop,
            Phase::Parked { .. } => self.discard(),
            Phase::Lingering { .. } => match self.discard() {
                Fate::Keep if !self.ended => Fate::Keep,
                _ => Fate::Drop,
            },
            Phase::Replying => Fate::Keep,
        }
    }

    /// Takes a deadline's consequences.
    pub(super) fn expire<S: Service<Conn = C>>(&mut self, turn: &mut Turn<S>) -> Fate {
        match self.phase {
            Phase::Parked { .. } if self.write_by.is_none_or(|by| by > turn.now) => {
                self.unpark(turn, Unparked::Deadline)
            }
            Phase::Parked { .. } | Phase::Replying => {
                log::debug!("a peer that doesn't take its reply is dropped");
                Fate::Drop
            }
            Phase::Reading { .. } => {
                log::debug!("a peer that doesn't finish its request is dropped");
                Fate::Drop
            }
            Phase::Lingering { .. } => Fate::Drop,
        }
    }

    /// The server ends: only what is being said is still finished.
    pub(super) fn stop<S: Service<Conn = C>>(&mut self, turn: &mut Turn<S>) -> Fate {
        match self.phase {
            Phase::Reading { .. } => Fate::Drop,
            Phase::Parked { .. } => self.unpark(turn, Unparked::Stopping),
            Phase::Replying | Phase::Lingering { .. } => Fate::Keep,
        }
    }

    /// The service's last words to a parked connection.
    pub(super) fn unpark<S: Service<Conn = C>>(
        &mut self,
        turn: &mut Turn<S>,
        why: Unparked,
    ) -> Fate {
        let (service, conn) = (&mut *turn.service, &mut self.conn);
        match guarded(|| service.unparked(conn, why)) {
            Some(bytes) => self.say(turn, bytes, true),
            None => Fate::Drop,
        }
    }

    /// Another thread's words to a parked connection.
    pub(super) fn send<S: Service<Conn = C>>(
        &mut self,
        turn: &mut Turn<S>,
        bytes: Vec<u8>,
        last: bool,
    ) -> Fate {
        if self.is_parked() {
            self.say(turn, bytes, last)
        } else {
            Fate::Keep
        }
    }

    /// Reads what has arrived and asks the service about it.
    fn read_request<S: Service<Conn = C>>(&mut self, turn: &mut Turn<S>) -> Fate {
        while matches!(self.phase, Phase::Reading { .. }) {
            let more = match self.fill(turn.limits.max_input) {
                Ok(more) => more,
                Err(error) if must_wait(&error) => return Fate::Keep,
                Err(error) => return self.abandon(turn, &error),
            };
            let (service, conn) = (&mut *turn.service, &mut self.conn);
            let (input, ended) = (&mut self.input, self.ended);
            let next = guarded(|| service.received(conn, input, ended)).unwrap_or(Next::Close);
            let fate = self.follow(turn, next);
            if fate == Fate::Drop || !more {
                return fate;
            }
        }
        Fate::Keep
    }

    /// Reads once to the end of the input; whether more may be had at once.
    fn fill(&mut self, max_input: usize) -> io::Result<bool> {
        let start = self.input.len();
        // The service may have made room for more of what it waits for.
        let wanted = match self.input.capacity() - start {
            0 => start.clamp(CHUNK, MAX_CHUNK),
            room => room.min(MAX_CHUNK),
        };
        let wanted = wanted.min(max_input - start);
        (self.input.try_reserve(wanted)).map_err(|_| ErrorKind::OutOfMemory)?;
        self.input.resize(start + wanted, 0);
        let free = self.input.get_mut(start..).unwrap_or_default();
        let outcome = match &mut self.transport {
            None => self.socket.read(free),
            Some(transport) => transport.read(&self.socket, free),
        };
        self.input
            .truncate(start + outcome.as_ref().copied().unwrap_or(0));
        let read = outcome?;
        self.ended = read == 0;
        self.drained = read < wanted;
        self.excess = self.input.len() >= max_input;
        // A transport may hold plain bytes that the system doesn't know about.
        Ok(read == wanted || (read > 0 && self.transport.is_some()))
    }

    fn follow<S: Service<Conn = C>>(&mut self, turn: &mut Turn<S>, next: Next) -> Fate {
        match next {
            Next::More if self.ended || self.input.len() >= turn.limits.max_input => Fate::Drop,
            Next::More => Fate::Keep,
            Next::Reply(bytes) => self.say(turn, bytes, true),
            Next::Park(limit) => {
                self.park(limit.and_then(|limit| turn.now.checked_add(limit)), false);
                Fate::Keep
            }
            Next::Stream(bytes) => {
                self.park(None, true);
                self.say(turn, bytes, false)
            }
            Next::Close => Fate::Drop,
        }
    }

    fn park(&mut self, by: Option<Instant>, stream: bool) {
        self.phase = Phase::Parked { by, stream };
        self.input = Vec::new();
    }

    fn say<S>(&mut self, turn: &mut Turn<S>, mut bytes: Vec<u8>, last: bool) -> Fate {
        if last {
            self.phase = Phase::Replying;
            self.input = Vec::new();
        }
        if self.output.is_empty() {
            self.output = bytes;
        } else if self.waiting() + bytes.len() > MAX_BACKLOG {
            log::debug!("a peer that doesn't read what it waits for is dropped");
            return Fate::Drop;
        } else {
            self.output.append(&mut bytes);
        }
        self.write_by = self
            .write_by
            .or(turn.now.checked_add(turn.limits.write_timeout));
        self.flush(turn)
    }

    /// How many bytes wait to be written.
    fn waiting(&self) -> usize {
        self.output.len() - self.written
    }

    /// Writes what can be written; a reply's last byte ends the conversation.
    fn flush<S>(&mut self, turn: &mut Turn<S>) -> Fate {
        match self.write_all() {
            Ok(()) => {}
            Err(error) if must_wait(&error) => return Fate::Keep,
            Err(_) => return Fate::Drop,
        }
        self.output = Vec::new();
        self.written = 0;
        match self.phase {
            Phase::Replying => self.finish(turn),
            Phase::Reading { .. } | Phase::Parked { .. } | Phase::Lingering { .. } => {
                self.write_by = None;
                Fate::Keep
            }
        }
    }

    fn write_all(&mut self) -> io::Result<()> {
        while self.waiting() > 0 {
            let rest = self.output.get(self.written..).unwrap_or_default();
            let written = match &mut self.transport {
                None => self.socket.write(rest)?,
                Some(transport) => transport.write(&self.socket, rest)?,
            };
            self.written += written;
        }
        self.transport
            .as_mut()
            .map_or(Ok(()), |transport| transport.flush(&self.socket))
    }

    /// All is said: takes leave so that the peer gets it.
    fn finish<S>(&mut self, turn: &mut Turn<S>) -> Fate {
        if let Some(transport) = &mut self.transport {
            transport.end();
            match transport.flush(&self.socket) {
                Ok(()) => {}
                Err(error) if must_wait(&error) => return Fate::Keep,
                Err(_) => return Fate::Drop,
            }
        }
        self.write_by = None;
        // A Unix socket keeps what was written for its peer, unless something is left unread.
        let unix = self.is_unix && !self.excess;
        let taken = unix && self.drained;
        if taken || self.discard() == Fate::Drop || self.ended || unix {
            return Fate::Drop;
        }
        // The peer may have left already.
        let _ = self.socket.shutdown(Shutdown::Write);
        self.phase = Phase::Lingering {
            by: turn.now + LINGER,
        };
        Fate::Keep
    }

    /// The transport has failed: its last words (an alert), then the end.
    fn abandon<S>(&mut self, turn: &mut Turn<S>, error: &io::Error) -> Fate {
        log::debug!("a connection is given up: {error}");
        match self.has_more_to_write() {
            // From here on the peer's bytes are only read so that they don't reset the connection.
            true => self.say(turn, Vec::new(), true),
            false => Fate::Drop,
        }
    }

    /// Throws away what the peer still sends, within reason.
    fn discard(&mut self) -> Fate {
        let mut buffer = [0; 4 * 1024];
        while !self.ended {
            match self.socket.read(&mut buffer) {
                Ok(read) => {
                    self.ended = read == 0;
                    self.discarded += read;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if must_wait(&error) => break,
                Err(_) => return Fate::Drop,
            }
            if self.discarded > MAX_DISCARDED {
                log::debug!("a peer that goes on sending is dropped");
                return Fate::Drop;
            }
        }
        Fate::Keep
    }
}

/// Whether it may go better when the system says that it is ready, also after a signal.
fn must_wait(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
