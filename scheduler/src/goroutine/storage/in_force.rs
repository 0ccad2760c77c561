//! The thread-locals that say whose goroutine runs here and whose record is in force.
//!
//! Read by `record`; written and read by `goroutine/current`, which has the invariants (T1 to T3).

use super::data::Locals;
use std::cell::Cell;
use std::ptr;

pub(in crate::goroutine) struct Current {
    /// The control block, whose type is above this file; null: no goroutine runs.
    pub(in crate::goroutine) goroutine: Cell<*const ()>,
    pub(in crate::goroutine) record: Cell<*const Locals>,
    pub(in crate::goroutine) own: Cell<bool>,
}

thread_local! {
    pub(in crate::goroutine) static CURRENT: Current = const {
        Current { goroutine: Cell::new(ptr::null()), record: Cell::new(ptr::null()), own: Cell::new(false) }
    };
}

/// Returns true if the thread-locals in force are those of this record's goroutine, and of no other.
#[inline]
pub(super) fn own(record: &Locals) -> bool {
    CURRENT.with(|c| c.own.get() && ptr::eq(c.record.get(), record))
}

/// Returns true if a goroutine runs here and the record is that goroutine's.
pub(super) fn is_of_running(record: &Locals) -> bool {
    // T2: the record in force is the running goroutine's.
    CURRENT.with(|c| !c.goroutine.get().is_null() && ptr::eq(c.record.get(), record))
}
