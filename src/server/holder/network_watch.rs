//! Notices that the network has changed: a route has come or gone, as with every address. Linux tells
//! (rtnetlink(7)); elsewhere nothing does, and what has failed is tried again in its time.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::alarm::drain;

/// Tells when the network has changed.
pub struct NetworkWatch(Option<OwnedFd>);

impl NetworkWatch {
    /// Where nobody may know, it tells nothing. To be made before the process gives up system calls.
    pub fn new() -> Self {
        NetworkWatch(open().ok())
    }

    /// Readable when something has changed.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }

    /// Forgets what has happened; whether anything has.
    pub fn changed(&self) -> bool {
        self.0.as_ref().is_some_and(drain)
    }
}

#[cfg(target_os = "linux")]
fn open() -> nix::Result<OwnedFd> {
    use nix::{libc, sys::socket as sys};
    use std::os::fd::AsRawFd;
    let flags = sys::SockFlag::SOCK_CLOEXEC | sys::SockFlag::SOCK_NONBLOCK;
    let (family, routes) = (sys::AddressFamily::Netlink, sys::SockProtocol::NetlinkRoute);
    let fd = sys::socket(family, sys::SockType::Raw, flags, routes)?;
    // That something has happened is enough to know: the kernel keeps no more than it must.
    sys::setsockopt(&fd, sys::sockopt::RcvBuf, &1)?;
    let groups = (libc::RTMGRP_IPV4_ROUTE | libc::RTMGRP_IPV6_ROUTE).unsigned_abs();
    sys::bind(fd.as_raw_fd(), &sys::NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

#[cfg(not(target_os = "linux"))]
fn open() -> nix::Result<OwnedFd> {
    Err(nix::errno::Errno::ENOSYS)
}
