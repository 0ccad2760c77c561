//! `Condvar`: waits until somebody says that something has changed, as Go's `sync.Cond`.
//!
//! * **V1.** A waiter is in the queue before it unlocks the mutex. So who changes something with the mutex locked, and
//!   notifies then or later, finds everybody who has seen the old state.
//! * **V2.** However a wait ends, an abort included, it has the mutex again: the guard is still in the caller's hands. So
//!   the lock is taken back in a wait that no abort ends.

use super::mutex::MutexGuard;
use super::raw_mutex::RawMutex;
use super::shim::{AtomicU32, Lock, Ordering};
use super::wait::claim_all;
use gorun_scheduler::{Blocker, Token, WaitQueue, WaitReason, Waiter, Wake, checkpoint, unwind_aborted};
use std::fmt;
use std::time::{Duration, Instant};

/// A place to wait at until something has changed that a [`Mutex`](super::Mutex) protects: Go's `sync.Cond`.
///
/// Waiters are woken in the order in which they came. There are no spurious wake-ups: a wait ends by a notification, at
/// its time, or by an abort. Still look again at what was waited for: another may have locked the mutex before the
/// one that was notified. (Go: "Because c.L is not locked while Wait is waiting, the caller typically cannot assume that
/// the condition is true when Wait returns. Instead, the caller should Wait in a loop." That is [`Condvar::wait_while`].)
///
/// A notification happens before the return of the wait that it ends. Waiters may come with different mutexes.
///
/// ```
/// use gorun::sync::{Condvar, Mutex};
/// use std::sync::Arc;
/// let shared = Arc::new((Mutex::new(false), Condvar::new()));
/// gorun::go({
///     let shared = shared.clone();
///     move || {
///         *shared.0.lock() = true;
///         shared.1.notify_one();
///     }
/// });
/// let mut ready = shared.0.lock();
/// shared.1.wait_while(&mut ready, |ready| !*ready);
/// assert!(*ready);
/// ```
#[derive(Default)]
pub struct Condvar {
    /// 1 while somebody is in the queue. Changes under its lock.
    waiting: Waiting,
    queue: Lock<WaitQueue<()>>,
}

#[derive(Debug)]
struct Waiting(AtomicU32);

impl Default for Waiting {
    fn default() -> Self {
        Waiting(AtomicU32::new(0))
    }
}

