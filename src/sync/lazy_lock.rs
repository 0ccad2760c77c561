//! `LazyLock`: a value made when it is first looked at; and functions that do their work once, Go's `OnceFunc` and
//! `OnceValue`.

use super::once::Panics;
use super::once_lock::OnceLock;
use std::fmt;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// A value that is made when it is first looked at: std's `LazyLock`, whose waiters are parked.
///
/// If making it panics, all who look at it panic, then and later. An abort or a [`goexit`](crate::goexit) of the goroutine
/// that was making it is none of the value's faults: the next one to look makes it. For that the function has to be `Fn`;
/// with std it is `FnOnce`. What was done to make the value happens before each look at it.
///
/// ```
/// use std::collections::HashMap;
/// static TABLE: gorun::sync::LazyLock<HashMap<&str, u32>> = gorun::sync::LazyLock::new(|| [("one", 1)].into());
/// assert_eq!(gorun::go(|| TABLE["one"]).join().unwrap(), 1);
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    cell: OnceLock<T>,
    make: F,
}

// As std's.
impl<T: UnwindSafe + RefUnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}

impl<T, F: Fn() -> T> LazyLock<T, F> {
    /// One whose value `make` will make.
    ///
    /// ```
    /// let lazy = gorun::sync::LazyLock::new(|| 1 + 1);
    /// assert_eq!(*lazy, 2);
    /// ```
    pub const fn new(make: F) -> LazyLock<T, F> {
        LazyLock { cell: OnceLock::new(), make }
    }

    /// The value; makes it, or waits until another has made it. A cancellation point unless it has been made.
    ///
    /// # Panics
    /// If making it panicked.
    ///
    /// ```
    /// use gorun::sync::LazyLock;
    /// assert_eq!(LazyLock::force(&LazyLock::new(|| 1)), &1);
    /// ```
    #[inline]
    #[track_caller]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        if this.cell.get().is_none() {
            this.cell.init(Panics::Poison, || Some((this.make)()));
        }
        this.cell.get().expect("it has been made")
    }
}

impl<T, F: Fn() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> LazyLock<T> {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cell.get() {
            Some(value) => f.debug_tuple("LazyLock").field(value).finish(),
            None => f.write_str("LazyLock(<uninit>)"),
        }
    }
}

/// A function that calls `f` once, however often it is called and by however many: Go's `sync.OnceFunc`. A clone is the
/// same function.
///
/// All calls return after `f` has. If it panics so does each call. If it is ended by an abort, by a
/// [`timeout`](crate::time::timeout) or by [`goexit`](crate::goexit), that goroutine ends and the call counts as not begun: the
/// next one calls `f` again. (In Go a function that has called `Goexit` is not called again, and each call panics.)
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// static CALLS: AtomicU32 = AtomicU32::new(0);
/// let init = gorun::sync::once_func(|| drop(CALLS.fetch_add(1, Ordering::SeqCst)));
/// let other = gorun::go({ let init = init.clone(); move || init() });
/// init();
/// other.join().unwrap();
/// assert_eq!(CALLS.load(Ordering::SeqCst), 1);
/// ```
pub fn once_func<F>(f: F) -> impl Fn() + Clone + Send + Sync
where
    F: Fn() + Send + Sync,
{
    let lazy = Arc::new(LazyLock::new(f));
    move || *LazyLock::force(&*lazy)
}

/// A function that returns what `f` returns, which is called once: Go's `sync.OnceValue`, and with a tuple its
/// `sync.OnceValues`. A clone is the same function. If `f` panics so does each call; if it is ended in
/// another way, see [`once_func`].
///
/// ```
/// let half = gorun::sync::once_value(|| (1.0 / 2.0, "a half"));
/// assert_eq!((half(), half()), ((0.5, "a half"), (0.5, "a half")));
/// ```
pub fn once_value<T, F>(f: F) -> impl Fn() -> T + Clone + Send + Sync
where
    T: Clone + Send + Sync,
    F: Fn() -> T + Send + Sync,
{
    let lazy = Arc::new(LazyLock::new(f));
    move || LazyLock::force(&*lazy).clone()
}
