//! Sockets of both families behind one face, and what may stand between them and a protocol.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::errno::Errno;
use nix::sys::socket::{Backlog, MsgFlags, listen, recv, send};

/// Said with each call: it spares the call that would say it once for the socket.
const RECV_FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT;

/// A write to a peer that has left is an error, not a signal. Apple's systems lack the flag;
/// there the runtime's ignored SIGPIPE does the same.
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT;

/// One accepted connection's socket; closed on exec. Its methods never block.
#[derive(Debug)]
pub enum Socket {
    /// From a Unix socket.
    Unix(UnixStream),
    /// From a TCP socket.
    Tcp(TcpStream),
}

impl Socket {
    /// Reads what has arrived; 0 is the peer's end.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has; else the connection is lost.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        again(|| recv(self.as_fd().as_raw_fd(), buffer, RECV_FLAGS))
    }

    /// Writes what fits.
    ///
    /// # Errors
    /// `WouldBlock` when nothing does; else the connection is lost.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        again(|| send(self.as_fd().as_raw_fd(), bytes, SEND_FLAGS))
    }

    /// The first byte that has arrived, which stays to be read; `None` is the peer's end.
    ///
    /// # Errors
    /// As those of [`Socket::recv`].
    pub fn peek(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        let flags = RECV_FLAGS.union(MsgFlags::MSG_PEEK);
        let read = again(|| recv(self.as_fd().as_raw_fd(), &mut byte, flags))?;
        Ok((read > 0).then_some(byte[0]))
    }

    /// Tells the peer that nothing more will come.
    pub(super) fn end(&self) {
        // The peer may have left already.
        let _ = match self {
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

/// Calls again when a signal came in between.
fn again(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Unix(stream) => stream.as_fd(),
            Socket::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// What stands between a socket's bytes and the protocol's: TLS.
pub trait Transport {
    /// Reads plain bytes; 0 is the peer's end. Also carries the handshake on.
    ///
    /// # Errors
    /// `WouldBlock` when there are none yet. Any other ends the connection, after what
    /// [`Transport::flush`] still has to say (an alert).
    fn read(&mut self, socket: &Socket, buffer: &mut [u8]) -> io::Result<usize>;

    /// Takes plain bytes over, as many as it has room for.
    ///
    /// # Errors
    /// `WouldBlock` when it has none; else the connection is lost.
    fn write(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize>;

    /// Hands everything that it holds to the socket.
    ///
    /// # Errors
    /// `WouldBlock` when something remains; else the connection is lost.
    fn flush(&mut self, socket: &Socket) -> io::Result<()>;

    /// Whether there is something to flush.
    fn wants_write(&self) -> bool;

    /// Queues the goodbye (close_notify), once.
    fn end(&mut self);
}

/// Makes a listener's transport for one accepted socket.
pub type Wrap = Box<dyn Fn(&Socket) -> io::Result<Box<dyn Transport>> + Send>;

/// A socket that is listened on.
pub struct Listener {
    socket: Accepting,
    wrap: Option<Wrap>,
}

/// Gives a socket that is listened on the longest backlog that the system has: a peer that finds it
/// full is held up for a second, and so a flood would cost others something after all.
///
/// # Errors
/// When it can't be listened on.
pub fn lengthen_backlog(socket: &impl AsFd) -> io::Result<()> {
    listen(socket, Backlog::MAXCONN)?;
    Ok(())
}

enum Accepting {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// A listening Unix socket. Its file is the caller's business.
    ///
    /// # Errors
    /// When it can't be made non-blocking.
    pub fn unix(socket: UnixListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Listener {
            socket: Accepting::Unix(socket),
            wrap: None,
        })
    }

    /// A listening TCP socket, as [`Listener::unix`].
    ///
    /// # Errors
    /// When it can't be made non-blocking.
    pub fn tcp(socket: TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Listener {
            socket: Accepting::Tcp(socket),
            wrap: None,
        })
    }

    /// The same listener, with a transport around each of its connections.
    pub fn wrapped(self, wrap: Wrap) -> Self {
        Listener {
            wrap: Some(wrap),
            ..self
        }
    }

    pub(super) fn accept(&self) -> io::Result<Socket> {
        match &self.socket {
            Accepting::Unix(listener) => Ok(Socket::Unix(listener.accept()?.0)),
            Accepting::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                // A reply is one write or a few; none of them should wait for an acknowledgement.
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
        }
    }

    pub(super) fn wrap(&self, socket: &Socket) -> io::Result<Option<Box<dyn Transport>>> {
        self.wrap.as_ref().map(|wrap| wrap(socket)).transpose()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Accepting::Unix(listener) => listener.as_fd(),
            Accepting::Tcp(listener) => listener.as_fd(),
        }
    }
}
