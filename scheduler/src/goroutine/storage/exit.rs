//! The way out of a record: the return target and its two functions, handlers, dropping in order.
//!
//! `run_exit` is called by the trampoline (`crate::worker::exit`), by a plain thread's end (`crate::goroutine::current`) and for a
//! goroutine that was never published (`crate::worker::spawn`); the rest by `gorun::local`.
//!
//! * **X1.** A handler is popped before it runs, a value is out of the chain and its key reads as destroyed
//!   before it is dropped: foreign code may do anything here and finds a record at rest.
//! * **X2.** Exit ends, though destructors store and handlers register for ever: after [`EXIT_ROUNDS`] rounds nothing can
//!   be stored, so one more pass empties the record; and no chain of handlers that register each other is longer than
//!   [`HANDLER_DEPTH`].

use super::data::{DESTROYED, DETACHED, Entry, FRAME, Header, Locals, Phase, Role, UNSET, bare_exit, value_of};
use super::entry::HandlerKind;
use super::in_force::is_of_running;
use crate::base::atomics::Lock;
use crate::base::unwind::fatal;
use std::any::Any;
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many rounds of handlers and destructors an exit makes before storing is refused. A round drops what was
/// stored before it; what its destructors store is the next round's.
pub const EXIT_ROUNDS: usize = 8;

/// How long a chain of handlers may be of which each registered the next one while it ran. More than any that is meant to
/// end: one that registers itself again and again would keep its goroutine for ever, out of reach of aborts.
pub const HANDLER_DEPTH: u16 = 1000;

type Payload = Box<dyn Any + Send>;

static CLEANING_EXITS: AtomicU64 = AtomicU64::new(0);
static EXIT_PANICS: AtomicU64 = AtomicU64::new(0);
static EXIT_OVERRUNS: AtomicU64 = AtomicU64::new(0);
static ON_OVERRUN: Lock<fn(u64)> = Lock::new(report_overrun);

/// How many exits of the process went through the cleaning exit. For observing: an untouched goroutine adds none.
///
/// ```
#[doc = include_str!("../../examples.txt")]
/// let before = cleaning_exits();
/// // SAFETY: the record is the goroutine's own, and stays while it runs.
/// join(&go(|| unsafe { record().unwrap().as_ref() }.at_exit(|| ())));
/// assert!(cleaning_exits() > before);
/// ```
#[must_use]
pub fn cleaning_exits() -> u64 {
    // Relaxed: a statistic.
    CLEANING_EXITS.load(Ordering::Relaxed)
}

/// How many panics of handlers and destructors exits have caught.
///
/// ```
#[doc = include_str!("../../examples.txt")]
/// let before = exit_panics();
/// // SAFETY: the record is the goroutine's own, and stays while it runs.
/// join(&go(|| unsafe { record().unwrap().as_ref() }.at_exit(|| panic!("in a handler"))));
/// assert!(exit_panics() > before);
/// ```
#[must_use]
pub fn exit_panics() -> u64 {
    // Relaxed: a statistic.
    EXIT_PANICS.load(Ordering::Relaxed)
}

/// How many exits went over [`EXIT_ROUNDS`].
///
/// ```
/// assert_eq!(gorun_scheduler::exit_overruns(), 0); // nobody's destructors store for ever
/// ```
#[must_use]
pub fn exit_overruns() -> u64 {
    // Relaxed: a statistic.
    EXIT_OVERRUNS.load(Ordering::Relaxed)
}

/// Has `hook` called, once per exit that goes over [`EXIT_ROUNDS`], with the number of the goroutine or thread.
/// Without one, a line is written to stderr. Returns the hook before.
///
/// ```
#[doc = include_str!("../../examples.txt")]
/// use std::sync::atomic::{AtomicU64, Ordering};
/// static WHOSE: AtomicU64 = AtomicU64::new(0);
/// struct Again;
/// impl Drop for Again {
///     fn drop(&mut self) {
///         // SAFETY: the record is the goroutine's own, and stays while it runs.
///         if exit_overruns() == 0 { unsafe { record().unwrap().as_ref() }.set(7, "again", Again) }
///     }
/// }
/// on_exit_overrun(|id| WHOSE.store(id, Ordering::Release));
/// // SAFETY: the record is the goroutine's own, and stays while it runs.
/// let goroutine = go(|| unsafe { record().unwrap().as_ref() }.set(7, "again", Again));
/// join(&goroutine);
/// assert_eq!(WHOSE.load(Ordering::Acquire), goroutine.id().get());
/// ```
pub fn on_exit_overrun(hook: fn(u64)) -> fn(u64) {
    std::mem::replace(&mut ON_OVERRUN.lock(), hook)
}

