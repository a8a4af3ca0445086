//! A small event loop for servers of short conversations: one thread, no wake-up without a reason.
//! The control socket and the redirection endpoint are both built on it.
//!
//! A connection sends a request, gets a reply and is closed; or it is parked until another thread
//! answers it through a [`Remote`]. Nobody else pays for a silent, slow or hostile peer: every
//! wait has an absolute deadline, every buffer a bound, and each listener a share of its own: when
//! that is full, the first of the connections leaves that are still asking, or of those that wait.

mod connection;
mod poller;
mod remote;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;

use connection::{Connection, Fate};
use poller::{Name, Poller};
use remote::Message;
pub use remote::{Inbox, Remote, remote};
pub use socket::{Listener, Socket, Transport, Wrap, lengthen_backlog};

/// How long no connection is accepted after the process or the system ran out of descriptors or
/// memory and none could be freed: long enough not to spin, short enough not to be felt.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections one listener hands over before those that are open get their turn: a
/// flood of connections must not starve a peer that has already sent its request.
const MAX_ACCEPTS_PER_TURN: usize = 128;

/// Names one connection for the life of the process; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        ConnId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// How many connections may have come in by a listener.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Those that aren't parked; one more, and the first of them is dropped for it.
    pub connections: usize,
    /// Those that are parked; one more, and the first of them gets [`Unparked::Crowded`].
    pub parked: usize,
}

impl Share {
    /// The part of one of so many.
    fn of_one(self, count: usize) -> Self {
        let part = |all: usize| all.div_ceil(count.max(1));
        Share {
            connections: part(self.connections),
            parked: part(self.parked),
        }
    }
}

/// What one server may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The share of the first listener (number 0).
    pub first: Share,
    /// What all others have together. Each has an equal part, which the others can't use up.
    pub others: Share,
    /// Bytes of input held for one connection. A service that still wants more then is not asked
    /// again: the connection is closed.
    pub max_input: usize,
    /// From accepting a connection to its whole request.
    pub read_timeout: Duration,
    /// From a reply's first byte to its last.
    pub write_timeout: Duration,
}

/// What happens to a connection next.
#[derive(Debug)]
pub enum Next {
    /// The request isn't complete; read on (after the peer's end this closes).
    More,
    /// Write this and close, so that the peer gets all of it even if it is still sending.
    Reply(Vec<u8>),
    /// Wait for [`Remote::send`], for at most so long ([`Service::unparked`] follows). What the
    /// peer sends meanwhile is thrown away.
    Park(Option<Duration>),
    /// Write this, then stay parked without a deadline, for [`Remote::publish`] too.
    Stream(Vec<u8>),
    /// Close at once.
    Close,
}

/// Why a parked connection gets its last words from [`Service::unparked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unparked {
    /// Its deadline has passed.
    Deadline,
    /// [`Share::parked`] others wait that came by the same listener, and later.
    Crowded,
    /// [`Remote::drain`] was called: another server takes this one's place.
    Draining,
    /// [`Remote::stop`] was called.
    Stopping,
}

/// A protocol. All calls come from the thread in [`run`]; they must not block. A panic in one
/// closes its connection and is logged, no more.
pub trait Service {
    /// What the protocol knows about one connection.
    type Conn;

    /// A connection was accepted from the listener with this number: its place among those that
    /// [`run`] began with, or that of [`Remote::open`]. `None` closes it.
    fn connected(&mut self, id: ConnId, listener: usize, peer: &Socket) -> Option<Self::Conn>;

    /// Bytes have arrived at the end of `input` (which may be drained, or given room for what is
    /// known to follow), or, with `end`, the peer has finished sending.
    fn received(&mut self, conn: &mut Self::Conn, input: &mut Vec<u8>, end: bool) -> Next;

    /// A parked connection isn't waited for any more: its last bytes.
    fn unparked(&mut self, _conn: &mut Self::Conn, _why: Unparked) -> Vec<u8> {
        Vec::new()
    }

    /// The connection is gone, whichever side ended it. Called once for each `Conn`.
    fn closed(&mut self, _conn: Self::Conn) {}
}

/// Serves until [`Remote::stop`]: then the listeners are closed, requests in arrival are dropped,
/// parked connections get their last words, and replies being written are finished.
///
/// # Errors
/// When there is no descriptor or memory to begin with; later on only after a bug.
pub fn run<S: Service>(
    listeners: Vec<Listener>,
    service: S,
    limits: Limits,
    inbox: Inbox,
) -> io::Result<()> {
    let mut poller = Poller::new()?;
    poller.watch(inbox.alarm.as_fd(), Who::Inbox.name(), PollFlags::POLLIN)?;
    let mut server = Server {
        listeners: BTreeMap::new(),
        service,
        limits,
        inbox,
        poller,
        connections: BTreeMap::new(),
        deadlines: BTreeSet::new(),
        spare: spare(),
        accepting: true,
        accept_after: None,
        stopping: false,
        draining: None,
        now: Instant::now(),
    };
    for (number, listener) in listeners.into_iter().enumerate() {
        server.open(number, listener)?;
    }
    server.run()
}

