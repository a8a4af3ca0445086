//! Descriptors that go along with a state, which counts them.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Which of the descriptors that go along.
pub type Slot = usize;

/// The descriptors that go along, as they are counted.
#[derive(Default)]
pub struct SlotWriter(Vec<Box<dyn AsFd>>);

impl SlotWriter {
    /// One more.
    pub fn put(&mut self, fd: impl AsFd + 'static) -> Slot {
        self.0.push(Box::new(fd));
        self.0.len().saturating_sub(1)
    }

    /// All of them.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.0.iter().map(|fd| fd.as_fd()).collect()
    }
}

/// The descriptors that have come along.
pub struct SlotReader(Vec<Option<OwnedFd>>);

impl SlotReader {
    /// All of them.
    pub fn new(fds: Vec<OwnedFd>) -> Self {
        SlotReader(fds.into_iter().map(Some).collect())
    }

    /// One, which is there once.
    ///
    /// # Errors
    /// When it isn't there.
    pub fn take(&mut self, slot: Slot) -> io::Result<OwnedFd> {
        let found = self.0.get_mut(slot).and_then(Option::take);
        found.ok_or_else(|| io::Error::other("a descriptor got lost"))
    }
}