fn report_overrun(id: u64) {
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "gorun: goroutine {id}: destructors of its storage stored again in each of {EXIT_ROUNDS} rounds; \
         the rest is dropped, and storing refused"
    );
}

/// The target of a record that was used: handlers, then storage, in rounds, until nothing is left.
#[cold]
#[inline(never)]
fn cleaning_exit(record: &Locals) {
    // Relaxed: a statistic.
    CLEANING_EXITS.fetch_add(1, Ordering::Relaxed);
    // L4. A plain thread's may be in frames that never return.
    if record.looks.get() != 0 && is_of_running(record) {
        fatal(
            "a goroutine ended while a look at its goroutine-locals went on, in a coroutine that is not gorun's and was left \
             in the middle of it",
        );
    }
    record.phase.set(Phase::Exiting);
    for _ in 0..EXIT_ROUNDS {
        record.run_handlers();
        record.drop_round(&mut count_panic);
        if record.holds_nothing() {
            break;
        }
    }
    if !record.holds_nothing() {
        record.phase.set(Phase::Refusing);
        // Relaxed: a statistic.
        EXIT_OVERRUNS.fetch_add(1, Ordering::Relaxed);
        let hook = *ON_OVERRUN.lock();
        if let Some(payload) = caught(|| hook(record.id())) {
            count_panic(payload);
        }
        record.run_handlers();
        record.drop_round(&mut count_panic);
    }
    record.phase.set(Phase::Living);
    record.unpatch();
    // SAFETY: L1, and no foreign code runs while this reference lives.
    if let Some(cold) = unsafe { &mut *record.cold.get() } {
        cold.map.trim();
    }
}

/// Runs foreign code; its panic is returned.
fn caught(f: impl FnOnce()) -> Option<Payload> {
    catch_unwind(AssertUnwindSafe(f)).err()
}

/// Drops a panic's payload, whose own destructor may panic again: once is reported, that one's payload is let go.
fn dispose(payload: Payload) {
    if let Some(second) = caught(|| drop(payload)) {
        std::mem::forget(second);
    }
}

/// The panic hook has reported it.
fn count_panic(payload: Payload) {
    if crate::base::unwind::is_panic(&*payload) {
        // Relaxed: a statistic.
        EXIT_PANICS.fetch_add(1, Ordering::Relaxed);
    }
    dispose(payload);
}

impl Locals {
    /// Calls the return target: the bare exit, or the cleaning one. Does not unwind; the record is empty then.
    #[inline]
    pub(crate) fn run_exit(&self) {
        (self.target.get())(self);
    }

    /// As [`Locals::run_exit`], of a plain thread that goes on: nobody may be looking (L4).
    pub(crate) fn end_use(&self) {
        if self.looks.get() != 0 {
            fatal("a thread's storage was to be dropped while a look at its goroutine-locals went on");
        }
        self.run_exit();
    }

    /// Returns true if the target is the cleaning exit: whether anything was stored or registered.
    ///
    /// ```
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// assert!(!record.is_patched());
    /// record.at_exit(|| ());
    /// assert!(record.is_patched());
    /// ```
    #[must_use]
    pub fn is_patched(&self) -> bool {
        self.target.get() as usize == cleaning_exit as *const () as usize
    }

    #[inline]
    pub(super) fn patch(&self) {
        self.target.set(cleaning_exit);
    }

    fn unpatch(&self) {
        self.target.set(bare_exit);
    }

    fn holds_nothing(&self) -> bool {
        self.below_markers(self.newest.get()).is_none() && self.handlers.get().is_null()
    }

    /// The newest value from `entry` on. Markers are of rounds that are going on: we are called by a destructor then.
    fn below_markers(&self, mut entry: *mut Header) -> Option<NonNull<Header>> {
        // SAFETY: L3.
        while let Some(marker) = unsafe { entry.as_ref() }.filter(|h| h.kind.role == Role::Marker) {
            entry = marker.prev.get();
        }
        NonNull::new(entry)
    }

