//! Typed keys: [`LocalKey`], which `goroutine_local!` declares.
//!
//! * **K1.** A key's index is given once, from 1, and no other key has it: what the record holds under it is a `T`.
//! * **K2.** `&T` is handed only to closures, under the record's borrow, so that the value stays while they run.
//!   What runs no foreign code between look-up and use (the `Cell` surface) needs none.

use super::AccessError;
use gorun_scheduler::{Kind, Locals, Unavailable, record};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// A key of goroutine-local storage, as `std::thread::LocalKey`. Declared by
/// [`goroutine_local!`](crate::goroutine_local).
///
/// Each goroutine, and each plain thread, has a value of its own, made by the initialiser at the first use, and
/// dropped by the goroutine's exit in reverse order of initialisation. Values may be looked at over a suspension:
/// they belong to the goroutine.
///
/// While a value is dropped its key has none ([`AccessError`]). After that, another destructor or handler of the
/// same exit may use the key again: a new value is made, for the next round.
///
/// ```
/// use std::cell::Cell;
/// gorun::goroutine_local! { static STEPS: Cell<u32> = const { Cell::new(0) } }
///
/// let other = gorun::go(|| {
///     STEPS.set(5);
///     gorun::yield_now();
///     STEPS.get()
/// });
/// assert_eq!(other.join().unwrap(), 5);
/// assert_eq!(STEPS.get(), 0);
/// ```
pub struct LocalKey<T: 'static> {
    /// 0 until the first use.
    index: AtomicU32,
    init: fn() -> T,
    kind: Kind,
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

