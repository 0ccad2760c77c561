//! What `goroutine_local!` declares beside each [`LocalKey`](super::LocalKey): its [`Key`], and the [`Mirror`] in which
//! goroutines with thread-locals of their own find its value.
//!
//! * **K1.** A key's index is given once, from 1, and no other key has it: what the record holds under it is a `T`.
//! * **K4.** A key is invariant in `T`: a value is read with the type with which it was stored. (With a covariant key, a
//!   scope of `fn(&'static str)` could be read as `fn(&str)`, and called with a reference that soon dangles.)

use super::AccessError;
use gorun_scheduler::{Kind, Locals, Unavailable};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// What there is once of a key.
#[doc(hidden)]
#[derive(Debug)]
pub struct Key<T: 'static> {
    /// 0 until the first use.
    index: AtomicU32,
    init: fn() -> T,
    pub(super) kind: Kind,
    /// K4.
    invariant: PhantomData<fn(T) -> T>,
}

/// A copy of the key's word in the thread-locals of one goroutine: see [`Kind::mirrored`].
#[doc(hidden)]
#[derive(Debug)]
pub struct Mirror<T: 'static>(Cell<*mut T>);

impl<T: 'static> Mirror<T> {
    #[doc(hidden)]
    #[must_use]
    pub const fn new() -> Mirror<T> {
        Mirror(Cell::new(std::ptr::null_mut()))
    }

    #[doc(hidden)]
    #[inline]
    pub fn get(&self) -> Option<NonNull<T>> {
        NonNull::new(self.0.get())
    }

    /// # Safety
    /// Only the key's kind may call this, and must write what [`Kind::mirrored`] returns. (The macro's mirror has a name,
    /// which the initialiser that is passed to the macro can also use.)
    #[doc(hidden)]
    #[inline]
    pub unsafe fn set(&self, value: *mut u8) {
        self.0.set(value.cast());
    }
}

static LAST_INDEX: AtomicU32 = AtomicU32::new(0);

impl<T: 'static> Key<T> {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(mirror: fn(*mut u8), init: fn() -> T) -> Key<T> {
        Key::of(Kind::typed::<T>().mirrored(mirror), init)
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn inheriting(mirror: fn(*mut u8), init: fn() -> T, hook: fn(&T) -> T) -> Key<T>
    where
        T: Send,
    {
        Key::of(Kind::inheriting::<T>(hook).mirrored(mirror), init)
    }

    const fn of(kind: Kind, init: fn() -> T) -> Key<T> {
        Key { index: AtomicU32::new(0), init, kind, invariant: PhantomData }
    }

    #[cold]
    pub(super) fn index(&self) -> u32 {
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

    /// The value, if the key has one in this record.
    #[inline]
    pub(super) fn existing(&self, record: &Locals) -> Option<NonNull<T>> {
        // Relaxed: the index is all that is read; 0 finds nothing.
        Some(record.value(self.index.load(Ordering::Relaxed))?.cast())
    }

    #[inline]
    pub(super) fn find(&'static self, record: &Locals) -> Result<NonNull<T>, AccessError> {
        match self.existing(record) {
            Some(value) => Ok(value),
            None => self.initialise(record, None),
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn initialise(&'static self, record: &Locals, value: Option<T>) -> Result<NonNull<T>, AccessError> {
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
}
