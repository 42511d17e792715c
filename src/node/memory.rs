//! Keeps the node small: glibc's allocator otherwise makes up to eight heaps a core and hardly gives any back.
#![allow(unsafe_code)]

/// Two heaps are enough for two worker threads. Call before there are threads.
pub fn few_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two integers and touches the allocator's own settings only; no other thread exists yet.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2);
    }
}
