//! A line between two processes of the server. A message and its descriptors are one value: eight
//! bytes say how long the message is and how many descriptors belong to it, and a reader takes no
//! byte beyond the message that it is reading, so nothing can be taken for part of another one.
//!
//! What can't be read ends the line: a message that is too long, makes no sense, or has other
//! descriptors than it says closes those that came with it, and nothing is read after it. A message
//! that lost descriptors since this process may have no more is dropped alone, with those that came:
//! its peer has done nothing wrong, and the monitor must outlive that.

use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::{collections::VecDeque, marker::PhantomData, sync::Arc, time::Duration};

use nix::{
    errno::Errno,
    poll::PollFlags,
    sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::server::base::descriptors;

/// How many descriptors one message may carry: both sockets of both redirect ports, the control
/// socket, and restricted ones.
pub const MAX_FDS: usize = 64;

/// How long one message may be, in bytes: a configuration of the largest size, every character of
/// which is escaped.
pub const MAX_BYTES: usize = 8 << 20;

/// How much room is made for a message ahead of its bytes: what a peer announces costs nothing.
const PIECE: usize = 64 << 10;

/// The length of a message and the number of its descriptors, in the machine's byte order: both ends
/// run on it.
const HEADER: usize = 8;

/// A message, and the descriptors that belong to it.
#[derive(Debug)]
pub struct Message<T> {
    /// What it says.
    pub body: T,
    /// What it brings.
    pub fds: Vec<OwnedFd>,
}

/// What there is to read just now.
#[derive(Debug)]
pub enum Next<T> {
    /// A whole message.
    Message(Message<T>),
    /// A message came without some of its descriptors (MSG_CTRUNC), and was dropped.
    Lost,
    /// No whole one yet.
    Nothing,
    /// The peer is gone.
    End,
}

/// One end of a line: it sends messages of one type and receives those of another.
pub struct Line<Out, In> {
    stream: Arc<UnixStream>,
    reading: Reading,
    /// What the peer hasn't taken yet.
    queue: VecDeque<Frame>,
    types: PhantomData<fn(Out) -> In>,
}

/// The message that is arriving.
#[derive(Default)]
struct Reading {
    header: Vec<u8>,
    body: Vec<u8>,
    fds: Vec<OwnedFd>,
    /// Descriptors were lost.
    lost: bool,
    /// Something made no sense: nothing is read any more.
    broken: bool,
}

/// The rest of a message, and the descriptors that go with its first byte.
struct Frame {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

impl<Out: Serialize, In: DeserializeOwned> Line<Out, In> {
    /// This end of a socket whose other end is a line, too.
    pub fn new(stream: UnixStream) -> Self {
        Line {
            stream: Arc::new(stream),
            reading: Reading::default(),
            queue: VecDeque::new(),
            types: PhantomData,
        }
    }

    /// A line of which a predecessor has read a part of a message ([`Line::unread`]).
    pub fn resume(stream: UnixStream, unread: &[u8]) -> Self {
        let mut line = Line::new(stream);
        let (header, body) = unread.split_at(unread.len().min(HEADER));
        line.reading.header = header.to_vec();
        line.reading.body = body.to_vec();
        line
    }

    /// What has arrived of the next message, where messages bring no descriptors.
    pub fn unread(&self) -> Vec<u8> {
        [&*self.reading.header, &self.reading.body].concat()
    }

    /// The socket, to poll it or to give it limits.
    pub fn socket(&self) -> Arc<UnixStream> {
        self.stream.clone()
    }

    /// How long [`Line::recv`] waits; zero is no time at all.
    ///
    /// # Errors
    /// When the socket refuses.
    pub fn set_patience(&self, limit: Duration) -> io::Result<()> {
        // None is for ever, to the system.
        self.stream
            .set_read_timeout(Some(limit.max(Duration::from_millis(1))))
    }

    /// Sends a message and all of `fds`, and waits until the peer has room for it.
    ///
    /// # Errors
    /// When the line takes no more, or is lost.
    pub fn send(&self, message: &Out, fds: &[BorrowedFd]) -> io::Result<()> {
        let bytes = frame(message, fds.len())?;
        let sent = send_some(&self.stream, &bytes, fds, MsgFlags::empty())?;
        (&*self.stream).write_all(bytes.get(sent..).unwrap_or_default())
    }

    /// Sends a message if the peer has room for all of it at once, as an empty line has.
    ///
    /// # Errors
    /// When it hasn't: a part may have gone, so nothing more may be sent.
    pub fn send_now(&self, message: &Out, fds: &[BorrowedFd]) -> io::Result<()> {
        let bytes = frame(message, fds.len())?;
        if send_some(&self.stream, &bytes, fds, MsgFlags::MSG_DONTWAIT)? == bytes.len() {
            return Ok(());
        }
        Err(ErrorKind::WouldBlock.into())
    }

    /// Waits for a message; `None` is the end of the line.
    ///
    /// # Errors
    /// When the time is over ([`Line::set_patience`]), or the line is lost.
    pub fn recv(&mut self) -> io::Result<Option<Message<In>>> {
        loop {
            match self.reading.read(&self.stream, false)? {
                Next::Message(message) => return Ok(Some(message)),
                Next::Lost => return Err(self.reading.give_up("a descriptor got lost")),
                Next::Nothing => {}
                Next::End => return Ok(None),
            }
        }
    }

    /// The next message, if it is there; never waits.
    ///
    /// # Errors
    /// When the line is lost.
    pub fn try_recv(&mut self) -> io::Result<Next<In>> {
        loop {
            match self.reading.read(&self.stream, true) {
                Ok(Next::Nothing) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Next::Nothing),
                outcome => return outcome,
            }
        }
    }

    /// Queues a message for [`Line::flush`].
    ///
    /// # Errors
    /// When it can't be a message.
    pub fn queue(&mut self, message: &Out, fds: Vec<OwnedFd>) -> io::Result<()> {
        let bytes = frame(message, fds.len())?;
        let sent = 0;
        self.queue.push_back(Frame { bytes, sent, fds });
        Ok(())
    }

    /// Writes what the peer takes without waiting.
    ///
    /// # Errors
    /// When the line is lost.
    pub fn flush(&mut self) -> io::Result<()> {
        while let Some(front) = self.queue.front_mut() {
            let fds: Vec<_> = front.fds.iter().map(AsFd::as_fd).collect();
            let rest = front.bytes.get(front.sent..).unwrap_or_default();
            match send_some(&self.stream, rest, &fds, MsgFlags::MSG_DONTWAIT) {
                Ok(count) => {
                    front.fds.clear();
                    front.sent = front.sent.saturating_add(count);
                    if front.sent >= front.bytes.len() {
                        self.queue.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether all that was queued has gone.
    pub fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }

    /// What to poll the socket for: messages, and room for what is queued.
    pub fn awaits(&self) -> PollFlags {
        match self.is_flushed() {
            true => PollFlags::POLLIN,
            false => PollFlags::POLLIN | PollFlags::POLLOUT,
        }
    }
}

impl<Out, In> AsFd for Line<Out, In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Reading {
    /// The message's length and the number of its descriptors, once they have arrived.
    fn expected(&self) -> Option<(usize, usize)> {
        let (length, count) = self.header.split_first_chunk::<4>()?;
        let count = count.first_chunk::<4>()?;
        let number = |bytes: &[u8; 4]| u32::from_ne_bytes(*bytes) as usize;
        Some((number(length), number(count)))
    }

    /// Reads a piece; what is whole is taken out.
    fn read<T: DeserializeOwned>(&mut self, stream: &UnixStream, now: bool) -> io::Result<Next<T>> {
        if self.broken {
            return Err(io::Error::other("the line is broken"));
        }
        let expected = self.expected();
        let (into, missing) = match expected {
            None => (&mut self.header, HEADER),
            Some((length, _)) => (&mut self.body, length),
        };
        let missing = missing.saturating_sub(into.len()).min(PIECE);
        let before = into.len();
        (into.try_reserve(missing)).map_err(|_| ErrorKind::OutOfMemory)?;
        into.resize(before.saturating_add(missing), 0);
        let room = into.get_mut(before..).unwrap_or_default();
        let received = descriptors::receive(stream, room, now);
        let bytes = received.as_ref().map_or(0, |it| it.bytes);
        into.truncate(before.saturating_add(bytes));
        let received = received?;
        self.fds.extend(received.fds);
        self.lost |= received.lost;
        if bytes == 0 {
            return self.end();
        }
        self.progress()
    }

    /// How far the message has come.
    fn progress<T: DeserializeOwned>(&mut self) -> io::Result<Next<T>> {
        let Some((length, count)) = self.expected() else {
            return Ok(Next::Nothing);
        };
        if length == 0 || length > MAX_BYTES || self.fds.len() > count {
            return Err(self.give_up("a message makes no sense"));
        }
        if self.body.len() < length {
            return Ok(Next::Nothing);
        }
        // They come with the first byte.
        if self.fds.len() < count && !self.lost {
            return Err(self.give_up("a descriptor is missing"));
        }
        let Reading {
            body, fds, lost, ..
        } = std::mem::take(self);
        if lost {
            return Ok(Next::Lost);
        }
        match serde_json::from_slice(&body) {
            Ok(body) => Ok(Next::Message(Message { body, fds })),
            Err(error) => Err(self.give_up(&error.to_string())),
        }
    }

    /// The peer has hung up, between messages or within one.
    fn end<T>(&mut self) -> io::Result<Next<T>> {
        if self.header.is_empty() {
            return Ok(Next::End);
        }
        Err(self.give_up("a message broke off"))
    }

    /// Closes what has come, and ends the line.
    fn give_up(&mut self, why: &str) -> io::Error {
        *self = Reading {
            broken: true,
            ..Reading::default()
        };
        io::Error::new(ErrorKind::InvalidData, why.to_owned())
    }
}

fn frame(message: &impl Serialize, fds: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len().saturating_sub(HEADER);
    if length > MAX_BYTES || fds > MAX_FDS {
        return Err(io::Error::other("a message is too long"));
    }
    // Both are far below what fits.
    let [length, count] = [length, fds].map(|it| (it as u32).to_ne_bytes());
    drop(bytes.splice(..HEADER, [length, count].concat()));
    Ok(bytes)
}

/// Sends the beginning of `bytes`, and with it all of `fds`; how many bytes have gone. Also for
/// a peer that uses another protocol than lines do, such as a service manager.
///
/// # Errors
/// `WouldBlock` when nothing could be sent; else the line is lost.
pub fn send_some(
    line: &impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd],
    flags: MsgFlags,
) -> io::Result<usize> {
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights: &[ControlMessage] = if fds.is_empty() { &[] } else { &rights };
    let iov = [IoSlice::new(bytes)];
    loop {
        let line = line.as_fd().as_raw_fd();
        match sendmsg::<UnixAddr>(line, &iov, rights, flags, None) {
            Err(Errno::EINTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::server::base::pipe::{PipeWriter, pipe};

    type Ours = Line<String, String>;

    fn pair() -> (Ours, Ours) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Line::new(ours), Line::new(theirs))
    }

    /// A line, and a bare socket that leads to it.
    fn bare() -> (Ours, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Line::new(ours), theirs)
    }

    /// Which open files these are: numbers may be used again by other tests' threads.
    fn pipes(count: usize) -> Vec<PipeWriter> {
        let pipe = || {
            let (reader, writer) = pipe().unwrap();
            drop(reader);
            writer
        };
        std::iter::repeat_with(pipe).take(count).collect()
    }

    fn open_files() -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir("/proc/self/fd")
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter_map(|it| fs::read_link(it.path()).ok())
            .collect()
    }

    /// How often this process has each of these open.
    fn open_count(pipes: &[PipeWriter]) -> usize {
        use std::os::unix::fs::MetadataExt;
        let names = pipes
            .iter()
            .map(|pipe| format!("pipe:[{}]", pipe.metadata().unwrap().ino()));
        let names: Vec<String> = names.collect();
        let open = open_files();
        open.iter()
            .filter(|file| names.iter().any(|name| file.as_os_str() == &**name))
            .count()
    }

    #[test]
    fn a_message_and_its_descriptors_are_one() {
        let (ours, mut theirs) = pair();
        let pipes = pipes(2);
        let [first, second] = [0, 1].map(|at| pipes[at].as_fd());
        ours.send(&"none".into(), &[]).unwrap();
        ours.send(&"one".into(), &[first]).unwrap();
        ours.send(&"none again".into(), &[]).unwrap();
        ours.send(&"two".into(), &[first, second]).unwrap();
        let heard: Vec<(String, usize)> =
            std::iter::repeat_with(|| theirs.recv().unwrap().unwrap())
                .map(|message| (message.body, message.fds.len()))
                .take(4)
                .collect();
        let said = [("none", 0), ("one", 1), ("none again", 0), ("two", 2)];
        assert_eq!(heard, said.map(|(text, count)| (text.to_owned(), count)));
        assert!(matches!(theirs.try_recv(), Ok(Next::Nothing)));
        drop(ours);
        assert!(matches!(theirs.try_recv(), Ok(Next::End)));
    }

    #[test]
    fn what_is_queued_goes_as_the_peer_takes_it() {
        let (mut ours, mut theirs) = pair();
        let long = "x".repeat(1 << 20);
        let pipes = pipes(1);
        for _ in 0..3 {
            let fd = pipes[0].as_fd().try_clone_to_owned().unwrap();
            ours.queue(&long, vec![fd]).unwrap();
        }
        let mut heard = 0;
        while heard < 3 {
            ours.flush().unwrap();
            if let Next::Message(message) = theirs.try_recv().unwrap() {
                assert_eq!((message.body.len(), message.fds.len()), (long.len(), 1));
                heard += 1;
            }
        }
        assert!(ours.is_flushed());
    }

    #[test]
    fn a_successor_reads_on_within_a_message() {
        let (ours, stream) = bare();
        let mut bytes = frame(&"a message", 0).unwrap();
        let rest = bytes.split_off(11);
        (&stream).write_all(&bytes).unwrap();
        let mut line = ours;
        assert!(matches!(line.try_recv(), Ok(Next::Nothing)));
        let unread = line.unread();
        let socket = line.socket().try_clone().unwrap();
        drop(line);
        let mut successor = Ours::resume(socket, &unread);
        (&stream).write_all(&rest).unwrap();
        assert_eq!(successor.recv().unwrap().unwrap().body, "a message");
        assert!(successor.unread().is_empty());
    }

    /// Each of these ends the line, closes what came with it, and gives nothing to what follows.
    #[test]
    fn what_makes_no_sense_ends_the_line() {
        let whole = frame(&"x", 1).unwrap();
        let none = frame(&"x", 0).unwrap();
        let header = |length: u32, count: u32| [length.to_ne_bytes(), count.to_ne_bytes()].concat();
        let nonsense = [header(3, 1), b"abc".to_vec()].concat();
        for (name, bytes, count) in [
            ("a descriptor is missing", whole.clone(), 0),
            ("a descriptor too many", whole, 2),
            ("a descriptor that nothing announced", none, 1),
            ("no JSON", nonsense, 1),
            ("a length of nothing", header(0, 1), 1),
            (
                "a length beyond the limit",
                header(MAX_BYTES as u32 + 1, 1),
                1,
            ),
            (
                "more descriptors than a message may have",
                header(1, 200),
                200,
            ),
        ] {
            let (mut ours, stream) = bare();
            let pipes = pipes(count);
            let fds: Vec<_> = pipes.iter().map(AsFd::as_fd).collect();
            let sent = send_some(&stream, &bytes, &fds, MsgFlags::empty()).unwrap();
            assert_eq!(sent, bytes.len());
            (&stream).write_all(&frame(&"next", 0).unwrap()).unwrap();
            let outcome = ours.try_recv();
            if let Ok(Next::Message(message)) = &outcome {
                panic!("{name}: {message:?}");
            }
            if name.starts_with("more descriptors") {
                // The message that they announce isn't there yet; the line's end is theirs.
                drop(ours);
            } else {
                assert!(outcome.is_err(), "{name}");
                assert!(ours.try_recv().is_err(), "{name}");
            }
            assert_eq!(open_count(&pipes), count, "{name}");
        }
    }

    #[test]
    fn half_a_message_and_the_end_is_an_error() {
        let (mut ours, stream) = bare();
        let bytes = frame(&"half", 0).unwrap();
        (&stream).write_all(&bytes[..10]).unwrap();
        assert!(matches!(ours.try_recv(), Ok(Next::Nothing)));
        drop(stream);
        assert!(ours.try_recv().is_err());
    }

    #[test]
    fn a_message_that_is_too_long_is_not_sent() {
        let (ours, _theirs) = pair();
        assert!(ours.send(&"x".repeat(MAX_BYTES + 1), &[]).is_err());
        let pipes = pipes(MAX_FDS + 1);
        let fds: Vec<_> = pipes.iter().map(AsFd::as_fd).collect();
        assert!(ours.send(&"x".into(), &fds).is_err());
    }
}
