//! `Once`: something that is done once, while all others who want it done wait.
//!
//! * **O1.** The word changes under the queue's lock. Who changes it to RUNNING does it, and changes it again when that
//!   has ended, however it does.
//! * **O2.** Who wants to do it is in the queue only while the word is RUNNING: the end of a run wakes all.

use super::raw_mutex::Abort;
use super::shim::{AtomicU32, Lock, Ordering};
use super::wait::{How, Waited, claim_all, wait};
use gorun_scheduler::{WaitQueue, WaitReason, Wake, checkpoint, is_panic, unwind_aborted, unwind_if_ending};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

const INCOMPLETE: u32 = 0;
const RUNNING: u32 = 1;
const COMPLETE: u32 = 2;
const POISONED: u32 = 3;

/// Does something once: Go's `sync.Once`, with std's surface.
///
/// The return of what is done happens before the return of any call of [`call_once`](Once::call_once). Who comes while it
/// is being done waits: a goroutine parked, a plain thread blocked. Who calls `call_once` of the same `Once` in what is
/// being done waits for itself, for ever.
///
/// A panic poisons it, as std's: later calls panic. So nobody goes on as if it had been done. Go says that it counts as
/// done, but there nobody goes on: the panic has ended the process. (Go's later `OnceFunc` panics in each call, too.)
/// A [`goexit`](crate::goexit) or an abort that ends what is being done is none of its faults: it counts as not begun, and
/// the next one does it.
///
/// ```
/// static READY: gorun::sync::Once = gorun::sync::Once::new();
/// let callers: Vec<_> = (0..4).map(|_| gorun::go(|| READY.call_once(|| gorun::yield_now()))).collect();
/// for caller in callers { caller.join().unwrap(); }
/// assert!(READY.is_completed());
/// ```
pub struct Once {
    word: AtomicU32,
    queue: Lock<WaitQueue<()>>,
}

/// What [`Once::call_once_force`] tells of the runs before.
#[derive(Debug)]
pub struct OnceState {
    poisoned: bool,
}

impl OnceState {
    /// Returns true if the last run panicked.
    ///
    /// ```
    /// gorun::sync::Once::new().call_once_force(|state| assert!(!state.is_poisoned()));
    /// ```
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

/// What a panic in what is done means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Panics {
    /// Nobody does it again: all panic.
    Poison,
    /// The next one is told, and does it.
    Mark,
    /// Nothing: as if it had not begun.
    Pass,
}

enum Turn {
    Over,
    Poisoned,
    Ours(OnceState),
}

impl Once {
    /// One that has not been done.
    ///
    /// ```
    /// static INIT: gorun::sync::Once = gorun::sync::Once::new();
    /// INIT.call_once(|| ());
    /// assert!(INIT.is_completed());
    /// ```
    #[must_use]
    pub const fn new() -> Once {
        Once { word: AtomicU32::new(INCOMPLETE), queue: Lock::new(WaitQueue::new()) }
    }

    /// Returns true if it has been done. If so, that happened before.
    ///
    /// ```
    /// assert!(!gorun::sync::Once::new().is_completed());
    /// ```
    #[inline]
    pub fn is_completed(&self) -> bool {
        // Acquire: pairs with the Release in `end`.
        self.word.load(Ordering::Acquire) == COMPLETE
    }

    /// Does `f` if nothing has been done yet, waits if it is being done, and returns when it has been done, be it `f`
    /// or another's. A cancellation point unless it has been done.
    ///
    /// # Panics
    /// If what was being done panicked.
    ///
    /// ```
    /// let once = gorun::sync::Once::new();
    /// let mut calls = 0;
    /// for _ in 0..3 {
    ///     once.call_once(|| calls += 1);
    /// }
    /// assert_eq!(calls, 1);
    /// ```
    #[inline]
    #[track_caller]
    pub fn call_once(&self, f: impl FnOnce()) {
        if !self.is_completed() {
            self.run(Panics::Poison, |_| {
                f();
                true
            });
        }
    }