    /// Registers a handler: run at exit, last in first out, before storage is dropped.
    ///
    /// # Panics
    /// When the exit path is over its bound of rounds; in a handler that ends a chain of [`HANDLER_DEPTH`] of them. The new
    /// handler is forgotten then, with what it captured: the destructor of that may be what registers it, again and again.
    ///
    /// ```
    #[doc = include_str!("../../examples.txt")]
    /// let (tx, rx) = std::sync::mpsc::channel();
    /// join(&go(move || {
    ///     // SAFETY: the record is ours, and stays while we run.
    ///     let record = unsafe { record().unwrap().as_ref() };
    ///     let last = tx.clone();
    ///     record.at_exit(move || last.send("last").unwrap());
    ///     record.at_exit(move || tx.send("first").unwrap());
    /// }));
    /// assert_eq!(rx.iter().collect::<Vec<_>>(), ["first", "last"]);
    /// ```
    pub fn at_exit<F: FnOnce() + 'static>(&self, f: F) {
        let depth = self.depth.get();
        if self.phase.get() == Phase::Refusing || depth >= HANDLER_DEPTH {
            std::mem::forget(f);
            assert!(depth >= HANDLER_DEPTH, "gorun: a destructor registered a handler past the bound of exit rounds");
            panic!(
                "gorun: an at-exit handler registered another one, that one the next, and so on {depth} times; that ends here"
            );
        }
        // SAFETY: this very kind.
        let entry = unsafe { self.new_entry(HandlerKind::<F>::KIND, u32::from(depth) + 1, f) };
        // SAFETY: just made.
        unsafe { entry.as_ref() }.prev.set(self.handlers.replace(entry.as_ptr()));
        self.patch();
    }

    fn pop_handler(&self) -> Option<NonNull<Header>> {
        let entry = NonNull::new(self.handlers.get())?;
        // SAFETY: the list of handlers holds live entries.
        self.handlers.set(unsafe { entry.as_ref() }.prev.get());
        Some(entry)
    }

    fn run_handlers(&self) {
        while let Some(entry) = self.pop_handler() {
            // SAFETY: popped, so ours; a handler's depth fits.
            self.depth.set(unsafe { entry.as_ref() }.tag as u16);
            // SAFETY: popped, so ours; `run` frees it.
            let panicked = caught(|| unsafe { (entry.as_ref().kind.run)(self, entry) });
            self.depth.set(0);
            if let Some(payload) = panicked {
                count_panic(payload);
            }
        }
    }

    /// Drops every value stored before the call, newest first. What destructors store meanwhile stays.
    fn drop_round(&self, on_panic: &mut dyn FnMut(Payload)) {
        if self.newest.get().is_null() {
            return;
        }
        let marker = Header::marker();
        self.link(NonNull::from(&marker));
        while let Some(entry) = self.below_markers(marker.prev.get()) {
            if let Some(payload) = caught(|| self.discard(entry)) {
                on_panic(payload);
            }
        }
        self.unlink(NonNull::from(&marker));
    }

    /// Takes the entry out of the record and drops it; if it is being looked at, its last look drops it.
    pub(super) fn discard(&self, entry: NonNull<Header>) {
        self.unlink(entry);
        // SAFETY: the caller took it from the chain or the map, so it is alive.
        let header = unsafe { entry.as_ref() };
        if header.kind.role == Role::Pair {
            self.unmap(entry);
            if header.borrows.get() > 0 {
                header.borrows.set(header.borrows.get() | DETACHED);
                return;
            }
        } else {
            self.count_inheritable(header.kind, false);
            if self.word(header.tag) == value_of(entry) {
                self.set_value_word(header.kind, header.tag, DESTROYED);
            }
            if header.borrows.get() & FRAME != 0 {
                // The frame of a `scope` that will never return.
                header.borrows.set(FRAME | DETACHED);
                return;
            }
        }
        // SAFETY: out of chain, map and table, and nobody looks at it (L4).
        unsafe { self.finish(entry) };
    }

    /// Drops an entry's value and frees it, on unwinding too.
    ///
    /// # Safety
    /// The entry is in no list and nobody looks at it.
    pub(super) unsafe fn finish(&self, entry: NonNull<Header>) {
        struct Free<'a>(&'a Locals, NonNull<Header>);
        impl Drop for Free<'_> {
            fn drop(&mut self) {
                // SAFETY: alive until the `free` below.
                let header = unsafe { self.1.as_ref() };
                if header.kind.role == Role::Key && self.0.word(header.tag) == DESTROYED {
                    self.0.set_word(header.tag, UNSET);
                }
                // SAFETY: by the caller of `finish`; the value is gone.
                unsafe { self.0.free(self.1) };
            }
        }
        let free = Free(self, entry);
        // SAFETY: E1, and by the caller: the value is ours to drop, once.
        unsafe { (entry.as_ref().kind.drop)(value_of(entry)) };
        drop(free);
    }

    /// Moves the value of the key with this index out: the key is unset again, and children inherit nothing of it.
    ///
    /// # Safety
    /// The key's type is T.
    ///
    /// # Panics
    /// When a typed value is being looked at.
    ///
    /// ```
    /// use gorun_scheduler::Kind;
    /// static KIND: Kind = Kind::typed::<u32>();
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// // SAFETY: the kind is that of key 1, here and everywhere.
    /// unsafe { record.begin(1).unwrap().finish(&KIND, 7_u32) };
    /// assert_eq!(unsafe { record.remove_typed::<u32>(1) }, Some(7));
    /// assert_eq!(unsafe { record.remove_typed::<u32>(1) }, None);
    /// ```
    #[must_use]
    pub unsafe fn remove_typed<T>(&self, index: u32) -> Option<T> {
        self.check_unborrowed("LocalKey::remove");
        let value = self.value(index)?;
        // SAFETY: L2: the word of a key points to the value in its entry, and while nobody looks no entry is a scope's
        // frame (L4), so this one is an allocation of `new_entry`. The header lies in front, where the kind says.
        let entry = unsafe { value.cast::<u8>().sub(offset_of!(Entry<T>, value)).cast::<Header>() };
        // SAFETY: as above.
        let kind = unsafe { entry.as_ref() }.kind;
        self.unlink(entry);
        self.count_inheritable(kind, false);
        self.set_value_word(kind, index, UNSET);
        // SAFETY: in no list and no table any more, and nobody looks at it: the value is ours, and the memory to be freed.
        unsafe {
            let value = value.cast::<T>().read();
            self.free(entry);
            Some(value)
        }
    }

    fn check_unborrowed(&self, what: &str) {
        assert!(
            self.looks.get() == 0,
            "gorun: {what}() was called while a closure looks at a goroutine-local (in `with`, `scope` or an \
             inherit hook)"
        );
        assert!(!self.comparing.get(), "gorun: {what}() was called by the Eq of a dynamic key");
    }

    /// Drops every value, newest first; handlers stay. What destructors store meanwhile stays too.
    ///
    /// # Panics
    /// When a typed value is being looked at; and with the first panic of a destructor, after the rest ran.
    ///
    /// ```
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// record.at_exit(|| ());
    /// record.set(7, "user", "ann");
    /// record.reset();
    /// assert!(!record.has(7, &"user") && record.is_patched(), "the handler is still there");
    /// ```
    pub fn reset(&self) {
        self.check_unborrowed("local::reset");
        let mut first = None;
        self.drop_round(&mut keep_first(&mut first));
        if let Some(payload) = first {
            resume_unwind(payload);
        }
    }

    /// Discards the handlers unrun, drops every value, and patches the bare exit back.
    ///
    /// What destructors store meanwhile is dropped in further rounds, [`EXIT_ROUNDS`] at most; if they go on, what is
    /// left is the exit's, which stays the cleaning one.
    ///
    /// # Panics
    /// As [`Locals::reset`].
    ///
    /// ```
    /// // SAFETY: the record is ours, and stays while we run.
    /// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
    /// record.at_exit(|| unreachable!());
    /// record.set(7, "user", "ann");
    /// record.unload();
    /// assert!(record.is_empty() && !record.is_patched());
    /// ```
    pub fn unload(&self) {
        self.check_unborrowed("local::unload");
        let mut first = None;
        for _ in 0..EXIT_ROUNDS {
            while let Some(entry) = self.pop_handler() {
                // SAFETY: popped, so in no list.
                if let Some(payload) = caught(|| unsafe { self.finish(entry) }) {
                    keep_first(&mut first)(payload);
                }
            }
            self.drop_round(&mut keep_first(&mut first));
            if self.holds_nothing() {
                self.unpatch();
                break;
            }
        }
        if let Some(payload) = first {
            resume_unwind(payload);
        }
    }
}

fn keep_first(first: &mut Option<Payload>) -> impl FnMut(Payload) + '_ {
    move |payload| match first {
        None => *first = Some(payload),
        Some(_) => dispose(payload),
    }
}
