//! What a record is made of: words, entries with their headers, the map of dynamic keys.
//!
//! Definitions only, which refer to each other; `entry`, `dynamic`, `exit` and `record` have what is done with them.

use std::alloc::Layout;
use std::any::TypeId;
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// Words in the record itself; index 0 is no key's. Keys beyond go to a table on the heap.
pub(super) const INLINE_WORDS: usize = 16;
/// Bytes in the record for entries: three values of a word with their headers.
pub(super) const ARENA: usize = 120;

/// Sentinels, in a word: no pointer to a value is this small.
pub(super) const UNSET: *mut u8 = ptr::null_mut();
pub(super) const DESTROYED: *mut u8 = ptr::without_provenance_mut(1);
pub(super) const INITIALISING: *mut u8 = ptr::without_provenance_mut(2);

/// In `looks`: one ended before another that had begun in it. Until all have ended.
pub(super) const CROSSED: u32 = 1 << 31;

/// The storage record. See the module.
#[repr(C)]
pub struct Locals {
    /// What the trampoline returns to.
    pub(super) target: Cell<fn(&Locals)>,
    pub(super) newest: Cell<*mut Header>,
    /// At-exit handlers, newest first, linked through `prev`.
    pub(super) handlers: Cell<*mut Header>,
    pub(super) id: Cell<u64>,
    pub(super) cold: UnsafeCell<Option<Box<Cold>>>,
    /// How many closures look at typed values right now; with [`CROSSED`].
    pub(super) looks: Cell<u32>,
    /// Initialised keys that children inherit.
    pub(super) inheritable: Cell<u32>,
    /// Bytes of the arena in use, and entries in it.
    pub(super) used: Cell<u16>,
    pub(super) inline: Cell<u16>,
    /// How deep the handler that runs is in a chain of handlers that registered each other; 0: none runs.
    pub(super) depth: Cell<u16>,
    pub(super) phase: Cell<Phase>,
    /// A dynamic key is being compared: the map must stay as it is.
    pub(super) comparing: Cell<bool>,
    pub(super) table: [Cell<*mut u8>; INLINE_WORDS],
    pub(super) arena: UnsafeCell<MaybeUninit<[u64; ARENA / 8]>>,
}

/// What most records never need.
#[derive(Default)]
pub(super) struct Cold {
    /// Words of the keys from `INLINE_WORDS` on.
    pub(super) words: Vec<*mut u8>,
    pub(super) map: Map,
}

/// What a record's owner is doing, as far as the record cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Living,
    Exiting,
    /// Over the bound: nothing can be stored.
    Refusing,
}

/// The target of a record that holds nothing.
#[inline(never)]
pub(super) fn bare_exit(_: &Locals) {}

/// What stands before a value.
pub(super) struct Header {
    /// Older and newer in the chain (handlers use `prev` alone).
    pub(super) prev: Cell<*mut Header>,
    pub(super) next: Cell<*mut Header>,
    pub(super) kind: &'static Kind,
    /// A key's index, a dynamic key's hash, or a handler's depth.
    pub(super) tag: u32,
    /// A dynamic entry's borrows, with [`DETACHED`]; or [`FRAME`].
    pub(super) borrows: Cell<u32>,
}

/// In `Header::borrows`: out of the map and the chain; the last borrow drops it.
pub(super) const DETACHED: u32 = 1 << 31;
/// In `Header::borrows`: the entry lies in the frame of a `scope`, which drops the value.
pub(super) const FRAME: u32 = 1 << 30;

/// What an entry is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// A typed key's value.
    Key,
    /// A dynamic key and its value.
    Pair,
    Handler,
    /// Not a value: where a round of dropping began.
    Marker,
}

pub(super) type Inherit = unsafe fn(&'static Kind, u32, *const u8, &Locals);

/// What a record has to know of a type it stores.
pub struct Kind {
    pub(super) layout: Layout,
    pub(super) offset: usize,
    pub(super) drop: unsafe fn(*mut u8),
    pub(super) role: Role,
    /// Clones the value at the pointer into the child's record, through `hook`.
    pub(super) inherit: Option<Inherit>,
    /// A `fn(&T) -> T`, erased.
    pub(super) hook: fn(),
    /// Takes the handler out of its entry, frees that, runs it.
    pub(super) run: unsafe fn(&Locals, NonNull<Header>),
    pub(super) key_type: fn() -> TypeId,
    pub(super) value_type: fn() -> TypeId,
    pub(super) key_at: usize,
    /// See [`Kind::mirrored`].
    pub(super) mirror: fn(*mut u8),
}

#[repr(C)]
pub(super) struct Entry<T> {
    pub(super) header: Header,
    pub(super) value: UnsafeCell<T>,
}

/// A dynamic key and its value, which is dropped first.
#[repr(C)]
pub(super) struct Pair<K, V> {
    pub(super) value: V,
    pub(super) key: K,
}

/// The value behind a header. Not for markers.
#[inline]
pub(super) fn value_of(entry: NonNull<Header>) -> *mut u8 {
    // SAFETY: E1, E2: inside the entry's allocation.
    unsafe { entry.as_ptr().cast::<u8>().add((*entry.as_ptr()).kind.offset) }
}

#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) hash: u32,
    pub(super) entry: *mut Header,
}

/// Linear probing from the hash's top bits; a removal shifts back what follows, so there are no tombstones.
#[derive(Default)]
pub(super) struct Map {
    /// A power of two of them, or none yet.
    pub(super) slots: Vec<Slot>,
    pub(super) len: usize,
}
