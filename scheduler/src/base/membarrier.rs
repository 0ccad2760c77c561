//! A pair of fences of which one is free: for a Dekker pair whose one side runs all the time and the other hardly ever.
//!
//! Used by spawn and exit (light) and by shutdown and metrics (heavy; `goroutine/refs` is of them), by `next_slot`, `bias` and
//! `short_lock`. If one thread writes X,
//! passes [`light`] and reads Y, and another writes Y, passes [`heavy`] and reads X, at least one of them sees the other's
//! write: `membarrier(2)` makes every running thread of the process pass a full fence at some point during the heavy one,
//! and on the light side only the compiler must be kept from reordering. Where the system call can't be had, both are full
//! fences.
//!
//! **F1, a late refusal.** A seccomp filter may be set when light sides have long been going without a fence; then the heavy
//! side does by hand what the system call does: it runs on each processor that a thread of the process may run on
//! ([`visit_processors`]). Whoever ran there has left it, and the kernel's switch from one thread to another is a full
//! fence for both (which `membarrier` itself counts on for the threads that do not run).

use crate::base::atomics::fence;
use crate::base::errno::keeping_errno;
use crate::base::process::once;
use std::sync::OnceLock;
#[cfg(not(loom))]
use std::sync::atomic::compiler_fence;
use std::sync::atomic::{AtomicBool, Ordering};

/// A model checker knows no system calls. Shuttle knows no weak orderings either; loom's fences are in `atomics/models`.
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
    once(&ONCE, || {
        // Relaxed: starting the worker threads publishes it.
        REGISTERED.store(membarrier(REGISTER_PRIVATE_EXPEDITED), Ordering::Relaxed);
    });
}

/// Returns true if the light fence costs nothing. Once it does it always will.
#[cfg(not(any(loom, shuttle)))]
pub(crate) fn is_cheap() -> bool {
    // Relaxed: see `register`.
    REGISTERED.load(Ordering::Relaxed)
}

/// As [`light`], where it is known to be cheap.
#[inline]
pub(crate) fn light_registered() {
    #[cfg(loom)]
    return crate::base::atomics::models::light();
    #[cfg(not(loom))]
    compiler_fence(Ordering::SeqCst);
}

/// The side that runs all the time.
#[inline]
pub(crate) fn light() {
    #[cfg(loom)]
    return crate::base::atomics::models::light();
    #[cfg(not(loom))]
    // Relaxed: see `register`. A thread that does not see it yet passes a full fence, which is never wrong.
    if REGISTERED.load(Ordering::Relaxed) && !MODELS {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// The side that hardly ever runs.
pub(crate) fn heavy() {
    #[cfg(loom)]
    return crate::base::atomics::models::heavy();
    #[cfg(not(loom))]
    heavy_by_membarrier();
}

#[cfg(not(loom))]
fn heavy_by_membarrier() {
    fence(Ordering::SeqCst);
    // Relaxed: see `register`.
    if REGISTERED.load(Ordering::Relaxed) && !membarrier(PRIVATE_EXPEDITED) {
        by_hand();
    }
}

/// F1. (What has been refused leaves a mark in `errno`.)
#[cold]
#[inline(never)]
fn by_hand() {
    if keeping_errno(visit_processors).is_none() {
        crate::base::unwind::fatal(
            "membarrier(2) is refused now, but was allowed when the runtime started; the substitute for it failed, because \
             sched_setaffinity(2), sched_getaffinity(2) or /proc/self/task is refused as well. Set the seccomp filter \
             before the first goroutine, or let it allow membarrier",
        );
    }
    fence(Ordering::SeqCst);
}

/// Has the calling thread run on each processor that any thread of the process may run on; then it may run where it might
/// before. On how many it was; `None` where that can't be done.
///
/// A processor that we may not run on (it is in another cpuset, or there is none) is none of a thread's of ours, unless its mask
/// says so. A mask that changes meanwhile makes its thread leave its processor, if it has to: a full fence as well.
#[cfg(target_os = "linux")]
fn visit_processors() -> Option<libc::c_int> {
    let (mine, all) = (affinity(0)?, masks_of_all()?);
    let (mut visited, mut missed) = (0, false);
    for processor in 0..libc::CPU_SETSIZE as usize {
        // SAFETY: plain numbers, and a number within the set.
        let only = unsafe {
            let mut only: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(processor, &mut only);
            only
        };
        // SAFETY: as above.
        if unsafe { libc::CPU_ISSET(processor, &all) } {
            // SAFETY: no preconditions.
            let there = set_affinity(&only) && unsafe { libc::sched_getcpu() } == processor as libc::c_int;
            visited += libc::c_int::from(there);
            missed |= !there;
        }
    }
    // Back, also if one could not be visited.
    (set_affinity(&mine) && !missed).then_some(visited)
}

#[cfg(not(target_os = "linux"))]
fn visit_processors() -> Option<libc::c_int> {
    None
}

/// All processors that threads of the process may run on. A thread that begins meanwhile begins with a switch to it.
#[cfg(target_os = "linux")]
fn masks_of_all() -> Option<libc::cpu_set_t> {
    // SAFETY: plain numbers.
    let mut all: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let thread = thread.ok()?.file_name().to_str()?.parse().ok()?;
        // One that has ended has no mask any more.
        let Some(mask) = affinity(thread) else { continue };
        for processor in 0..libc::CPU_SETSIZE as usize {
            // SAFETY: numbers within the sets.
            unsafe {
                if libc::CPU_ISSET(processor, &mask) {
                    libc::CPU_SET(processor, &mut all);
                }
            }
        }
    }
    Some(all)
}

/// A thread's mask; 0 is the calling one.
#[cfg(target_os = "linux")]
fn affinity(thread: libc::pid_t) -> Option<libc::cpu_set_t> {
    // SAFETY: plain numbers; the pointer outlives the call.
    unsafe {
        let mut mask: libc::cpu_set_t = std::mem::zeroed();
        (libc::sched_getaffinity(thread, size_of_val(&mask), &raw mut mask) == 0).then_some(mask)
    }
}

/// The calling thread's.
#[cfg(target_os = "linux")]
fn set_affinity(mask: &libc::cpu_set_t) -> bool {
    // SAFETY: the pointer outlives the call.
    unsafe { libc::sched_setaffinity(0, size_of_val(mask), mask) == 0 }
}

/// As [`heavy`], also where there may be no runtime yet: a thread that does not see `REGISTERED` would leave the system
/// call out, while one that sees it leaves the fence out.
pub(crate) fn heavy_registered() {
    if !MODELS {
        register();
    }
    heavy();
}

#[cfg(all(test, target_os = "linux", not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn each_processor_is_visited_and_the_mask_is_as_before() {
        let (mine, all) = (affinity(0).unwrap(), masks_of_all().unwrap());
        // SAFETY: looks at sets.
        unsafe {
            assert!(libc::CPU_COUNT(&all) > 0);
            assert_eq!(visit_processors(), Some(libc::CPU_COUNT(&all)));
            assert!(libc::CPU_EQUAL(&mine, &affinity(0).unwrap()));
        }
    }
}
