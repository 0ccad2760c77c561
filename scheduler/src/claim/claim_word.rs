//! The claim word: how one goroutine, one plain OS thread or one future waits, and how exactly one of all those who
//! could end its wait does so.
//!
//! Called by `park` (the waiting side), `worker` (the commit step) and, through [`Parker::claim`], by every
//! primitive, timer and abort (the waking side).
//!
//! # The protocol
//!
//! ```text
//!            arm                commit (worker, off the stack)
//!  RUNNING ───────▶ PARKING ─────────────────────────────────▶ PARKED
//!     ▲                │ claim(token)                            │ claim(token)
//!     │                ▼                                         ▼
//!     └── finish ── CLAIMED(token)  ◀────────────────────────────┘  the claimer pushes the goroutine
//! ```
//!
//! * **P1, one winner.** Only the edge into `CLAIMED` ends a wait, it is one compare-and-swap, and nothing
//!   but [`Parker::finish`], called by the waiter itself, leaves `CLAIMED`.
//! * **P2, nobody runs a goroutine that is still on its stack.** A claimer that finds `PARKING` changes the
//!   word and touches nothing else; the worker's commit then fails, and the worker itself runs the goroutine
//!   again. Only a claimer that finds `PARKED` gets the goroutine to push.
//! * **P3, a claimer may touch the parker.** A claim happens under the lock under which the waiter enqueued
//!   itself, and the waiter leaves its operation only after it has taken that lock again or was dequeued by
//!   the claimer. Goroutine parkers are type-stable besides.
//!
//! * **P4, waits are numbered.** A word that is PARKED with the same number as before has been PARKED all the time (unless
//!   2^29 waits lie between). So the worker, which owns nothing any more once it has committed, can still end this very
//!   wait, and no later one, for an abort ([`Committed::abort`]).
//! * **P5, waking does not unwind.** A panic of a future's waker ends in [`Wake::wake`], so that neither the operation of
//!   whoever wakes nor anybody else who is to be woken is lost by it.
//!
//! The bad interleaving without `PARKING`: the waiter enqueues itself, a sender on another worker pops it and
//! pushes it into a run queue, a third worker resumes it, all before the first one has left its stack.

use crate::base::atomics::{AtomicU32, Ordering, Thread, current_thread};
use std::cell::Cell;
use std::ptr::NonNull;
use std::task::Waker;

const STATE: u32 = 0b11;
const RUNNING: u32 = 0;
const PARKING: u32 = 1;
const PARKED: u32 = 2;
const CLAIMED: u32 = 3;
/// An abort may not end this wait.
const SHIELD: u32 = 0b100;
/// In CLAIMED the token stands above the flags, in PARKING and PARKED the number of the wait.
const TOKEN_SHIFT: u32 = 3;

/// Why a wait ended: the small number that the winner of the claim left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(u32);

impl Token {
    /// The deadline passed.
    pub const TIMEOUT: Token = Token(0);
    /// The goroutine was aborted.
    pub const ABORT: Token = Token(1);
    /// The wait of a primitive with one reason to wake was fulfilled.
    pub const DONE: Token = Token(2);

    /// The token of case `index` of several, as in a select.
    ///
    /// # Panics
    /// Panics if `index` is above 2^28.
    ///
    /// ```
    /// assert_eq!(gorun_scheduler::Token::case(3).index(), Some(3));
    /// ```
    #[must_use]
    pub fn case(index: usize) -> Token {
        let index = u32::try_from(index).ok().filter(|i| *i <= 1 << 28);
        Token(3 + index.expect("a wait has at most 2^28 cases"))
    }

    /// The case index, if this is the token of a case.
    ///
    /// ```
    /// use gorun_scheduler::Token;
    /// assert_eq!(Token::case(0).index(), Some(0));
    /// assert_eq!(Token::TIMEOUT.index(), None);
    /// ```
    #[must_use]
    pub fn index(self) -> Option<usize> {
        self.0.checked_sub(3).map(|i| i as usize)
    }
}

/// The claim word of a goroutine, a plain thread or a task.
///
/// `repr(C)` and always the first field of its owner, so that a pointer to it is a pointer to the owner.
#[derive(Debug)]
#[repr(C)]
pub struct Parker {
    word: AtomicU32,
    /// P4. Written by the waiter only.
    waits: Cell<u32>,
    kind: Kind,
}

/// Whose claim word it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Goroutine,
    Thread,
    /// A future's: see `async_waiter`.
    Task,
}

