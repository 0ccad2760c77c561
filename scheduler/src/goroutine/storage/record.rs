//! The record itself: its words, its entries' chain, typed values.
//!
//! See the folder for its invariants.

use super::data::{
    CROSSED, Cold, DESTROYED, DETACHED, Entry, FRAME, Header, INITIALISING, INLINE_WORDS, Kind, Locals, Phase, Role,
    UNSET, bare_exit, value_of,
};
use super::in_force::own;
use crate::base::unwind::fatal;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// Why a typed key has no value and gets none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unavailable {
    /// Its value is being dropped, or the exit path is over its bound and refuses storage.
    Destroyed,
    /// Its initialiser is running.
    Initialising,
}

impl Locals {
    /// A record that holds nothing.
    ///
    /// Not public: entries lie in the record itself, so one that holds any must not move (L7).
    pub(crate) const fn new() -> Locals {
        Locals {
            table: [const { Cell::new(UNSET) }; INLINE_WORDS],
            target: Cell::new(bare_exit),
            newest: Cell::new(ptr::null_mut()),
            handlers: Cell::new(ptr::null_mut()),
            id: Cell::new(0),
            cold: UnsafeCell::new(None),
            looks: Cell::new(0),
            inheritable: Cell::new(0),
            used: Cell::new(0),
            inline: Cell::new(0),
            phase: Cell::new(Phase::Living),
            depth: Cell::new(0),
            comparing: Cell::new(false),
            arena: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// The number of the goroutine or thread; 0 for a record that is nobody's.
    ///
    /// ```
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// assert_eq!(record.id(), gorun_scheduler::current_id().unwrap().get());
    /// ```
    #[inline]
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id.get()
    }

    /// Gives it a number.
    pub(crate) fn set_id(&self, id: u64) {
        self.id.set(id);
    }

    /// The value of the key with this index, if it has one.
    ///
    /// ```
    /// use gorun_scheduler::Kind;
    /// static KIND: Kind = Kind::typed::<u32>();
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// assert_eq!(record.value(1), None);
    /// // SAFETY: the kind is that of key 1, here and everywhere.
    /// unsafe { record.begin(1).unwrap().finish(&KIND, 7_u32) };
    /// assert_eq!(unsafe { record.value(1).unwrap().cast::<u32>().read() }, 7);
    /// ```
    #[inline]
    #[must_use]
    pub fn value(&self, index: u32) -> Option<NonNull<u8>> {
        let word = match self.table.get(index as usize) {
            Some(word) => word.get(),
            None => self.far_word(index),
        };
        if word.addr() > INITIALISING.addr() { NonNull::new(word) } else { None }
    }

    #[cold]
    #[inline(never)]
    fn far_word(&self, index: u32) -> *mut u8 {
        // SAFETY: L1, and nobody else's code runs while this reference lives.
        let cold = unsafe { &*self.cold.get() };
        cold.as_ref().and_then(|c| c.words.get(index as usize - INLINE_WORDS)).copied().unwrap_or(UNSET)
    }

    pub(super) fn word(&self, index: u32) -> *mut u8 {
        self.table.get(index as usize).map_or_else(|| self.far_word(index), Cell::get)
    }

    pub(super) fn set_word(&self, index: u32, word: *mut u8) {
        if let Some(near) = self.table.get(index as usize) {
            near.set(word);
            return;
        }
        let words = &mut self.cold_mut().words;
        let at = index as usize - INLINE_WORDS;
        if at >= words.len() {
            words.resize((at + 1).next_multiple_of(16), UNSET);
        }
        words[at] = word;
    }

    /// The same, of a key of this kind that has a value before or after: keeps L8.
    pub(super) fn set_value_word(&self, kind: &Kind, index: u32, word: *mut u8) {
        self.set_word(index, word);
        if own(self) {
            (kind.mirror)(if word.addr() > INITIALISING.addr() { word } else { UNSET });
        }
    }

    /// In the goroutine's own thread-locals, before it runs: L8 for what its spawner put here.
    #[inline]
    pub(crate) fn mirror_inherited(&self) {
        if self.inheritable.get() > 0 {
            self.mirror_all();
        }
    }

    #[cold]
    #[inline(never)]
    fn mirror_all(&self) {
        let mut entry = self.newest.get();
        // SAFETY: L3. The entries are what `inherit_into` made: of typed keys, one per key.
        while let Some(header) = unsafe { entry.as_ref() } {
            if header.kind.role == Role::Key {
                self.set_value_word(header.kind, header.tag, self.word(header.tag));
            }
            entry = header.prev.get();
        }
    }

    /// The cold part, made if need be.
    #[expect(clippy::mut_from_ref, reason = "L1, and no caller runs anybody else's code while it has it")]
    pub(super) fn cold_mut(&self) -> &mut Cold {
        // SAFETY: L1; callers finish with the reference before they run anybody else's code.
        unsafe { &mut *self.cold.get() }.get_or_insert_default()
    }

    /// Begins the initialisation of the key with this index: until it ends, the key reads as being initialised.
    ///
    /// # Errors
    /// [`Unavailable`] when the key can have no value now.
    ///
    /// ```
    /// use gorun_scheduler::Unavailable;
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// let begun = record.begin(1).unwrap();
    /// assert_eq!(record.begin(1).unwrap_err(), Unavailable::Initialising);
    /// drop(begun); // the initialiser panicked
    /// assert!(record.begin(1).is_ok());
    /// ```
    pub fn begin(&self, index: u32) -> Result<Begun<'_>, Unavailable> {
        match self.word(index) {
            UNSET if self.phase.get() == Phase::Refusing => Err(Unavailable::Destroyed),
            UNSET => {
                self.set_word(index, INITIALISING);
                Ok(Begun { record: self, index })
            }
            DESTROYED => Err(Unavailable::Destroyed),
            _ => Err(Unavailable::Initialising),
        }
    }

