//! `RwLock`: many readers or one writer. `lock_api`'s, but for waits that an abort ends (see `mutex`).

use super::raw_mutex::Abort;
use super::raw_rwlock::RawRwLock;
use gorun_scheduler::polled_in_vain;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

/// The lock, held to read: [`lock_api`]'s guard. It may be dropped by another goroutine or thread.
pub type RwLockReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawRwLock, T>;

/// The lock, held to write: [`lock_api`]'s guard. It may be dropped by another goroutine or thread.
/// `RwLockWriteGuard::downgrade` makes it a reader's.
///
/// ```
/// use gorun::sync::{RwLock, RwLockWriteGuard};
/// let lock = RwLock::new(1);
/// let mut writing = lock.write();
/// *writing += 1;
/// let reading = RwLockWriteGuard::downgrade(writing); // nobody has written in between
/// assert_eq!((*reading, *lock.read()), (2, 2));
/// ```
pub type RwLockWriteGuard<'a, T> = lock_api::RwLockWriteGuard<'a, RawRwLock, T>;

/// The lock on a part of the value, held to read: made by `RwLockReadGuard::map`.
pub type MappedRwLockReadGuard<'a, T> = lock_api::MappedRwLockReadGuard<'a, RawRwLock, T>;

/// The lock on a part of the value, held to write: made by `RwLockWriteGuard::map`.
pub type MappedRwLockWriteGuard<'a, T> = lock_api::MappedRwLockWriteGuard<'a, RawRwLock, T>;

/// Many readers, or one writer: Go's `sync.RWMutex`.
///
/// Nobody starves. A writer that waits keeps new readers out; when it is done, the readers who came meanwhile go before
/// the next writer. So whoever reads must not lock again to read before the first guard is dropped: a writer may have come
/// in between, and both wait for ever. (Go: "this prohibits recursive read-locking".)
///
/// There is no poisoning. The end of a write happens before the reads and writes that follow it, and the end of a read
/// before the writes that follow it. A goroutine that waits is parked, a plain thread blocks.
///
/// ```
/// let table = gorun::sync::RwLock::new(vec![1]);
/// {
///     let (one, other) = (table.read(), table.try_read().unwrap());
///     assert_eq!(one.len() + other.len(), 2);
/// }
/// table.write().push(2);
/// assert_eq!(table.into_inner(), [1, 2]);
/// ```
pub struct RwLock<T: ?Sized>(lock_api::RwLock<RawRwLock, T>);

// As std's, for whom the compiler asks. There is no poison: whoever takes the lock after a panic sees what it left.
impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

impl<T> RwLock<T> {
    /// An unlocked lock.
    ///
    /// ```
    /// static NAMES: gorun::sync::RwLock<Vec<&str>> = gorun::sync::RwLock::new(Vec::new());
    /// NAMES.write().push("gopher");
    /// ```
    pub const fn new(value: T) -> RwLock<T> {
        RwLock(lock_api::RwLock::from_raw(RawRwLock::new(), value))
    }