/// Whose descriptor is ready.
enum Who {
    Inbox,
    Listener(usize),
    Connection(ConnId),
}

impl Who {
    /// Tells a listener's number from a connection's, which is counted from 1.
    const LISTENER: Name = 1 << 63;

    fn name(&self) -> Name {
        match self {
            Who::Inbox => 0,
            Who::Listener(number) => Who::LISTENER | *number as Name,
            Who::Connection(ConnId(id)) => *id,
        }
    }

    fn named(name: Name) -> Self {
        match name {
            0 => Who::Inbox,
            Who::LISTENER.. => Who::Listener((name & !Who::LISTENER) as usize),
            id => Who::Connection(ConnId(id)),
        }
    }
}

struct Server<S: Service> {
    /// By the number that the service knows each by.
    listeners: BTreeMap<usize, Listener>,
    service: S,
    limits: Limits,
    inbox: Inbox,
    poller: Poller,
    connections: BTreeMap<ConnId, Connection<S::Conn>>,
    /// Each connection that has a deadline, by deadline.
    deadlines: BTreeSet<(Instant, ConnId)>,
    /// A descriptor to give up when there are no more, so that a connection can be taken off the
    /// backlog and closed.
    spare: Option<File>,
    /// Whether the listeners are watched for connections.
    accepting: bool,
    accept_after: Option<Instant>,
    stopping: bool,
    /// Nothing is accepted, and a thread waits for the last connection to end.
    draining: Option<SyncSender<()>>,
    /// When the present turn began.
    now: Instant,
}

impl<S: Service> Server<S> {
    fn run(mut self) -> io::Result<()> {
        while !(self.stopping && self.connections.is_empty()) {
            let ready = self.wait()?;
            self.now = Instant::now();
            let mut crowded = Vec::new();
            for (name, flags) in ready {
                match Who::named(name) {
                    Who::Inbox => self.read_inbox(),
                    // Those that are open go first.
                    Who::Listener(number) => crowded.push(number),
                    Who::Connection(id) => {
                        self.with(id, |connection, turn| connection.attend(turn, flags));
                    }
                }
            }
            for number in crowded {
                if self.draining.is_none() {
                    self.accept_from(number);
                }
            }
            self.expire();
            if let Some(done) = &self.draining {
                if self.connections.is_empty() {
                    // It is said every turn; once is enough to be heard.
                    let _ = done.try_send(());
                }
            }
        }
        Ok(())
    }

