//! Making a goroutine runnable, from wherever the caller is.
//!
//! Called by `Wake::wake` and `Wake::wake_all`, and by `worker` for a joiner. Where it goes:
//!
//! | goroutine | caller on its runtime's worker | caller elsewhere |
//! |---|---|---|
//! | unstarted: may be stolen | the worker's own queue | the injector |
//! | started: stays with its worker (its home) | next slot if at home, else the home's inbox | the home's inbox |

use crate::current;
use crate::goroutine::Ref;
use crate::processor::Processor;
use crate::shared::Shared;
use std::sync::Arc;

/// # Invariant
/// G1: the caller owns the goroutine (it won its claim, or spawned it) and gives it away here.
pub(crate) fn ready(g: Ref) {
    match processor_of(g) {
        Some(processor) => processor.ready(g),
        None => from_outside(g),
    }
}

/// As [`ready`], by a worker on no goroutine's stack.
#[inline(never)]
pub(crate) fn ready_by(processor: &Processor, g: Ref) {
    if std::ptr::eq(Arc::as_ptr(&processor.shared), g.shared()) {
        processor.ready(g);
    } else {
        from_outside(g);
    }
}

/// As [`ready`], but not before what is runnable already: for the second and later ones of several that are woken
/// together. The next slot has one place, so they would run last first.
pub(crate) fn ready_last(g: Ref) {
    match processor_of(g) {
        Some(processor) => processor.ready_last(g),
        None => from_outside(g),
    }
}

/// The current processor, if it is of the goroutine's runtime.
fn processor_of<'a>(g: Ref) -> Option<&'a Processor> {
    current::processor().filter(|processor| std::ptr::eq(Arc::as_ptr(&processor.shared), g.shared()))
}

fn from_outside(g: Ref) {
    let shared = g.shared();
    // SAFETY: as below.
    if crate::process::is_parents(unsafe { &*shared }.process) {
        // It runs, or waits, in the parent of this process; there is nobody here who would run it.
        return;
    }
    // SAFETY: `shared` came from `Arc::into_raw`-compatible storage and its runtime can't end while a goroutine
    // of its lives, and ours lives until somebody runs it, which needs the push below. The count keeps the
    // runtime's memory past that.
    let shared = unsafe {
        Arc::increment_strong_count(shared);
        Arc::from_raw(shared)
    };
    push_from_outside(&shared, g);
}

fn push_from_outside(shared: &Shared, g: Ref) {
    let home = g.home.get();
    // SAFETY: a home is a seat of `shared`, which the caller keeps.
    match unsafe { home.as_ref() } {
        Some(seat) => seat.send_home(g),
        None => shared.inject(g),
    }
}
