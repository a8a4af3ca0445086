//! One side of a session: where it is heard and told something, with TLS or without. Nothing here
//! blocks but what has a deadline.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
    time::Instant,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, poll},
    sys::{
        socket::{Shutdown, setsockopt, shutdown, sockopt},
        stat::{SFlag, fstat},
    },
};
use rustls::Connection;

use crate::http::poll_timeout;

/// How much is read at once where a side is waited for, in bytes: more than the longest line.
const PIECE_BYTES: usize = 16 << 10;

/// One side of a session.
pub struct End {
    /// Where it is heard.
    pub(super) input: Arc<File>,
    /// Where it is told something.
    pub(super) output: Arc<File>,
    tls: Option<Box<Connection>>,
    /// What it is to be told, not yet encrypted.
    pub(super) untold: Vec<u8>,
    /// It says no more.
    pub(super) has_ended: bool,
    /// It knows that the other side says no more.
    pub(super) is_shut: bool,
}

impl End {
    /// One at two descriptors.
    pub fn new(input: Arc<File>, output: Arc<File>) -> Self {
        dont_block(&input);
        dont_block(&output);
        // Without it, a peer that vanishes is never missed; a pipe knows no such thing.
        let _ = setsockopt(&*input, sockopt::KeepAlive, &true);
        End {
            input,
            output,
            tls: None,
            untold: Vec::new(),
            has_ended: false,
            is_shut: false,
        }
    }

    /// One at a socket.
    pub fn socket(socket: impl Into<OwnedFd>) -> Self {
        let socket = Arc::new(File::from(socket.into()));
        End::new(socket.clone(), socket)
    }

    /// TLS begins.
    pub fn secure(&mut self, tls: Connection) {
        self.tls = Some(Box::new(tls));
    }

    /// Tells it this, by then.
    ///
    /// # Errors
    /// `TimedOut`, or that it doesn't listen.
    pub fn say(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        self.tell(bytes);
        while self.owes() {
            self.wait(PollFlags::POLLOUT, deadline)?;
            self.flush(false)?;
        }
        Ok(())
    }

    /// Waits until then for more that it says, and carries on with TLS meanwhile; false at its end.
    ///
    /// # Errors
    /// `TimedOut`, or that the connection broke.
    pub fn listen(&mut self, heard: &mut Vec<u8>, deadline: Instant) -> io::Result<bool> {
        let before = heard.len();
        let mut piece = [0; PIECE_BYTES];
        while heard.len() == before && !self.has_ended {
            self.shake_hands(&mut piece, heard, deadline)?;
        }
        Ok(heard.len() > before)
    }

    /// Waits until then for TLS to be agreed on.
    ///
    /// # Errors
    /// Why it isn't.
    pub fn agree(&mut self, deadline: Instant) -> io::Result<()> {
        let mut piece = [0; PIECE_BYTES];
        while self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            if self.has_ended {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.shake_hands(&mut piece, &mut Vec::new(), deadline)?;
        }
        Ok(())
    }

    /// One step: tells it what it is owed, and hears what it says.
    fn shake_hands(
        &mut self,
        piece: &mut [u8],
        heard: &mut Vec<u8>,
        deadline: Instant,
    ) -> io::Result<()> {
        self.flush(false)?;
        let flags = if self.owes() {
            PollFlags::POLLOUT
        } else {
            PollFlags::empty()
        };
        self.wait(flags | PollFlags::POLLIN, deadline)?;
        let outcome = self.hear(piece, heard);
        // What TLS has to say about it (an alert) goes, if it can.
        self.flush(false).and(outcome)
    }

    fn wait(&self, flags: PollFlags, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        let mut fds = [PollFd::new(self.input.as_fd(), flags)];
        match poll(&mut fds, poll_timeout(left)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// It is to be told this.
    pub fn tell(&mut self, bytes: &[u8]) {
        self.untold.extend_from_slice(bytes);
    }

    /// Whether there is something that it hasn't been told yet.
    pub(super) fn owes(&self) -> bool {
        let tls_wants = || self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        !self.is_shut && (!self.untold.is_empty() || tls_wants())
    }

    /// Tells it what it takes, and in the end that nothing follows, if this is the `last`.
    pub(super) fn flush(&mut self, last: bool) -> io::Result<()> {
        if last && self.untold.is_empty() {
            self.tls.iter_mut().for_each(|tls| tls.send_close_notify());
        }
        while self.owes() {
            let mut output = &*self.output;
            let told = match &mut self.tls {
                Some(tls) => {
                    let count = tls.writer().write(&self.untold)?;
                    self.untold.drain(..count);
                    tls.write_tls(&mut output)
                }
                None => output
                    .write(&self.untold)
                    .inspect(|count| drop(self.untold.drain(..*count))),
            };
            match told {
                Err(error) if is_for_later(&error) => return Ok(()),
                told => told?,
            };
        }
        if last && !self.is_shut {
            self.is_shut = true;
            shutdown(self.output.as_raw_fd(), Shutdown::Write)?;
        }
        Ok(())
    }

    /// Reads what there is, by way of `chunk`, into `heard`.
    pub(super) fn hear(&mut self, chunk: &mut [u8], heard: &mut Vec<u8>) -> io::Result<()> {
        match (&*self.input).read(chunk) {
            Err(error) if is_for_later(&error) => Ok(()),
            Ok(0) => {
                self.has_ended = true;
                Ok(())
            }
            read => {
                let count = read?;
                self.decrypt(chunk.get(..count).unwrap_or_default(), heard)
            }
        }
    }

    /// Takes what was sent.
    fn decrypt(&mut self, mut sent: &[u8], heard: &mut Vec<u8>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            heard.extend_from_slice(sent);
            return Ok(());
        };
        loop {
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            self.has_ended |= state.peer_has_closed();
            let count = u64::try_from(state.plaintext_bytes_to_read()).unwrap_or(u64::MAX);
            heard.reserve(usize::try_from(count).unwrap_or(0));
            tls.reader().take(count).read_to_end(heard)?;
            if sent.is_empty() || self.has_ended {
                return Ok(());
            }
            tls.read_tls(&mut sent)?;
        }
    }

    /// Whether it has ended in TLS's own way (RFC 8446, section 6.1).
    pub(super) fn has_closed(&mut self) -> bool {
        let state = self.tls.as_mut().map(|tls| tls.process_new_packets());
        matches!(state, Some(Ok(state)) if state.peer_has_closed())
    }
}

/// Others may have a terminal or a file open, too; a pipe or a socket is this program's alone.
fn dont_block(end: &File) {
    let kind = fstat(end).map(|it| SFlag::from_bits_truncate(it.st_mode) & SFlag::S_IFMT);
    if matches!(kind, Ok(SFlag::S_IFIFO | SFlag::S_IFSOCK)) {
        let flags = fcntl(end, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
        let _ = flags.map(|flags| fcntl(end, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)));
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