    /// Sleeps until a descriptor is ready or a deadline has come.
    fn wait(&mut self) -> io::Result<Vec<(Name, PollFlags)>> {
        self.accept_after = self.accept_after.filter(|after| *after > Instant::now());
        self.accept_or_not()?;
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let wake_at = [self.accept_after, deadline].into_iter().flatten().min();
        let wanted = wanted_of_listeners(self.accepting);
        let alarm = self.inbox.alarm.as_fd();
        let inbox = (Who::Inbox.name(), alarm, PollFlags::POLLIN);
        let listeners = self.listeners.iter().map(|(number, listener)| {
            let name = Who::Listener(*number).name();
            (name, listener.as_fd(), wanted)
        });
        let connections = self.connections.values().map(|connection| {
            let name = Who::Connection(connection.id).name();
            (name, connection.as_fd(), connection.interest())
        });
        let all = [inbox].into_iter().chain(listeners).chain(connections);
        match self.poller.wait(all, wake_at) {
            Ok(ready) => Ok(ready),
            Err(Errno::EINTR) => Ok(Vec::new()),
            // The kernel is short of memory for a moment; it must not end the server.
            Err(Errno::ENOMEM | Errno::EAGAIN) => {
                std::thread::sleep(ACCEPT_PAUSE);
                Ok(Vec::new())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Looks at the listeners, unless something keeps it from accepting.
    fn accept_or_not(&mut self) -> io::Result<()> {
        let accepting = self.accept_after.is_none() && self.draining.is_none();
        if accepting != self.accepting {
            self.accepting = accepting;
            for (number, listener) in &self.listeners {
                let name = Who::Listener(*number).name();
                let wanted = wanted_of_listeners(accepting);
                self.poller.change(listener.as_fd(), name, wanted)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, number: usize, listener: Listener) -> io::Result<()> {
        // Whoever has come to the one that it replaces would be turned away.
        if self.listeners.contains_key(&number) {
            self.accept_from(number);
        }
        let name = Who::Listener(number).name();
        let wanted = wanted_of_listeners(self.accepting);
        self.poller.watch(listener.as_fd(), name, wanted)?;
        self.listeners.insert(number, listener);
        Ok(())
    }

    fn close(&mut self, number: usize) {
        if let Some(listener) = self.listeners.remove(&number) {
            self.poller.forget(listener.as_fd());
        }
    }

    /// Does `act` to a connection, if it is still there, and draws the conclusions.
    fn with(
        &mut self,
        id: ConnId,
        act: impl FnOnce(&mut Connection<S::Conn>, &mut Turn<S>) -> Fate,
    ) {
        if let Some(mut connection) = self.connections.remove(&id) {
            let fate = act(&mut connection, &mut self.turn());
            self.settle(connection, fate);
        }
    }

    /// Keeps a connection or lets it go; one that has just been parked needs a place.
    fn settle(&mut self, mut connection: Connection<S::Conn>, mut fate: Fate) {
        let parks = fate == Fate::Keep && connection.is_parked() && !connection.filed.parked;
        if parks && self.draining.is_some() {
            fate = connection.unpark(&mut self.turn(), Unparked::Draining);
        }
        let listener = connection.listener;
        match fate {
            Fate::Keep => self.keep(connection),
            Fate::Drop => self.let_go(connection),
        }
        if parks {
            self.make_room_to_park(listener);
        }
    }

    /// Sends away those that have waited longest until a listener's share is kept.
    fn make_room_to_park(&mut self, listener: usize) {
        let share = self.share(listener).parked;
        // Without a crowd nobody need be counted.
        while self.connections.len() > share {
            let mut parked = self.crowd(listener, true).map(|it| it.id);
            let Some(first) = parked.next().filter(|_| parked.count() >= share) else {
                return;
            };
            self.with(first, |connection, turn| {
                connection.unpark(turn, Unparked::Crowded)
            });
        }
    }

    /// The connections that came by a listener and are parked, or aren't, the first one first.
    fn crowd(&self, listener: usize, parked: bool) -> impl Iterator<Item = &Connection<S::Conn>> {
        let all = self.connections.values();
        all.filter(move |it| it.listener == listener && it.is_parked() == parked)
    }

    fn share(&self, listener: usize) -> Share {
        match listener {
            0 => self.limits.first,
            _ => {
                let first = usize::from(self.listeners.contains_key(&0));
                self.limits.others.of_one(self.listeners.len() - first)
            }
        }
    }

    /// Keeps a connection, and in mind what it waits for.
    fn keep(&mut self, mut connection: Connection<S::Conn>) {
        let (id, interest) = (connection.id, connection.interest());
        let name = Who::Connection(id).name();
        let watched = match connection.filed.interest {
            None => self.poller.watch(connection.as_fd(), name, interest),
            Some(old) if old == interest => Ok(()),
            Some(_) => self.poller.change(connection.as_fd(), name, interest),
        };
        if let Err(error) = watched {
            log::warn!("a connection can't be watched: {error}");
            return self.let_go(connection);
        }
        connection.filed.interest = Some(interest);
        self.file(&mut connection);
        self.connections.insert(id, connection);
    }

    /// Brings the deadlines in step with what has become of a connection.
    fn file(&mut self, connection: &mut Connection<S::Conn>) {
        let deadline = connection.deadline();
        if deadline != connection.filed.deadline {
            if let Some(old) = connection.filed.deadline {
                self.deadlines.remove(&(old, connection.id));
            }
            if let Some(new) = deadline {
                self.deadlines.insert((new, connection.id));
            }
            connection.filed.deadline = deadline;
        }
        connection.filed.parked = connection.is_parked();
    }

    fn let_go(&mut self, connection: Connection<S::Conn>) {
        let filed = &connection.filed;
        if filed.interest.is_some() {
            self.poller.forget(connection.as_fd());
        }
        if let Some(deadline) = filed.deadline {
            self.deadlines.remove(&(deadline, connection.id));
        }
        connection.close(&mut self.service);
    }

    fn turn(&mut self) -> Turn<'_, S> {
        Turn {
            service: &mut self.service,
            limits: &self.limits,
            now: self.now,
        }
    }

    fn read_inbox(&mut self) {
        // Before the messages are read, so that none is overlooked.
        self.inbox.alarm.clear();
        while let Ok(message) = self.inbox.receiver.try_recv() {
            match message {
                Message::Send { id, bytes, last } => {
                    self.with(id, |connection, turn| connection.send(turn, bytes, last));
                }
                Message::Publish(bytes) => self.each(Connection::is_stream, |connection, turn| {
                    connection.send(turn, bytes.clone(), false)
                }),
                Message::Open { number, listener } if !self.stopping => {
                    if let Err(error) = self.open(number, listener) {
                        log::error!("can't listen on another socket: {error}");
                    }
                }
                Message::Open { .. } => {}
                Message::Close { number } => self.close(number),
                Message::Drain(done) => {
                    self.draining = Some(done);
                    self.each(Connection::is_parked, |connection, turn| {
                        connection.unpark(turn, Unparked::Draining)
                    });
                }
                Message::Resume => self.draining = None,
                Message::Stop => self.stop(),
            }
        }
    }

    /// The same, with all of these.
    fn each(
        &mut self,
        wanted: impl Fn(&Connection<S::Conn>) -> bool,
        act: impl Fn(&mut Connection<S::Conn>, &mut Turn<S>) -> Fate,
    ) {
        let connections = self.connections.values().filter(|it| wanted(it));
        let ids: Vec<ConnId> = connections.map(|it| it.id).collect();
        for id in ids {
            self.with(id, &act);
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        while let Some(number) = self.listeners.keys().next().copied() {
            self.close(number);
        }
        self.accept_after = None;
        self.each(|_| true, Connection::stop);
    }

    fn expire(&mut self) {
        let late = self.deadlines.range(..=(self.now, ConnId(u64::MAX)));
        let ids: Vec<ConnId> = late.map(|(_, id)| *id).collect();
        for id in ids {
            self.with(id, |connection, turn| connection.expire(turn));
        }
    }

    /// Empties a listener's backlog, within reason.
    fn accept_from(&mut self, index: usize) {
        for _ in 0..MAX_ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(&index) else {
                return;
            };
            match listener.accept() {
                Ok(socket) => self.admit(index, socket),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return,
                    // The peer left before its turn came.
                    Some(Errno::EINTR | Errno::ECONNABORTED | Errno::EPROTO) => {}
                    Some(Errno::EMFILE | Errno::ENFILE) if self.free_descriptor(index) => {}
                    _ => {
                        log::warn!("can't accept a connection: {error}");
                        self.accept_after = Some(self.now + ACCEPT_PAUSE);
                        return;
                    }
                },
            }
        }
    }

    fn admit(&mut self, index: usize, socket: Socket) {
        let Some(listener) = self.listeners.get(&index) else {
            return;
        };
        let is_unix = listener.is_unix;
        let wrap = listener.wrap.as_ref();
        let transport = match wrap.map(|wrap| wrap(&socket)).transpose() {
            Ok(transport) => transport,
            Err(error) => return log::debug!("a connection could not be set up: {error}"),
        };
        let id = ConnId::next();
        let service = &mut self.service;
        let conn = guarded(|| service.connected(id, index, &socket)).flatten();
        if let Some(conn) = conn {
            let share = self.share(index).connections;
            if self.connections.len() >= share && self.crowd(index, false).count() >= share {
                self.evict(index);
            }
            let by = self.now.checked_add(self.limits.read_timeout);
            let socket = (socket, is_unix);
            let mut connection = Connection::new(id, index, socket, transport, conn, by);
            // The request is often here already: it is answered without a look at what is ready.
            let fate = connection.attend(&mut self.turn(), PollFlags::POLLIN);
            self.settle(connection, fate);
        }
    }

    /// Drops the connection of a listener whose loss hurts least; `false` without one to drop.
    fn evict(&mut self, listener: usize) -> bool {
        loop {
            let victim = self.crowd(listener, false).min_by_key(|it| it.worth());
            let victim = victim.map(|it| it.id);
            let Some(mut connection) = victim.and_then(|id| self.connections.remove(&id)) else {
                return false;
            };
            // Its request may have arrived since it was looked at.
            let before = connection.worth();
            let fate = connection.attend(&mut self.turn(), PollFlags::POLLIN);
            if fate == Fate::Keep && connection.worth() != before {
                self.settle(connection, fate);
                continue;
            }
            log::debug!("too many connections: the first of them is dropped");
            self.let_go(connection);
            return true;
        }
    }

    /// Out of descriptors: frees one, or takes one connection off the backlog and closes it.
    /// `false` when neither was possible.
    fn free_descriptor(&mut self, index: usize) -> bool {
        if self.evict(index) {
            return true;
        }
        let shed = self.spare.take().is_some()
            && self
                .listeners
                .get(&index)
                .is_some_and(|listener| listener.accept().is_ok());
        self.spare = spare();
        shed && self.spare.is_some()
    }
}

/// What a connection needs to take its turn.
struct Turn<'a, S> {
    service: &'a mut S,
    limits: &'a Limits,
    now: Instant,
}

/// A call of the service's code; a panic there is its connection's end, not the server's.
fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    if outcome.is_err() {
        log::error!("a bug: the handling of a request panicked; its connection is closed");
    }
    outcome.ok()
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// What to watch a listener for.
fn wanted_of_listeners(accepting: bool) -> PollFlags {
    if accepting {
        PollFlags::POLLIN
    } else {
        PollFlags::empty()
    }
}