// SAFETY: `waits` is the waiter's own (G1), the rest is atomic or never changes.
unsafe impl Sync for Parker {}

/// A plain thread's parker: the word and the handle that unparks the thread.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct ThreadParker {
    parker: Parker,
    thread: Thread,
}

impl ThreadParker {
    pub(crate) fn current() -> ThreadParker {
        ThreadParker { parker: Parker::new(Kind::Thread), thread: current_thread() }
    }

    pub(crate) fn parker(&self) -> NonNull<Parker> {
        // The whole owner's provenance: `claim` casts back to it.
        NonNull::from(self).cast()
    }
}

/// A wait as it was announced: the word that [`Parker::arm`] has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Armed(u32);

/// A future's claim word, and the waker that a claim yields.
#[repr(C)]
pub(crate) struct TaskParker {
    pub(crate) parker: Parker,
    pub(crate) waker: Cell<Option<Waker>>,
}

/// # Safety
/// `this` is a task's parker, alive, and the caller holds the lock (F1 in `async_waiter`).
unsafe fn take_waker(this: NonNull<Parker>) -> Wake {
    // SAFETY: the caller's contract; the pointer was made from one to the whole `TaskParker`.
    let waker = unsafe { this.cast::<TaskParker>().as_ref() }.waker.take();
    // One that has no waker is polled by itself.
    Wake(waker.map_or(Woken::Nobody, Woken::Task))
}

/// What the commit step found.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Commit {
    /// The goroutine is parked; whoever claims it owns it now.
    Parked(Committed),
    /// Somebody claimed it before it had left its stack: the worker runs it again.
    Claimed,
}

/// A wait that its worker has committed, by the word it left (P4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Committed(u32);

impl Committed {
    /// Ends this very wait for an abort, if nothing has ended it yet and it is not shielded.
    ///
    /// # Safety
    /// `this` is the goroutine's parker that was committed.
    #[cold]
    pub(crate) unsafe fn abort(self, this: NonNull<Parker>) -> Option<Wake> {
        if self.0 & SHIELD != 0 {
            return None;
        }
        // SAFETY: goroutine parkers are type-stable.
        let word = &unsafe { this.as_ref() }.word;
        let claimed = CLAIMED | Token::ABORT.0 << TOKEN_SHIFT;
        // Relaxed: on the thread that has committed it; and it publishes nothing but the token.
        word.compare_exchange(self.0, claimed, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        // PARKED → CLAIMED by us: a goroutine, which is ours to push (P1, P2).
        Some(Wake(Woken::Goroutine(Claimed(this))))
    }
}

impl Parker {
    pub(crate) fn for_goroutine() -> Parker {
        Parker::new(Kind::Goroutine)
    }

    pub(crate) fn new(kind: Kind) -> Parker {
        Parker { word: AtomicU32::new(RUNNING), waits: Cell::new(0), kind }
    }

    /// RUNNING → PARKING, by the waiter, before it becomes visible to any claimer.
    #[inline]
    pub(crate) fn arm(&self, shielded: bool) -> Armed {
        // Relaxed: the waiter publishes itself afterwards, under the lock of what it waits for (P3), and that
        // lock's release pairs with the claimer's acquire. An abort looks at the word without a lock; it
        // either sees PARKING or is seen by the worker's commit.
        let wait = self.waits.get().wrapping_add(1);
        self.waits.set(wait);
        let word = PARKING | if shielded { SHIELD } else { 0 } | wait << TOKEN_SHIFT;
        self.word.store(word, Ordering::Relaxed);
        Armed(word)
    }

