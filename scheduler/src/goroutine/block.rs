//! The control block: everything the runtime knows of one goroutine, in one type-stable block.
//!
//! Made by `spawn`, run by `worker` and `exit`, waited for through `completion`. A block comes from the slab
//! (`slab.rs`), is never given back to the allocator, and is used again for other goroutines: that is why a
//! late look at a finished goroutine's block is a wrong answer at worst and never a fault.
//!
//! # Who may touch what, when
//!
//! | field | who | when | ordered by |
//! |---|---|---|---|
//! | `claim_word` | waiter, its worker, claimers | always | the protocol in `claim_word` |
//! | `requests`, `done` | anybody with a counted reference | always | atomics |
//! | `refs` | the same, and walks | always | the protocol in `refs` |
//! | `runtime` | written by spawn, read by anybody | from spawn on | `refs` Release/Acquire |
//! | `coroutine`, `processor`, `home`, `exiting`, `next` | G1: who owns the goroutine: the queue that holds it, the worker that runs it, or the goroutine itself | between spawn and retire | hand-over through queue or claim |
//! | `payload` | spawner, then the goroutine, then whoever takes the result | | `done` |
//! | `storage` | the goroutine itself; the spawner before it is published | | queue |
//! | `name`, `site`, `class`, `mode`, `entry` | written by spawn only | read while referenced | `refs` |
//!
//! **G1.** At any time exactly one party owns a live goroutine: a run queue, a worker, or (parked) whoever wins
//! the claim. **G2.** A block without references belongs to the slab.

use crate::base::atomics::{AtomicU8, Ordering};
use crate::claim::claim_word::{Commit, Committed, Parker, Token, Wake};
use crate::config::ThreadLocals;
use crate::goroutine::completion::Completion;
use crate::goroutine::refs::Refs;
use crate::goroutine::runtime_head::RuntimeHead;
use crate::goroutine::storage::Locals;
use crate::memory::StackClass;
use crate::stack::coroutine::Carrier;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;

/// Bytes in the control block for the closure and, after it ran, its result. What is larger is boxed. As many as 512 bytes
/// leave.
pub const PAYLOAD: usize = 96;

/// The goroutine is to end.
pub(crate) const ABORT: u8 = 1;
/// The goroutine is to yield: others wait, and it has been running for long. A hint: it may reach a goroutine that has
/// taken over the block.
pub(crate) const YIELD: u8 = 2;
/// Its runtime ends, and will abort it: a wait for others' ends that comes back is no answer any more.
pub(crate) const ENDING: u8 = 4;

/// The number of a goroutine (or of a plain thread's record): unique in the process, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoroutineId(NonZeroU64);

impl GoroutineId {
    pub(crate) fn new(id: u64) -> GoroutineId {
        GoroutineId(NonZeroU64::new(id).expect("ids count from 1"))
    }

    /// The number itself.
    ///
    /// ```
    /// assert!(gorun_scheduler::current_id().unwrap().get() > 0);
    /// ```
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for GoroutineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for GoroutineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoroutineId({})", self.0)
    }
}

/// What the scheduler does with a payload it knows nothing of.
#[derive(Debug)]
pub struct Entry {
    /// Moves the closure out of the payload, runs it, catches its panic and leaves a result there.
    pub run: unsafe fn(*mut u8),
    /// Drops the closure, which never ran, and leaves the result "aborted".
    pub cancel: unsafe fn(*mut u8),
    /// Called once the exit path is over, on the goroutine, before the result is published: for who wants to know of
    /// that without taking the result. Called on every way out, a cancelled closure's too. Does not unwind. `true`: code of
    /// somebody else's may have run, and stored something.
    pub ended: Option<unsafe fn(*mut u8) -> bool>,
    /// Drops the result. `true`: as above.
    pub drop_result: unsafe fn(*mut u8) -> bool,
}

/// What `take_block` costs in memory, and a bound to keep.
#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(std::mem::size_of::<Goroutine>() <= 512);

/// What a goroutine is born with.
pub(crate) struct Birth {
    pub(crate) id: u64,
    pub(crate) class: StackClass,
    pub(crate) mode: ThreadLocals,
    pub(crate) entry: &'static Entry,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) site: &'static Location<'static>,
}

/// Something of a floor above, which alone gives the pointer its type back.
pub(crate) enum Above {}

/// Bytes for a payload, aligned for anything that is put in inline.
#[repr(C, align(16))]
struct Payload(MaybeUninit<[u8; PAYLOAD]>);

