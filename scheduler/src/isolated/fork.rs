//! `fork` in an isolated goroutine: the calling thread must be one that glibc has on its lists.
//!
//! In the child, glibc takes the calling thread's control block out of its list of stacks; ours is in none, and the
//! child would crash. So the worker's own block is loaded for the time of the fork. Called by `fork`, around it, in the
//! thread that forks.

use super::block::{Loaded, home_of};
use super::{fsbase, known};
use std::cell::Cell;
use std::ptr;

thread_local! {
    /// On the worker's own block: the goroutine's that forks.
    static FORKING: Cell<usize> = const { Cell::new(0) };
}

pub(crate) fn before_fork() {
    let mine = fsbase::current();
    let Some(home) = home_of(mine) else { return };
    go_home(home);
    set_forking(mine);
}

pub(crate) fn after_fork(in_child: bool) {
    let goroutine = set_forking(0);
    if goroutine != 0 {
        if in_child && let Some(at) = known().random_state {
            // glibc takes back the states of threads that are not there. That this one is not among them is not taken for granted.
            // SAFETY: a word of the block of the goroutine that forks, which is this thread's.
            unsafe { ptr::with_exposed_provenance_mut::<usize>(goroutine).byte_add(at).write(0) };
        }
        come_back(goroutine);
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
