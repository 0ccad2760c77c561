//! The storage record of one goroutine, or of one plain thread: a field of the control block.
//!
//! Owned by the goroutine: only it touches the record (spawn fills in what is inherited before the goroutine is
//! visible). The keys, which know types, are in `gorun::local`; here are indices, pointers and drop functions.
//!
//! ```text
//!  table   [index of the key] ─▶ value        16 inline, the rest out of line
//!  arena   | Entry | value | Entry | value |  the first small ones; then boxes
//!  newest ─▶ Entry ─▶ Entry ─▶ ...            in reverse order of initialisation
//!  target  bare_exit, or cleaning_exit once anything was stored or a handler added
//! ```
//!
//! * **L1.** A table word is a sentinel or points to the value of the live entry of that key.
//! * **L2.** An entry is in the chain exactly while it is *attached*; one that is taken out while borrowed
//!   (`borrows > 0`) is dropped by the end of the last borrow.
//! * **L3.** The target is `cleaning_exit` whenever the record is not empty.
//! * **L4.** After the cleaning exit the record is empty: all words UNSET, no entry, no handler, the arena reset.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell, UnsafeCell};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

/// Keys with an index below this are looked up in the control block itself.
const INLINE_KEYS: usize = 16;
/// Bytes for the first small values.
const ARENA: usize = 96;
/// How often a destructor's new values are dropped in turn before the record refuses new ones.
pub const EXIT_ROUNDS: usize = 8;

/// A table word: no value yet.
const UNSET: *mut u8 = ptr::null_mut();
/// Its destructor runs or has run in this exit.
const DESTROYED: *mut u8 = ptr::without_provenance_mut(1);
/// Its initialiser runs.
const INITIALISING: *mut u8 = ptr::without_provenance_mut(2);
const LAST_SENTINEL: usize = 2;

static CLEANING_EXITS: AtomicU64 = AtomicU64::new(0);
static EXIT_PANICS: AtomicU64 = AtomicU64::new(0);
static OVERRUNS: AtomicU64 = AtomicU64::new(0);

/// How often a cleaning exit was entered in this process. A goroutine that never stored anything does not count.
#[must_use]
pub fn cleaning_exits() -> u64 {
    // Relaxed: a statistic.
    CLEANING_EXITS.load(Ordering::Relaxed)
}

/// How many handlers and destructors panicked in exit paths. The panic hook has reported each.
#[must_use]
pub fn exit_panics() -> u64 {
    // Relaxed: a statistic.
    EXIT_PANICS.load(Ordering::Relaxed)
}

/// How often destructors went on storing beyond [`EXIT_ROUNDS`] rounds.
#[must_use]
pub fn exit_overruns() -> u64 {
    // Relaxed: a statistic.
    OVERRUNS.load(Ordering::Relaxed)
}

/// Where the trampoline goes when the goroutine's function has returned.
type ExitTarget = fn(&Locals);

/// What a key's word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Its value.
    Value(NonNull<u8>),
    /// No value yet.
    Unset,
    /// The value's destructor runs or has run.
    Destroyed,
    /// The initialiser runs right now.
    Initialising,
}

/// How a child gets the value of a key from its parent: reads the parent's value, stores the child's.
pub type InheritFn = unsafe fn(parent_value: *const u8, child: &Locals);

/// What is known of a value's type, in a static of the key's.
#[derive(Debug)]
pub struct ValueKind {
    layout: Layout,
    drop: unsafe fn(*mut u8),
    inherit: Option<InheritFn>,
}

impl ValueKind {
    /// The kind of values of type `T`, inherited through `inherit` if there is one.
    #[must_use]
    pub const fn of<T>(inherit: Option<InheritFn>) -> ValueKind {
        unsafe fn drop_value<T>(value: *mut u8) {
            // SAFETY: called once by the record, with a value of this kind.
            unsafe { value.cast::<T>().drop_in_place() };
        }
        ValueKind { layout: Layout::new::<T>(), drop: drop_value::<T>, inherit }
    }
}

/// In front of each value.
#[repr(C)]
struct Entry {
    kind: &'static ValueKind,
    newer: Cell<*const Entry>,
    older: Cell<*const Entry>,
    /// For typed keys: the key's index, from 1. 0 for values of the dynamic map.
    key: u32,
    borrows: Cell<u16>,
    boxed: bool,
    attached: Cell<bool>,
}

