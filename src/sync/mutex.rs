//! `Mutex`: `lock_api`'s, but for waits that an abort ends.
//!
//! The guards are `lock_api`'s, and so is everything that can be done with them. The mutex is a type of its own because of
//! one thing: where `lock_api` takes a lock again behind a guard (`MutexGuard::unlocked`, `bump`), an unwind out of the
//! wait would leave a guard of a lock that nobody has. So the lock behind the trait does not unwind
//! ([`RawMutex`]), and the methods here, which make the guard after they have the lock, do.

use super::raw_mutex::RawMutex;
use gorun_scheduler::polled_in_vain;
use lock_api::RawMutex as _;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

/// The lock, held: [`lock_api`]'s guard. Unlocks when dropped.
///
/// It may be sent to another goroutine or thread, and unlock the mutex there. Go: "It is allowed for one goroutine to
/// lock a Mutex and then arrange for another goroutine to unlock it."
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;

/// The lock on a part of the value, made by `MutexGuard::map`.
pub type MappedMutexGuard<'a, T> = lock_api::MappedMutexGuard<'a, RawMutex, T>;

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
pub struct Mutex<T: ?Sized>(lock_api::Mutex<RawMutex, T>);

// As std's, for whom the compiler asks. There is no poison: whoever takes the lock after a panic sees what it left.
impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

impl<T> Mutex<T> {
    /// An unlocked mutex.
    ///
    /// ```
    /// static COUNT: gorun::sync::Mutex<u32> = gorun::sync::Mutex::new(0);
    /// *COUNT.lock() += 1;
    /// ```
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(lock_api::Mutex::from_raw(RawMutex::new(), value))
    }

    /// The value.
    ///
    /// ```
    /// assert_eq!(gorun::sync::Mutex::new(1).into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    fn raw(&self) -> &RawMutex {
        // SAFETY: nothing here unlocks but guards.
        unsafe { self.0.raw() }
    }

    /// The lock is the caller's.
    fn guard(&self) -> MutexGuard<'_, T> {
        // SAFETY: U1, and no other guard was made of this turn.
        unsafe { self.0.make_guard_unchecked() }
    }

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
        self.raw().acquire(None);
        self.guard()
    }

    /// As `lock`, and an abort has to wait.
    pub(super) fn lock_shielded(&self) -> MutexGuard<'_, T> {
        self.0.lock()
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
        let locked = self.0.try_lock();
        if locked.is_none() {
            polled_in_vain();
        }
        locked
    }

    /// As [`lock`](Mutex::lock), for `timeout` at most; `None` if it was not to be had.
    ///
    /// ```
    /// use std::time::Duration;
    /// let mutex = gorun::sync::Mutex::new(1);
    /// let held = mutex.lock();
    /// assert!(mutex.try_lock_for(Duration::from_millis(1)).is_none());
    /// drop(held);
    /// assert!(mutex.try_lock_for(Duration::ZERO).is_some());
    /// ```
    pub fn try_lock_for(&self, timeout: Duration) -> Option<MutexGuard<'_, T>> {
        let locked = self.raw().try_lock() || self.raw().acquire(Instant::now().checked_add(timeout));
        locked.then(|| self.guard())
    }

    /// As [`lock`](Mutex::lock), until `deadline` at most; `None` if it was not to be had.
    ///
    /// ```
    /// let mutex = gorun::sync::Mutex::new(1);
    /// let held = mutex.lock();
    /// assert!(mutex.try_lock_until(std::time::Instant::now()).is_none());
    /// # drop(held);
    /// ```
    pub fn try_lock_until(&self, deadline: Instant) -> Option<MutexGuard<'_, T>> {
        self.raw().acquire(Some(deadline)).then(|| self.guard())
    }

    /// Returns true if somebody has the lock; that may be over when the caller looks at the answer.
    ///
    /// ```
    /// let mutex = gorun::sync::Mutex::new(1);
    /// assert!(!mutex.is_locked());
    /// let held = mutex.lock();
    /// assert!(mutex.is_locked());
    /// # drop(held);
    /// ```
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    /// The value, without locking: nobody else can have it.
    ///
    /// ```
    /// let mut mutex = gorun::sync::Mutex::new(1);
    /// *mutex.get_mut() += 1;
    /// assert_eq!(mutex.into_inner(), 2);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
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
