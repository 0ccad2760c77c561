//! Entries: where a record's values and handlers lie, and what the record knows of their types.
//!
//! Used by the rest of `storage`; `gorun::local` makes the [`Kind`]s, one per key or pair of types. An entry is a
//! [`Header`] with its value behind it, in the record's arena if it fits, else on the heap.
//!
//! * **E1.** A header's `kind` describes the very type of the value behind it, at `kind.offset`.
//! * **E2.** Pointers to entries are derived from the whole allocation, never from a `&Header`.

use super::data::{ARENA, Entry, Header, Kind, Locals, Pair, Role, value_of};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::any::TypeId;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::mem::{offset_of, transmute};
use std::ptr::{self, NonNull};

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").field("role", &self.role).field("layout", &self.layout).finish_non_exhaustive()
    }
}

unsafe fn drop_as<T>(value: *mut u8) {
    // SAFETY: E1.
    unsafe { ptr::drop_in_place(value.cast::<T>()) }
}

unsafe fn run_nothing(_: &Locals, _: NonNull<Header>) {}

unsafe fn run_handler<F: FnOnce()>(record: &Locals, entry: NonNull<Header>) {
    // SAFETY: E1; the entry was popped, so the closure is ours to move out, and the memory ours to free.
    let f = unsafe {
        let f = value_of(entry).cast::<F>().read();
        record.free(entry);
        f
    };
    f();
}

unsafe fn inherit_as<T: Send + 'static>(kind: &'static Kind, index: u32, parent: *const u8, child: &Locals) {
    // SAFETY: `Kind::inheriting::<T>` put the hook there.
    let hook = unsafe { transmute::<fn(), fn(&T) -> T>(kind.hook) };
    // SAFETY: E1, and the value stays while the hook runs: the caller holds a borrow (L4).
    let value = hook(unsafe { &*parent.cast::<T>() });
    if let Ok(begun) = child.begin(index) {
        // SAFETY: `kind` is that of the key with this index, and its type is T.
        unsafe { begun.finish(kind, value) };
    }
}

fn no_type() -> TypeId {
    TypeId::of::<()>()
}

fn no_hook() {}

fn no_mirror(_: *mut u8) {}

impl Kind {
    const fn of<T: 'static>(role: Role) -> Kind {
        Kind {
            layout: Layout::new::<Entry<T>>(),
            offset: offset_of!(Entry<T>, value),
            drop: drop_as::<T>,
            role,
            inherit: None,
            hook: no_hook,
            run: run_nothing,
            key_type: no_type,
            value_type: no_type,
            key_at: 0,
            mirror: no_mirror,
        }
    }

    /// Of a typed key's values.
    ///
    /// ```
    /// use gorun_scheduler::Kind;
    /// static KIND: Kind = Kind::typed::<String>(); // beside the key's index
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// // SAFETY: the kind is that of key 1, here and everywhere.
    /// let name = unsafe { record.begin(1).unwrap().finish(&KIND, String::from("ann")).as_ref() };
    /// assert_eq!(name, "ann");
    /// ```
    #[must_use]
    pub const fn typed<T: 'static>() -> Kind {
        Kind::of::<T>(Role::Key)
    }

    /// Of a typed key's values that children inherit through `hook`.
    ///
    /// ```
    #[doc = include_str!("../../examples.txt")]
    /// static KIND: Kind = Kind::inheriting(|depth: &u32| depth + 1);
    /// join(&go(|| {
    ///     // SAFETY: the record is the goroutine's own, and stays while it runs.
    ///     let record = || unsafe { record().unwrap().as_ref() };
    ///     // SAFETY: the kind is that of key 1, here and everywhere.
    ///     unsafe { record().begin(1).unwrap().finish(&KIND, 0_u32) };
    ///     join(&go(move || assert_eq!(unsafe { record().value(1).unwrap().cast::<u32>().read() }, 1)));
    /// }));
    /// ```
    #[must_use]
    pub const fn inheriting<T: Send + 'static>(hook: fn(&T) -> T) -> Kind {
        // SAFETY: a function pointer is erased, to be cast back in `inherit_as::<T>` before it is called.
        let hook = unsafe { transmute::<fn(&T) -> T, fn()>(hook) };
        Kind { inherit: Some(inherit_as::<T>), hook, ..Kind::of::<T>(Role::Key) }
    }

    /// The same, of a key that keeps a copy of its word in a thread-local: `mirror` writes it.
    ///
    /// In thread-locals that are one goroutine's own, `mirror` is called with the value's address whenever the key gets
    /// a value, or gets one back at the end of a scope, and with null before the value is dropped. Nowhere else is it
    /// called. So where the copy, null at first, is not null, it is the address of the value of whoever looks: a look-up
    /// that is one load.
    ///
    /// ```
    #[doc = include_str!("../../examples.txt")]
    /// use std::cell::Cell;
    /// thread_local! { static COPY: Cell<*mut u8> = const { Cell::new(std::ptr::null_mut()) } }
    /// static KIND: Kind = Kind::typed::<u32>().mirrored(|value| COPY.set(value));
    /// join(&go(|| {
    ///     // SAFETY: the record is ours, and stays while we run.
    ///     let record = unsafe { record().unwrap().as_ref() };
    ///     // SAFETY: the kind is that of key 1, here and everywhere.
    ///     let value = unsafe { record.begin(1).unwrap().finish(&KIND, 7_u32) };
    ///     assert!(COPY.get().is_null() || COPY.get() == value.as_ptr().cast());
    ///     record.reset();
    ///     assert!(COPY.get().is_null());
    /// }));
    /// assert!(COPY.get().is_null());
    /// ```
    #[must_use]
    pub const fn mirrored(self, mirror: fn(*mut u8)) -> Kind {
        Kind { mirror, ..self }
    }

    /// Of a dynamic key with its value.
    pub(super) const fn pair<K: 'static, V: 'static>() -> Kind {
        Kind {
            key_type: TypeId::of::<K>,
            value_type: TypeId::of::<V>,
            key_at: offset_of!(Entry<Pair<K, V>>, value) + offset_of!(Pair<K, V>, key),
            ..Kind::of::<Pair<K, V>>(Role::Pair)
        }
    }

    const fn handler<F: FnOnce() + 'static>() -> Kind {
        Kind { run: run_handler::<F>, ..Kind::of::<F>(Role::Handler) }
    }

    /// Returns true if this is a pair whose key is a `K`.
    #[inline]
    pub(super) fn has_key<K: 'static>(&self) -> bool {
        (self.key_type)() == TypeId::of::<K>()
    }

    /// Returns true if this is a pair whose value is a `V`.
    #[inline]
    pub(super) fn has_value<V: 'static>(&self) -> bool {
        (self.value_type)() == TypeId::of::<V>()
    }
}