static LAST_INDEX: AtomicU32 = AtomicU32::new(0);

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    #[must_use]
    pub const fn __new(init: fn() -> T) -> LocalKey<T> {
        LocalKey { index: AtomicU32::new(0), init, kind: Kind::typed::<T>() }
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn __inheriting(init: fn() -> T, hook: fn(&T) -> T) -> LocalKey<T>
    where
        T: Send,
    {
        LocalKey { index: AtomicU32::new(0), init, kind: Kind::inheriting::<T>(hook) }
    }

    /// The record, for as long as the caller's frame.
    #[inline]
    fn record<'a>() -> Option<&'a Locals> {
        // SAFETY: the record is the running goroutine's or thread's own and stays until that ends; callers keep
        // the reference in their frame.
        record().map(|record| unsafe { record.as_ref() })
    }

    /// The value, if the key has one in this record.
    #[inline]
    fn existing(&self, record: &Locals) -> Option<NonNull<T>> {
        // Relaxed: the index is all that is read; 0 finds nothing.
        Some(record.value(self.index.load(Ordering::Relaxed))?.cast())
    }

    #[inline]
    fn find(&'static self, record: &Locals) -> Result<NonNull<T>, AccessError> {
        match self.existing(record) {
            Some(value) => Ok(value),
            None => self.initialise(record, None),
        }
    }

    #[cold]
    fn index(&self) -> u32 {
        // Relaxed, all: the number is all that is shared.
        let index = self.index.load(Ordering::Relaxed);
        if index != 0 {
            return index;
        }
        let last = LAST_INDEX
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| last.checked_add(1))
            .expect("fewer than 2^32 goroutine-local keys");
        // Relaxed: as above.
        match self.index.compare_exchange(0, last + 1, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => last + 1,
            Err(theirs) => theirs,
        }
    }

    #[cold]
    #[inline(never)]
    fn initialise(&'static self, record: &Locals, value: Option<T>) -> Result<NonNull<T>, AccessError> {
        match record.begin(self.index()) {
            Ok(begun) => {
                let value = value.unwrap_or_else(self.init);
                // SAFETY: K1; `kind` is this key's.
                Ok(unsafe { begun.finish(&self.kind, value) })
            }
            Err(Unavailable::Destroyed) => {
                // Its destructor may be what stores it, again and again.
                std::mem::forget(value);
                Err(AccessError)
            }
            Err(Unavailable::Initialising) => {
                panic!("gorun: the initialiser of a goroutine-local uses that goroutine-local itself")
            }
        }
    }

    /// Calls `f` with the caller's value, which is made first if need be.
    ///
    /// `f` may block. It may use every other key, and this one; [`reset`](super::reset) and
    /// [`unload`](super::unload) panic in it, because they would drop the value.
    ///
    /// # Panics
    /// When there can be no value ([`AccessError`]), and when the initialiser uses the key itself.
    ///
    /// ```
    /// use std::cell::RefCell;
    /// gorun::goroutine_local! { static LOG: RefCell<Vec<u32>> = RefCell::new(vec![1]) }
    /// LOG.with(|log| log.borrow_mut().push(2));
    /// assert_eq!(LOG.with(|log| log.borrow().len()), 2);
    /// ```
    #[inline]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => refused(error),
        }
    }

    /// As [`with`](Self::with), with an error instead of a panic.
    ///
    /// # Errors
    /// [`AccessError`]: the value is being dropped, or can't be stored any more.
    ///
    /// # Panics
    /// When the initialiser uses the key itself.
    ///
    /// ```
    /// gorun::goroutine_local! { static NAME: String = String::from("nobody") }
    /// assert_eq!(NAME.try_with(String::len), Ok(6));
    /// ```
    #[inline]
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let record = Self::record().ok_or(AccessError)?;
        let value = self.find(record)?;
        let _borrow = record.borrow();
        // SAFETY: K1, K2.
        Ok(f(unsafe { value.as_ref() }))
    }

    /// Runs `f` with `value` under this key, then gives back what was there; so it does when `f` unwinds.
    ///
    /// Scopes nest. What the key had is neither read nor dropped, and a key that had nothing has nothing again; the
    /// initialiser doesn't run. Goroutines spawned in `f` inherit `value`, if the key is inheritable. `value` is
    /// dropped after the old state is back.
    ///
    /// # Panics
    /// On a plain thread past the end of its thread-locals. [`reset`](super::reset) and [`unload`](super::unload)
    /// panic in `f`.
    ///
    /// ```
    /// gorun::goroutine_local! { static USER: &'static str = "nobody" }
    /// USER.scope("ann", || {
    ///     USER.with(|u| assert_eq!(*u, "ann"));
    ///     USER.scope("bob", || USER.with(|u| assert_eq!(*u, "bob")));
    ///     USER.with(|u| assert_eq!(*u, "ann"));
    /// });
    /// USER.with(|u| assert_eq!(*u, "nobody"));
    /// ```
    pub fn scope<R>(&'static self, value: T, f: impl FnOnce() -> R) -> R {
        let Some(record) = Self::record() else { refused(AccessError) };
        // SAFETY: K1; `kind` is this key's.
        unsafe { record.scoped(&self.kind, self.index(), value, f) }
    }

    /// Puts `value` there: `Ok` with what the key had, through `replace`, if it had something.
    #[inline]
    fn put(&'static self, value: T, replace: impl FnOnce(&T, T) -> T) -> Option<T> {
        let Some(record) = Self::record() else {
            // As in `initialise`.
            std::mem::forget(value);
            refused(AccessError)
        };
        match self.existing(record) {
            // SAFETY: K1, K2: `replace` is `Cell`'s or `RefCell`'s.
            Some(old) => Some(replace(unsafe { old.as_ref() }, value)),
            None => match self.initialise(record, Some(value)) {
                Ok(_) => None,
                Err(error) => refused(error),
            },
        }
    }
}

