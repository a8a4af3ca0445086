//! The allocator: the system's, but what is freed is wiped first. That one place covers every
//! copy of a secret that a library made on its way (JSON, TLS, a vector that grew).

use std::alloc::{GlobalAlloc, Layout, System};

use nix::libc;

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

/// Wipes memory before it gives it back.
struct Wiping;

// SAFETY: every call goes to `System` with the arguments that it came with, so its contract is
// `System`'s; `dealloc` writes only to the block that it was given, which is still whole then.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is `layout.size()` bytes and only the caller has it.
        unsafe {
            wipe(block.cast(), layout.size());
            System.dealloc(block, layout);
        }
    }

    // `realloc` is the trait's own: allocate, copy, dealloc, so that a block that moves is wiped.
}

/// Overwrites `size` bytes with zeros, which no optimiser leaves out. The systems have different
/// calls for it.
///
/// # Safety
/// The bytes can be written, and nothing else uses them.
pub(super) unsafe fn wipe(block: *mut libc::c_void, size: usize) {
    // SAFETY: the caller says so. (memset_s(3) fails only for a size that is larger than its limit.)
    unsafe {
        #[cfg(target_vendor = "apple")]
        libc::memset_s(block, size, 0, size);
        #[cfg(target_os = "netbsd")]
        libc::explicit_memset(block, 0, size);
        #[cfg(not(any(target_vendor = "apple", target_os = "netbsd")))]
        libc::explicit_bzero(block, size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_grows_keeps_its_bytes() {
        let layout = Layout::from_size_align(16, 8).unwrap();
        // SAFETY: the size isn't zero, and the block is freed with the layout that it has.
        unsafe {
            let block = Wiping.alloc(layout);
            block.write_bytes(7, 16);
            let block = Wiping.realloc(block, layout, 4096);
            let bytes = std::slice::from_raw_parts(block, 16);
            assert_eq!(bytes, [7; 16]);
            Wiping.dealloc(block, Layout::from_size_align(4096, 8).unwrap());
        }
    }
}
