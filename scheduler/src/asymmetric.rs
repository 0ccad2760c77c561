//! A pair of fences of which one is free: for a Dekker pair whose one side runs all the time and the other hardly ever.
//!
//! Used by spawn and exit (light) and by shutdown and metrics (heavy; `goroutine/refs` is of them), by `next_slot`, `bias` and
//! `short_lock`. If one thread writes X,
//! passes [`light`] and reads Y, and another writes Y, passes [`heavy`] and reads X, at least one of them sees the other's
//! write: `membarrier(2)` makes every running thread of the process pass a full fence at some point during the heavy one,
//! and on the light side only the compiler must be kept from reordering. Where the system call can't be had, both are full
//! fences.

use crate::shim::fence;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};

/// A model checker knows no system calls; its fences are full ones.
const MODELS: bool = cfg!(any(loom, shuttle));

/// `linux/membarrier.h`; Linux 4.14.
const PRIVATE_EXPEDITED: libc::c_long = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: libc::c_long = 1 << 4;

/// Set before the first light fence that counts, by [`register`].
static REGISTERED: AtomicBool = AtomicBool::new(false);

fn membarrier(command: libc::c_long) -> bool {
    // SAFETY: commands without memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// Asks for the system call, once for the process, before there are workers.
pub(crate) fn register() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        // Relaxed: starting the worker threads publishes it.
        REGISTERED.store(membarrier(REGISTER_PRIVATE_EXPEDITED), Ordering::Relaxed);
    });
}

/// Whether the light fence costs nothing. Once it does it always will.
#[cfg(not(any(loom, shuttle)))]
pub(crate) fn is_cheap() -> bool {
    // Relaxed: see `register`.
    REGISTERED.load(Ordering::Relaxed)
}

/// As [`light`], where it is known to be cheap.
#[inline]
pub(crate) fn light_registered() {
    if MODELS {
        fence(Ordering::SeqCst);
    } else {
        compiler_fence(Ordering::SeqCst);
    }
}

/// The side that runs all the time.
#[inline]
pub(crate) fn light() {
    // Relaxed: see `register`. A thread that does not see it yet passes a full fence, which is never wrong.
    if REGISTERED.load(Ordering::Relaxed) && !MODELS {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// The side that hardly ever runs.
pub(crate) fn heavy() {
    fence(Ordering::SeqCst);
    // Relaxed: see `register`.
    if REGISTERED.load(Ordering::Relaxed) && !membarrier(PRIVATE_EXPEDITED) {
        crate::unwind::fatal("membarrier was registered, and is refused");
    }
}

/// As [`heavy`], also where there may be no runtime yet: a thread that does not see `REGISTERED` would leave the system
/// call out, while one that sees it leaves the fence out.
pub(crate) fn heavy_registered() {
    if MODELS {
        return fence(Ordering::SeqCst);
    }
    register();
    heavy();
}
