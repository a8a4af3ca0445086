//! Descriptors that arrive as numbers: from the process that started this one, and from other
//! processes (unix(7), SCM_RIGHTS).
#![allow(unsafe_code)]

use std::{
    io,
    mem::{MaybeUninit, size_of},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::{cmsg_space, libc};

/// How many descriptors one message may bring: the kernel's own limit (SCM_MAX_FD), so that none
/// is lost for want of room.
const MAX_RECEIVED: usize = 253;

/// Takes over a descriptor that has just come into the process, by its number. It is closed on
/// exec from now on.
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel or the process that started this one has said that the number is ours, and
    // each caller gets to see it once.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // It can fail only for a descriptor that isn't open, which the first use will tell.
    let _ = fcntl(fd.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    fd
}

/// What one recvmsg(2) has brought.
pub struct Received {
    /// How many bytes; 0 is the end.
    pub bytes: usize,
    /// The descriptors that came along, closed on exec.
    pub fds: Vec<OwnedFd>,
    /// Some were lost (MSG_CTRUNC): this process may have no more.
    pub lost: bool,
}

/// Receives at most `buffer`, and owns every descriptor that the kernel has put into this process,
/// also when others were lost.
///
/// # Errors
/// As recvmsg(2); with `now`, `WouldBlock` when nothing is there.
pub fn receive(line: &impl AsFd, buffer: &mut [u8], now: bool) -> io::Result<Received> {
    let mut space = cmsg_space!([RawFd; MAX_RECEIVED]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: zeros are a valid msghdr; the padding that some systems have must be zero, too.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = space.as_mut_ptr().cast();
    let flags = FLAGS | if now { libc::MSG_DONTWAIT } else { 0 };
    let bytes = loop {
        header.msg_controllen = space.capacity() as _;
        // SAFETY: the header points to buffers that live until the end of this function, and says
        // how large they are.
        let result = unsafe { libc::recvmsg(line.as_fd().as_raw_fd(), &raw mut header, flags) };
        match nix::errno::Errno::result(result) {
            Err(nix::errno::Errno::EINTR) => {}
            outcome => break outcome?,
        }
    };
    Ok(Received {
        bytes: usize::try_from(bytes).unwrap_or(0),
        fds: rights(&header),
        lost: header.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// The descriptors of a header that recvmsg(2) has filled in.
fn rights(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the header is as recvmsg(2) has left it, and the macros walk it by its own lengths.
    // Each descriptor in a message of rights was made for this process, and is read once.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(found) = control.as_ref() {
            if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SCM_RIGHTS {
                // Its type differs between systems.
                #[allow(clippy::useless_conversion)]
                let length = usize::try_from(found.cmsg_len).unwrap_or(0);
                let length = length.saturating_sub(libc::CMSG_LEN(0) as usize);
                let data: *const RawFd = libc::CMSG_DATA(control).cast();
                let count = length.checked_div(size_of::<RawFd>()).unwrap_or(0);
                for at in 0..count {
                    fds.push(own(data.add(at).read_unaligned()));
                }
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    fds
}

/// Apple's systems lack the flag; there [`own`] closes the gap.
#[cfg(not(target_vendor = "apple"))]
const FLAGS: libc::c_int = libc::MSG_CMSG_CLOEXEC;
#[cfg(target_vendor = "apple")]
const FLAGS: libc::c_int = 0;
