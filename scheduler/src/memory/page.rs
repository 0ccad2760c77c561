//! The size of a page.
//!
//! Used by all in this folder.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The page size; 0 = not asked yet. Relaxed: all threads would write the same.
static PAGE: AtomicUsize = AtomicUsize::new(0);

/// The size of a page. Async-signal-safe.
pub(crate) fn page_size() -> usize {
    match PAGE.load(Relaxed) {
        0 => {
            // SAFETY: sysconf has no preconditions.
            let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
            let size = usize::try_from(size).unwrap_or(4096);
            PAGE.store(size, Relaxed); // see PAGE
            size
        }
        size => size,
    }
}
