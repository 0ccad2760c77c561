//! One side of a descriptor, reading or writing: who waits for it, and what they may have missed.
//!
//! The poller is edge-triggered: it reports a change once, so whoever attempts an operation must not miss a report that
//! comes between the attempt and the wait. All of this happens around system calls, so the waits take a lock; an attempt
//! that succeeds without a wait takes none.
//!
//! ```text
//!  operation:  look (word) → attempt → if it would block: under the lock, unless the word has changed, into the queue
//!  event:      under the lock: step the word, claim the first in the queue
//! ```
//!
//! * **E1.** The word counts what happens to the side: events, closing, a new deadline. It changes under the lock. A waiter
//!   enters the queue only while the word is the one that it read before its attempt, so either it attempts again, or
//!   whatever happens finds it in the queue.
//! * **E2, turns.** An event wakes one waiter, which has the turn. A turn ends with an attempt that would block, as then the
//!   next arrival makes another event; or else the turn is passed on to the next waiter (`Turn`), as there may be more.
//! * **E3.** A side belongs to one registration at a time, its generation. Events of a registration that is over change
//!   nothing.
//!
//! The bad interleaving without E1: an attempt would block; the data arrive and the poller finds nobody to wake; the reader
//! enters the queue and sleeps, and no edge comes any more.
//!
//! The bad interleaving without E2: two readers wait, one packet arrives and wakes the first, which reads a part of it; the
//! second sleeps, with data there.

use crate::base::atomics::{AtomicU64, ModelledLock, Ordering};
use crate::base::unwind::unwind_aborted;
use crate::claim::claim_word::{Token, Wake};
use crate::wait::park::{Blocker, WaitReason};
use crate::wait::wait_queue::{WaitQueue, Waiter};
use std::time::Instant;

/// The side was closed.
const CLOSED: u64 = 1;
/// A deadline is set.
const DEADLINE: u64 = 2;
/// One step of the count above the flags (E1).
const STEP: u64 = 4;

#[derive(Debug)]
pub(super) struct Side {
    word: AtomicU64,
    inner: ModelledLock<Inner>,
}

#[derive(Debug)]
struct Inner {
    generation: u32,
    deadline: Option<Instant>,
    queue: WaitQueue<()>,
}

/// What an operation saw of a side before its attempt (E1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen(u64);

/// Why an operation may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Closed,
    TimedOut,
}

impl Side {
    pub(super) fn new() -> Side {
        let inner = Inner { generation: 0, deadline: None, queue: WaitQueue::new() };
        Side { word: AtomicU64::new(0), inner: ModelledLock::new(inner) }
    }

    /// Before an attempt.
    #[inline]
    pub(super) fn look(&self) -> Result<Seen, Refused> {
        // Acquire: pairs with the Release in `step`: the attempt comes after the event that the word counts.
        let word = self.word.load(Ordering::Acquire);
        if word & (CLOSED | DEADLINE) != 0 {
            self.check(word)?;
        }
        Ok(Seen(word))
    }

    #[cold]
    fn check(&self, word: u64) -> Result<(), Refused> {
        if word & CLOSED != 0 {
            return Err(Refused::Closed);
        }
        let deadline = self.inner.lock().deadline;
        if deadline.is_some_and(|at| at <= Instant::now()) { Err(Refused::TimedOut) } else { Ok(()) }
    }

    /// Under the lock.
    fn step(&self, off: u64, on: u64) {
        // Relaxed: it changes under the lock only.
        let word = self.word.load(Ordering::Relaxed);
        // Release: pairs with the Acquire in `look`.
        self.word.store(((word & !off) | on).wrapping_add(STEP), Ordering::Release);
    }

    /// The poller reports the side ready. The one to wake.
    pub(super) fn event(&self, generation: u32) -> Option<Wake> {
        let mut inner = self.inner.lock();
        if inner.generation != generation {
            return None; // E3
        }
        self.step(0, 0);
        claim_first(&mut inner.queue)
    }

