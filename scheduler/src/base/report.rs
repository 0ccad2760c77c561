//! Prints a line on standard error without waiting: for the monitor and for workers.
//!
//! std's handle has a lock, which a goroutine may hold over a wait that only the monitor can end; and a pipe without a
//! reader fills up. So this writes without the lock, and drops the line if the write would wait.

use std::sync::atomic::{AtomicBool, Ordering};

/// A message that is printed once.
#[derive(Debug, Default)]
pub(crate) struct Once(AtomicBool);

impl Once {
    pub(crate) fn is_first(&self) -> bool {
        // Relaxed: nothing is published with it.
        !self.0.swap(true, Ordering::Relaxed)
    }
}

/// Prints one line, truncated to what a pipe takes at once; leaves it out where the caller would have to wait.
///
/// ```
/// gorun_scheduler::tell("gorun: this is only an example");
/// ```
pub fn tell(text: &str) {
    let mut line = text.as_bytes()[..text.len().min(libc::PIPE_BUF - 1)].to_vec();
    line.push(b'\n');
    let mut ready = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, which outlives the call, as the line does its own.
    unsafe {
        // A pipe is ready when it has room for so much.
        if libc::poll(&raw mut ready, 1, 0) == 1 && ready.revents & libc::POLLOUT != 0 {
            let _written = libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
        }
    }
}
