//! How much memory that isn't in use is kept. Left to themselves, glibc and the kernel spend memory
//! to save time: a daemon that does nothing for most of its life wants it the other way round.

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

/// What code goes back is a multiple of this, in bytes: of every system's page size.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const CODE_UNIT: usize = 64 << 10;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" {
    // The program's first byte and the end of its code, as the linker has them (end(3)).
    #[link_name = "__executable_start"]
    static START: u8;
    #[link_name = "etext"]
    static CODE_END: u8;
}

/// Gives back what is free, and the program's own code, which the kernel finds again in its cache
/// when it runs: most of it is for a start and a refresh. It takes a few milliseconds, in which no
/// thread can allocate: to be called after something large, not often.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim(3) takes only pages that are free, under the allocator's own lock. Nothing
    // is read from the two places, whose addresses the linker gives. What lies between them is mapped
    // from the program's file and never written, so pages that are gone are read from there again.
    unsafe {
        libc::malloc_trim(0);
        let start = &raw const START;
        let length = (&raw const CODE_END).addr().saturating_sub(start.addr());
        let length = length & !(CODE_UNIT - 1);
        libc::madvise(start.cast_mut().cast(), length, libc::MADV_DONTNEED);
    }
}
