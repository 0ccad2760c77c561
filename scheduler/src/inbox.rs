//! What other threads send to one worker: a lock-free stack of goroutines, emptied by its owner all at once.
//!
//! Pushed by `ready` (a started goroutine goes home), emptied by `find`. Linked through the control block, so
//! sending never allocates. No ABA: nothing is ever popped singly.

use crate::goroutine::{Goroutine, Ref};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

#[derive(Debug)]
pub(crate) struct Inbox(AtomicPtr<Goroutine>);

impl Inbox {
    pub(crate) const fn new() -> Inbox {
        Inbox(AtomicPtr::new(ptr::null_mut()))
    }

    pub(crate) fn push(&self, g: Ref) {
        // Relaxed: only a guess for the exchange.
        let mut head = self.0.load(Ordering::Relaxed);
        loop {
            g.next.set(head);
            // SeqCst: Release publishes `next` to `take_all`; SeqCst for the sleeper's check, see `Seat::send_home`.
            match self.0.compare_exchange_weak(head, g.as_ptr().cast_mut(), Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        // SeqCst: the sleeper's half, see `Seat::send_home`.
        self.0.load(Ordering::SeqCst).is_null()
    }

    /// Hands everything to `f`, first sent first.
    pub(crate) fn take_all(&self, mut f: impl FnMut(Ref)) {
        // Relaxed: a cheap look; what is missed now is seen at the next look or before sleeping (`is_empty`).
        if self.0.load(Ordering::Relaxed).is_null() {
            return;
        }
        // Acquire: pairs with the Release in `push`.
        let mut newest = self.0.swap(ptr::null_mut(), Ordering::Acquire).cast_const();
        let mut oldest: *const Goroutine = ptr::null();
        // SAFETY: everything on the list is ours since the swap (G1), and blocks are type-stable.
        while let Some(g) = unsafe { newest.as_ref() } {
            newest = g.next.replace(oldest);
            oldest = g;
        }
        while let Some(g) = NonNull::new(oldest.cast_mut()) {
            // SAFETY: as above.
            oldest = unsafe { g.as_ref() }.next.get();
            // SAFETY: as above.
            f(unsafe { Ref::from_ptr(g) });
        }
    }
}
