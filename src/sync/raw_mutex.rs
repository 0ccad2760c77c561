//! `RawMutex`: the lock under `Mutex`. One exchange when nobody contends; queued, with a hand-over to who has starved,
//! as Go's.
//!
//! ```text
//!  word: LOCKED | WAITERS | WOKEN
//!  lock:   0 → LOCKED by one exchange, else into the queue
//!  unlock: LOCKED off by one subtraction; if that leaves WAITERS alone, wake the first, or hand the lock over to it
//! ```
//!
//! * **U1.** Who set LOCKED, or was handed it, alone touches the value. WAITERS alone is as good as locked: it is what an
//!   unlock leaves that is still to see to the waiters, and nobody takes the lock from there but that unlock (or another
//!   one that comes to the queue's lock before it, and does its work).
//! * **U2.** WAITERS says that the queue is not empty. It changes under the queue's lock only. A waiter enqueues itself
//!   only where one exchange has found LOCKED and left WAITERS, so the unlock that follows sees it.
//! * **U3.** Barging: a woken waiter competes with newcomers, which keeps the lock busy; one that has waited over
//!   1 ms is handed the lock instead (LOCKED stays set), so nobody starves (Go's `sync.Mutex`, starvation mode).
//! * **U4.** WOKEN says that one waiter was woken and has not been back yet. It is set by an unlock that finds it clear,
//!   under the queue's lock, and cleared by that waiter, who comes back whatever happens: it takes the lock, or goes to
//!   the front of the queue while somebody has the lock. So while it is set no unlock need wake anybody (Go's
//!   `mutexWoken`).
//!
//! What it does not do: spin. A waiter costs its worker one switch, and another goroutine is there to run.

use super::shim::{AtomicU32, Lock, Ordering, has_starved};
use gorun_scheduler::{Blocker, Token, WaitQueue, WaitReason, Waiter, checkpoint, give_way, unwind_aborted};
use std::cell::Cell;
use std::time::{Duration, Instant};

const LOCKED: u32 = 1;
const WAITERS: u32 = 2;
const WOKEN: u32 = 4;

/// The lock of a [`Mutex`](super::Mutex), without a value: for those who build on [`lock_api`].
///
/// Through `lock_api`'s own types a wait for the lock is not ended by an abort: some of them (`MutexGuard::unlocked`)
/// count on having the lock back. The timed ones give up at their time only.
///
/// ```
/// type Mapped<'a> = lock_api::MappedMutexGuard<'a, gorun::sync::RawMutex, u8>;
/// let pair = lock_api::Mutex::<gorun::sync::RawMutex, _>::new((1, 2));
/// let mut second: Mapped<'_> = lock_api::MutexGuard::map(pair.lock(), |pair| &mut pair.1);
/// *second += 1;
/// drop(second);
/// assert_eq!(pair.into_inner(), (1, 3));
/// ```
#[derive(Debug)]
pub struct RawMutex {
    word: AtomicU32,
    queue: Lock<WaitQueue<Wait>>,
}

/// A waiter's slot: since when it waits, and whether it was handed the lock.
#[derive(Debug)]
struct Wait {
    since: Instant,
    handed: Cell<bool>,
}

/// Whether an abort ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abort {
    /// It unwinds, with nothing held.
    Unwinds,
    /// It has to wait.
    Waits,
}

impl RawMutex {
    pub(super) const fn new() -> RawMutex {
        RawMutex { word: AtomicU32::new(0), queue: Lock::new(WaitQueue::new()) }
    }

    /// Takes the lock; `false` if that did not happen until `deadline`. An abort unwinds.
    #[inline]
    pub(super) fn acquire(&self, deadline: Option<Instant>) -> bool {
        give_way();
        self.try_acquire_free() || self.acquire_slow(deadline, Abort::Unwinds)
    }

    /// As `acquire`, for ever, and an abort has to wait.
    #[inline]
    pub(super) fn acquire_shielded(&self) {
        give_way();
        if !self.try_acquire_free() {
            self.acquire_slow(None, Abort::Waits);
        }
    }

    /// As `acquire`, and an abort has to wait.
    pub(super) fn acquire_shielded_until(&self, deadline: Option<Instant>) -> bool {
        give_way();
        self.try_acquire_free() || self.acquire_slow(deadline, Abort::Waits)
    }

