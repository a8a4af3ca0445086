//! Memory for secrets: the system doesn't swap it out (mlock(2)), puts it into no core file, and
//! gives none of it to children, as far as it knows how. All of it is best effort: until it was
//! asked for, where the system refuses, and once it is full, there is none, and a secret stays on
//! the ordinary heap.
//!
//! One mapping is locked as a whole, whose pages take memory when they are used. Which parts of it are
//! free is noted elsewhere, so that no secret's neighbour counts.

use std::{
    collections::BTreeMap,
    io,
    ops::Deref,
    ptr::{self, NonNull},
    slice,
    sync::OnceLock,
};

use nix::libc;

use super::alloc::wipe;
use crate::lock::Lock;

/// How much is locked at most, in bytes: the secrets of about a thousand accounts with large
/// tokens.
const LIMIT: usize = 4 << 20;

/// How long a text may be that is put there, in bytes: a token has two or three thousand.
const MAX_TEXT: usize = 64 << 10;

/// What a text's size is rounded up to, in bytes: what is left between two of them is worth noting.
const GRAIN: usize = 16;

/// The process's own, if it has any.
static ARENA: OnceLock<Arena> = OnceLock::new();

/// Has every [`LockedText`] from now on in memory that is locked, but not more than `limit` bytes
/// of it. To be called once, by a process that forks no more.
///
/// # Errors
/// The system doesn't lock so much, or it is less than a page: there is no such memory.
pub fn lock_texts(limit: usize) -> io::Result<()> {
    let arena = Arena::new(limit)?;
    // An earlier call has set it already.
    let _ = ARENA.set(arena);
    Ok(())
}

/// A text in locked memory. It is wiped when dropped.
pub struct LockedText(Block<'static>);

impl LockedText {
    /// A copy of `text`, unless there is no locked memory for it. Costs no system call.
    pub fn copy_of(text: &str) -> Option<Self> {
        ARENA.get()?.copy_of(text.as_bytes()).map(LockedText)
    }
}

impl Deref for LockedText {
    type Target = str;

    fn deref(&self) -> &str {
        // SAFETY: the bytes are a copy of a `str`'s, and nothing can have changed them.
        unsafe { std::str::from_utf8_unchecked(self.0.bytes()) }
    }
}

/// The address space and what is known of it.
struct Arena {
    base: NonNull<u8>,
    /// How much there is from there on; a whole number of pages.
    size: usize,
    room: Lock<Room>,
}

// SAFETY: the mapping belongs to the process, not to a thread; the bytes in use are each one
// block's, and the others are changed only by the thread that takes them out of `room`.
unsafe impl Send for Arena {}
// SAFETY: the same; `room` has a lock of its own.
unsafe impl Sync for Arena {}

/// What is free, by numbers alone: where there are gaps, and how long they are. No two of them touch.
struct Room(BTreeMap<usize, usize>);

/// A part of an arena that is in use.
struct Block<'a> {
    arena: &'a Arena,
    // Half of what usize would take, and an arena isn't as large.
    at: u32,
    len: u32,
}

impl Arena {
    /// Maps and locks memory.
    fn new(limit: usize) -> io::Result<Self> {
        let limit = limit.min(LIMIT);
        let size = limit - limit % page();
        if size == 0 {
            return Err(io::Error::other("the limit is less than a page"));
        }
        let arena = Arena {
            base: map(size)?,
            size,
            room: Lock::new(Room(BTreeMap::from([(0, size)]))),
        };
        // SAFETY: it is the mapping that was just made.
        match unsafe { lock(arena.base.as_ptr().cast(), size) } {
            true => Ok(arena),
            false => Err(io::Error::last_os_error()),
        }
    }

    /// A block with a copy of `bytes`; `None` when there is no room, or nothing to be put there.
    fn copy_of(&self, bytes: &[u8]) -> Option<Block<'_>> {
        let len = bytes.len();
        if len == 0 || len > MAX_TEXT {
            return None;
        }
        let at = self.room.with(|room| room.take(grains(len)))?;
        let block = Block {
            arena: self,
            at: u32::try_from(at).ok()?,
            len: u32::try_from(len).ok()?,
        };
        // SAFETY: the block is that long and was just taken, so nothing else uses it; what is on the
        // heap or a stack isn't in it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), block.start().as_ptr(), len) };
        Some(block)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping is this arena's, and no block of it is left, since each borrows it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
    }
}