    /// Takes the shield off this wait, if it goes on still. On the thread whose worker would commit it, and has.
    #[cold]
    pub(crate) fn unshield(&self, wait: Armed) -> bool {
        let parked = (wait.0 & !STATE) | PARKED;
        // SeqCst: see `abort_shields`. It publishes nothing, and keeps what the commit has published (a release sequence).
        self.word.compare_exchange(parked, parked & !SHIELD, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// PARKING → RUNNING, by a waiter that decided not to wait and is in no queue. `false` if it was claimed.
    pub(crate) fn disarm(&self) -> bool {
        // Relaxed: our own store in `arm`, or a claim that the exchange below will see.
        let word = self.word.load(Ordering::Relaxed);
        // Acquire on failure pairs with the claimer's release in `claim`.
        word & STATE == PARKING
            && self.word.compare_exchange(word, RUNNING, Ordering::Relaxed, Ordering::Acquire).is_ok()
    }

    /// PARKING → PARKED, by the worker, after the goroutine has left its stack.
    #[inline]
    pub(crate) fn commit(&self) -> Commit {
        // Relaxed: only a guess for the exchange.
        let word = self.word.load(Ordering::Relaxed);
        if word & STATE == PARKING {
            let parked = (word & !STATE) | PARKED;
            // SeqCst: first half of the abort's Dekker pair. The worker writes the word and then reads the
            // abort flag, the aborter writes the flag and then reads the word (`Goroutine::abort`).
            // Release: all that the goroutine wrote on its stack is visible to whoever claims it (Acquire).
            if self.word.compare_exchange(word, parked, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                return Commit::Parked(Committed(parked));
            }
        }
        Commit::Claimed
    }

    /// Ends the wait with `token`, if it is still going on. The winner must wake what it gets, after it has
    /// released the lock it holds.
    ///
    /// # Safety
    /// P3: `this` points to a parker that can't go away during the call.
    ///
    /// ```
    /// use gorun_scheduler::{Blocker, Parker, Token, WaitReason};
    /// let blocker = Blocker::current();
    /// blocker.arm();
    /// // SAFETY: the blocker, and so its parker, outlives the calls.
    /// let claim = |token| unsafe { Parker::claim(blocker.parker(), token) };
    /// let first = claim(Token::case(0)).expect("it waits");
    /// assert!(claim(Token::case(1)).is_none(), "one winner");
    /// first.wake();
    /// assert_eq!(blocker.park(WaitReason::Select, None), Token::case(0));
    /// ```
    #[inline]
    #[must_use = "the claimed waiter sleeps until it is woken"]
    pub unsafe fn claim(this: NonNull<Parker>, token: Token) -> Option<Wake> {
        // SAFETY: P3.
        unsafe { Parker::claim_unless(this, token, 0) }
    }

    /// As `claim`, for what is most often there: a goroutine that waits, off its stack. `None` also when it is anything
    /// else; then nothing has happened, and `claim` tells.
    ///
    /// # Safety
    /// As [`Parker::claim`].
    #[inline]
    #[must_use = "the claimed waiter sleeps until it is woken"]
    pub(crate) unsafe fn claim_parked(this: NonNull<Parker>, token: Token) -> Option<Wake> {
        // SAFETY: P3.
        let parker = unsafe { this.as_ref() };
        // Relaxed: only a guess for the exchange.
        let word = parker.word.load(Ordering::Relaxed);
        if word & STATE != PARKED {
            return None;
        }
        let claimed = CLAIMED | token.0 << TOKEN_SHIFT;
        // AcqRel: as in `claim`.
        parker.word.compare_exchange(word, claimed, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        // PARKED → CLAIMED by us: a goroutine, which is ours to push (P1, P2).
        Some(Wake(Woken::Goroutine(Claimed(this))))
    }

    /// As `claim`, but a shielded wait is left alone: for aborts.
    ///
    /// # Safety
    /// As [`Parker::claim`].
    #[must_use = "the claimed waiter sleeps until it is woken"]
    pub(crate) unsafe fn claim_unshielded(this: NonNull<Parker>, token: Token) -> Option<Wake> {
        // SAFETY: P3.
        unsafe { Parker::claim_unless(this, token, SHIELD) }
    }

    #[inline]
    unsafe fn claim_unless(this: NonNull<Parker>, token: Token, refused: u32) -> Option<Wake> {
        // SAFETY: P3.
        let parker = unsafe { this.as_ref() };
        // SeqCst: for the abort's pair, see `commit`.
        let mut word = parker.word.load(Ordering::SeqCst);
        loop {
            let state = word & STATE;
            if (state != PARKING && state != PARKED) || word & refused != 0 {
                return None;
            }
            let thread = (parker.kind == Kind::Thread).then(|| {
                // SAFETY: a parker of this kind is the first field of a `ThreadParker`, and the pointer was
                // made from that (`ThreadParker::parker`). Alive by P3: it was not claimed when last seen, and
                // if it has been since, the waiter still has to pass the lock that we hold.
                unsafe { this.cast::<ThreadParker>().as_ref() }.thread.clone()
            });
            // AcqRel: Release publishes the claimer's writes (the value it left) to `finish`; Acquire pairs with `commit`.
            // Relaxed on failure: what it finds then is not older than what the load above has found.
            match parker.word.compare_exchange(
                word,
                CLAIMED | token.0 << TOKEN_SHIFT,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    return Some(match thread {
                        Some(thread) => Wake(Woken::Thread(thread)),
                        None if state == PARKED => {
                            // Only a goroutine's parker is committed; PARKED → CLAIMED by us, so it is ours to push (P1, P2).
                            Wake(Woken::Goroutine(Claimed(this)))
                        }
                        // SAFETY: P3, and we hold the lock of the one queue that it is in.
                        None if parker.kind == Kind::Task => unsafe { take_waker(this) },
                        None => Wake(Woken::Nobody),
                    });
                }
                Err(now) => word = now,
            }
        }
    }

    /// A snapshot.
    #[inline]
    pub(crate) fn is_parked(&self) -> bool {
        // Relaxed: a hint.
        self.word.load(Ordering::Relaxed) & STATE == PARKED
    }

    /// The token, once the wait has ended.
    #[inline]
    pub(crate) fn claimed(&self) -> Option<Token> {
        // Acquire: pairs with the release in `claim`.
        let word = self.word.load(Ordering::Acquire);
        (word & STATE == CLAIMED).then_some(Token(word >> TOKEN_SHIFT))
    }

    /// CLAIMED → RUNNING, by the waiter.
    #[inline]
    pub(crate) fn finish(&self) -> Token {
        let token = self.claimed().expect("a wait ends by a claim");
        // Relaxed: nobody but the waiter acts on a word that is CLAIMED or RUNNING.
        self.word.store(RUNNING, Ordering::Relaxed);
        token
    }
}

/// The duty to wake a claimed waiter. Carried out by [`Wake::wake`], after locks are released.
#[derive(Debug)]
#[must_use = "the claimed waiter sleeps until it is woken"]
pub struct Wake(pub(crate) Woken);

/// The claim word of a goroutine that is parked no more: its holder owns the goroutine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimed(NonNull<Parker>);

// SAFETY: a claimed goroutine may be handed to another thread (G1 in `goroutine/block`).
unsafe impl Send for Claimed {}

impl Claimed {
    pub(crate) fn parker(self) -> NonNull<Parker> {
        self.0
    }
}

#[derive(Debug)]
pub(crate) enum Woken {
    /// It had not left its stack: its worker sees to it.
    Nobody,
    /// A goroutine's claim word: it is the caller's to push.
    Goroutine(Claimed),
    Thread(Thread),
    Task(Waker),
}

impl Wake {
    /// Returns true if it wakes a future.
    ///
    /// ```
    /// let futures = |wakes: &[gorun_scheduler::Wake]| wakes.iter().filter(|wake| wake.is_task()).count();
    /// assert_eq!(futures(&[]), 0);
    /// ```
    #[must_use]
    pub fn is_task(&self) -> bool {
        matches!(self.0, Woken::Task(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_parker_is_claimed_once() {
        let owner = ThreadParker::current();
        let p = owner.parker();
        // SAFETY: `owner` outlives the claims.
        let claim = |t| unsafe { Parker::claim(p, t) };
        assert!(claim(Token::DONE).is_none(), "a running thread waits for nothing");
        owner.parker.arm(false);
        assert!(claim(Token::case(7)).is_some());
        assert!(claim(Token::DONE).is_none(), "one winner");
        assert_eq!(owner.parker.finish().index(), Some(7));
        assert!(claim(Token::DONE).is_none());
    }

    #[test]
    fn a_shield_refuses_aborts_only() {
        let owner = ThreadParker::current();
        owner.parker.arm(true);
        // SAFETY: `owner` outlives the claims.
        assert!(unsafe { Parker::claim_unshielded(owner.parker(), Token::ABORT) }.is_none());
        // SAFETY: as above.
        assert!(unsafe { Parker::claim(owner.parker(), Token::TIMEOUT) }.is_some());
        assert_eq!(owner.parker.finish(), Token::TIMEOUT);
    }

    #[test]
    fn a_disarmed_parker_can_not_be_claimed() {
        let owner = ThreadParker::current();
        owner.parker.arm(false);
        assert!(owner.parker.disarm());
        // SAFETY: `owner` outlives the claim.
        assert!(unsafe { Parker::claim(owner.parker(), Token::DONE) }.is_none());
    }

    #[test]
    fn commit_loses_against_an_earlier_claim() {
        let owner = ThreadParker::current();
        owner.parker.arm(false);
        // SAFETY: `owner` outlives the claim.
        let wake = unsafe { Parker::claim(owner.parker(), Token::DONE) };
        assert!(wake.is_some());
        assert_eq!(owner.parker.commit(), Commit::Claimed);
    }
}

#[cfg(all(test, loom))]
mod models;
