//! A goroutine that keeps its OS thread to itself: Go's `runtime.LockOSThread`.
//!
//! Called by goroutines, through `gorun::lock_os_thread`. The worker on whose thread the goroutine runs gives its queues
//! away, another worker is brought in for it (`spares`), and from then on it runs this goroutine only, and such pinned
//! ones as had begun on this thread and can go nowhere else.

use crate::config::ThreadLocals;
use crate::current;
use crate::goroutine::{Goroutine, Ref};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

/// The calling goroutine's hold on its OS thread; dropping it lets go. Holds nest.
///
/// A goroutine that ends while it still has one (forgotten on purpose) takes its thread along: nobody else gets a
/// thread whose state in the kernel may have been changed.
#[derive(Debug)]
#[must_use = "the thread is let go when this is dropped"]
pub struct OsThreadLock {
    /// It belongs to the goroutine.
    _not_send: PhantomData<*mut ()>,
}

/// Keeps the calling goroutine on the OS thread it runs on, and others off it. On a plain thread, which is its own
/// already, this does nothing.
pub fn lock_os_thread() -> OsThreadLock {
    if let (Some(g), Some(processor)) = (current::goroutine(), current::processor()) {
        processor.lock_depth.set(processor.lock_depth.get() + 1);
        if processor.lock_depth.get() == 1 {
            g.home.set(processor.seat());
            processor.locked.set(Some(title(g)));
            processor.give_away();
            let seat = processor.seat_ref();
            processor.shared.spares.come_back(seat);
            // As if the worker were stuck: what remains on its seat is for others to look after.
            processor.shared.spares.set_aside(seat);
            // Relaxed: read by the monitor, which then has no need to replace the worker.
            seat.replaced.store(true, std::sync::atomic::Ordering::Relaxed);
            let spares = &processor.shared.spares;
            spares.count_off();
            if spares.bring_in(&processor.shared).is_err() {
                // One worker less, until the lock is let go.
                seat.replaced.store(false, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }
    OsThreadLock { _not_send: PhantomData }
}

impl Drop for OsThreadLock {
    fn drop(&mut self) {
        if let (Some(g), Some(processor)) = (current::goroutine(), current::processor()) {
            processor.lock_depth.set(processor.lock_depth.get() - 1);
            if processor.lock_depth.get() == 0 {
                unlock(g);
            }
        }
    }
}

fn unlock(g: &Goroutine) {
    let processor = current::processor().expect("the goroutine runs");
    if g.mode.get() == ThreadLocals::Isolated {
        g.home.set(ptr::null());
    }
    processor.locked.set(None);
    // Our worker counts again, and looks after its seat; the one that was brought in may be one too many, which the
    // worker sees when it next looks (`Spares::come_back`).
    processor.shared.spares.count_on();
    let _was = processor.seat_ref().set_unattended(false);
}

fn title(g: &Goroutine) -> Ref {
    // SAFETY: only compared and forgotten: G1 is not claimed by it.
    unsafe { Ref::from_ptr(NonNull::from(g)) }
}
