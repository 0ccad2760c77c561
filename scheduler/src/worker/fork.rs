//! The handlers around a `fork`: the process's locks are held over it, and a goroutine that forks becomes a plain thread in
//! the child.
//!
//! libc calls them, through `process`, on the thread that forks. docs/fork.md lists the state of each global in the child.
//!
//! * **R3.** The locks are taken in one order ([`Locks::take`]), which all code that takes two of them follows, and no
//!   thread waits for user code while it holds one. So a fork waits at most for short critical sections of other threads.
//!   Other libraries' handlers may run meanwhile: for them the thread is a plain one, which does not suspend.
//! * **R4.** In the child the worker's loop is never returned to: its queues are copies of the parent's, whose goroutines
//!   run in the parent. A goroutine that forked is no goroutine any more ([`current::become_plain`]), so it waits as a
//!   plain thread does; when it ends, so does the process ([`end_process`]), as when the last thread of a process ends.
//! * **R5.** The kernel tells a child of the end of the *thread* that forked it, if the child has asked for that
//!   (`PR_SET_PDEATHSIG`). So a thread that has forked is not ended because there is nothing to do ([`has_forked`]).

use crate::base::process::{self, Around};
use crate::goroutine::block::{Entry, Goroutine};
use crate::goroutine::current;
use crate::goroutine::slab::{SlabLock, lock_slab};
use crate::memory;
use crate::processor::core::Processor;
use crate::tls;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

static AROUND: Around = Around { before, after };
static HELD: AtomicPtr<Locks> = AtomicPtr::new(ptr::null_mut());
/// During a fork: the goroutine that calls it.
static CALLER: AtomicPtr<Goroutine> = AtomicPtr::new(ptr::null_mut());

/// In the child: the goroutine that the forking thread was running.
static WAS: AtomicPtr<Goroutine> = AtomicPtr::new(ptr::null_mut());
/// Set if it has panicked.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// The locks held over a fork (R3), in the order in which they are released.
struct Locks {
    _beds: crate::wait::short_lock::BedLocks,
    _bias: crate::base::bias::TableLock,
    _slab: SlabLock,
    _stacks: memory::ArenaLocks,
}

impl Locks {
    /// R3: no other code takes two of them in the opposite order. (Only the arenas take two at all, their own.)
    fn take() -> Locks {
        let stacks = memory::lock_arenas();
        let slab = lock_slab();
        let bias = crate::base::bias::lock_table();
        Locks { _beds: crate::wait::short_lock::lock_beds(), _bias: bias, _slab: slab, _stacks: stacks }
    }
}

/// Registers the handlers. A runtime does this first when it starts.
///
/// # Errors
/// If there is no memory to register them.
pub(crate) fn watch() -> io::Result<()> {
    process::watch(&AROUND)
}

// F2 in `tls`: what touches thread-locals, as guards do, is a function of its own.

fn before() {
    take_locks();
    tls::before_fork();
    leave_goroutine();
}

fn after(in_child: bool) {
    // Relaxed: the same thread.
    let caller = CALLER.swap(ptr::null_mut(), Ordering::Relaxed);
    if !in_child {
        return_to_goroutine(caller);
    }
    tls::after_fork(in_child);
    let_go_of_locks();
    if in_child {
        stay_plain(caller);
    }
}

/// R3.
#[inline(never)]
fn leave_goroutine() {
    let caller = current::become_plain().map_or(ptr::null_mut(), |g| ptr::from_ref(g).cast_mut());
    CALLER.store(caller, Ordering::Relaxed); // see `after`
}

#[inline(never)]
fn return_to_goroutine(caller: *mut Goroutine) {
    current::set_goroutine(caller);
    match Processor::current() {
        Some(processor) => processor.has_forked.set(true),
        None => current::note_fork(),
    }
}

/// R4.
#[inline(never)]
fn stay_plain(caller: *mut Goroutine) {
    // SAFETY: null, or the goroutine that forked, whose block is type-stable.
    let caller = unsafe { caller.as_ref() };
    // On a worker's own stack a block may be loaded that says otherwise.
    if let Some(g) = current::become_plain().or(caller) {
        g.entry.set(Some(&FORKED));
        WAS.store(ptr::from_ref(g).cast_mut(), Ordering::Relaxed); // see `ended`
    }
}

/// Returns true if the calling plain thread has called `fork`: then children may wait for its end (`PR_SET_PDEATHSIG`), and
/// it should end only with the process.
///
/// ```
/// assert!(!gorun_scheduler::has_forked());
/// ```
#[must_use]
pub fn has_forked() -> bool {
    current::has_forked()
}

#[inline(never)]
fn take_locks() {
    // Relaxed, here and in `let_go_of_locks`: the same thread, and forks are one at a time.
    HELD.store(Box::into_raw(Box::new(Locks::take())), Ordering::Relaxed);
}

#[inline(never)]
fn let_go_of_locks() {
    let locks = HELD.swap(ptr::null_mut(), Ordering::Relaxed); // see `take_locks`
    // SAFETY: made in `take_locks`, on this very thread, and taken once.
    drop(unsafe { Box::from_raw(locks) });
}

/// Ends a goroutine in the child, after its closure, storage and thread-locals. The exit path asks for its continuation
/// anyway, so other goroutines pay nothing for this.
static FORKED: Entry = Entry { run: end, cancel: end, ended: Some(end_and_say), drop_result: end_and_say };

unsafe fn end(_: *mut u8) {
    end_process()
}

unsafe fn end_and_say(_: *mut u8) -> bool {
    end_process()
}

/// Called after a later pass of a goroutine's exit path: if it has forked there, and this is the child, the process ends (R4).
pub(crate) fn ended(g: &Goroutine) {
    // Relaxed: what is ours was written on this thread.
    if ptr::eq(WAS.load(Ordering::Relaxed), g) {
        end_process();
    }
}

/// Ends the child of a goroutine's fork, as the end of a program's main thread would.
#[cold]
pub(crate) fn end_process() -> ! {
    // Relaxed: see `ended`.
    std::process::exit(if PANICKED.load(Ordering::Relaxed) { 101 } else { 0 })
}

/// Records that the calling goroutine has panicked. If it has forked and this is the child, the process will exit with
/// status 101.
///
/// ```
/// gorun_scheduler::note_panic(); // a plain thread calls, which is none that was a goroutine
/// ```
#[cold]
pub fn note_panic() {
    // Relaxed: see `ended`.
    if process::is_forked() && current::goroutine().is_none() && !WAS.load(Ordering::Relaxed).is_null() {
        // Relaxed: read on this thread.
        PANICKED.store(true, Ordering::Relaxed);
    }
}
