//! `fork` in an isolated goroutine: the calling thread must be one that glibc has on its lists.
//!
//! In the child, glibc takes the calling thread's control block out of its list of stacks; ours is in none, and the
//! child would crash. So the worker's own block is loaded for the time of the fork. Registered once, by
//! [`layout`](super::layout); called by `fork` in parent and child, in this thread.

use super::block::Loaded;
use super::{Unsupported, known};
use std::cell::Cell;

thread_local! {
    /// On the worker's own block: the goroutine's that forks.
    static FORKING: Cell<usize> = const { Cell::new(0) };
}

pub(super) fn install() -> Result<(), Unsupported> {
    // SAFETY: three functions that do not unwind, and are there for good.
    match unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after)) } {
        0 => Ok(()),
        code => {
            let error = std::io::Error::from_raw_os_error(code);
            Err(Unsupported::new(format!("pthread_atfork: {error}")))
        }
    }
}

unsafe extern "C" fn before() {
    // On a goroutine, the block of the worker on whose thread it is.
    let Some(home) = crate::current::processor().map(|p| p.home_block.get()) else { return };
    let mine = super::fsbase::current();
    if home != mine {
        change(home);
        set_forking(mine);
    }
}

unsafe extern "C" fn after() {
    let goroutine = set_forking(0);
    if goroutine != 0 {
        change(goroutine);
    }
}

#[inline(never)]
fn set_forking(base: usize) -> usize {
    FORKING.replace(base)
}

/// F2: a function of its own.
#[inline(never)]
fn change(base: usize) {
    let mut loaded = Loaded::new(Some(known()));
    // SAFETY: F1: both are this thread's: the worker's own, and that of the goroutine it runs.
    unsafe { loaded.switch(base) };
}
