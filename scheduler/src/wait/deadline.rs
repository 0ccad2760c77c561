//! A wait with a deadline: a timer on the waiter's stack.
//!
//! Called by `park`; invariants in `timer`.

use crate::claim::claim_word::Parker;
use crate::processor::core::Processor;
use crate::seat::seats::Seat;
use crate::timer::clock::Moment;
use crate::timer::node::Node;
use crate::timer::timers::What;
use std::ptr::NonNull;
use std::time::Instant;

/// Runs `f` (a suspension) with a deadline for the wait of `claim_word`, on the current processor's seat. `f` does not
/// unwind.
pub(crate) fn with_deadline(parker: NonNull<Parker>, at: Instant, f: impl FnOnce()) {
    let node = Node::new(What::Wait(parker));
    let processor = Processor::current().expect("only goroutines set timers");
    // Kept over the suspension: the runtime has a live goroutine, us.
    let seat: *const Seat = processor.seat_ref();
    processor.seat_ref().timers.push(Moment::from(at).0, &node);
    f();
    // SAFETY: as above.
    unsafe { &*seat }.timers.cancel(&node);
}

#[cfg(test)]
mod tests;