    /// E2: the next one has the turn.
    fn pass_on(&self) -> Option<Wake> {
        claim_first(&mut self.inner.lock().queue)
    }

    /// Operations fail from now on, those that wait included. All to wake.
    pub(super) fn close(&self) -> Vec<Wake> {
        let mut inner = self.inner.lock();
        self.step(0, CLOSED);
        claim_all(&mut inner.queue)
    }

    /// All who wait are woken, and wait again until the new one.
    pub(super) fn set_deadline(&self, deadline: Option<Instant>) -> Vec<Wake> {
        let mut inner = self.inner.lock();
        inner.deadline = deadline;
        self.step(DEADLINE, if deadline.is_some() { DEADLINE } else { 0 });
        claim_all(&mut inner.queue)
    }

    /// The generation of the registration that begins (E3).
    pub(super) fn begin(&self) -> u32 {
        self.inner.lock().generation
    }

    /// The registration is over: nobody uses the side any more, but the poller may have events of it.
    pub(super) fn end(&self) {
        let mut inner = self.inner.lock();
        debug_assert!(inner.queue.is_empty(), "waiters borrow their registration");
        inner.generation = inner.generation.wrapping_add(1);
        inner.deadline = None;
        self.step(CLOSED | DEADLINE, 0);
    }

    /// Waits until something has happened since `seen`. Returns true if the caller has been given the turn (E2). `first`:
    /// it had the turn before, and keeps its place before the others.
    fn wait(&self, seen: Seen, timeout: Option<Instant>, first: bool) -> Result<bool, Refused> {
        let blocker = Blocker::current();
        let waiter = Waiter::new(&blocker, Token::DONE, ());
        let until = {
            let mut inner = self.inner.lock();
            // Relaxed: it changes under the lock only.
            if self.word.load(Ordering::Relaxed) != seen.0 {
                return Ok(false);
            }
            blocker.arm();
            // SAFETY: W2: the waiter stays in this frame until it was claimed, or is removed below.
            unsafe { if first { inner.queue.push_front(&waiter) } else { inner.queue.push_back(&waiter) } }
            inner.deadline.into_iter().chain(timeout).min()
        };
        let token = blocker.park(WaitReason::Net, until);
        if token == Token::DONE {
            return Ok(true);
        }
        // SAFETY: it is in this queue, or was taken out of it.
        let _was_in = unsafe { self.inner.lock().queue.remove(&waiter) };
        if token == Token::ABORT {
            unwind_aborted();
        }
        Err(Refused::TimedOut)
    }

    /// Attempts an operation, and again whenever something has happened, until it does not return `None`: "it would block".
    pub(super) fn attempt<R>(
        &self,
        timeout: Option<Instant>,
        mut operation: impl FnMut() -> Option<R>,
    ) -> Result<R, Refused> {
        let mut turn = Turn { side: self, mine: false };
        loop {
            let seen = self.look()?;
            if let Some(result) = operation() {
                return Ok(result);
            }
            // E2: nothing is there, so there is nothing to pass on.
            let first = std::mem::take(&mut turn.mine);
            turn.mine = self.wait(seen, timeout, first)?;
        }
    }
}

/// E2: passed on however its holder goes on, by an unwind too.
struct Turn<'a> {
    side: &'a Side,
    mine: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.mine
            && let Some(wake) = self.side.pass_on()
        {
            wake.wake();
        }
    }
}

fn claim_first(queue: &mut WaitQueue<()>) -> Option<Wake> {
    queue.claim_next(|()| (), |(), ()| ()).map(|((), wake)| wake)
}

fn claim_all(queue: &mut WaitQueue<()>) -> Vec<Wake> {
    std::iter::from_fn(|| claim_first(queue)).collect()
}

#[cfg(all(test, loom))]
mod models;