impl Room {
    /// Takes the beginning of the first gap that is long enough.
    fn take(&mut self, len: usize) -> Option<usize> {
        let (at, long) = self.0.iter().find(|(_, long)| **long >= len)?;
        let (at, long) = (*at, *long);
        self.0.remove(&at);
        if long > len {
            self.0.insert(at + len, long - len);
        }
        Some(at)
    }

    /// Gives it back, as one gap with what is free around it.
    fn give(&mut self, mut at: usize, mut len: usize) {
        let before = self.0.range(..at).next_back();
        if let Some((before, long)) = before.filter(|(before, long)| *before + *long == at) {
            at = *before;
            len += long;
        }
        if let Some(long) = self.0.remove(&(at + len)) {
            len += long;
        }
        self.0.insert(at, len);
    }
}

impl Block<'_> {
    fn start(&self) -> NonNull<u8> {
        // SAFETY: a block is within its arena's mapping.
        unsafe { self.arena.base.add(self.at as usize) }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: they were written when the block was made, it has them until it is dropped, and
        // nothing writes them meanwhile.
        unsafe { slice::from_raw_parts(self.start().as_ptr(), self.len as usize) }
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        let len = self.len as usize;
        // SAFETY: the block is this one's until it is given back.
        unsafe { wipe(self.start().as_ptr().cast(), len) };
        let room = &self.arena.room;
        room.with(|room| room.give(self.at as usize, grains(len)));
    }
}

/// What a text of `len` bytes takes.
fn grains(len: usize) -> usize {
    len.next_multiple_of(GRAIN)
}

/// The size of a page, in bytes.
fn page() -> usize {
    // SAFETY: it takes a number and returns one.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(page).unwrap_or(MAX_TEXT)
}

/// What keeps a mapping out of core files from the start.
#[cfg(target_os = "openbsd")]
const HIDDEN: libc::c_int = libc::MAP_CONCEAL;
#[cfg(any(target_os = "freebsd", target_os = "dragonfly"))]
const HIDDEN: libc::c_int = libc::MAP_NOCORE;
#[cfg(not(any(target_os = "openbsd", target_os = "freebsd", target_os = "dragonfly")))]
const HIDDEN: libc::c_int = 0;