    #[inline]
    fn try_acquire_free(&self) -> bool {
        // Acquire: pairs with the Release of the unlock.
        self.word.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock if it is free, and `woken` off the word.
    fn try_acquire(&self, woken: u32) -> bool {
        // Relaxed: a guess for the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        while is_free(word) {
            let taken = (word | LOCKED) & !woken;
            // Acquire: as above.
            match self.word.compare_exchange_weak(word, taken, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Under the queue's lock: takes the lock if it is free, else says that there is a waiter (U2, U4).
    fn try_acquire_or_announce(&self, woken: u32) -> bool {
        // Relaxed: as above.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let free = is_free(word);
            let new = (word | if free { LOCKED } else { WAITERS }) & !woken;
            // Acquire: as above, where it takes the lock.
            match self.word.compare_exchange_weak(word, new, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return free,
                Err(now) => word = now,
            }
        }
    }

    #[cold]
    fn acquire_slow(&self, deadline: Option<Instant>, abort: Abort) -> bool {
        match abort {
            Abort::Unwinds => checkpoint(),
            Abort::Waits => {}
        }
        if self.try_acquire(0) {
            return true;
        }
        let since = Instant::now();
        let blocker = Blocker::current();
        // U4: ours to clear once we have been woken.
        let mut woken = 0;
        loop {
            let waiter = Waiter::new(&blocker, Token::DONE, Wait { since, handed: Cell::new(false) });
            {
                let mut queue = self.queue.lock();
                if self.try_acquire_or_announce(woken) {
                    return true;
                }
                match abort {
                    Abort::Unwinds => blocker.arm(),
                    Abort::Waits => blocker.arm_shielded(),
                }
                // SAFETY: W2: the waiter stays in this frame until it is claimed or removed below.
                unsafe { if woken == 0 { queue.push_back(&waiter) } else { queue.push_front(&waiter) } }
            }
            let token = blocker.park(WaitReason::Mutex, deadline);
            if token == Token::DONE {
                if waiter.slot.handed.get() {
                    return true;
                }
                if self.try_acquire(WOKEN) {
                    return true;
                }
                woken = WOKEN;
                continue;
            }
            {
                let mut queue = self.queue.lock();
                // SAFETY: it is in this queue, or was taken out of it.
                let _was_in = unsafe { queue.remove(&waiter) };
                if queue.is_empty() {
                    // Relaxed: U2: the queue's lock orders it.
                    self.word.fetch_and(!WAITERS, Ordering::Relaxed);
                }
            }
            if token == Token::ABORT {
                unwind_aborted();
            }
            return false;
        }
    }

    /// # Safety
    /// The caller has the lock (U1).
    #[inline]
    pub(super) unsafe fn release(&self) {
        // Release: pairs with the Acquire of the next lock. A subtraction whose result is compared with nothing but 0 is half
        // a nanosecond faster than an exchange.
        if self.word.fetch_sub(LOCKED, Ordering::Release) != LOCKED {
            self.release_slow();
        }
    }

    #[cold]
    fn release_slow(&self) {
        // Relaxed: a guess; if there is nobody to wake, or somebody is awake (U4), that is all.
        if self.word.load(Ordering::Relaxed) & (LOCKED | WAITERS | WOKEN) != WAITERS {
            return;
        }
        let mut queue = self.queue.lock();
        // Acquire: pairs with the Release of the unlock that left it so, another one's perhaps, for whose holder we act. In
        // this state nobody else changes it (U1, U2).
        if self.word.load(Ordering::Acquire) != WAITERS {
            // Another unlock was here before us, or the last waiter has given up.
            return;
        }
        // Relaxed: nobody can tell it from WAITERS alone. It is for who is handed the lock, and may release it at once.
        self.word.store(LOCKED | WAITERS, Ordering::Relaxed);
        let claimed = queue.claim_next(
            |wait| {
                let handed = has_starved(wait.since);
                wait.handed.set(handed);
                handed
            },
            // Claimed by an abort or its time, it does not look.
            |_, _| (),
        );
        let waiters = if queue.is_empty() { 0 } else { WAITERS };
        // The word is ours, unless the lock was handed over: it is LOCKED, WOKEN is clear, and WAITERS is the queue's. (A
        // waiter that was merely woken may be running already: it finds LOCKED, and comes to the queue's lock.)
        match claimed {
            // LOCKED stays, or the waiter, who has it now, has taken it off already and waits for the queue's lock. Relaxed:
            // its claim is the edge.
            Some((true, wake)) => {
                if waiters == 0 {
                    self.word.fetch_and(!WAITERS, Ordering::Relaxed);
                }
                drop(queue);
                wake.wake();
            }
            // Release: pairs with the Acquire of the next lock.
            Some((false, wake)) => {
                self.word.store(WOKEN | waiters, Ordering::Release);
                drop(queue);
                wake.wake();
            }
            // Release: as above.
            None => self.word.store(waiters, Ordering::Release),
        }
    }
}

/// U1.
fn is_free(word: u32) -> bool {
    word & LOCKED == 0 && word & (WAITERS | WOKEN) != WAITERS
}

// SAFETY: U1: one at a time.
unsafe impl lock_api::RawMutex for RawMutex {
    const INIT: RawMutex = RawMutex::new();

    /// Go: "A locked Mutex is not associated with a particular goroutine."
    type GuardMarker = lock_api::GuardSend;

    #[inline]
    fn lock(&self) {
        self.acquire_shielded();
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.try_acquire(0)
    }

    #[inline]
    unsafe fn unlock(&self) {
        // SAFETY: by the caller.
        unsafe { self.release() };
    }

    #[inline]
    fn is_locked(&self) -> bool {
        // Relaxed: it may have changed when the caller looks at it.
        self.word.load(Ordering::Relaxed) & LOCKED != 0
    }
}

// SAFETY: as above; `false` without the lock.
unsafe impl lock_api::RawMutexTimed for RawMutex {
    type Duration = Duration;
    type Instant = Instant;

    fn try_lock_for(&self, timeout: Duration) -> bool {
        self.try_acquire(0) || self.acquire_slow(Instant::now().checked_add(timeout), Abort::Waits)
    }

    fn try_lock_until(&self, deadline: Instant) -> bool {
        self.try_acquire(0) || self.acquire_slow(Some(deadline), Abort::Waits)
    }
}
