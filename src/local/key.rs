//! Typed keys: [`LocalKey`], which `goroutine_local!` declares as a constant beside its [`Key`].
//!
//! A look goes to the key's mirror, one load, and if there is nothing to the record.
//!
//! * **K2.** `&T` is handed only to closures, in a look of the record, so that the value stays while they run.
//!   What runs no foreign code between look-up and use (the `Cell` surface) needs none.
//! * **K3.** What the mirror has is the value of whoever looks (L8 of the record).

use super::AccessError;
use super::declared::Key;
use gorun_scheduler::{Locals, known_record, record};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

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
    // Functions, so that a key is a constant, as std's is: what they return is known where the key is used, be it
    // another crate, and the look-up is inlined.
    key: fn() -> &'static Key<T>,
    mirror: fn() -> Option<NonNull<T>>,
    /// K4 in `declared`.
    invariant: PhantomData<fn(T) -> T>,
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

impl<T: 'static> LocalKey<T> {
    /// # Safety
    /// `key` returns one key, always the same, which is no other `LocalKey`'s; `mirror` what its kind's `mirror` has
    /// written last in the thread-locals in force, or `None`.
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn __new(key: fn() -> &'static Key<T>, mirror: fn() -> Option<NonNull<T>>) -> LocalKey<T> {
        LocalKey { key, mirror, invariant: PhantomData }
    }

    /// The record, for as long as the caller's frame.
    #[inline]
    fn record<'a>() -> Option<&'a Locals> {
        // SAFETY: the record is the running goroutine's or thread's own and stays until that ends; callers keep
        // the reference in their frame.
        record().map(|record| unsafe { record.as_ref() })
    }

    /// The value, which is made if need be, with the record that it is in.
    #[inline]
    fn find<'a>(&'static self) -> Result<(NonNull<T>, &'a Locals), AccessError> {
        match (self.mirror)() {
            // SAFETY: K3; whoever has a value has had a record, which stays for the caller's frame.
            Some(value) => Ok((value, unsafe { known_record() })),
            None => {
                let record = Self::record().ok_or(AccessError)?;
                Ok(((self.key)().find(record)?, record))
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
        let (value, record) = self.find()?;
        // SAFETY: K1, K2.
        Ok(record.looking(|| f(unsafe { value.as_ref() })))
    }

    /// Runs `f` with `value` under this key, then gives back what was there; so it does when `f` unwinds.
    ///
    /// Scopes nest. What the key had is neither read nor dropped, and a key that had nothing has nothing again; the
    /// initialiser doesn't run. Goroutines spawned in `f` inherit `value`, if the key is inheritable. `value` is
    /// dropped after the old state is back.
    ///
    /// A coroutine of another library's may be left in `f` and resumed later. If it then ends the scope while another one,
    /// or a [`with`](Self::with), goes on that began in it, the process is aborted, with a message.
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
        let key = (self.key)();
        // SAFETY: K1; `kind` is this key's.
        unsafe { record.scoped(&key.kind, key.index(), value, f) }
    }

    /// Moves the caller's value out; `None` if it has none. The key is as it was before its first use: the next look runs the
    /// initialiser, and what is spawned meanwhile inherits nothing of it. [`reset`](super::reset) does it for all keys.
    ///
    /// # Panics
    /// In a closure that looks at a typed key, in a [`scope`](Self::scope), in an inherit hook and in the `Eq` of a dynamic
    /// key: values stay where they are meanwhile.
    ///
    /// ```
    /// gorun::goroutine_local! { static NAME: String = String::from("nobody") }
    /// assert_eq!(NAME.remove(), None);
    /// NAME.with(|name| assert_eq!(name, "nobody"));
    /// assert_eq!(NAME.remove().as_deref(), Some("nobody"));
    /// assert_eq!(NAME.remove(), None);
    /// ```
    pub fn remove(&'static self) -> Option<T> {
        let record = Self::record()?;
        // SAFETY: K1.
        unsafe { record.remove_typed((self.key)().index()) }
    }

    /// Puts `value` there: `Ok` with what the key had, through `replace`, if it had something.
    #[inline]
    fn put(&'static self, value: T, replace: impl FnOnce(&T, T) -> T) -> Option<T> {
        let mut found = (self.mirror)();
        if found.is_none() {
            let Some(record) = Self::record() else {
                // As in `initialise`.
                std::mem::forget(value);
                refused(AccessError)
            };
            let key = (self.key)();
            found = key.existing(record);
            if found.is_none() {
                return match key.initialise(record, Some(value)) {
                    Ok(_) => None,
                    Err(error) => refused(error),
                };
            }
        }
        // SAFETY: K1, K2: `replace` is `Cell`'s or `RefCell`'s.
        found.map(|old| replace(unsafe { old.as_ref() }, value))
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
        match self.find() {
            // SAFETY: K1, K2.
            Ok((value, _)) => unsafe { value.as_ref() }.get(),
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
        match self.find() {
            // SAFETY: K1, K2.
            Ok((old, _)) => unsafe { old.as_ref() }.replace(value),
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