/// Whether a wait ended because its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Returns true if it did.
    ///
    /// ```
    /// # use gorun::sync::{Condvar, Mutex};
    /// let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    /// let result = condvar.wait_timeout(&mut mutex.lock(), std::time::Duration::from_millis(1));
    /// assert!(result.timed_out());
    /// ```
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// One at which nobody waits. It belongs to no mutex until somebody waits with one.
    ///
    /// ```
    /// static CHANGED: gorun::sync::Condvar = gorun::sync::Condvar::new();
    /// CHANGED.notify_all(); // nobody waits, nothing is remembered
    /// ```
    #[must_use]
    pub const fn new() -> Condvar {
        Condvar { waiting: Waiting(AtomicU32::new(0)), queue: Lock::new(WaitQueue::new()) }
    }

    /// Unlocks the mutex, waits for a notification, and locks the mutex again. No notification that is given after the
    /// mutex is unlocked gets lost.
    ///
    /// A cancellation point: an abort ends the wait and unwinds with the mutex locked, so that the guard unlocks it as it
    /// does in any unwind.
    ///
    /// ```
    /// # use gorun::sync::{Condvar, Mutex};
    /// static QUEUE: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    /// static FILLED: Condvar = Condvar::new();
    /// gorun::go(|| {
    ///     QUEUE.lock().push(1);
    ///     FILLED.notify_one();
    /// });
    /// let mut queue = QUEUE.lock();
    /// while queue.is_empty() {
    ///     FILLED.wait(&mut queue);
    /// }
    /// assert_eq!(queue.pop(), Some(1));
    /// ```
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_with(guard, None);
    }

    /// [Waits](Condvar::wait) as long as `condition` is true; does not wait if it is not. `condition` is called with the
    /// mutex locked.
    ///
    /// ```
    /// # use gorun::sync::{Condvar, Mutex};
    /// let (mutex, condvar) = (Mutex::new(3), Condvar::new());
    /// condvar.wait_while(&mut mutex.lock(), |n| *n == 0);
    /// ```
    pub fn wait_while<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, mut condition: impl FnMut(&mut T) -> bool) {
        while condition(&mut **guard) {
            self.wait(guard);
        }
    }

    /// As [`wait`](Condvar::wait), for `timeout` at most. (Locking the mutex again may take longer.)
    ///
    /// ```
    /// # use gorun::sync::{Condvar, Mutex};
    /// let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    /// assert!(condvar.wait_timeout(&mut mutex.lock(), std::time::Duration::ZERO).timed_out());
    /// ```
    pub fn wait_timeout<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> WaitTimeoutResult {
        WaitTimeoutResult(!self.wait_with(guard, Instant::now().checked_add(timeout)))
    }

    /// As [`wait`](Condvar::wait), until `deadline` at most.
    ///
    /// ```
    /// # use gorun::sync::{Condvar, Mutex};
    /// let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    /// assert!(condvar.wait_until(&mut mutex.lock(), std::time::Instant::now()).timed_out());
    /// ```
    pub fn wait_until<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> WaitTimeoutResult {
        WaitTimeoutResult(!self.wait_with(guard, Some(deadline)))
    }

    /// As [`wait_while`](Condvar::wait_while), for `timeout` at most in all. It has timed out if `condition` still is
    /// true then.
    ///
    /// ```
    /// # use gorun::sync::{Condvar, Mutex};
    /// # use std::time::Duration;
    /// let (mutex, condvar) = (Mutex::new(0), Condvar::new());
    /// let result = condvar.wait_timeout_while(&mut mutex.lock(), Duration::from_millis(1), |n| *n == 0);
    /// assert!(result.timed_out());
    /// ```
    pub fn wait_timeout_while<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> WaitTimeoutResult {
        let deadline = Instant::now().checked_add(timeout);
        while condition(&mut **guard) {
            if !self.wait_with(guard, deadline) {
                return WaitTimeoutResult(condition(&mut **guard));
            }
        }
        WaitTimeoutResult(false)
    }

    /// Ends the wait of the one who has waited longest. Nothing happens if nobody waits. The mutex may be locked by the
    /// caller, or not (Go: "It is allowed but not required for the caller to hold c.L during the call"). Never waits.
    ///
    /// ```
    /// gorun::sync::Condvar::new().notify_one();
    /// ```
    pub fn notify_one(&self) {
        if self.nobody_waits() {
            return;
        }
        let claimed = {
            let mut queue = self.queue.lock();
            let claimed = queue.claim_next(|()| (), |(), ()| ());
            self.note(&queue);
            claimed
        };
        if let Some(((), wake)) = claimed {
            wake.wake();
        }
    }

    /// Ends the waits of all who wait now. Never waits.
    ///
    /// ```
    /// gorun::sync::Condvar::new().notify_all();
    /// ```
    pub fn notify_all(&self) {
        if self.nobody_waits() {
            return;
        }
        let woken = {
            let mut queue = self.queue.lock();
            let woken = claim_all(&mut queue);
            self.note(&queue);
            woken
        };
        Wake::wake_all(woken);
    }

    fn nobody_waits(&self) -> bool {
        // Relaxed: V1: who was to be found has set it before it unlocked the mutex, and the caller has locked it since.
        self.waiting.0.load(Ordering::Relaxed) == 0
    }

    /// Under the queue's lock.
    fn note(&self, queue: &WaitQueue<()>) {
        // Relaxed: as above.
        self.waiting.0.store(u32::from(!queue.is_empty()), Ordering::Relaxed);
    }

    /// Returns true if it was notified.
    fn wait_with<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, deadline: Option<Instant>) -> bool {
        checkpoint();
        // SAFETY: V2: what is unlocked is locked again before the guard is used, or dropped.
        let token = unsafe { self.wait_unlocked(MutexGuard::mutex(guard).raw(), deadline) };
        if token == Token::ABORT {
            unwind_aborted();
        }
        token == Token::DONE
    }

    /// # Safety
    /// The caller has the lock, and touches nothing that it protects before this returns. Does not unwind.
    pub(super) unsafe fn wait_unlocked(&self, mutex: &RawMutex, deadline: Option<Instant>) -> Token {
        let blocker = Blocker::current();
        let waiter = Waiter::new(&blocker, Token::DONE, ());
        {
            let mut queue = self.queue.lock();
            blocker.arm();
            // SAFETY: W2: the waiter stays in this frame until it is claimed or removed below.
            unsafe { queue.push_back(&waiter) };
            self.note(&queue);
        }
        // SAFETY: by the caller.
        unsafe { mutex.release() };
        let token = blocker.park(WaitReason::Condvar, deadline);
        if token != Token::DONE {
            let mut queue = self.queue.lock();
            // SAFETY: it is in this queue, or was taken out of it.
            let _was_in = unsafe { queue.remove(&waiter) };
            self.note(&queue);
        }
        mutex.acquire_shielded();
        token
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
