//! What other threads send to one worker: a lock-free stack of goroutines, emptied by its owner all at once.
//!
//! Pushed by `ready` (a started goroutine goes home), emptied by `find`. Linked through the control block, so
//! sending never allocates. No ABA: nothing is ever popped singly.

use crate::base::atomics::{AtomicPtr, Ordering};
use crate::goroutine::block::{Goroutine, Ref};
use std::ptr::{self, NonNull};

#[derive(Debug)]
pub(crate) struct Inbox(AtomicPtr<Goroutine>);

impl Inbox {
    pub(crate) fn new() -> Inbox {
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
        // Relaxed: the sleeper has a fence before it, see `Seat::send_home`.
        self.0.load(Ordering::Relaxed).is_null()
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

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    /// What a goroutine's last owner did to it, watched by loom.
    struct Watched(UnsafeCell<u32>);

    // SAFETY: the inbox orders the accesses; that it does is what the model checks.
    unsafe impl Sync for Watched {}

    /// Two senders, of two and of one; the owner empties the box meanwhile and afterwards: each arrives once, with all that
    /// was done to it before, and one sender's in their order.
    #[test]
    fn everything_sent_arrives_once_and_in_order() {
        let mut model = loom::model::Builder::new();
        // All interleavings are minutes.
        model.preemption_bound = Some(2);
        model.check(|| {
            let goroutines: Arc<Vec<(Goroutine, Watched)>> =
                Arc::new((0..3).map(|_| (Goroutine::empty(), Watched(UnsafeCell::new(0)))).collect());
            let inbox = Arc::new(Inbox::new());
            let senders: Vec<_> = [0..2, 2..3]
                .into_iter()
                .map(|mine| {
                    let (inbox, goroutines) = (inbox.clone(), goroutines.clone());
                    loom::thread::spawn(move || {
                        for i in mine {
                            let (goroutine, watched) = &goroutines[i];
                            // SAFETY: ours until it is sent.
                            watched.0.with_mut(|n| unsafe { *n = 7 });
                            // SAFETY: G1: ours, and it outlives the model.
                            inbox.push(unsafe { Ref::from_ptr(NonNull::from(goroutine)) });
                        }
                    })
                })
                .collect();
            let arrived = std::cell::RefCell::new(Vec::new());
            let receive = |g: Ref| {
                let i = goroutines.iter().position(|(goroutine, _)| ptr::eq(goroutine, g.as_ptr())).unwrap();
                // SAFETY: ours now.
                goroutines[i].1.0.with(|n| assert_eq!(unsafe { *n }, 7));
                arrived.borrow_mut().push(i);
            };
            // Else loom looks into the box before anything is sent, and never after.
            loom::thread::yield_now();
            inbox.take_all(receive);
            senders.into_iter().for_each(|s| s.join().unwrap());
            inbox.take_all(receive);
            assert!(inbox.is_empty());
            let arrived = arrived.into_inner();
            let place = |i| arrived.iter().position(|a| *a == i).unwrap();
            assert!(arrived.len() == 3 && place(0) < place(1) && place(2) < 3, "{arrived:?}");
        });
    }
}