/// A value of the record: for the dynamic map, which keeps these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueRef(NonNull<Entry>);

#[repr(C, align(16))]
struct Arena(UnsafeCell<MaybeUninit<[u8; ARENA]>>);

/// The record. See the module.
pub struct Locals {
    table: [Cell<*mut u8>; INLINE_KEYS],
    target: Cell<ExitTarget>,
    /// Whether `target` is the cleaning exit (function addresses are not to be compared).
    patched: Cell<bool>,
    newest: Cell<*const Entry>,
    id: Cell<u64>,
    more: RefCell<Vec<*mut u8>>,
    handlers: RefCell<Vec<Box<dyn FnOnce()>>>,
    /// The dynamic map of `gorun::local`, as an opaque box that it drops itself.
    extension: Cell<Option<NonNull<u8>>>,
    used: Cell<u16>,
    inheritable: Cell<u16>,
    /// Values being lent to closures: no reset meanwhile.
    borrowed: Cell<u32>,
    /// In the last round of the cleaning exit: stores are refused.
    sealed: Cell<bool>,
    cleaning: Cell<bool>,
    arena: Arena,
}

impl std::fmt::Debug for Locals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locals").field("id", &self.id.get()).field("empty", &self.is_empty()).finish_non_exhaustive()
    }
}

/// The target of a goroutine that has nothing to clean.
fn bare_exit(_: &Locals) {}

/// The target once something was stored.
fn cleaning_exit(locals: &Locals) {
    // Relaxed: a statistic.
    CLEANING_EXITS.fetch_add(1, Ordering::Relaxed);
    locals.clean();
}

impl Default for Locals {
    fn default() -> Self {
        Locals::new()
    }
}

impl Locals {
    /// An empty record.
    #[must_use]
    pub const fn new() -> Locals {
        Locals {
            table: [const { Cell::new(UNSET) }; INLINE_KEYS],
            target: Cell::new(bare_exit as ExitTarget),
            patched: Cell::new(false),
            newest: Cell::new(ptr::null()),
            id: Cell::new(0),
            more: RefCell::new(Vec::new()),
            handlers: RefCell::new(Vec::new()),
            extension: Cell::new(None),
            used: Cell::new(0),
            inheritable: Cell::new(0),
            borrowed: Cell::new(0),
            sealed: Cell::new(false),
            cleaning: Cell::new(false),
            arena: Arena(UnsafeCell::new(MaybeUninit::uninit())),
        }
    }

    /// The owner's number.
    pub fn id(&self) -> u64 {
        self.id.get()
    }

    pub(crate) fn set_id(&self, id: u64) {
        self.id.set(id);
    }