pub(super) struct HandlerKind<F>(PhantomData<F>);

impl<F: FnOnce() + 'static> HandlerKind<F> {
    pub(super) const KIND: &'static Kind = &Kind::handler::<F>();
}

static MARKER: Kind = Kind::of::<()>(Role::Marker);

impl Header {
    pub(super) const fn new(kind: &'static Kind, tag: u32) -> Header {
        Header { prev: Cell::new(ptr::null_mut()), next: Cell::new(ptr::null_mut()), kind, tag, borrows: Cell::new(0) }
    }

    pub(super) fn marker() -> Header {
        Header::new(&MARKER, 0)
    }
}

impl<T> Entry<T> {
    pub(super) fn new(kind: &'static Kind, tag: u32, value: T) -> Entry<T> {
        Entry { header: Header::new(kind, tag), value: UnsafeCell::new(value) }
    }
}

impl Locals {
    /// Memory for an entry: in the arena if it fits, else on the heap.
    #[inline]
    fn allocate(&self, layout: Layout) -> *mut u8 {
        let base = self.arena.get().cast::<u8>();
        let from = base.addr() + usize::from(self.used.get());
        let start = from.next_multiple_of(layout.align()) - base.addr();
        let end = start.saturating_add(layout.size());
        if end <= ARENA {
            self.used.set(end as u16);
            self.inline.set(self.inline.get() + 1);
            // SAFETY: within the arena.
            return unsafe { base.add(start) };
        }
        // SAFETY: an entry has a header, so the size is not 0.
        let memory = unsafe { alloc(layout) };
        if memory.is_null() {
            handle_alloc_error(layout);
        }
        memory
    }

    /// An entry with `value` in it, in no list yet.
    ///
    /// # Safety
    /// `kind` describes `T` (E1).
    pub(super) unsafe fn new_entry<T>(&self, kind: &'static Kind, tag: u32, value: T) -> NonNull<Header> {
        debug_assert_eq!(kind.layout, Layout::new::<Entry<T>>());
        let memory = self.allocate(Layout::new::<Entry<T>>()).cast::<Entry<T>>();
        // SAFETY: fresh memory of this layout.
        unsafe {
            memory.write(Entry::new(kind, tag, value));
            NonNull::new_unchecked(memory.cast())
        }
    }

    /// Gives an entry's memory back. The value has been dropped or moved out.
    ///
    /// # Safety
    /// The entry is this record's, in no list, and not used again.
    pub(super) unsafe fn free(&self, entry: NonNull<Header>) {
        // SAFETY: by the caller.
        let layout = unsafe { entry.as_ref() }.kind.layout;
        let offset = entry.as_ptr().addr().wrapping_sub(self.arena.get().addr());
        if offset < ARENA {
            self.inline.set(self.inline.get() - 1);
            if self.inline.get() == 0 {
                self.used.set(0);
            } else if offset + layout.size() == usize::from(self.used.get()) {
                self.used.set(offset as u16);
            }
        } else {
            // SAFETY: allocated with this layout in `allocate`.
            unsafe { dealloc(entry.as_ptr().cast(), layout) };
        }
    }

    /// Makes the entry the newest of the chain.
    pub(super) fn link(&self, entry: NonNull<Header>) {
        let newest = self.newest.get();
        // SAFETY: L3: the entries of the chain are alive, and so is the new one.
        unsafe {
            (*entry.as_ptr()).prev.set(newest);
            (*entry.as_ptr()).next.set(ptr::null_mut());
            if !newest.is_null() {
                (*newest).next.set(entry.as_ptr());
            }
        }
        self.newest.set(entry.as_ptr());
    }

    /// Takes the entry out of the chain.
    pub(super) fn unlink(&self, entry: NonNull<Header>) {
        // SAFETY: L3.
        unsafe {
            let (prev, next) = ((*entry.as_ptr()).prev.get(), (*entry.as_ptr()).next.get());
            if next.is_null() {
                self.newest.set(prev);
            } else {
                (*next).prev.set(prev);
            }
            if !prev.is_null() {
                (*prev).next.set(next);
            }
        }
    }
}
