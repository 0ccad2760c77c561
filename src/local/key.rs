//! Typed keys: `LocalKey`, with the surface of `std::thread::LocalKey`.
//!
//! The fast path is one thread-local load, one load of the key's index, one of the table word, one comparison; all
//! else is out of line.

use super::AccessError;
use gorun_scheduler::{Locals, Lookup, ValueKind, record};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// A goroutine-local key: declared by [`goroutine_local!`](crate::goroutine_local), a `static`.
pub struct LocalKey<T: 'static> {
    /// From 1, given at the first use; 0 before.
    index: AtomicU32,
    init: fn() -> T,
    kind: &'static ValueKind,
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

/// The next key's index.
static NEXT: AtomicU32 = AtomicU32::new(1);

impl<T: 'static> LocalKey<T> {
    /// Used by `goroutine_local!` only.
    ///
    /// # Safety
    /// `kind` is the kind of `T`, and its inherit function, if any, is this key's.
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn __new(init: fn() -> T, kind: &'static ValueKind) -> LocalKey<T> {
        LocalKey { index: AtomicU32::new(0), init, kind }
    }

    /// Used by `goroutine_local!` only: puts an inherited value into a child's record.
    ///
    /// # Safety
    /// Called by the record's inheritance: `child` is not visible yet, and has nothing under this key.
    #[doc(hidden)]
    pub unsafe fn __inherit(&'static self, value: T, child: &Locals) {
        // SAFETY: by the caller.
        unsafe { self.store(child, value) };
    }

    #[cold]
    #[inline(never)]
    fn register(&'static self) -> u32 {
        // Relaxed: the number is all there is to it.
        let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
        // Relaxed: as above; of two goroutines that come at once one loses its number.
        match self.index.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => fresh,
            Err(index) => index,
        }
    }

    fn index(&'static self) -> u32 {
        // Relaxed: as above.
        match self.index.load(Ordering::Relaxed) {
            0 => self.register(),
            index => index,
        }
    }

    /// The value, if it is there: the fast path.
    #[inline]
    fn fast(&'static self) -> Option<&'static T> {
        // SAFETY: the record is the caller's own. The value is a `T` by `kind`. It stays while the caller uses it:
        // typed values go by reset, which a borrow forbids, or in the exit path; see `borrowed` and `copied`.
        unsafe { Some(record()?.as_ref().value(self.index.load(Ordering::Relaxed))?.cast::<T>().as_ref()) }
    }

    /// The value, initialised if need be with what `init` gives.
    #[cold]
    #[inline(never)]
    fn slow(&'static self, init: impl FnOnce() -> T) -> Result<&'static T, AccessError> {
        let record = record().ok_or(AccessError)?;
        // SAFETY: the caller's own record; it stays while we run on its goroutine or thread.
        let locals = unsafe { record.as_ref() };
        let index = self.index();
        match locals.lookup(index) {
            // SAFETY: as in `fast`.
            Lookup::Value(value) => Ok(unsafe { value.cast::<T>().as_ref() }),
            Lookup::Destroyed => Err(AccessError),
            Lookup::Initialising => {
                panic!("gorun: a goroutine-local initialiser uses its own key ({})", std::any::type_name::<T>())
            }
            Lookup::Unset => {
                struct Unmark<'a>(&'a Locals, u32);
                impl Drop for Unmark<'_> {
                    fn drop(&mut self) {
                        self.0.end_init(self.1);
                    }
                }
                locals.begin_init(index);
                let unmark = Unmark(locals, index);
                let value = init();
                drop(unmark);
                // SAFETY: nothing is stored under this key: it was being initialised until now.
                unsafe { self.store(locals, value) }.ok_or(AccessError)
            }
        }
    }

    /// # Safety
    /// Nothing is stored under this key in `locals`, whose owner calls.
    unsafe fn store<'a>(&'static self, locals: &'a Locals, value: T) -> Option<&'a T> {
        // SAFETY: by the caller; `write` gets room for a `T` (`kind`).
        let stored = unsafe { locals.store(self.kind, self.index(), |place| place.cast::<T>().write(value)) }?;
        // SAFETY: just written.
        Some(unsafe { &*stored.as_ptr().cast::<T>() })
    }

    /// Lends the value to `f`, initialising it if this is the goroutine's first look.
    ///
    /// `f` may block: the value stays the goroutine's own. An initialiser may use other keys.
    ///
    /// # Errors
    /// [`AccessError`] when the value is being, or has been, destroyed in the exit path.
    ///
    /// # Panics
    /// When the initialiser uses its own key.
    #[inline]
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let value = match self.fast() {
            Some(value) => value,
            None => self.slow(self.init)?,
        };
        let _borrow = Borrow::begin();
        Ok(f(value))
    }

    /// As [`try_with`](LocalKey::try_with).
    ///
    /// # Panics
    /// When the value is being, or has been, destroyed; or the initialiser uses its own key.
    ///
    /// ```
    /// gorun::goroutine_local! { static HITS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) }; }
    /// HITS.with(|hits| hits.set(hits.get() + 1));
    /// assert_eq!(HITS.get(), 1);
    /// assert_eq!(gorun::go(|| HITS.get()).join().unwrap(), 0);
    /// ```
    #[inline]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => destroyed(error),
        }
    }

    /// For accesses in which no code of the user's runs but `T`'s own moves: no borrow to count.
    #[inline]
    fn plain<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.fast() {
            Some(value) => f(value),
            None => match self.slow(self.init) {
                Ok(value) => f(value),
                Err(error) => destroyed(error),
            },
        }
    }

    /// Stores `value` where there was none, without running the initialiser; else gives it to `replace`.
    fn set_with(&'static self, value: T, replace: impl FnOnce(&T, T)) {
        if let Some(there) = self.fast() {
            return replace(there, value);
        }
        let mut value = Some(value);
        match self.slow(|| value.take().expect("initialised once")) {
            Err(error) => destroyed(error),
            Ok(there) => {
                if let Some(value) = value.take() {
                    replace(there, value);
                }
            }
        }
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn destroyed(error: AccessError) -> ! {
    panic!("gorun: {error}")
}

/// A value is lent: the record can't be reset.
struct Borrow(NonNull<Locals>);

impl Borrow {
    #[inline]
    fn begin() -> Borrow {
        let record = record().expect("a value was there");
        // SAFETY: the caller's own record.
        unsafe { record.as_ref() }.begin_borrow();
        Borrow(record)
    }
}

impl Drop for Borrow {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the same record: a frame stays with its goroutine, whose record outlives its frames.
        unsafe { self.0.as_ref().end_borrow() };
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// A copy of the value.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    #[inline]
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.plain(Cell::get)
    }

    /// Sets the value. Does not run the initialiser.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    #[inline]
    pub fn set(&'static self, value: T) {
        match self.fast() {
            // The old value is dropped after the cell has the new one, and not looked at by us.
            Some(cell) => cell.set(value),
            None => self.set_with(Cell::new(value), |cell, value| cell.set(value.into_inner())),
        }
    }

    /// Takes the value, leaving the default.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Replaces the value and gives the old one.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Lends the value.
    ///
    /// # Panics
    /// When it is mutably borrowed, and as [`with`](LocalKey::with).
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Lends the value for changing it.
    ///
    /// # Panics
    /// When it is borrowed, and as [`with`](LocalKey::with).
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets the value. Does not run the initialiser.
    ///
    /// # Panics
    /// When it is borrowed, and as [`with`](LocalKey::with).
    pub fn set(&'static self, value: T) {
        self.set_with(RefCell::new(value), |cell, value| drop(cell.replace(value.into_inner())));
    }

    /// Takes the value, leaving the default.
    ///
    /// # Panics
    /// When it is borrowed, and as [`with`](LocalKey::with).
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Replaces the value and gives the old one.
    ///
    /// # Panics
    /// When it is borrowed, and as [`with`](LocalKey::with).
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }

    /// Runs `f` with the value set to `value`, and puts the previous one back afterwards, also on a panic.
    ///
    /// # Panics
    /// When it is borrowed before or afterwards, and as [`with`](LocalKey::with).
    ///
    /// ```
    /// use std::cell::RefCell;
    /// gorun::goroutine_local! { static USER: RefCell<String> = RefCell::new("nobody".into()); }
    /// USER.scope("alice".into(), || assert_eq!(USER.with_borrow(String::clone), "alice"));
    /// assert_eq!(USER.with_borrow(String::clone), "nobody");
    /// ```
    pub fn scope<R>(&'static self, value: T, f: impl FnOnce() -> R) -> R {
        struct Restore<T: 'static>(&'static LocalKey<RefCell<T>>, Option<T>);
        impl<T> Drop for Restore<T> {
            fn drop(&mut self) {
                if let Some(before) = self.1.take() {
                    drop(self.0.replace(before));
                }
            }
        }
        let _restore = Restore(self, Some(self.replace(value)));
        f()
    }
}
