//! Making a goroutine runnable, from wherever the caller is.
//!
//! Called by `Wake::wake` and `Wake::wake_all`, and by `worker` for a joiner. Where it goes:
//!
//! | goroutine | caller on its runtime's worker | caller elsewhere |
//! |---|---|---|
//! | unstarted: may be stolen | the worker's own queue | the injector |
//! | started: stays with its worker (its home) | next slot if at home, else the home's inbox | the home's inbox |

use crate::base::process;
use crate::base::unwind::contained;
use crate::claim::claim_word::{Wake, Woken};
use crate::goroutine::block::Ref;
use crate::goroutine::claimed::goroutine_of;
use crate::processor::core::Processor;
use crate::processor::shared::Shared;
use crate::seat::seats::Seat;
use std::sync::Arc;
use std::task::Waker;

/// # Invariant
/// G1: the caller owns the goroutine (it won its claim, or spawned it) and gives it away here.
pub(crate) fn ready(g: Ref) {
    match processor_of(g) {
        Some(processor) => processor.ready(g),
        None => from_outside(g),
    }
}

/// Does what [`ready`] does; called by a worker on no goroutine's stack.
#[inline(never)]
pub(crate) fn ready_by(processor: &Processor, g: Ref) {
    if processor.shared.runs(&g) {
        processor.ready(g);
    } else {
        from_outside(g);
    }
}

/// Does what [`ready`] does, but not before what is runnable already: for the second and later ones of several that are woken
/// together. The next slot has one place, so they would run last first.
pub(crate) fn ready_last(g: Ref) {
    match processor_of(g) {
        Some(processor) => processor.ready_last(g),
        None => from_outside(g),
    }
}

/// The current processor, if it is of the goroutine's runtime.
fn processor_of<'a>(g: Ref) -> Option<&'a Processor> {
    Processor::current().filter(|processor| processor.shared.runs(&g))
}

fn from_outside(g: Ref) {
    let runtime = g.runtime();
    // SAFETY: as below.
    if process::is_parents(unsafe { &*runtime }.process) {
        // It runs, or waits, in the parent of this process; there is nobody here who would run it.
        return;
    }
    // SAFETY: the pointer was made of an `Arc`'s (`Shared::as_runtime`), and the runtime can't end while a goroutine
    // of its lives, and ours lives until somebody runs it, which needs the push below. The count keeps the
    // runtime's memory past that.
    let shared = unsafe {
        let shared = runtime.cast::<Shared>();
        Arc::increment_strong_count(shared);
        Arc::from_raw(shared)
    };
    push_from_outside(&shared, g);
}

fn push_from_outside(shared: &Shared, g: Ref) {
    let home = g.home.get();
    // SAFETY: a home is a seat of `shared`, which the caller keeps.
    match unsafe { home.cast::<Seat>().as_ref() } {
        Some(seat) => seat.send_home(g),
        None => shared.inject(g),
    }
}

/// P5: it does not unwind, whatever the waker does: whoever wakes has done something for itself, and may have more to wake.
#[cold]
fn wake_task(waker: Waker) {
    contained(|| waker.wake());
}

impl Wake {
    /// Makes the waiter runnable. With no lock held: a future's waker is anybody's code. Does not unwind (P5).
    ///
    /// ```
    /// # use gorun_scheduler::{Blocker, Parker, Token, WaitReason};
    /// # let blocker = Blocker::current();
    /// # blocker.arm();
    /// // SAFETY: the blocker outlives the call.
    /// let wake = unsafe { Parker::claim(blocker.parker(), Token::DONE) }.unwrap();
    /// wake.wake();
    /// assert_eq!(blocker.park(WaitReason::Other, None), Token::DONE);
    /// ```
    #[inline]
    pub fn wake(self) {
        match self.0 {
            Woken::Nobody => {}
            Woken::Goroutine(claimed) => ready(goroutine_of(claimed)),
            Woken::Thread(thread) => thread.unpark(),
            Woken::Task(waker) => wake_task(waker),
        }
    }

    /// Makes several waiters runnable that are woken together: those that go on on the same worker run in this order.
    ///
    /// The first one goes before what is runnable there already, as with [`Wake::wake`], the others behind it. (Waking
    /// one after the other, as Go does, lets the last one run first.)
    ///
    /// ```
    /// use gorun_scheduler::{Blocker, Token, WaitQueue, WaitReason, Waiter, Wake};
    /// let (mut queue, blocker) = (WaitQueue::new(), Blocker::current());
    /// let waiter = Waiter::new(&blocker, Token::DONE, ());
    /// blocker.arm();
    /// // SAFETY: the waiter stays in this frame until it has been claimed.
    /// unsafe { queue.push_back(&waiter) };
    /// let woken: Vec<Wake> = std::iter::from_fn(|| queue.claim_next(|()| (), |(), ()| ())).map(|(_, wake)| wake).collect();
    /// // Here the lock around a queue that others see is released.
    /// Wake::wake_all(woken);
    /// assert_eq!(blocker.park(WaitReason::Other, None), Token::DONE);
    /// ```
    pub fn wake_all(wakes: impl IntoIterator<Item = Wake>) {
        let mut first = true;
        for wake in wakes {
            match wake.0 {
                Woken::Goroutine(claimed) if !std::mem::take(&mut first) => ready_last(goroutine_of(claimed)),
                _ => wake.wake(),
            }
        }
    }
}
