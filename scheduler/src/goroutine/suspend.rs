//! The current goroutine leaves its stack.
//!
//! Called by all that waits or yields.

use crate::goroutine::block::Goroutine;
use crate::stack::coroutine::{self, Suspended};

/// Leaves the stack of `g`, the current goroutine, for its worker's, until it is resumed.
// Inlined at all costs: see `Blocker::park`.
#[inline(always)]
pub(crate) fn suspend(g: &Goroutine, why: Suspended) {
    // SAFETY: a running goroutine has a carrier (K1, K2), and its frames, ours among them, are on it.
    unsafe { coroutine::suspend(g.carrier.get(), why) };
}

/// `g`, the current goroutine, or one that has just ended on this worker, has locked this thread, or (`false`) not any more.
pub(crate) fn set_locked(g: &Goroutine, locked: bool) {
    // SAFETY: a running goroutine has a carrier (K1), and one that has ended until it is retired.
    coroutine::set_locked(unsafe { &*g.carrier.get() }, locked);
}
