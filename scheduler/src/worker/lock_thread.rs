//! A goroutine that keeps its OS thread to itself: Go's `runtime.LockOSThread`.
//!
//! Called by goroutines, through `gorun::lock_os_thread`. The worker on whose thread the goroutine runs gives its queues
//! away, another worker is brought in for it (`spares`), and from then on it runs this goroutine only, and such pinned
//! ones as had begun on this thread and can go nowhere else.
//!
//! **O1.** A hold is let go by the goroutine that took it, and by nobody else. `OsThreadLock` is not `Send`, but safe code
//! can still leave one behind in a std thread-local that pinned goroutines share, where a neighbour drops it, or the
//! thread's end does, perhaps after its goroutine has ended and its block has become another's. So each lock carries its
//! goroutine's id, which is never used again; a lock that is dropped elsewhere counts as forgotten.
//!
//! While it is locked, an isolated goroutine has its thread's id, and its robust mutexes are registered with the kernel
//! (`isolated::thread_ids`).

use crate::base::unwind::unwind_aborted;
use crate::claim::claim_word::Token;
use crate::config::ThreadLocals;
use crate::goroutine::current;
use crate::goroutine::suspend::set_locked;
use crate::processor::core::Processor;
use crate::wait::park::{Blocker, WaitReason};
use crate::worker::replacement;
use std::marker::PhantomData;
use std::ptr;
use std::time::{Duration, Instant};

/// The calling goroutine's hold on its OS thread; dropping it lets go. Holds nest.
///
/// A goroutine that ends while it still has one (forgotten on purpose) takes its thread along: nobody else gets a
/// thread whose state in the kernel may have been changed. A lock that is dropped by anybody but the goroutine that took it
/// (out of a std thread-local that pinned goroutines share, for instance) counts as forgotten.
#[derive(Debug)]
#[must_use = "the thread is let go when this is dropped"]
pub struct OsThreadLock {
    /// O1: the id of the goroutine whose hold it is; 0 on a plain thread, which is no goroutine's.
    holder: u64,
    /// It belongs to the goroutine.
    _not_send: PhantomData<*mut ()>,
}

/// Keeps the calling goroutine on the OS thread it runs on, and others off it. On a plain thread, which is its own
/// already, this does nothing.
///
/// The others need a thread in its place. While the system refuses that, the call waits until it can be had, and the others
/// go on meanwhile; a line on standard error says so once. (These threads do not count as spare ones.)
///
/// # Panics
/// When a goroutine has 65,535 of them.
///
/// ```
#[doc = include_str!("../examples.txt")]
/// join(&go(|| {
///     let thread = || std::fs::read_link("/proc/thread-self").ok();
///     let _locked = lock_os_thread();
///     let before = thread();
///     yield_now();
///     assert_eq!(thread(), before);
/// }));
/// ```
pub fn lock_os_thread() -> OsThreadLock {
    let mut holder = 0;
    if let (Some(g), Some(processor)) = (current::goroutine(), Processor::current()) {
        let locks = g.locks.get().checked_add(1).expect("fewer than 65,536 locks of one thread");
        // This may suspend: the processor is asked for anew (R1).
        let processor = if locks == 1 { have_replacement().unwrap_or(processor) } else { processor };
        g.locks.set(locks);
        if locks == 1 {
            g.home.set(processor.seat());
            set_locked(g, true);
            let was_aside = processor.is_aside();
            processor.lockers.set(processor.lockers.get() + 1);
            if !was_aside {
                step_aside(processor);
            }
        }
        holder = g.locals.id();
    }
    OsThreadLock { holder, _not_send: PhantomData }
}

/// How long a goroutine waits before it asks again for a thread in its place.
const RETRY: Duration = Duration::from_millis(10);

/// Sees to it that there is a worker more for the others, and returns the current processor. Before the thread is locked: so
/// while there is none the caller waits like any goroutine, and its worker goes on with the others.
fn have_replacement<'a>() -> Option<&'a Processor> {
    let processor = loop {
        let processor = Processor::current()?;
        if processor.is_aside() {
            // Another pinned goroutine's, which has locked it meanwhile.
            break processor;
        }
        let shared = &processor.shared;
        shared.spares.come_back(processor.seat_ref());
        let Err(refused) = shared.spares.bring_in_for_lock(shared) else { break processor };
        replacement::tell_of_lock(shared, &refused);
        let blocker = Blocker::armed();
        if blocker.park(WaitReason::Other, Some(Instant::now() + RETRY)) == Token::ABORT {
            unwind_aborted();
        }
    };
    Some(processor)
}

fn step_aside(processor: &Processor) {
    processor.give_away();
    let (seat, spares) = (processor.seat_ref(), &processor.shared.spares);
    spares.come_back(seat);
    // As if the worker were stuck: what remains on its seat is for others to look after.
    spares.lend();
    spares.set_aside(seat);
}

impl Drop for OsThreadLock {
    fn drop(&mut self) {
        // O1.
        let holder = current::goroutine().filter(|g| g.locals.id() == self.holder);
        if let (Some(g), Some(processor)) = (holder, Processor::current()) {
            g.locks.set(g.locks.get() - 1);
            if g.locks.get() == 0 {
                set_locked(g, false);
                if g.mode.get() == ThreadLocals::Isolated {
                    g.home.set(ptr::null());
                }
                processor.lockers.set(processor.lockers.get() - 1);
                if !processor.is_aside() {
                    come_back(processor);
                }
            }
        }
    }
}

/// Our worker counts again, and looks after its seat; the one that was brought in may be one too many, which the worker
/// sees when it next looks (`Spares::take_excess`).
fn come_back(processor: &Processor) {
    processor.shared.spares.take_back();
    let _was = processor.seat_ref().set_unattended(false);
    // It may sleep, as all that counted did.
    processor.shared.wake_monitor();
}
