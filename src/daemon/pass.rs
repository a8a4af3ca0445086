//! Descriptors on their way to another process (unix(7), SCM_RIGHTS).

use std::{
    io::{self, IoSlice, IoSliceMut, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg},
};
use serde::Serialize;

use super::process;

/// How many descriptors one message may carry: both sockets of both redirect ports, the control
/// socket, and restricted ones; the kernel's own limit is 253.
pub const MAX_FDS: usize = 64;

/// Sends the beginning of `bytes`, and with it all of `fds`; returns how many bytes have gone.
///
/// # Errors
/// `WouldBlock` when nothing could be sent; else the line is lost.
pub fn send(line: &impl AsFd, bytes: &[u8], fds: &[BorrowedFd]) -> io::Result<usize> {
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights: &[ControlMessage] = if fds.is_empty() { &[] } else { &rights };
    let iov = [IoSlice::new(bytes)];
    loop {
        let line = line.as_fd().as_raw_fd();
        match sendmsg::<UnixAddr>(line, &iov, rights, MsgFlags::empty(), None) {
            Err(Errno::EINTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

/// Writes all of a message on a line of text, and with it all of `fds`.
///
/// # Errors
/// When the line takes no more, or is lost.
pub fn write_line(
    mut line: &UnixStream,
    message: &impl Serialize,
    fds: &[BorrowedFd],
) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(b'\n');
    let sent = send(&line, &bytes, fds)?;
    line.write_all(bytes.get(sent..).unwrap_or_default())
}

/// Receives some bytes (0 is the end), and appends what descriptors came with them.
///
/// # Errors
/// `WouldBlock` when nothing has arrived; else the line is lost.
pub fn recv(line: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    recv_with(line, buffer, fds, flags())
}

/// The same, and never waits, whatever the line does otherwise.
pub fn recv_now(line: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    recv_with(line, buffer, fds, flags() | MsgFlags::MSG_DONTWAIT)
}

fn recv_with(
    line: &UnixStream,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
    flags: MsgFlags,
) -> io::Result<usize> {
    let mut space = cmsg_space!([RawFd; MAX_FDS]);
    let mut iov = [IoSliceMut::new(buffer)];
    loop {
        let line = line.as_fd().as_raw_fd();
        match recvmsg::<UnixAddr>(line, &mut iov, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(message) => {
                // Where there was no room for all, none of them come, and whoever needs them says so.
                for control in message.cmsgs().into_iter().flatten() {
                    if let ControlMessageOwned::ScmRights(received) = control {
                        fds.extend(received.into_iter().map(process::own));
                    }
                }
                return Ok(message.bytes);
            }
        }
    }
}

/// Apple's systems lack the flag; there [`process::own`] closes the gap.
#[cfg(not(target_vendor = "apple"))]
fn flags() -> MsgFlags {
    MsgFlags::MSG_CMSG_CLOEXEC
}

#[cfg(target_vendor = "apple")]
fn flags() -> MsgFlags {
    MsgFlags::empty()
}
