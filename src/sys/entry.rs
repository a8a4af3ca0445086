//! What the standard library does before `main`, less what a client doesn't need: looking for the
//! stack's end costs it a fifth of its instructions.

use std::{
    fs::File,
    os::fd::{BorrowedFd, IntoRawFd},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SigHandler, Signal, signal},
};

/// Makes sure that descriptors 0, 1 and 2 are open, so that no socket becomes stdout, and that a
/// closed pipe is an error and not a signal. To be called first, where the standard library's own
/// start is left out.
pub fn prepare() {
    // SAFETY: nothing handles SIGPIPE, and ignoring it involves no handler.
    let ignored = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    if ignored.is_err() || !open_missing() {
        std::process::abort();
    }
}

/// False when one of them is closed and nothing could be put in its place.
fn open_missing() -> bool {
    // SAFETY: the numbers are only asked about; poll(2) says which are no descriptors.
    let standard = [0, 1, 2].map(|fd| unsafe { BorrowedFd::borrow_raw(fd) });
    let mut fds = standard.map(|fd| PollFd::new(fd, PollFlags::empty()));
    if poll(&mut fds, PollTimeout::ZERO).is_err() {
        // As strange as it is harmless: without an answer they are taken for open.
        return true;
    }
    let closed = |fd: &PollFd| {
        fd.revents()
            .is_some_and(|seen| seen.contains(PollFlags::POLLNVAL))
    };
    (0..)
        .zip(&fds)
        .filter(|(_, fd)| closed(fd))
        .all(|(number, _)| {
            // The lowest free number is the one that is missing, since they are gone through in order.
            // A stdout that takes nothing makes a token that nobody gets an error.
            let is_stdout = number == 1;
            let null = File::options()
                .read(true)
                .write(!is_stdout)
                .open("/dev/null");
            null.map(IntoRawFd::into_raw_fd).is_ok()
        })
}