    /// The value.
    ///
    /// ```
    /// assert_eq!(gorun::sync::RwLock::new(1).into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    fn raw(&self) -> &RawRwLock {
        // SAFETY: nothing here unlocks but guards.
        unsafe { self.0.raw() }
    }

    fn reading(&self, locked: bool) -> Option<RwLockReadGuard<'_, T>> {
        // SAFETY: the lock is the caller's, and no guard was made of this turn.
        locked.then(|| unsafe { self.0.make_read_guard_unchecked() })
    }

    fn writing(&self, locked: bool) -> Option<RwLockWriteGuard<'_, T>> {
        // SAFETY: as above.
        locked.then(|| unsafe { self.0.make_write_guard_unchecked() })
    }

    /// Waits until no writer has the lock or waits for it, and takes it to read. A cancellation point where it has to
    /// wait.
    ///
    /// ```
    /// let lock = gorun::sync::RwLock::new(1);
    /// assert_eq!(*lock.read(), 1);
    /// ```
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.raw().read(None, Abort::Unwinds);
        // SAFETY: as above.
        unsafe { self.0.make_read_guard_unchecked() }
    }

    /// Takes the lock to read if no writer has it or waits for it. Never waits.
    ///
    /// ```
    /// let lock = gorun::sync::RwLock::new(1);
    /// let writing = lock.write();
    /// assert!(lock.try_read().is_none());
    /// # drop(writing);
    /// ```
    #[inline]
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        let locked = self.0.try_read();
        if locked.is_none() {
            polled_in_vain();
        }
        locked
    }

    /// As [`read`](RwLock::read), for `timeout` at most; `None` if it was not to be had.
    ///
    /// ```
    /// let lock = gorun::sync::RwLock::new(1);
    /// assert!(lock.try_read_for(std::time::Duration::ZERO).is_some());
    /// ```
    pub fn try_read_for(&self, timeout: Duration) -> Option<RwLockReadGuard<'_, T>> {
        let deadline = || Instant::now().checked_add(timeout);
        self.reading(self.raw().try_read() || self.raw().read(deadline(), Abort::Unwinds))
    }

    /// As [`read`](RwLock::read), until `deadline` at most; `None` if it was not to be had.
    ///
    /// ```
    /// let lock = gorun::sync::RwLock::new(1);
    /// assert!(lock.try_read_until(std::time::Instant::now()).is_some());
    /// ```
    pub fn try_read_until(&self, deadline: Instant) -> Option<RwLockReadGuard<'_, T>> {
        self.reading(self.raw().read(Some(deadline), Abort::Unwinds))
    }

    /// Waits until nobody else has the lock, and takes it to write. From when it begins to wait for readers no more of
    /// them get in. A cancellation point where it has to wait.
    ///
    /// ```
    /// let lock = gorun::sync::RwLock::new(1);
    /// *lock.write() += 1;
    /// assert_eq!(*lock.read(), 2);
    /// ```
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.raw().write(None, Abort::Unwinds);
        // SAFETY: as above.
        unsafe { self.0.make_write_guard_unchecked() }
    }

    /// Takes the lock to write if nobody has it. Never waits.
    ///
    /// ```
    /// let lock = gorun::sync::RwLock::new(1);
    /// let reading = lock.read();
    /// assert!(lock.try_write().is_none());
    /// # drop(reading);
    /// ```
    #[inline]
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        let locked = self.0.try_write();
        if locked.is_none() {
            polled_in_vain();
        }
        locked
    }

    /// As [`write`](RwLock::write), for `timeout` at most; `None` if it was not to be had. Readers that it kept out go
    /// on then.
    ///
    /// ```
    /// let lock = gorun::sync::RwLock::new(1);
    /// let reading = lock.read();
    /// assert!(lock.try_write_for(std::time::Duration::from_millis(1)).is_none());
    /// assert!(lock.try_read().is_some());
    /// # drop(reading);
    /// ```
    pub fn try_write_for(&self, timeout: Duration) -> Option<RwLockWriteGuard<'_, T>> {
        let deadline = || Instant::now().checked_add(timeout);
        self.writing(self.raw().try_write() || self.raw().write(deadline(), Abort::Unwinds))
    }

    /// As [`write`](RwLock::write), until `deadline` at most; `None` if it was not to be had.
    ///
    /// ```
    /// let lock = gorun::sync::RwLock::new(1);
    /// assert!(lock.try_write_until(std::time::Instant::now()).is_some());
    /// ```
    pub fn try_write_until(&self, deadline: Instant) -> Option<RwLockWriteGuard<'_, T>> {
        self.writing(self.raw().write(Some(deadline), Abort::Unwinds))
    }

    /// The value, without locking: nobody else can have it.
    ///
    /// ```
    /// let mut lock = gorun::sync::RwLock::new(1);
    /// *lock.get_mut() += 1;
    /// assert_eq!(lock.into_inner(), 2);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_read() {
            Some(guard) => f.debug_tuple("RwLock").field(&&*guard).finish(),
            None => f.write_str("RwLock(<locked>)"),
        }
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> RwLock<T> {
        RwLock::new(value)
    }
}
