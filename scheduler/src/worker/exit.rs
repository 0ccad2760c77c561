//! The trampoline and the exit path: what runs at the foot of every goroutine's stack.
//!
//! Called by the carrier's loop (`run_to_end`, on the goroutine's own stack) and by `worker` (`retire`, on its
//! own). gorun owns the trampoline, so the "hijacked goexit" of go-tls is a field: the control block's storage
//! record holds the **return target**, [`bare_exit`](crate::goroutine) until storage or a handler is first
//! used, the cleaning exit from then on.
//!
//! The order, on every way out (return, panic, `goexit`, abort, abort before the first run):
//!
//! 1. the closure has returned, unwound, or was dropped unrun; its result is in the payload;
//! 2. through the return target: at-exit handlers, last in first out, then storage in reverse order of
//!    initialisation, in bounded rounds (`goroutine/locals`);
//!    then, of an isolated goroutine, the destructors of its thread-locals ([`Block::run_destructors`]);
//!    then whoever wants to know of the end is told ([`Entry::ended`](crate::Entry)), which may take another pass;
//! 3. **X1** the result is published and the joiner woken: a result that is visible means storage that is gone. A parked
//!    goroutine is claimed here, and woken after 5;
//! 4. or, if nobody will take it, it is dropped (and what that may have stored is cleaned by another pass of 2);
//! 5. on the worker's stack: the carrier goes back, the reference is dropped, and the handle's if that was left to us.

use crate::goroutine::block::{Goroutine, Ref};
use crate::goroutine::completion::Published;
use crate::goroutine::current;
use crate::processor::core::Processor;
use crate::stack::coroutine::Carried;
use crate::tls::{self, Block, KeyRounds};
use crate::worker::fork;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};

/// Runs `g` and takes it through its exit path. Does not unwind.
///
/// Not inlined: a free carrier of a pinned goroutine may be another thread's next time, so the loop that calls this must
/// not keep a thread-local's address.
///
/// # Safety
/// `g` is a control block, whose goroutine this stack was resumed for by the worker that owns it (K2, G1).
#[inline(never)]
pub(crate) unsafe fn run_to_end(g: Carried, block: Option<&Block>) {
    // SAFETY: the caller's contract.
    let g = unsafe { &*g.cast::<Goroutine>() };
    if block.is_some() {
        current::adopt(g);
    }
    let entry = g.entry.get().expect("a live goroutine has an entry");
    // A hint, looked at again at every cancellation point.
    if g.is_aborted() {
        g.exiting.set(true);
        // SAFETY: G1; the payload holds the closure, which never ran.
        unsafe { (entry.cancel)(g.payload()) };
    } else {
        // SAFETY: as above.
        unsafe { (entry.run)(g.payload()) };
        g.exiting.set(true);
    }
    end_storage(g, block);
    if block.is_none() {
        // Its own panic is over.
        crate::wait::park::doubt(g, None, std::thread::panicking());
    }
    // Asked for again: another one has been put there if the goroutine has forked and this is the child (R4 in `fork`).
    let ended = g.entry.get().and_then(|entry| entry.ended);
    // SAFETY: G1, and the result is not published: the payload is ours.
    if ended.is_some_and(|ended| unsafe { ended(g.payload()) }) {
        end_storage_again(g, block);
    }
    let finished = || {
        Processor::of(g).seat_ref().count_finish();
    };
    let mut joiner = ptr::null();
    match g.done.publish(finished) {
        Published::Handed(None) => {}
        Published::Handed(Some(wake)) => match wake.into_goroutine() {
            Ok(parked) => joiner = parked.as_ptr(),
            Err(other) => other.wake(),
        },
        // Code of the joiner's executor has run here, and may have left something in our thread-locals.
        Published::HandedToTask => {
            end_storage_again(g, block);
            finished();
        }
        Published::Detached => {
            if drop_result(g) {
                end_storage_again(g, block);
            }
            finished();
            g.done.finish_detached();
        }
    }
    g.next.set(joiner);
    Processor::of(g).shared.check_drained();
}

/// Storage, then thread-locals.
#[inline]
fn end_storage(g: &Goroutine, block: Option<&Block>) {
    // The return target: an empty function, or the cleaning exit.
    g.locals.run_exit();
    if let Some(block) = block {
        end_thread_locals(g, block);
    }
}

/// The same after code that is not the goroutine's own, and may have forked (R4 in `fork`).
#[cold]
#[inline(never)]
fn end_storage_again(g: &Goroutine, block: Option<&Block>) {
    end_storage(g, block);
    fork::ended(g);
}

/// Their destructors may store again.
#[inline(never)]
fn end_thread_locals(g: &Goroutine, block: &Block) {
    let layout = tls::known();
    let mut rounds = KeyRounds::new();
    // SAFETY: it is the running goroutine's block; its closure's frames are gone, ours use no thread-locals.
    unsafe { block.run_destructors(layout, &mut rounds) };
    // Ends: a thread-local is initialised once between two resets, the rounds of pthread keys are counted, and each turn here
    // needs another one of those.
    while g.locals.is_patched() {
        g.locals.run_exit();
        // SAFETY: as above.
        unsafe { block.run_destructors(layout, &mut rounds) };
    }
    // SAFETY: as above.
    unsafe { block.reset(layout) };
    current::adopt(g);
}

/// `true`: somebody else's code may have run, and stored something.
fn drop_result(g: &Goroutine) -> bool {
    let entry = g.entry.get().expect("a live goroutine has an entry");
    // SAFETY: G1 and C3: the result is in the payload, and the goroutine's to drop.
    // A destructor that panics has been reported by the panic hook; the payload of that panic may panic again,
    // so it is forgotten.
    catch_unwind(AssertUnwindSafe(|| unsafe { (entry.drop_result)(g.payload()) })).unwrap_or_else(|payload| {
        std::mem::forget(payload);
        true
    })
}

/// The worker's half: the goroutine has left its stack for good. Returns the joiner, which is the caller's to wake: after
/// this, so that nobody else gives up a reference meanwhile, and by the worker, which runs it next.
#[inline(never)]
pub(crate) fn retire(processor: &Processor, g: Ref, keep_carrier: bool) -> Option<Ref> {
    let carrier = g.carrier.replace(ptr::null_mut());
    processor.give_carrier(NonNull::new(carrier).expect("it ran, so it had a carrier"), keep_carrier);
    g.processor.set(ptr::null());
    g.home.set(ptr::null());
    // SAFETY: G1: `run_to_end` won the joiner's claim, and left it to us.
    let joiner = NonNull::new(g.next.get().cast_mut()).map(|joiner| unsafe { Ref::from_ptr(joiner) });
    g.retire(&processor.head.blocks, joiner.is_some());
    joiner
}