    /// Whether nothing is stored and no handler waits: provably so, word by word.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.newest.get().is_null()
            && self.table.iter().all(|w| w.get() == UNSET)
            && self.more.borrow().iter().all(|w| *w == UNSET)
            && self.handlers.borrow().is_empty()
            && self.extension.get().is_none()
            && self.used.get() == 0
            && self.inheritable.get() == 0
            && !self.is_patched()
    }

    /// Whether the return target is the cleaning exit.
    #[must_use]
    pub fn is_patched(&self) -> bool {
        self.patched.get()
    }

    /// The trampoline's jump through the return target.
    #[inline]
    pub(crate) fn run_exit(&self) {
        (self.target.get())(self);
    }

    fn patch(&self) {
        self.target.set(cleaning_exit);
        self.patched.set(true);
    }

    fn unpatch(&self) {
        self.target.set(bare_exit);
        self.patched.set(false);
    }

    // ---- typed keys ----

    /// The value of the key with this index (from 1), if it has one. A handful of instructions for the first
    /// sixteen keys of the program.
    #[inline]
    #[must_use]
    pub fn value(&self, key: u32) -> Option<NonNull<u8>> {
        // Index 0, an unregistered key, wraps to one that is out of the table.
        let word = self.table.get(key.wrapping_sub(1) as usize)?.get();
        if word.addr() > LAST_SENTINEL { NonNull::new(word) } else { None }
    }

    /// As [`value`](Locals::value), for any key and with the reason.
    #[cold]
    #[inline(never)]
    #[must_use]
    pub fn lookup(&self, key: u32) -> Lookup {
        match self.word(key) {
            UNSET => Lookup::Unset,
            DESTROYED => Lookup::Destroyed,
            INITIALISING => Lookup::Initialising,
            value => NonNull::new(value).map_or(Lookup::Unset, Lookup::Value),
        }
    }

    fn word(&self, key: u32) -> *mut u8 {
        let index = key as usize - 1;
        match self.table.get(index) {
            Some(word) => word.get(),
            None => self.more.borrow().get(index - INLINE_KEYS).copied().unwrap_or(UNSET),
        }
    }

    fn set_word(&self, key: u32, word: *mut u8) {
        let index = key as usize - 1;
        if let Some(place) = self.table.get(index) {
            return place.set(word);
        }
        let mut more = self.more.borrow_mut();
        let index = index - INLINE_KEYS;
        if index >= more.len() {
            if word == UNSET {
                return;
            }
            more.resize(index + 1, UNSET);
        }
        more[index] = word;
    }

    /// Marks a key as being initialised; [`end_init`](Locals::end_init) takes the mark back.
    pub fn begin_init(&self, key: u32) {
        self.set_word(key, INITIALISING);
        // So that the mark itself, if the goroutine is never to come back to it, is cleaned.
        self.patch();
    }

    /// After an initialiser that unwound, or before the store of what it gave.
    pub fn end_init(&self, key: u32) {
        if self.word(key) == INITIALISING {
            self.set_word(key, UNSET);
        }
    }

    /// Stores a value: `write` moves it to the place it is given. Patches the return target. `None`, and `write`
    /// not called, when the record is sealed.
    ///
    /// # Safety
    /// The record is the caller's own, or a child's that is not visible yet. `write` leaves a value of `kind`. All values
    /// of one `key` are of one kind; the key has no value now; 0 for values that are looked up by their [`ValueRef`].
    pub unsafe fn store(&self, kind: &'static ValueKind, key: u32, write: impl FnOnce(*mut u8)) -> Option<ValueRef> {
        if self.sealed.get() {
            return None;
        }
        let entry = self.allocate(kind, key);
        let value = Entry::value(entry);
        write(value);
        // SAFETY: just allocated and written.
        let this = unsafe { entry.as_ref() };
        self.attach(this);
        if key != 0 {
            debug_assert!(self.word(key).addr() <= LAST_SENTINEL);
            self.set_word(key, value);
        }
        if kind.inherit.is_some() {
            self.inheritable.set(self.inheritable.get() + 1);
        }
        self.patch();
        Some(ValueRef(entry))
    }

    fn allocate(&self, kind: &'static ValueKind, key: u32) -> NonNull<Entry> {
        let (layout, _) = kind.with_entry();
        let entry = |boxed| Entry {
            kind,
            newer: Cell::new(ptr::null()),
            older: Cell::new(ptr::null()),
            key,
            borrows: Cell::new(0),
            boxed,
            attached: Cell::new(false),
        };
        let start = usize::from(self.used.get()).next_multiple_of(layout.align());
        let end = start + layout.size();
        let inline = layout.align() <= 16 && end <= ARENA;
        let at = if inline {
            self.used.set(end as u16);
            // SAFETY: inside the arena, which is 16-aligned.
            unsafe { self.arena.0.get().cast::<u8>().add(start) }
        } else {
            // SAFETY: the layout is that of an entry and more: not of size 0.
            unsafe { alloc(layout) }
        };
        let Some(at) = NonNull::new(at.cast::<Entry>()) else { handle_alloc_error(layout) };
        // SAFETY: room for the entry and its value: fresh from the allocator, or free arena from `used` on.
        unsafe { at.write(entry(!inline)) };
        at
    }

    // ---- the dynamic map's values ----

    /// Takes out a value of the dynamic map. Dropped now, or at the end of its last borrow.
    ///
    /// # Safety
    /// It was stored in this record with key 0 and has not been removed, nor the record reset since.
    pub unsafe fn remove(&self, value: ValueRef) {
        // SAFETY: by the caller: attached, hence alive.
        let this = unsafe { value.0.as_ref() };
        debug_assert!(this.attached.get() && this.key == 0);
        this.attached.set(false);
        let (newer, older) = (this.newer.get(), this.older.get());
        // SAFETY: L2: neighbours in the chain are attached.
        match unsafe { newer.as_ref() } {
            Some(newer) => newer.older.set(older),
            None => self.newest.set(older),
        }
        // SAFETY: as above.
        if let Some(older) = unsafe { older.as_ref() } {
            older.newer.set(newer);
        }
        if this.borrows.get() == 0 {
            // SAFETY: L2: nobody refers to it any more.
            unsafe { Entry::destroy(value.0) };
        }
    }

    /// As [`remove`](Locals::remove), with the value moved out by `read` instead of dropped.
    ///
    /// # Safety
    /// As there; nobody borrows the value.
    pub unsafe fn take(&self, value: ValueRef, read: impl FnOnce(*mut u8)) {
        // SAFETY: by the caller. Borrowed once, so that `remove` leaves it alone.
        unsafe {
            value.borrow();
            self.remove(value);
        }
        let free = Free(value.0);
        read(value.as_ptr());
        drop(free);
    }

    /// Makes a value the newest.
    ///
    /// # Safety
    /// As [`remove`](Locals::remove).
    pub unsafe fn renew(&self, value: ValueRef) {
        if ptr::eq(self.newest.get(), value.0.as_ptr()) {
            return;
        }
        // SAFETY: by the caller. Borrowed meanwhile, so that `remove` leaves it alone.
        let this = unsafe {
            value.borrow();
            self.remove(value);
            value.0.as_ref()
        };
        this.borrows.set(0);
        self.attach(this);
    }

    fn attach(&self, entry: &Entry) {
        // SAFETY: L2: the newest entry is attached, hence alive.
        if let Some(newest) = unsafe { self.newest.get().as_ref() } {
            newest.newer.set(entry);
        }
        entry.newer.set(ptr::null());
        entry.older.set(self.newest.get());
        entry.attached.set(true);
        self.newest.set(entry);
    }

    /// The dynamic map's own memory.
    pub fn extension(&self) -> Option<NonNull<u8>> {
        self.extension.get()
    }

    /// Sets it. It has to be taken back (set to `None`) before the record is empty: by [`EXTENSION`].
    ///
    /// # Safety
    /// Something that [`EXTENSION`]'s function can free, once, or `None`.
    pub unsafe fn set_extension(&self, extension: Option<NonNull<u8>>) {
        self.extension.set(extension);
        if extension.is_some() {
            self.patch();
        }
    }

    // ---- borrows ----

    /// A value is being lent to a closure; [`end_borrow`](Locals::end_borrow) ends it.
    #[inline]
    pub fn begin_borrow(&self) {
        self.borrowed.set(self.borrowed.get() + 1);
    }

    /// See [`begin_borrow`](Locals::begin_borrow).
    ///
    /// # Safety
    /// Once for each `begin_borrow`, when the borrow is over.
    #[inline]
    pub unsafe fn end_borrow(&self) {
        self.borrowed.set(self.borrowed.get() - 1);
    }

    // ---- handlers, reset, unload ----

    /// Adds a handler. It runs in the exit path, the one added last first. `false`, with the handler dropped, when
    /// the record is sealed.
    pub fn at_exit(&self, handler: Box<dyn FnOnce()>) -> bool {
        if self.sealed.get() {
            return false;
        }
        self.handlers.borrow_mut().push(handler);
        self.patch();
        true
    }

    /// Drops all values; handlers stay. Keys have no value afterwards, but for what destructors stored meanwhile.
    ///
    /// # Panics
    /// While a value is borrowed.
    pub fn reset(&self) {
        assert!(
            self.borrowed.get() == 0,
            "gorun: the goroutine's storage can't be reset inside `with` of one of its values"
        );
        self.drop_values();
    }

    /// Drops all values and discards the handlers unrun; the return target is the bare exit again, unless a
    /// destructor has stored anew.
    ///
    /// # Panics
    /// While a value is borrowed.
    pub fn unload(&self) {
        self.reset();
        let handlers = std::mem::take(&mut *self.handlers.borrow_mut());
        for handler in handlers.into_iter().rev() {
            catch_exit(move || drop(handler));
        }
        self.unpatch_if_empty();
    }

    fn unpatch_if_empty(&self) {
        if self.newest.get().is_null()
            && self.handlers.borrow().is_empty()
            && self.extension.get().is_none()
            && !self.cleaning.get()
        {
            self.used.set(0);
            self.unpatch();
        }
    }

    // ---- inheritance ----

    /// Gives the child what inheritable keys hold here. In the parent, before the child is visible.
    pub(crate) fn inherit_into(&self, child: &Locals) {
        if self.inheritable.get() != 0 {
            self.inherit_slow(child);
        }
    }

    #[cold]
    fn inherit_slow(&self, child: &Locals) {
        // Oldest first, so that the child's order of destruction is the parent's. A clone hook may store here.
        let mut entries = Vec::new();
        let mut at = self.newest.get();
        // SAFETY: L2, along the chain.
        while let Some(entry) = unsafe { at.as_ref() } {
            if let Some(inherit) = entry.kind.inherit {
                entries.push((inherit, Entry::value(NonNull::from(entry))));
            }
            at = entry.older.get();
        }
        struct Ended<'a>(&'a Locals);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                // SAFETY: begun below, before this guard is made.
                unsafe { self.0.end_borrow() };
            }
        }
        self.begin_borrow();
        let _ended = Ended(self);
        for (inherit, value) in entries.into_iter().rev() {
            // SAFETY: the value is of the hook's key, and stays: typed values only go by reset, which the borrow
            // forbids, or at the exit.
            unsafe { inherit(value, child) };
        }
    }

    // ---- the cleaning exit ----

    fn clean(&self) {
        self.cleaning.set(true);
        let mut rounds = 0;
        loop {
            self.run_handlers();
            self.drop_values();
            if self.newest.get().is_null() && self.handlers.borrow().is_empty() && self.extension.get().is_none() {
                break;
            }
            rounds += 1;
            if rounds == EXIT_ROUNDS {
                // Relaxed: a statistic.
                OVERRUNS.fetch_add(1, Ordering::Relaxed);
                report_overrun(self.id.get());
                self.sealed.set(true);
            }
        }
        // L4.
        for word in &self.table {
            word.set(UNSET);
        }
        *self.more.borrow_mut() = Vec::new();
        *self.handlers.borrow_mut() = Vec::new();
        self.used.set(0);
        self.inheritable.set(0);
        self.borrowed.set(0);
        self.sealed.set(false);
        self.cleaning.set(false);
        self.unpatch();
    }

    fn run_handlers(&self) {
        loop {
            // Taken out before it runs: a handler may add handlers, or unload.
            let handler = self.handlers.borrow_mut().pop();
            match handler {
                Some(handler) => catch_exit(handler),
                None => break,
            }
        }
    }

    /// One round: what is there now, in reverse order of initialisation.
    fn drop_values(&self) {
        let extension = self.extension.take();
        // What this round's destructors store is newer than all of this, and waits for the next round: so the chain
        // is cut off and walked by itself.
        let mut at = self.newest.replace(ptr::null());
        // The cut-off part keeps its links; its entries count as detached one by one.
        // SAFETY: L2, along the chain.
        while let Some(entry) = unsafe { at.as_ref() } {
            at = entry.older.get();
            // SAFETY: as above.
            if let Some(older) = unsafe { at.as_ref() } {
                older.newer.set(ptr::null());
            }
            entry.attached.set(false);
            if entry.key != 0 {
                self.set_word(entry.key, DESTROYED);
            }
            if entry.kind.inherit.is_some() {
                self.inheritable.set(self.inheritable.get() - 1);
            }
            if entry.borrows.get() == 0 {
                let entry = NonNull::from(entry);
                // SAFETY: L2: detached, and nobody refers to it.
                catch_exit(|| unsafe { Entry::destroy(entry) });
            }
        }
        drop_extension(extension);
        // Keys whose destructors are through may be used anew by those of the next round (POSIX's rounds).
        for word in &self.table {
            if word.get() == DESTROYED {
                word.set(UNSET);
            }
        }
        for word in self.more.borrow_mut().iter_mut() {
            if *word == DESTROYED {
                *word = UNSET;
            }
        }
    }
}