/// A new mapping, of no other process and in no core file.
fn map(size: usize) -> io::Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON | HIDDEN;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, where the system likes, touches nothing that is in use.
    let base = unsafe { libc::mmap(ptr::null_mut(), size, access, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is the mapping that was just made.
    unsafe { hide(base, size) };
    NonNull::new(base.cast()).ok_or_else(|| io::Error::other("it would be at address zero"))
}

/// Keeps a mapping out of core files and children, as far as the system knows how. What it refuses
/// is done without: there are to be neither.
///
/// # Safety
/// It is a whole mapping, which nothing uses yet.
unsafe fn hide(base: *mut libc::c_void, size: usize) {
    #[cfg(target_os = "linux")]
    for advice in [
        libc::MADV_DONTDUMP,
        libc::MADV_WIPEONFORK,
        libc::MADV_NOHUGEPAGE,
    ] {
        // SAFETY: either concerns only what becomes of the pages elsewhere.
        unsafe { libc::madvise(base, size, advice) };
    }
    #[cfg(target_os = "freebsd")]
    // SAFETY: it concerns only what becomes of the pages in children.
    unsafe {
        libc::minherit(base, size, libc::INHERIT_ZERO);
    }
    #[cfg(any(target_os = "openbsd", target_os = "netbsd"))]
    // SAFETY: it concerns only what becomes of the pages in children.
    unsafe {
        libc::minherit(base, size, libc::MAP_INHERIT_ZERO);
    }
    let _ = (base, size);
}

/// Keeps pages out of swap; whether that worked.
///
/// # Safety
/// They are mapped.
unsafe fn lock(start: *const libc::c_void, len: usize) -> bool {
    #[cfg(target_os = "linux")]
    // By its number, since every function of libc that the program names costs each `show` a look-up.
    // SAFETY: it concerns only where pages are, once they are used.
    if unsafe { libc::syscall(libc::SYS_mlock2, start, len, libc::MLOCK_ONFAULT) } == 0 {
        return true;
    }
    // SAFETY: it concerns only where pages are.
    unsafe { libc::mlock(start, len) == 0 }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// A small one; none where whoever runs the tests may lock nothing.
    fn arena(pages: usize) -> Option<Arena> {
        Arena::new(pages * page()).ok()
    }

    fn gaps(arena: &Arena) -> Vec<(usize, usize)> {
        let gaps = |room: &mut Room| room.0.iter().map(|(at, len)| (*at, *len)).collect();
        arena.room.with(gaps)
    }

    /// What is in the arena, whoever it belongs to.
    fn raw(arena: &Arena, at: usize, len: usize) -> Vec<u8> {
        // SAFETY: it is mapped, and no other thread has this arena.
        unsafe { slice::from_raw_parts(arena.base.add(at).as_ptr(), len) }.to_vec()
    }

    #[test]
    fn a_room_gives_out_the_first_gap_and_joins_those_that_touch() {
        let mut room = Room(BTreeMap::new());
        assert_eq!(room.take(16), None);
        room.give(0, 128);
        let taken: Vec<_> = [32, 32, 64].map(|len| room.take(len)).into();
        assert_eq!(taken, [Some(0), Some(32), Some(64)]);
        assert_eq!(room.take(16), None);
        room.give(0, 32);
        room.give(64, 64);
        assert_eq!(room.0, BTreeMap::from([(0, 32), (64, 64)]));
        assert_eq!(room.take(48), Some(64));
        assert_eq!(room.take(16), Some(0));
        assert_eq!(room.0, BTreeMap::from([(16, 16), (112, 16)]));
        room.give(64, 48);
        assert_eq!(room.0, BTreeMap::from([(16, 16), (64, 64)]));
        room.give(32, 32);
        assert_eq!(room.0, BTreeMap::from([(16, 112)]));
        room.give(0, 16);
        assert_eq!(room.0, BTreeMap::from([(0, 128)]));
    }

    #[test]
    fn a_block_is_wiped_before_it_is_anybody_elses() {
        let Some(arena) = arena(1) else { return };
        let first = arena.copy_of(b"hunter2-and-some-more").unwrap();
        let second = arena.copy_of(b"swordfish").unwrap();
        assert_eq!(first.bytes(), b"hunter2-and-some-more");
        assert_eq!(gaps(&arena), [(48, page() - 48)]);
        assert_eq!(raw(&arena, 0, 7), b"hunter2");
        drop(first);
        assert_eq!(raw(&arena, 0, 32), [0; 32]);
        assert_eq!(gaps(&arena), [(0, 32), (48, page() - 48)]);
        assert_eq!(second.bytes(), b"swordfish");
        let third = arena.copy_of(b"another").unwrap();
        assert_eq!((third.at, third.bytes()), (0, &b"another"[..]));
        drop((second, third));
        assert_eq!(gaps(&arena), [(0, page())]);
        assert_eq!(raw(&arena, 0, page()), vec![0; page()]);
    }

    #[test]
    fn what_has_no_room_stays_where_it_is() {
        assert!(Arena::new(page() - 1).is_err());
        let Some(arena) = arena(2) else { return };
        let text = vec![7; page()];
        let full: Vec<_> = [&text, &text].map(|text| arena.copy_of(text)).into();
        assert!(full.iter().all(Option::is_some));
        assert!(arena.copy_of(b"x").is_none());
        drop(full);
        assert!(arena.copy_of(b"").is_none());
        assert!(arena.copy_of(&vec![7; MAX_TEXT + 1]).is_none());
        assert!(arena.copy_of(&vec![7; 2 * page() + 1]).is_none());
        assert_eq!(gaps(&arena), [(0, 2 * page())]);
    }

    #[test]
    fn threads_get_blocks_of_their_own() {
        let Some(arena) = arena(4) else { return };
        thread::scope(|scope| {
            for id in 0..8_u8 {
                let arena = &arena;
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for turn in 0..2000_usize {
                        let bytes = vec![id + 1; 1 + (turn * 37 + usize::from(id)) % 900];
                        held.extend(arena.copy_of(&bytes));
                        if turn % 3 == 0 || held.len() > 8 {
                            drop(held.drain(..held.len() / 2));
                        }
                        let own = |block: &Block| block.bytes().iter().all(|it| *it == id + 1);
                        assert!(held.iter().all(own));
                    }
                });
            }
        });
        let locked = arena.size;
        assert_eq!(gaps(&arena), [(0, locked)]);
        assert_eq!(raw(&arena, 0, locked), vec![0; locked]);
    }

    #[test]
    fn a_text_is_as_it_was() {
        static ARENA: OnceLock<Arena> = OnceLock::new();
        let Some(arena) = arena(1) else { return };
        let block = ARENA.get_or_init(|| arena).copy_of("schlüssel".as_bytes());
        assert_eq!(&*LockedText(block.unwrap()), "schlüssel");
    }
}
