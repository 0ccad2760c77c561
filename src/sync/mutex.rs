//! `Mutex`: one exchange when nobody contends; queued, with a hand-over to who has starved, as Go's.
//!
//! ```text
//!  word: LOCKED | WAITERS
//!  lock:   0 → LOCKED by one exchange, else into the queue
//!  unlock: LOCKED → 0 by one exchange, else (WAITERS) wake the first, or hand the lock over to it
//! ```
//!
//! * **U1.** Who set LOCKED, or was handed it, alone touches the value.
//! * **U2.** WAITERS is set and cleared under the queue's lock only, and is set whenever the queue is not empty. A waiter
//!   enqueues itself only while it sees LOCKED together with having set WAITERS, so the unlock that follows sees it.
//! * **U3.** Barging: a woken waiter competes with newcomers, which keeps the lock busy; one that has waited over
//!   1 ms is handed the lock instead (LOCKED stays set), so nobody starves (Go's `sync.Mutex`, starvation mode).

use super::lock;
use gorun_scheduler::{Blocker, Token, WaitQueue, WaitReason, Waiter, checkpoint, unwind_aborted};
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

const LOCKED: u8 = 1;
const WAITERS: u8 = 2;
const STARVED: Duration = Duration::from_millis(1);

/// A waiter's slot: since when it waits, and whether it was handed the lock.
#[derive(Debug)]
struct Wait {
    since: Instant,
    handed: Cell<bool>,
}

/// Mutual exclusion between goroutines, and plain threads.
///
/// As std's, with Go's fairness: newcomers may take the lock before those that wait, until one has waited for over
/// 1 ms, who is then handed it. A goroutine that waits is parked, a plain thread blocks.
///
/// There is no poisoning: a panic, a `goexit` or an abort drops the guard and so unlocks the mutex, and the next owner
/// finds the value as it was left. An unlock happens before the lock that follows it.
///
/// ```
/// use std::sync::Arc;
/// let total = Arc::new(gorun::sync::Mutex::new(0));
/// let adders: Vec<_> = (0..4).map(|n| { let total = total.clone(); gorun::go(move || *total.lock() += n) }).collect();
/// for adder in adders { adder.join().unwrap(); }
/// assert_eq!(*total.lock(), 6);
/// ```
pub struct Mutex<T: ?Sized> {
    word: AtomicU8,
    queue: std::sync::Mutex<WaitQueue<Wait>>,
    value: UnsafeCell<T>,
}

// SAFETY: U1: the value is touched by one at a time; it moves between threads, hence Send.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: as the value itself; the queue is empty while the mutex moves.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// An unlocked mutex.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { word: AtomicU8::new(0), queue: std::sync::Mutex::new(WaitQueue::new()), value: UnsafeCell::new(value) }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock and takes it.
    ///
    /// The unlock before it happens before `lock` returns. A cancellation point where it has to wait. Whoever locks
    /// a mutex that it holds already waits for itself, for ever.
    ///
    /// ```
    /// static LOG: gorun::sync::Mutex<Vec<&str>> = gorun::sync::Mutex::new(Vec::new());
    /// gorun::go(|| LOG.lock().push("child")).join().unwrap();
    /// LOG.lock().push("parent");
    /// assert_eq!(*LOG.lock(), ["child", "parent"]);
    /// ```
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        // Acquire: pairs with the Release of the unlock.
        if self.word.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_slow();
        }
        MutexGuard { mutex: self, not_send: PhantomData }
    }

    /// Takes the lock if it is free. `None` if it is not, and never waits.
    ///
    /// ```
    /// let mutex = gorun::sync::Mutex::new(1);
    /// let held = mutex.lock();
    /// assert!(mutex.try_lock().is_none());
    /// drop(held);
    /// assert_eq!(mutex.try_lock().as_deref(), Some(&1));
    /// ```
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        // Not `then_some`: a guard made in vain would unlock what another holds.
        self.try_take().then(|| MutexGuard { mutex: self, not_send: PhantomData })
    }

    /// The value, without locking: nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn try_take(&self) -> bool {
        // Relaxed: a guess for the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        while word & LOCKED == 0 {
            // Acquire: as in `lock`.
            match self.word.compare_exchange_weak(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    #[cold]
    fn lock_slow(&self) {
        checkpoint();
        let since = Instant::now();
        let blocker = Blocker::current();
        loop {
            if self.try_take() {
                return;
            }
            let waiter = Waiter::new(&blocker, Token::DONE, Wait { since, handed: Cell::new(false) });
            {
                let mut queue = lock(&self.queue);
                // Relaxed: U2 is about the order in this one word; the lock's own edge is made by who takes it.
                if self.word.fetch_or(WAITERS, Ordering::Relaxed) & LOCKED == 0 {
                    // Unlocked meanwhile; nobody will look for us.
                    if queue.is_empty() {
                        self.word.fetch_and(!WAITERS, Ordering::Relaxed);
                    }
                    continue;
                }
                blocker.arm();
                // SAFETY: W2: the waiter stays in this frame until it is claimed or removed below.
                unsafe { queue.push_back(&waiter) };
            }
            let token = blocker.park(WaitReason::Mutex, None);
            if token == Token::DONE {
                if waiter.slot.handed.get() {
                    return;
                }
                continue;
            }
            let mut queue = lock(&self.queue);
            // SAFETY: it is in this queue, or was taken out of it.
            let _was_in = unsafe { queue.remove(&waiter) };
            if queue.is_empty() {
                // Relaxed: the queue's lock, under which the bit is set as well, orders it.
                self.word.fetch_and(!WAITERS, Ordering::Relaxed);
            }
            drop(queue);
            unwind_aborted();
        }
    }

    #[cold]
    fn unlock_slow(&self) {
        let mut queue = lock(&self.queue);
        let now = Instant::now();
        let claimed = queue.claim_next(
            |wait| {
                let handed = now.duration_since(wait.since) > STARVED;
                wait.handed.set(handed);
                handed
            },
            |wait, _| wait.handed.set(false),
        );
        let keep = if queue.is_empty() { 0 } else { WAITERS };
        match claimed {
            // LOCKED stays: the waiter has it now. Relaxed: its claim is the edge.
            Some((true, wake)) => {
                self.word.store(LOCKED | keep, Ordering::Relaxed);
                drop(queue);
                wake.wake();
            }
            // Release: pairs with the Acquire of the next lock. Nobody else changes a word that is LOCKED but by
            // setting WAITERS, which takes the queue's lock.
            Some((false, wake)) => {
                self.word.store(keep, Ordering::Release);
                drop(queue);
                wake.wake();
            }
            None => self.word.store(keep, Ordering::Release),
        }
    }
}

/// The lock, held. Unlocks when dropped. Stays with its goroutine: not `Send`.
#[must_use = "dropping it unlocks the mutex"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T` and nothing more.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: U1.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: U1.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire of the next lock.
        if self.mutex.word.compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.mutex.unlock_slow();
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(guard) => f.debug_tuple("Mutex").field(&&*guard).finish(),
            None => f.write_str("Mutex(<locked>)"),
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}