impl Drop for Locals {
    fn drop(&mut self) {
        // A plain thread's record; a control block's is never dropped. `run_exit` came before.
        debug_assert!(self.is_empty());
    }
}

impl ValueKind {
    /// The layout of an entry with its value, and the value's offset.
    fn with_entry(&self) -> (Layout, usize) {
        Layout::new::<Entry>().extend(self.layout).expect("a value smaller than memory")
    }
}

/// Frees an entry's memory, value not included.
struct Free(NonNull<Entry>);

impl Drop for Free {
    fn drop(&mut self) {
        // SAFETY: a detached entry whose value is gone; the layout is the one `allocate` used.
        unsafe {
            if self.0.as_ref().boxed {
                let (layout, _) = self.0.as_ref().kind.with_entry();
                dealloc(self.0.as_ptr().cast(), layout);
            }
        }
    }
}

impl Entry {
    fn value(this: NonNull<Entry>) -> *mut u8 {
        // SAFETY: a live entry has its value at its offset.
        unsafe { this.as_ptr().cast::<u8>().add(this.as_ref().kind.with_entry().1) }
    }

    /// # Safety
    /// L2: detached and not borrowed; not used afterwards.
    unsafe fn destroy(this: NonNull<Entry>) {
        // Also when the destructor panics.
        let _free = Free(this);
        // SAFETY: by the caller; the value is dropped once.
        unsafe { (this.as_ref().kind.drop)(Entry::value(this)) };
    }
}

