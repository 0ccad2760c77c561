//! Which goroutine runs here, and whose storage record is in force.
//!
//! Read by everything that asks "who am I". A started goroutine keeps its thread-locals, its own ones ([`adopt`]) or
//! its worker's, in which the worker sets this around each resume ([`with_goroutine`]); so an address computed before
//! a suspension is right after it too.
//!
//! * **T1.** On a goroutine's own stack, `goroutine` is that goroutine; during a fork of its own, and in the child, nobody. (A worker's loop, which may have any block
//!   loaded, does not ask.)
//! * **T2.** `record` is the running goroutine's, in the child of a fork of its own as well; on a plain thread, and on a worker between goroutines, the
//!   thread's own, made at its first use and dropped at the thread's exit.
//! * **T3.** `own` is set in thread-locals that are one goroutine's alone, and nowhere else: what is kept there of its
//!   record, the mirrors of `goroutine/locals`, is never read while another record is in force.

use crate::base::bias::Owner;
use crate::base::process::{self, HoldOff};
use crate::goroutine::block::Goroutine;
use crate::goroutine::slab::BlockList;
use crate::goroutine::storage::Locals;
use crate::goroutine::storage::in_force::CURRENT;
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

/// The part of a processor that the floors below it use: its first field.
#[derive(Debug)]
pub(crate) struct ProcessorHead {
    pub(crate) blocks: BlockList,
    /// The processor as an owner of biased locks.
    pub(crate) owner: Option<&'static Owner>,
}

thread_local! {
    static THREAD_RECORD: ThreadRecord = ThreadRecord::new();
    static ENDING: Cell<Option<HoldOff>> = const { Cell::new(None) };
    /// R5 in `fork`; of a thread that was running a goroutine, its processor knows.
    static HAS_FORKED: Cell<bool> = const { Cell::new(false) };
}

/// Ids are given out in batches from here; 0 is nobody's.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// `n` ids, from the returned one on.
pub(crate) fn take_ids(n: u64) -> u64 {
    // Relaxed: uniqueness is all that is asked.
    NEXT_ID.fetch_add(n, Ordering::Relaxed)
}

/// A plain thread's storage, which goes through the same exit path as a goroutine's when the thread ends.
struct ThreadRecord(Locals);

impl ThreadRecord {
    fn new() -> ThreadRecord {
        let locals = Locals::new();
        locals.set_id(take_ids(1));
        ThreadRecord(locals)
    }
}

impl Drop for ThreadRecord {
    fn drop(&mut self) {
        // T2 still holds: handlers and destructors reach this record while they run.
        self.0.run_exit();
        CURRENT.with(|c| {
            if ptr::eq(c.record.get(), &raw const self.0) {
                c.record.set(ptr::null());
            }
        });
    }
}

/// The storage record of the running goroutine, or of this plain thread. `None` on a thread that is past the
/// destruction of its record.
///
/// The record stays where it is until the goroutine, or the thread, ends.
///
/// ```
/// // SAFETY: the record is ours, and stays while we run.
/// let record = unsafe { gorun_scheduler::record().unwrap().as_ref() };
/// assert_eq!(record.id(), gorun_scheduler::current_id().unwrap().get());
/// ```
#[inline]
#[must_use]
pub fn record() -> Option<NonNull<Locals>> {
    match NonNull::new(CURRENT.with(|c| c.record.get()).cast_mut()) {
        None => thread_record(),
        record => record,
    }
}

/// The same, where it has been asked for already.
///
/// # Safety
/// The running goroutine, or this plain thread, has had its record from [`record`], and it lives while the result does.
///
/// ```
/// let id = gorun_scheduler::current_id().unwrap().get();
/// // SAFETY: that looked into the record, which is ours, and stays while we run.
/// assert_eq!(unsafe { gorun_scheduler::known_record() }.id(), id);
/// ```
#[inline]
#[must_use]
pub unsafe fn known_record<'a>() -> &'a Locals {
    // SAFETY: by the caller; T2.
    unsafe { &*CURRENT.with(|c| c.record.get()) }
}

#[cold]
#[inline(never)]
fn thread_record() -> Option<NonNull<Locals>> {
    let record = THREAD_RECORD.try_with(|r| NonNull::from(&r.0)).ok()?;
    CURRENT.with(|c| c.record.set(record.as_ptr()));
    Some(record)
}

/// The goroutine on whose stack we are. It lives at least as long as the caller's frame, which is on it.
#[inline]
pub(crate) fn goroutine<'a>() -> Option<&'a Goroutine> {
    // SAFETY: T1, and blocks are type-stable.
    unsafe { CURRENT.with(|c| c.goroutine.get()).cast::<Goroutine>().as_ref() }
}

/// What the current goroutine's processor has for the floors below it.
#[inline]
fn head<'a>() -> Option<&'a ProcessorHead> {
    // SAFETY: T1: it runs; the worker sets `processor`, whose first field the head is, before each resume and outlives
    // the goroutine's turn.
    goroutine().map(|g| unsafe { &*g.processor.get().cast::<ProcessorHead>() })
}

/// Free blocks of the current processor.
#[inline]
pub(crate) fn blocks<'a>() -> Option<&'a BlockList> {
    head().map(|head| &head.blocks)
}

/// The processor to which locks that are taken here are biased.
#[inline]
pub(crate) fn owner() -> Option<&'static Owner> {
    head().and_then(|head| head.owner)
}

/// The calling plain thread has called `fork`.
pub(crate) fn note_fork() {
    HAS_FORKED.set(true);
}

/// Returns true if it has.
pub(crate) fn has_forked() -> bool {
    HAS_FORKED.get()
}

/// Holds forks off until std is done with this thread. The last thing that its body does: what is used for the first time last
/// is dropped first, so no user code runs before that is over.
pub(crate) fn hold_off_until_end() {
    ENDING.set(Some(process::hold_off()));
}

/// During a fork, and in its child for good, the caller is no goroutine (R3, R4 in `fork`). Returns the one that it was. Its
/// storage stays with it.
#[inline(never)]
pub(crate) fn become_plain<'a>() -> Option<&'a Goroutine> {
    let was = goroutine();
    CURRENT.with(|c| c.goroutine.set(ptr::null()));
    was
}

/// After a fork: the same goroutine as before it (null: nobody) is current again, on the same thread.
#[inline(never)]
pub(crate) fn set_goroutine(g: *const Goroutine) {
    CURRENT.with(|c| c.goroutine.set(g.cast()));
}

/// In a goroutine's own thread-locals, which are as the program's template: says whose they are.
#[inline]
pub(crate) fn adopt(g: &Goroutine) {
    CURRENT.with(|c| {
        c.goroutine.set(ptr::from_ref(g).cast());
        c.record.set(&raw const g.locals);
        c.own.set(true);
    });
    g.locals.mirror_inherited();
}

/// Runs `f` (a resume) with `g` as the current goroutine of this thread. The scheduler's own `f` does not unwind.
#[inline(never)]
pub(crate) fn with_goroutine<R>(g: &Goroutine, f: impl FnOnce() -> R) -> R {
    let before = CURRENT.with(|c| {
        c.goroutine.set(ptr::from_ref(g).cast());
        c.record.replace(&raw const g.locals)
    });
    let result = f();
    CURRENT.with(|c| {
        c.goroutine.set(ptr::null());
        c.record.set(before);
    });
    result
}