/// The control block. See the module for who may touch what.
///
/// In this order a goroutine with a small closure and no storage touches three cache lines of it: the first two, and the
/// one with the record's return target.
#[repr(C, align(64))]
pub struct Goroutine {
    /// First: a pointer to the parker is a pointer to the goroutine.
    pub(crate) parker: Parker,
    pub(super) refs: Refs,
    /// What others want of it: [`ABORT`], [`YIELD`], [`ENDING`].
    pub(crate) requests: AtomicU8,
    pub(crate) reason: AtomicU8,
    /// In its exit path: an abort comes too late.
    pub(crate) exiting: Cell<bool>,
    pub(crate) class: Cell<StackClass>,
    pub(crate) mode: Cell<ThreadLocals>,
    /// True if `name` is anything: it lies in a cache line that is not touched otherwise.
    named: Cell<bool>,
    /// How often it has locked its OS thread (`lock_thread`).
    pub(crate) locks: Cell<u16>,
    pub(crate) done: Completion,
    pub(crate) carrier: Cell<*mut Carrier>,
    /// The processor that runs it; null while none does.
    pub(crate) processor: Cell<*const Above>,
    /// The seat of the worker to which it is bound; null: any may run it.
    pub(crate) home: Cell<*const Above>,
    /// The link of the list it is in; at its end, the joiner to wake.
    pub(crate) next: Cell<*const Goroutine>,
    pub(crate) runtime: AtomicPtr<RuntimeHead>,
    pub(crate) entry: Cell<Option<&'static Entry>>,
    pub(super) site: Cell<Option<&'static Location<'static>>>,
    payload: UnsafeCell<Payload>,
    pub(crate) locals: Locals,
    pub(super) name: UnsafeCell<Option<Arc<str>>>,
}

// SAFETY: the table above: every non-atomic field has one owner at a time (G1), and ownership is handed over
// through a queue or a claim, which order the accesses. What the payload holds is Send by `spawn`'s contract;
// what `storage` holds never leaves the goroutine, except what is inherited, which is Send.
unsafe impl Sync for Goroutine {}

impl fmt::Debug for Goroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Goroutine").field("id", &self.locals.id()).finish_non_exhaustive()
    }
}

impl Goroutine {
    pub(crate) fn empty() -> Goroutine {
        Goroutine {
            parker: Parker::for_goroutine(),
            refs: Refs::new(),
            requests: AtomicU8::new(0),
            reason: AtomicU8::new(0),
            exiting: Cell::new(false),
            class: Cell::new(StackClass::default()),
            mode: Cell::new(ThreadLocals::Pinned),
            named: Cell::new(false),
            locks: Cell::new(0),
            done: Completion::new(),
            carrier: Cell::new(ptr::null_mut()),
            processor: Cell::new(ptr::null()),
            home: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            runtime: AtomicPtr::new(ptr::null_mut()),
            entry: Cell::new(None),
            site: Cell::new(None),
            name: UnsafeCell::new(None),
            payload: UnsafeCell::new(Payload(MaybeUninit::uninit())),
            locals: Locals::new(),
        }
    }

    /// Asks it to end, and ends its wait, unless that is shielded. By one who keeps the block from being given back.
    pub(crate) fn ask_to_end(&self) -> Option<Wake> {
        // SeqCst: the flag, then the word (`Parker::claim_unshielded`); against `commit` and `Doubts`, which write the word and
        // then read the flag. One of the two sees the other, so a goroutine never sleeps through its abort.
        self.requests.fetch_or(ABORT, Ordering::SeqCst);
        if !cfg!(panic = "unwind") {
            return None;
        }
        // SAFETY: type-stable; the waiter is in its operation for as long as it isn't claimed.
        unsafe { Parker::claim_unshielded(self.parker(), Token::ABORT) }
    }

    /// The commit step, by the worker that ran it, when it has left its stack. With a wait that goes on although it has been
    /// asked to end: the worker ends it, by [`Committed::abort`].
    #[inline]
    pub(crate) fn commit(&self) -> (Commit, Option<Committed>) {
        let commit = self.parker.commit();
        let asked = match commit {
            // SeqCst: see `ask_to_end`. The goroutine may run elsewhere by now, or be another one: then the flag is not its,
            // and the wait not the one that was committed (P4).
            Commit::Parked(wait) if self.is_asked_to_end() && cfg!(panic = "unwind") => Some(wait),
            _ => None,
        };
        (commit, asked)
    }

