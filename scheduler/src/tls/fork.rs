//! `fork` in an isolated goroutine: the calling thread must be one that glibc can have on its lists.
//!
//! In the child, glibc takes the calling thread's control block out of its list of stacks and puts it into one of the threads
//! that exist; the control blocks of all others, and their stacks, it will use for new threads. Called by `fork`, around a
//! fork, in the thread that forks.
//!
//! * **F5, a goroutine forks with its own block.** So fork handlers that were registered before ours see its thread-locals, and
//!   it owns the recursive mutexes that it holds, as with a thread. A block's links are those of a list of its own
//!   ([`Layout::list`]), so it can be taken out of it. The kernel puts the child's thread id into the block, which from then on
//!   is a thread's like any other ([`home_of`] finds no goroutine's block). The worker's own block becomes memory for new
//!   threads, so the kernel must not write into its rseq area any more.
//! * **F6, what runs on the worker's own stack forks with the worker's own block**, whichever is loaded: a waker, for example,
//!   that is called between two goroutines. Otherwise that stack would be given to a new thread while it is in use. The same if
//!   this glibc does not say where the links are.

use super::block::{Loaded, become_own, home_of};
use super::fsbase;
use super::thread_ids::become_childs_thread;
use super::verdict::known;
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    /// F6: on the worker's own block, the one that was loaded.
    static FORKING: Cell<usize> = const { Cell::new(0) };
}

/// F5: the block of the worker whose goroutine forks, or 0. Forks are one at a time.
static HOME: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn before_fork() {
    let mine = fsbase::current();
    let Some(home) = home_of(mine) else { return };
    if stays(home) {
        // Relaxed, here and below: the same thread.
        HOME.store(home, Ordering::Relaxed);
        return;
    }
    go_home(home);
    set_forking(mine);
}

pub(crate) fn after_fork(in_child: bool) {
    // Relaxed: see `before_fork`.
    let home = HOME.swap(0, Ordering::Relaxed);
    if home != 0 {
        if in_child {
            unregister_rseq(home);
            become_own(known(), fsbase::current());
        }
        return;
    }
    let loaded = set_forking(0);
    if loaded != 0 {
        if in_child {
            // SAFETY: the block that was loaded, while the thread's own is.
            unsafe { become_childs_thread(known(), loaded) };
        }
        come_back(loaded);
    }
}

/// Returns true if the thread with this block is on another stack than its own, and the loaded block can be taken out of a list.
#[inline(never)]
fn stays(home: usize) -> bool {
    let layout = known();
    let here = ptr::from_ref(&home) as usize;
    let word = |at: usize| ptr::with_exposed_provenance::<usize>(home).wrapping_byte_add(at);
    // SAFETY: fields of a control block, which is this thread's.
    let (start, size) = unsafe { (word(layout.stack_address).read(), word(layout.stack_size).read()) };
    layout.list.is_some() && !(start..start + size).contains(&here)
}

/// F5: in the child, where the kernel has the parent thread's registration.
#[inline(never)]
fn unregister_rseq(home: usize) {
    const UNREGISTER: u32 = 1;
    /// glibc's `RSEQ_SIG` for this processor.
    const SIGNATURE: u32 = 0x5305_3053;
    let Some(at) = known().rseq else { return };
    let area = home.wrapping_add_signed(at);
    // The size must be the registered one, which glibc does not tell; a wrong one, or no registration, is EINVAL.
    for size in (32..=256_u32).step_by(8) {
        // SAFETY: the kernel writes to the area that it has been writing to so far, and never again.
        let code = unsafe { libc::syscall(libc::SYS_rseq, area, size, UNREGISTER, SIGNATURE) };
        if code == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL) {
            return;
        }
    }
}

#[inline(never)]
fn set_forking(base: usize) -> usize {
    FORKING.replace(base)
}

/// F2: a function of its own, as the next one.
#[inline(never)]
fn go_home(home: usize) {
    let mut loaded = Loaded::away_from(known(), home);
    // SAFETY: F1: both are this thread's: the worker's own, and that of the goroutine it runs.
    unsafe { loaded.switch(home) };
}

#[inline(never)]
fn come_back(goroutine: usize) {
    let mut loaded = Loaded::new(Some(known()));
    // SAFETY: as above.
    unsafe { loaded.switch(goroutine) };
}
