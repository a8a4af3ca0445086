//! How much unused memory the C library keeps. Left to itself, glibc spends memory to
//! save time: a daemon that does nothing for most of its life wants it the other way round.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
use nix::libc;

/// From how many separate heaps threads allocate. By default each of the workers gets its own,
/// and with it what every one of them ever used at once. They mostly wait for a network, so one
/// heap will do: its lock is held for less than a microsecond.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: libc::c_int = 1;

/// From what size on, in bytes, a block is mapped by itself and goes back when it is freed. By
/// default glibc learns from the first dump of a megabyte to put the next on the heap, where it
/// leaves a hole. This is where it starts; to say so keeps it there, and with it the size of
/// what is free at the heap's end before that goes back.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM: libc::c_int = 128 << 10;

/// Has the allocator keep little. To be called before there is a second thread.
pub fn tune_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: both are options that mallopt(3) has; it changes nothing that is in use, and when it
    // refuses, all stays as it is.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
    }
}

/// Gives back what is free. It takes a few milliseconds, in which no thread can allocate: to be
/// called after something large, not often.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim(3) takes only pages that are free, under the allocator's own lock.
    unsafe {
        libc::malloc_trim(0);
    }
}
