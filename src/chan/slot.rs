//! Where a value crosses from one stack to another.
//!
//! Part of each waiter at a channel.

use gorun_scheduler::Wake;
use std::cell::Cell;

/// The place in a waiter through which a value crosses from one stack to the other. Under the lock, except by the waiter
/// itself after a wait that ended with a settled token.
#[derive(Default)]
pub(crate) struct Slot<T> {
    pub(crate) value: Cell<Option<T>>,
    /// A send without a value yet: a select's.
    pub(super) offer: bool,
    /// Of a promised future: the wake-up that is due when the value is there.
    pub(super) due: Cell<Option<Wake>>,
}

impl<T> Slot<T> {
    pub(crate) const fn new(value: Option<T>) -> Slot<T> {
        Slot { value: Cell::new(value), offer: false, due: Cell::new(None) }
    }

    pub(crate) const fn offer() -> Slot<T> {
        Slot { value: Cell::new(None), offer: true, due: Cell::new(None) }
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.value.take()
    }

    /// Returns true if a value is in it. By its owner, when nobody else touches it any more.
    pub(crate) fn is_filled(&self) -> bool {
        // SAFETY: a `Cell` is one thread's, and the reference ends here.
        unsafe { (*self.value.as_ptr()).is_some() }
    }

    /// The wake-up of a promised future that is polled all the same, and waits again.
    pub(crate) fn take_due(&self) -> Option<Wake> {
        self.due.take()
    }
}

/// Puts a value into an empty slot, in place: `Cell::set` would move what was there first.
#[inline(always)]
pub(super) fn fill<T>(slot: &Cell<Option<T>>, value: Option<T>) {
    // SAFETY: a `Cell` lends nobody a reference to what is in it. A value that is overwritten would be leaked.
    unsafe {
        debug_assert!((*slot.as_ptr()).is_none(), "the slot is empty");
        slot.as_ptr().write(value);
    }
}