#[cold]
#[inline(never)]
fn refused(_: AccessError) -> ! {
    panic!("gorun: cannot access a goroutine-local during or after its destruction")
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the value. A key that has none gets this one; its initialiser doesn't run.
    ///
    /// # Panics
    /// As [`with`](Self::with); the new value is forgotten then: its destructor may be what sets it, again and again.
    ///
    /// ```
    /// # use std::cell::Cell;
    /// gorun::goroutine_local! { static N: Cell<u32> = panic!("not initialised by set") }
    /// N.set(3);
    /// assert_eq!(N.get(), 3);
    /// ```
    #[inline]
    pub fn set(&'static self, value: T) {
        drop(self.put(Cell::new(value), |old, new| Cell::new(old.replace(new.into_inner()))));
    }

    /// A copy of the value.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    ///
    /// ```
    /// # use std::cell::Cell;
    /// gorun::goroutine_local! { static N: Cell<u32> = const { Cell::new(7) } }
    /// assert_eq!(N.get(), 7);
    /// ```
    #[inline]
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        let Some(record) = Self::record() else { refused(AccessError) };
        match self.find(record) {
            // SAFETY: K1, K2.
            Ok(value) => unsafe { value.as_ref() }.get(),
            Err(error) => refused(error),
        }
    }

    /// Takes the value and leaves the default.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    ///
    /// ```
    /// # use std::cell::Cell;
    /// gorun::goroutine_local! { static NEXT: Cell<Option<u32>> = const { Cell::new(Some(1)) } }
    /// assert_eq!((NEXT.take(), NEXT.take()), (Some(1), None));
    /// ```
    #[inline]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.replace(T::default())
    }

    /// Sets the value and returns the one before, which the initialiser makes if need be.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    ///
    /// ```
    /// # use std::cell::Cell;
    /// gorun::goroutine_local! { static N: Cell<u32> = const { Cell::new(7) } }
    /// assert_eq!((N.replace(8), N.get()), (7, 8));
    /// ```
    #[inline]
    pub fn replace(&'static self, value: T) -> T {
        let Some(record) = Self::record() else { refused(AccessError) };
        match self.find(record) {
            // SAFETY: K1, K2.
            Ok(old) => unsafe { old.as_ref() }.replace(value),
            Err(error) => refused(error),
        }
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with the value, borrowed.
    ///
    /// # Panics
    /// When it is mutably borrowed, and as [`with`](Self::with).
    ///
    /// ```
    /// # use std::cell::RefCell;
    /// gorun::goroutine_local! { static NAME: RefCell<String> = RefCell::new("ann".into()) }
    /// assert_eq!(NAME.with_borrow(|n| n.len()), 3);
    /// ```
    #[inline]
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with the value, mutably borrowed.
    ///
    /// # Panics
    /// When it is borrowed, and as [`with`](Self::with).
    ///
    /// ```
    /// # use std::cell::RefCell;
    /// gorun::goroutine_local! { static SEEN: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) } }
    /// SEEN.with_borrow_mut(|seen| seen.push(1));
    /// assert_eq!(SEEN.take(), [1]);
    /// ```
    #[inline]
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets the value. A key that has none gets this one; its initialiser doesn't run.
    ///
    /// # Panics
    /// When it is borrowed, and as [`with`](Self::with).
    ///
    /// ```
    /// # use std::cell::RefCell;
    /// gorun::goroutine_local! { static NAME: RefCell<String> = panic!("not initialised by set") }
    /// NAME.set("bob".into());
    /// assert_eq!(NAME.take(), "bob");
    /// ```
    #[inline]
    pub fn set(&'static self, value: T) {
        drop(self.put(RefCell::new(value), |old, new| RefCell::new(old.replace(new.into_inner()))));
    }

    /// Takes the value and leaves the default.
    ///
    /// # Panics
    /// When it is borrowed, and as [`with`](Self::with).
    ///
    /// ```
    /// # use std::cell::RefCell;
    /// gorun::goroutine_local! { static NAME: RefCell<String> = RefCell::new("ann".into()) }
    /// assert_eq!((NAME.take(), NAME.take()), ("ann".into(), "".into()));
    /// ```
    #[inline]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Sets the value and returns the one before, which the initialiser makes if need be.
    ///
    /// # Panics
    /// When it is borrowed, and as [`with`](Self::with).
    ///
    /// ```
    /// # use std::cell::RefCell;
    /// gorun::goroutine_local! { static NAME: RefCell<String> = RefCell::new("ann".into()) }
    /// assert_eq!(NAME.replace("bob".into()), "ann");
    /// ```
    #[inline]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}
