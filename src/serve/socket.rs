//! Sockets of both families, and what may stand between them and a protocol.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{Backlog, listen};
pub use socket2::Socket;

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
    socket: Socket,
    pub(super) is_unix: bool,
    /// Puts a transport around each of its connections.
    pub wrap: Option<Wrap>,
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

impl Listener {
    /// A listening socket. The file of a Unix socket is the caller's business.
    ///
    /// # Errors
    /// When it can't be made non-blocking.
    pub fn new(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        let socket = Socket::from(socket.into());
        socket.set_nonblocking(true)?;
        Ok(Listener {
            is_unix: socket.local_addr()?.is_unix(),
            socket,
            wrap: None,
        })
    }

    /// A connection's socket: closed on exec, and its methods never block.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; else it is lost.
    pub fn accept(&self) -> io::Result<Socket> {
        let (socket, _) = self.socket.accept()?;
        // A new one has no other flags to keep.
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        if !self.is_unix {
            // A reply is one write or a few; none of them should wait for an acknowledgement.
            socket.set_tcp_nodelay(true)?;
        }
        Ok(socket)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