    /// Runs `f` and keeps the typed values from being dropped meanwhile: [`reset`](Locals::reset) and
    /// [`unload`](Locals::unload) panic.
    ///
    /// ```
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// record.looking(|| {
    ///     assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| record.reset())).is_err());
    /// });
    /// record.reset();
    /// ```
    #[inline]
    pub fn looking<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Look<'a> {
            record: &'a Locals,
            outermost: bool,
            depth: u32,
        }
        impl Drop for Look<'_> {
            #[inline]
            fn drop(&mut self) {
                // Said with constants, as the beginning is: what is loaded is compared, and look after look does not wait
                // for what the one before has just stored.
                if self.outermost && self.record.looks.get() == 1 {
                    self.record.looks.set(0);
                } else {
                    self.record.end_look(self.depth);
                }
            }
        }
        let before = self.looks.get();
        let look = Look { record: self, outermost: before == 0, depth: (before & !CROSSED) + 1 };
        self.looks.set(if look.outermost { 1 } else { before + 1 });
        f()
    }

    /// Looks end in the order that calls have, unless a coroutine that is none of ours was left in the middle of one.
    #[inline(never)]
    fn end_look(&self, depth: u32) {
        let word = self.looks.get();
        let (open, crossed) = (word & !CROSSED, word & CROSSED != 0);
        let mark = if open > 1 && (crossed || open != depth) { CROSSED } else { 0 };
        self.looks.set((open - 1) | mark);
    }

    /// Runs `f` with `value` in the place of what the key has, and gives that back afterwards, on unwinding too.
    ///
    /// # Safety
    /// `kind` is that of the key with this index, and its type is T.
    ///
    /// ```
    /// use gorun_scheduler::Kind;
    /// static KIND: Kind = Kind::typed::<u32>();
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// // SAFETY: the kind is that of key 1, here and everywhere.
    /// let seen = unsafe { record.scoped(&KIND, 1, 7_u32, || record.value(1).map(|value| value.cast::<u32>().read())) };
    /// assert_eq!((seen, record.value(1)), (Some(7), None));
    /// ```
    pub unsafe fn scoped<T, R>(&self, kind: &'static Kind, index: u32, value: T, f: impl FnOnce() -> R) -> R {
        struct Restore<'a> {
            record: &'a Locals,
            entry: NonNull<Header>,
            before: *mut u8,
            looks: u32,
        }
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                // L4. `before` may be the value of another scope, which is to end after this one.
                if self.record.looks.get() != self.looks {
                    fatal(
                        "the scope of a goroutine-local ended while another one, or a look, that had begun in it went on: \
                         a coroutine that is not gorun's was left in the middle of one",
                    );
                }
                // SAFETY: the frame is still there: this guard is dropped before it.
                let header = unsafe { self.entry.as_ref() };
                if header.borrows.get() & DETACHED == 0 {
                    self.record.unlink(self.entry);
                    self.record.count_inheritable(header.kind, false);
                    self.record.set_value_word(header.kind, header.tag, self.before);
                }
            }
        }
        let frame = Entry::new(kind, index, value);
        frame.header.borrows.set(FRAME);
        let entry = NonNull::from(&frame).cast::<Header>();
        self.looking(|| {
            let _restore = Restore { record: self, entry, before: self.word(index), looks: self.looks.get() };
            self.link(entry);
            self.count_inheritable(kind, true);
            self.set_value_word(kind, index, value_of(entry));
            f()
        })
    }

    pub(super) fn count_inheritable(&self, kind: &Kind, more: bool) {
        if kind.inherit.is_some() {
            let n = self.inheritable.get();
            self.inheritable.set(if more { n + 1 } else { n - 1 });
        }
    }

    /// Clones what this record, the spawner's, has under inheritable keys into the child's.
    ///
    /// # Panics
    /// When a clone hook does. What the child has got by then is in its record, for its exit to drop.
    #[inline]
    pub(crate) fn inherit_into(&self, child: &Locals) {
        if self.inheritable.get() > 0 {
            // While hooks run no typed entry leaves the chain (L4), and they may change the rest of it.
            self.looking(|| self.inherit_some(child));
        }
    }

    #[cold]
    #[inline(never)]
    fn inherit_some(&self, child: &Locals) {
        // The next entry to inherit, from `entry` towards the newest.
        let next = |mut entry: *mut Header| {
            // SAFETY: L3; and the entry we start from is typed, so it is still there.
            while let Some(header) = unsafe { entry.as_ref() } {
                let wanted = header.kind.role == Role::Key && header.kind.inherit.is_some();
                // SAFETY: not null.
                if wanted && self.word(header.tag) == value_of(unsafe { NonNull::new_unchecked(entry) }) {
                    break;
                }
                entry = header.next.get();
            }
            entry
        };
        let mut oldest = self.newest.get();
        // SAFETY: L3.
        while let Some(older) = unsafe { oldest.as_ref() }.map(|h| h.prev.get()).filter(|p| !p.is_null()) {
            oldest = older;
        }
        let mut entry = next(oldest);
        while let Some(at) = NonNull::new(entry) {
            // SAFETY: L3, L4.
            let header = unsafe { at.as_ref() };
            if let Some(inherit) = header.kind.inherit {
                // SAFETY: L2 and E1: the value is of the kind's type, and borrowed.
                unsafe { inherit(header.kind, header.tag, value_of(at), child) };
            }
            entry = next(header.next.get());
        }
    }

    /// Returns true if it holds nothing and its target is the bare exit (L6).
    ///
    /// ```
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// record.set(7, "user", "ann");
    /// assert!(!record.is_empty());
    /// record.unload();
    /// assert!(record.is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // SAFETY: L1, as in `far_word`.
        let cold = unsafe { &*self.cold.get() };
        self.table.iter().all(|word| word.get() == UNSET)
            && cold.as_ref().is_none_or(|c| c.words.iter().all(|&word| word == UNSET) && c.map.is_empty())
            && self.newest.get().is_null()
            && self.handlers.get().is_null()
            && self.inline.get() == 0
            && self.used.get() == 0
            && self.looks.get() == 0
            && self.inheritable.get() == 0
            && self.phase.get() == Phase::Living
            && self.depth.get() == 0
            && !self.is_patched()
    }

    /// For a control block that is to be used again.
    ///
    /// # Panics
    /// When the record is not empty (L6).
    ///
    /// ```
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// record.set(7, "user", "ann");
    /// record.unload();
    /// record.assert_empty();
    /// ```
    pub fn assert_empty(&self) {
        assert!(self.is_empty(), "a record to be used again is not empty: {self:?}");
    }
}