    /// Returns true if it has been asked to end; looked at after its word was changed.
    #[inline]
    pub(crate) fn is_asked_to_end(&self) -> bool {
        // SeqCst: see `ask_to_end`.
        self.requests.load(Ordering::SeqCst) & ABORT != 0
    }

    /// Its claim word, from which one gets back to the block.
    #[inline]
    pub(crate) fn parker(&self) -> NonNull<Parker> {
        NonNull::from(self).cast()
    }

    /// Where the closure, and later its result, lies.
    pub(crate) fn payload(&self) -> *mut u8 {
        self.payload.get().cast()
    }

    /// Fills a block taken from the slab. It becomes visible to `for_each_live` with [`Goroutine::publish`].
    pub(crate) fn prepare(&self, birth: Birth, runtime: *const RuntimeHead) {
        let Birth { id, class, mode, entry, name, site } = birth;
        debug_assert!(self.locals.is_empty(), "a block taken from the slab has empty storage");
        self.locals.set_id(id);
        self.class.set(class);
        self.mode.set(mode);
        self.entry.set(Some(entry));
        self.site.set(Some(site));
        self.named.set(name.is_some());
        if name.is_some() {
            // SAFETY: G2: refs is 0 and the block was taken from the slab, so nobody else looks at it.
            unsafe { *self.name.get() = name };
        }
        self.exiting.set(false);
        self.home.set(ptr::null());
        self.done.reset();
        // Relaxed, all three: published by the Release in `publish`.
        self.requests.store(0, Ordering::Relaxed);
        self.reason.store(0, Ordering::Relaxed);
        self.runtime.store(runtime.cast_mut(), Ordering::Relaxed);
    }

    /// Has the processor fetch what a first turn and an end will touch beyond the first cache line.
    #[inline]
    pub(crate) fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint; any address will do.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>((&raw const self.entry).cast());
                _mm_prefetch::<_MM_HINT_T0>((&raw const self.locals).cast());
            }
        }
    }

    /// Makes the block live, with `refs` references.
    pub(crate) fn publish(&self, refs: u32) {
        self.refs.publish(refs);
    }

    /// After the last reference.
    #[inline]
    pub(super) fn clean(&self) {
        if self.named.get() {
            // SAFETY: G2: we had the last reference.
            unsafe { *self.name.get() = None };
        }
    }

    /// The runtime it belongs to.
    pub(crate) fn runtime(&self) -> *const RuntimeHead {
        // Relaxed: written before `publish`; every reader has a reference, or the Acquire of `try_ref`.
        self.runtime.load(Ordering::Relaxed)
    }
}

/// An uncounted reference: a run queue's, a worker's or a claim's title to the goroutine (G1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ref(pub(super) NonNull<Goroutine>);

// SAFETY: a title to the goroutine may be handed to another thread; `Goroutine` is Sync.
unsafe impl Send for Ref {}

impl Ref {
    /// # Safety
    /// The pointer is to a control block of the slab, and the caller owns the goroutine (G1).
    pub(crate) unsafe fn from_ptr(ptr: NonNull<Goroutine>) -> Ref {
        Ref(ptr)
    }

    pub(crate) fn as_ptr(self) -> *const Goroutine {
        self.0.as_ptr()
    }

    #[inline]
    pub(crate) fn as_non_null(self) -> NonNull<Goroutine> {
        self.0
    }
}

impl std::ops::Deref for Ref {
    type Target = Goroutine;
    fn deref(&self) -> &Goroutine {
        // SAFETY: blocks are type-stable: the memory is a `Goroutine` for the life of the process.
        unsafe { self.0.as_ref() }
    }
}

/// For the overflow report, which runs on a signal stack of the goroutine's own thread and has written "goroutine ": id,
/// name, spawn site.
pub(crate) fn describe(g: &Goroutine, out: &mut crate::memory::Report) {
    out.write_usize(usize::try_from(g.locals.id()).unwrap_or(usize::MAX));
    // SAFETY: the goroutine runs on this very thread, so it is live and its name is not being written.
    if let Some(name) = unsafe { (*g.name.get()).as_deref() } {
        out.write_str(" \"");
        out.write_str(name);
        out.write_str("\"");
    }
    if let Some(site) = g.site.get() {
        out.write_str(", spawned at ");
        out.write_str(site.file());
        out.write_str(":");
        out.write_usize(site.line() as usize);
        out.write_str(",");
    }
}
