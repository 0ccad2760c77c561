//! Counts failed polls: operations that return instead of waiting.
//!
//! `gorun` calls it when a `try_` operation fails, a `default` arm is taken, or a query returns "not yet". A goroutine that
//! repeats them waits for another one, which may be in the next slot or the queue of the same worker.

use crate::config::ThreadLocals;
use crate::goroutine::block::Goroutine;
use crate::goroutine::current;
use crate::goroutine::suspend::suspend;
use crate::processor::core::Processor;
use crate::stack::coroutine::Suspended;
use crate::wait::park::yield_if_asked;

/// After every so many polls in vain in one turn others may go first, where that does no harm. A power of two.
const FEW_POLLS: u32 = 16;
/// So many are enough where it might.
const MANY_POLLS: u32 = 4096;

/// After an operation that would have had to wait, and says so instead: a poll in vain. Whoever makes many of them in one
/// turn most likely waits for somebody, who may be ready on the same worker: then it yields.
///
/// An isolated goroutine does so after a few, if somebody is ready here. A pinned one may hold a lock of std's that a
/// neighbour on its thread waits for (see [`breathe`](crate::breathe)), so it has to have gone on for very many, and for so long that the
/// monitor has asked it to yield.
///
/// ```
#[doc = include_str!("../examples.txt")]
/// use std::sync::atomic::{AtomicBool, Ordering};
/// static READY: AtomicBool = AtomicBool::new(false);
/// let polls = go(|| {
///     go(|| READY.store(true, Ordering::Release));
///     while !READY.load(Ordering::Acquire) {
///         polled_in_vain();
///     }
/// });
/// join(&polls);
/// ```
#[inline]
pub fn polled_in_vain() {
    if let (Some(g), Some(processor)) = (current::goroutine(), Processor::current()) {
        let polls = processor.count_poll();
        if polls.is_multiple_of(FEW_POLLS) {
            give_up_polling(g, processor, polls);
        }
    }
}

#[cold]
#[inline(never)]
fn give_up_polling(g: &Goroutine, processor: &Processor, polls: u32) {
    match g.mode.get() {
        // Where no worker can be brought in it may hold what those that go first want: as in `spawn`.
        ThreadLocals::Isolated if processor.shared.spares.can_be_had() && processor.has_ready() => {
            suspend(g, Suspended::Yield);
        }
        _ if polls >= MANY_POLLS => yield_if_asked(g),
        _ => {}
    }
}