impl fmt::Debug for Locals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locals")
            .field("id", &self.id.get())
            .field("patched", &self.is_patched())
            .field("phase", &self.phase.get())
            .field("inline", &self.inline.get())
            .field("looks", &(self.looks.get() & !CROSSED))
            .finish_non_exhaustive()
    }
}

/// A key whose initialiser runs. Dropped unfinished (it panicked), the key is unset again.
#[derive(Debug)]
pub struct Begun<'a> {
    record: &'a Locals,
    index: u32,
}

impl Begun<'_> {
    /// Puts the value into the record, as its newest, and patches the exit.
    ///
    /// # Safety
    /// `kind` is that of the key with this index, and its type is T.
    ///
    /// ```
    /// use gorun_scheduler::Kind;
    /// static KIND: Kind = Kind::typed::<&str>();
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// // SAFETY: the kind is that of key 1, here and everywhere.
    /// let value = unsafe { record.begin(1).unwrap().finish(&KIND, "ann") };
    /// assert_eq!(record.value(1), Some(value.cast()));
    /// ```
    pub unsafe fn finish<T>(self, kind: &'static Kind, value: T) -> NonNull<T> {
        // SAFETY: by the caller.
        let entry = unsafe { self.record.new_entry(kind, self.index, value) };
        let value = value_of(entry);
        self.record.link(entry);
        self.record.count_inheritable(kind, true);
        self.record.patch();
        self.record.set_value_word(kind, self.index, value);
        std::mem::forget(self);
        // SAFETY: a pointer into the entry.
        unsafe { NonNull::new_unchecked(value.cast()) }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.record.set_word(self.index, UNSET);
    }
}
