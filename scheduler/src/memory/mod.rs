//! Stacks: where they come from, what fences them off, and what happens when one overflows.
//!
//! Called by `spawn` ([`reserve`]), by the carriers ([`take`], [`give_back`]) and by the runtime's start-up
//! ([`install_overflow_report`]). One set of arenas for the whole process, shared by all runtimes; nothing in it is ever
//! unmapped, so an address that was once a stack stays one.
//!
//! ```text
//!  limit       base                                               top
//!    │   guard    │ usable, grows down from the top ◀───── header  │ next slot's limit
//!    └────────────┴─────────────────────────────────────────────────┘ slot_size() = 4 or 5 times a power of two
//! ```
//!
//! * **S1, chunks live for ever.** A mapped chunk is never unmapped once it is published, moved or given to
//!   another class.
//! * **S2, one owner.** A [`Slot`] is not `Copy`: whoever holds it owns `limit..top`; the arena holds the rest.
//! * **S3, guarded before it is seen.** No `Slot` leaves the arena before its guard is in place, and the
//!   guard stays for ever ([`give_back`] never touches it).
//! * **S4, a guard is wider than a page.** A function whose frame is larger than the guard, and that does not touch the pages
//!   in between, writes beyond it, to its neighbour's thread-locals. Compilers probe each page of a large frame (rustc always,
//!   GCC and Clang with `-fstack-clash-protection`); for C code built without it the guard is an eighth of the slot. It shares
//!   the page tables of its slot and costs 3 ns a page when it is made.
//!
//! This module does not switch stacks and does not know what a goroutine is.

#[allow(unsafe_code, reason = "maps memory, sets guard pages, handles a signal")]
mod arena;
#[allow(unsafe_code, reason = "maps memory, sets guard pages, handles a signal")]
mod class;
#[allow(unsafe_code, reason = "maps memory, sets guard pages, handles a signal")]
mod executable;
#[allow(unsafe_code, reason = "maps memory, sets guard pages, handles a signal")]
mod guard;
#[allow(unsafe_code, reason = "maps memory, sets guard pages, handles a signal")]
mod headroom;
#[allow(unsafe_code, reason = "maps memory, sets guard pages, handles a signal")]
mod overflow;
#[allow(unsafe_code, reason = "maps memory, sets guard pages, handles a signal")]
mod page;

#[cfg(test)]
pub(crate) use arena::take_many;
pub(crate) use arena::{ArenaLocks, Slot, give_back, lock_arenas, reserve, slot_of, take, unreserve};
pub(crate) use class::StackClass;
pub use class::StackError;
pub(crate) use guard::{came_late as guards_came_late, guards_need_mappings};
pub(crate) use overflow::{Report, ensure_alt_stack, install as install_overflow_report, set_describe};
pub(crate) use page::page_size;
