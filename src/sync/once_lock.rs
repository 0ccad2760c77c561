//! `OnceLock`: a value that is set once.
//!
//! * **L1.** The value is written by who runs the `Once`, and read by those who have found it complete. It is moved out, or
//!   changed, through `&mut` only.

use super::once::{Once, Panics};
use std::cell::UnsafeCell;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// A value that is written once: std's `OnceLock`, whose waiters are parked.
///
/// What was done to make the value happens before each return of a method that gives it.
///
/// ```
/// static CONFIG: gorun::sync::OnceLock<String> = gorun::sync::OnceLock::new();
/// let readers: Vec<_> = (0..4).map(|_| gorun::go(|| CONFIG.get_or_init(|| "read once".into()).len())).collect();
/// for reader in readers { assert_eq!(reader.join().unwrap(), 9); }
/// ```
pub struct OnceLock<T> {
    once: Once,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: L1: it is shared, and dropped where the last one is.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}

// As std's: a value that could not be made is not there.
impl<T: UnwindSafe + RefUnwindSafe> RefUnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    /// An empty one.
    ///
    /// ```
    /// static HOME: gorun::sync::OnceLock<String> = gorun::sync::OnceLock::new();
    /// assert_eq!(HOME.get_or_init(|| "/home/ann".to_owned()), "/home/ann");
    /// ```
    #[must_use]
    pub const fn new() -> OnceLock<T> {
        OnceLock { once: Once::new(), value: UnsafeCell::new(None) }
    }

    /// The value, if it has been set. Never waits.
    ///
    /// ```
    /// assert_eq!(gorun::sync::OnceLock::<u8>::new().get(), None);
    /// assert_eq!(gorun::sync::OnceLock::from(1).get(), Some(&1));
    /// ```
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if !self.once.is_completed() {
            return None;
        }
        // SAFETY: L1: it is complete.
        unsafe { &*self.value.get() }.as_ref()
    }

    /// The value, to be changed.
    ///
    /// ```
    /// let mut cell = gorun::sync::OnceLock::from(1);
    /// *cell.get_mut().unwrap() += 1;
    /// assert_eq!(cell.into_inner(), Some(2));
    /// ```
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut().as_mut()
    }

    /// Sets the value. Waits while another is setting it. A cancellation point.
    ///
    /// # Errors
    /// `value`, if there is one already.
    ///
    /// ```
    /// let cell = gorun::sync::OnceLock::new();
    /// assert_eq!(cell.set(1), Ok(()));
    /// assert_eq!(cell.set(2), Err(2));
    /// ```
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        if self.get().is_none() {
            self.init(Panics::Pass, || value.take());
        }
        value.map_or(Ok(()), Err)
    }

    /// The value; if there is none, what `f` returns is. While one `f` runs the others wait. A panic in it, a `goexit` or
    /// an abort leaves the cell empty, and the next one calls its own. A cancellation point unless there is a value.
    ///
    /// # Panics
    /// If `f` does.
    ///
    /// ```
    /// let cell = gorun::sync::OnceLock::new();
    /// assert_eq!(cell.get_or_init(|| 1), &1);
    /// assert_eq!(cell.get_or_init(|| unreachable!()), &1);
    /// ```
    #[inline]
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        if self.get().is_none() {
            self.init(Panics::Pass, || Some(f()));
        }
        self.get().expect("it has been set")
    }

    /// As [`get_or_init`](OnceLock::get_or_init), where `f` may fail: the cell stays empty then.
    ///
    /// # Errors
    /// That of `f`.
    ///
    /// # Panics
    /// If `f` does.
    ///
    /// ```
    /// let cell = gorun::sync::OnceLock::new();
    /// assert!(cell.get_or_try_init(|| "many".parse::<u8>()).is_err());
    /// assert_eq!(cell.get_or_try_init(|| "1".parse::<u8>()), Ok(&1));
    /// ```
    pub fn get_or_try_init<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let mut failed = None;
        if self.get().is_none() {
            self.init(Panics::Pass, || f().map_err(|error| failed = Some(error)).ok());
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(self.get().expect("it has been set")),
        }
    }

    /// Waits until it has been set, by somebody else. A cancellation point.
    ///
    /// ```
    /// static ANSWER: gorun::sync::OnceLock<u8> = gorun::sync::OnceLock::new();
    /// gorun::go(|| ANSWER.set(42));
    /// assert_eq!(ANSWER.wait(), &42);
    /// ```
    pub fn wait(&self) -> &T {
        loop {
            if let Some(value) = self.get() {
                return value;
            }
            self.once.wait();
        }
    }

    /// The value, if there is one.
    ///
    /// ```
    /// assert_eq!(gorun::sync::OnceLock::from(1).into_inner(), Some(1));
    /// ```
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// The value, if there is one; the cell is empty afterwards.
    ///
    /// ```
    /// let mut cell = gorun::sync::OnceLock::from(1);
    /// assert_eq!(cell.take(), Some(1));
    /// assert_eq!(cell.set(2), Ok(()));
    /// ```
    pub fn take(&mut self) -> Option<T> {
        self.once = Once::new();
        self.value.get_mut().take()
    }

    /// Makes the value what `f` returns, if there is none and it returns one.
    #[track_caller]
    pub(super) fn init(&self, panics: Panics, f: impl FnOnce() -> Option<T>) {
        self.once.run(panics, |_| {
            let value = f();
            let done = value.is_some();
            if done {
                // SAFETY: L1: we run it. What was there is `None`.
                unsafe { *self.value.get() = value };
            }
            done
        });
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> OnceLock<T> {
        OnceLock { once: Once::completed(), value: UnsafeCell::new(Some(value)) }
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> OnceLock<T> {
        self.get().cloned().map_or_else(OnceLock::new, OnceLock::from)
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &OnceLock<T>) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => f.debug_tuple("OnceLock").field(value).finish(),
            None => f.write_str("OnceLock(<uninit>)"),
        }
    }
}