    /// As [`call_once`](Once::call_once), but a run that panicked counts as not begun.
    ///
    /// ```
    /// let once = gorun::sync::Once::new();
    /// gorun::go({
    ///     static ONCE: gorun::sync::Once = gorun::sync::Once::new();
    ///     || ONCE.call_once_force(|_| ())
    /// }).join().unwrap();
    /// once.call_once_force(|_| ());
    /// assert!(once.is_completed());
    /// ```
    #[inline]
    pub fn call_once_force(&self, f: impl FnOnce(&OnceState)) {
        if !self.is_completed() {
            self.run(Panics::Mark, |state| {
                f(state);
                true
            });
        }
    }

    /// Waits until it has been done, without doing it. A cancellation point.
    ///
    /// # Panics
    /// If what was being done panicked.
    ///
    /// ```
    /// static READY: gorun::sync::Once = gorun::sync::Once::new();
    /// gorun::go(|| READY.call_once(|| ()));
    /// READY.wait();
    /// ```
    #[track_caller]
    pub fn wait(&self) {
        if !self.is_completed() {
            checkpoint();
            let over = self.turn(|| match self.state() {
                COMPLETE => Some(Turn::Over),
                POISONED => Some(Turn::Poisoned),
                _ => None,
            });
            over.done_or_panic();
        }
    }

    /// Under the queue's lock.
    fn state(&self) -> u32 {
        // Relaxed: the lock orders it (O1).
        self.word.load(Ordering::Relaxed)
    }

    /// Waits until `now`, called under the lock, has an answer.
    fn turn(&self, now: impl Fn() -> Option<Turn>) -> Turn {
        let how = How { reason: WaitReason::Once, deadline: None, abort: Abort::Unwinds };
        loop {
            match wait(&self.queue, how, (), |queue| queue, |_| now(), |_, _| Vec::new()) {
                Waited::Not(turn) => return turn,
                Waited::Woken | Waited::TimedOut => {}
                Waited::Aborted => unwind_aborted(),
            }
        }
    }

    /// Does `f` if it has to be done; `f` says whether it now has been.
    #[cold]
    #[track_caller]
    pub(super) fn run(&self, panics: Panics, f: impl FnOnce(&OnceState) -> bool) {
        checkpoint();
        let turn = self.turn(|| match self.state() {
            RUNNING => None,
            COMPLETE => Some(Turn::Over),
            POISONED if panics == Panics::Poison => Some(Turn::Poisoned),
            before => {
                // Relaxed: O1.
                self.word.store(RUNNING, Ordering::Relaxed);
                Some(Turn::Ours(OnceState { poisoned: before == POISONED }))
            }
        });
        let Turn::Ours(state) = turn else { return turn.done_or_panic() };
        let before = if state.poisoned { POISONED } else { INCOMPLETE };
        let run = || {
            // The one before us may have been aborted: then `f` is not begun.
            unwind_if_ending();
            f(&state)
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(done) => self.end(if done { COMPLETE } else { before }),
            Err(payload) => {
                let poisons = panics != Panics::Pass && is_panic(&*payload);
                self.end(if poisons { POISONED } else { before });
                resume_unwind(payload);
            }
        }
    }

    /// O1, O2.
    fn end(&self, word: u32) {
        let woken = {
            let mut queue = self.queue.lock();
            // Release: pairs with the Acquire in `is_completed`.
            self.word.store(word, Ordering::Release);
            claim_all(&mut queue)
        };
        Wake::wake_all(woken);
    }

    /// One that has been done.
    pub(super) const fn completed() -> Once {
        Once { word: AtomicU32::new(COMPLETE), queue: Lock::new(WaitQueue::new()) }
    }
}

impl Turn {
    #[track_caller]
    fn done_or_panic(self) {
        assert!(!matches!(self, Turn::Poisoned), "gorun: what was to be done once has panicked");
    }
}

impl Default for Once {
    fn default() -> Once {
        Once::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("is_completed", &self.is_completed()).finish_non_exhaustive()
    }
}
