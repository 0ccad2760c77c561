//! What happens around a `fork`: locks of the process are held over it, and a goroutine that forks is a plain thread in the
//! child.
//!
//! Called by libc, by way of `process`, on the thread that forks. What each global of the process is in the child stands in
//! docs/fork.md.
//!
//! * **R3.** The locks are taken in one order ([`Locks::take`]), which is that of all code that takes two of them, and none is
//!   held by anybody who waits for user code. So the fork waits for a few lines of other threads at most.
//! * **R4.** In the child the worker's loop is never returned to: its queues are copies of the parent's, and what is in them
//!   runs there. A goroutine that forked is no goroutine any more ([`current::become_plain`]), so that it waits as a plain
//!   thread does; when it ends, the process does ([`end_process`]), as a process does whose last thread ends.

use crate::current;
use crate::goroutine::{Entry, Goroutine, SlabLock, lock_slab};
use crate::isolated;
use crate::process::{self, Around};
use crate::stack;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

static AROUND: Around = Around { before, after };
static HELD: AtomicPtr<Locks> = AtomicPtr::new(ptr::null_mut());
/// The goroutine that the thread was which forked; in the child.
static WAS: AtomicPtr<Goroutine> = AtomicPtr::new(ptr::null_mut());
/// Set if it has panicked.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// What is held over a fork (R3), in the order in which it is let go.
struct Locks {
    _beds: crate::short_lock::BedLocks,
    _bias: crate::bias::TableLock,
    _slab: SlabLock,
    _stacks: stack::ArenaLocks,
}

impl Locks {
    /// R3: an order in which nobody else takes two of them the other way round. (Nobody does but for the arenas' own.)
    fn take() -> Locks {
        let stacks = stack::lock_arenas();
        let slab = lock_slab();
        let bias = crate::bias::lock_table();
        Locks { _beds: crate::short_lock::lock_beds(), _bias: bias, _slab: slab, _stacks: stacks }
    }
}

/// Has all this done from now on. The first thing that a runtime does when it starts.
///
/// # Errors
/// When there is no memory to register that.
pub(crate) fn watch() -> io::Result<()> {
    process::watch(&AROUND)
}

// F2 in `isolated`: what touches thread-locals, as guards do, is a function of its own.

fn before() {
    take_locks();
    isolated::before_fork();
}

fn after(in_child: bool) {
    isolated::after_fork(in_child);
    let_go_of_locks();
    if in_child && let Some(g) = current::become_plain() {
        g.entry.set(Some(&FORKED));
        WAS.store(ptr::from_ref(g).cast_mut(), Ordering::Relaxed); // see `ended`
    }
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

/// What the goroutine ends by in the child, once its closure, storage and thread-locals are over: the exit path asks for it
/// anyway, so that others do not pay for this.
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

/// What the child of a goroutine's fork ends with, as a program's main thread would.
fn end_process() -> ! {
    // Relaxed: see `ended`.
    std::process::exit(if PANICKED.load(Ordering::Relaxed) { 101 } else { 0 })
}

/// Notes that the calling goroutine has panicked, if it has forked and this is the child: its process ends with 101 then.
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