impl ValueRef {
    /// Where the value lies.
    #[must_use]
    pub fn as_ptr(self) -> *mut u8 {
        Entry::value(self.0)
    }

    /// Whether it is lent.
    #[must_use]
    pub fn is_borrowed(self) -> bool {
        // SAFETY: whoever has the reference has it from the map: attached, hence alive.
        unsafe { self.0.as_ref() }.borrows.get() != 0
    }

    /// Keeps the value from being dropped until [`unborrow`](ValueRef::unborrow).
    ///
    /// # Safety
    /// It has not been removed.
    ///
    /// # Panics
    /// At the 65,536th borrow at a time.
    pub unsafe fn borrow(self) {
        // SAFETY: by the caller.
        let entry = unsafe { self.0.as_ref() };
        entry.borrows.set(entry.borrows.get().checked_add(1).expect("a value is borrowed 65,535 times over"));
    }

    /// Ends a borrow; drops the value if it was removed meanwhile and this was the last.
    ///
    /// # Safety
    /// Once for each [`borrow`](ValueRef::borrow).
    pub unsafe fn unborrow(self) {
        // SAFETY: by the caller: borrowed, hence alive.
        let entry = unsafe { self.0.as_ref() };
        entry.borrows.set(entry.borrows.get() - 1);
        if entry.borrows.get() == 0 && !entry.attached.get() {
            // SAFETY: L2.
            unsafe { Entry::destroy(self.0) };
        }
    }
}

/// Frees the dynamic map's own memory (its values are entries): set once by `gorun::local`.
pub static EXTENSION: std::sync::OnceLock<unsafe fn(NonNull<u8>)> = std::sync::OnceLock::new();

fn drop_extension(extension: Option<NonNull<u8>>) {
    if let (Some(extension), Some(free)) = (extension, EXTENSION.get()) {
        // SAFETY: set by `set_extension`, taken out of the record, freed once.
        catch_exit(|| unsafe { free(extension) });
    }
}

/// Runs a handler or a destructor: a panic is counted (the panic hook has reported it), and the rest goes on.
fn catch_exit(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        // Relaxed: a statistic.
        EXIT_PANICS.fetch_add(1, Ordering::Relaxed);
        // The payload's own drop may panic: once is enough.
        if let Err(second) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
            std::mem::forget(second);
        }
    }
}

#[cold]
fn report_overrun(id: u64) {
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "gorun: goroutine {id}: its destructors were still storing values after {EXIT_ROUNDS} rounds; what is stored \
         is dropped, and nothing more can be stored"
    );
}
