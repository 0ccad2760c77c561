//! Detects forks: which process this is, and what is made anew in the child.
//!
//! In the child of a `fork` only the thread that called it exists. The workers, the monitors and the blocking pool's
//! threads exist in the parent only, so objects that depend on them are useless: each such object records the process that
//! made it ([`now`]), and process-wide ones are made anew at their first use ([`PerProcess`]). Locks of state that must be
//! consistent in the child are held over the fork (`fork`). Only `fork` itself is detected, not a bare `clone` system call.
//!
//! * **R1.** [`FORKS`] changes in the child's only thread, before `fork` returns there.
//! * **R2.** No fork happens while a thread holds it off: a process-wide initialisation has happened in both parent and
//!   child, or in neither. Holding off nests, also across threads that wait for each other; code that holds it off never
//!   waits for foreign code.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// How many forks lie between the first process that used this and the current one.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// How many hold forks off (R2). Locked while one goes on.
static HOLDING_OFF: Mutex<usize> = Mutex::new(0);
static NOBODY_DOES: Condvar = Condvar::new();

/// The guard of `HOLDING_OFF`, while a fork goes on.
static HELD: AtomicPtr<Held> = AtomicPtr::new(ptr::null_mut());
/// What is done around forks, a `&'static Around`.
static AROUND: AtomicPtr<Around> = AtomicPtr::new(ptr::null_mut());

type Held = MutexGuard<'static, usize>;

/// What other modules do around a fork, on the thread that forks.
#[derive(Debug)]
pub(crate) struct Around {
    pub(crate) before: fn(),
    /// In the parent, or (`true`) in the child.
    pub(crate) after: fn(bool),
}

/// The number of this process: another one after each fork.
///
/// ```
/// let made_in = gorun_scheduler::process();
/// // Later: is this still the process, or a child of it?
/// assert_eq!(gorun_scheduler::process(), made_in);
/// ```
#[inline]
#[must_use]
pub fn process() -> u64 {
    // Relaxed: R1.
    FORKS.load(Ordering::Relaxed)
}

/// Returns true if what was made in `process` belongs to a parent of this one.
#[inline]
pub(crate) fn is_parents(process: u64) -> bool {
    let now = self::process();
    now != 0 && process != now
}

/// Returns true if this process was forked by one that had a runtime.
#[inline]
pub(crate) fn is_forked() -> bool {
    process() != 0
}

/// Has forks noticed from now on, and `around` called.
///
/// # Errors
/// When there is no memory to register that.
pub(crate) fn watch(around: &'static Around) -> io::Result<()> {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    // Not a `Once`: a fork of another thread meanwhile would leave it half done in the child for ever. Acquire and Release:
    // nothing is published but by the registration's own lock.
    if !WATCHED.swap(true, Ordering::AcqRel) {
        // Release: pairs with the Acquire in `before`.
        AROUND.store(ptr::from_ref(around).cast_mut(), Ordering::Release);
        // SAFETY: three functions that do not unwind, and are there for good.
        let code = unsafe { libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) };
        if code != 0 {
            WATCHED.store(false, Ordering::Release); // as above
            return Err(io::Error::from_raw_os_error(code));
        }
    }
    Ok(())
}

// What `Around` does may load another thread-local block (F2 in `tls`): so what touches a thread-local, as guards do when
// they are dropped, is a function of its own.

unsafe extern "C" fn before() {
    if let Some(around) = hold_back() {
        (around.before)();
    }
}

unsafe extern "C" fn after_in_parent() {
    after(false);
}

unsafe extern "C" fn after_in_child() {
    // Relaxed: R1.
    FORKS.fetch_add(1, Ordering::Relaxed);
    after(true);
}

fn after(in_child: bool) {
    if let Some(around) = around() {
        (around.after)(in_child);
    }
    let_go_on();
}

fn around() -> Option<&'static Around> {
    // SAFETY: a `&'static Around`, or null. Acquire: pairs with the Release in `watch`.
    unsafe { AROUND.load(Ordering::Acquire).as_ref() }
}

/// R2.
#[inline(never)]
fn hold_back() -> Option<&'static Around> {
    let mut holding_off = HOLDING_OFF.lock().unwrap_or_else(PoisonError::into_inner);
    while *holding_off > 0 {
        #[expect(clippy::disallowed_methods, reason = "somebody initialises the process: a matter of a millisecond")]
        let woken = NOBODY_DOES.wait(holding_off);
        holding_off = woken.unwrap_or_else(PoisonError::into_inner);
    }
    // Relaxed, here and in `let_go_on`: the same thread, and under the lock.
    HELD.store(Box::into_raw(Box::new(holding_off)), Ordering::Relaxed);
    around()
}

#[inline(never)]
fn let_go_on() {
    let held = HELD.swap(ptr::null_mut(), Ordering::Relaxed); // see `hold_back`
    // SAFETY: made in `hold_back`, on this very thread, and taken once.
    drop(unsafe { Box::from_raw(held) });
}

/// Holds forks off while it lives (R2).
#[derive(Debug)]
pub(crate) struct HoldOff(());

pub(crate) fn hold_off() -> HoldOff {
    *HOLDING_OFF.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    HoldOff(())
}

impl Drop for HoldOff {
    fn drop(&mut self) {
        let mut holding_off = HOLDING_OFF.lock().unwrap_or_else(PoisonError::into_inner);
        *holding_off -= 1;
        if *holding_off == 0 {
            NOBODY_DOES.notify_all();
        }
    }
}

/// As [`OnceLock::get_or_init`], and no fork leaves it half done (R2).
#[inline]
pub(crate) fn once<T>(cell: &OnceLock<T>, init: impl FnOnce() -> T) -> &T {
    match cell.get() {
        Some(value) => value,
        None => init_once(cell, init),
    }
}

#[cold]
#[inline(never)]
fn init_once<T>(cell: &OnceLock<T>, init: impl FnOnce() -> T) -> &T {
    let _held_off = hold_off();
    cell.get_or_init(init)
}

/// A value of each process: in the child of a fork it is made anew, and what the parent had there is let lie, locked or not.
#[derive(Debug)]
pub struct PerProcess<T: 'static>(AtomicPtr<Of<T>>);

#[derive(Debug)]
struct Of<T> {
    process: u64,
    value: T,
}

impl<T: Send + Sync> PerProcess<T> {
    /// Not made yet.
    ///
    /// ```
    /// static NOT_MADE: gorun_scheduler::PerProcess<String> = gorun_scheduler::PerProcess::new();
    /// ```
    #[must_use]
    pub const fn new() -> PerProcess<T> {
        PerProcess(AtomicPtr::new(ptr::null_mut()))
    }

    /// This process's. If several threads make one at once, one of those is it, and the others are dropped.
    ///
    /// ```
    /// use gorun_scheduler::PerProcess;
    /// use std::sync::Mutex;
    /// static NAMES: PerProcess<Mutex<Vec<&str>>> = PerProcess::new();
    /// NAMES.get(Mutex::default).lock().unwrap().push("one");
    /// assert_eq!(*NAMES.get(Mutex::default).lock().unwrap(), ["one"]);
    /// ```
    pub fn get(&'static self, make: impl FnOnce() -> T) -> &'static T {
        // Acquire: pairs with the exchange below.
        let found = self.0.load(Ordering::Acquire);
        // SAFETY: null, or leaked below.
        match unsafe { found.as_ref() } {
            Some(of) if of.process == process() => &of.value,
            _ => self.make(found, make),
        }
    }

    #[cold]
    fn make(&'static self, found: *mut Of<T>, make: impl FnOnce() -> T) -> &'static T {
        let made = Box::into_raw(Box::new(Of { process: process(), value: make() }));
        // Release: the value, for `get`. Acquire, both: somebody else's.
        let of = match self.0.compare_exchange(found, made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => made,
            Err(others) => {
                // SAFETY: ours, and never published.
                drop(unsafe { Box::from_raw(made) });
                others
            }
        };
        // SAFETY: leaked, by us or by whoever won; of this process, in which nobody replaces it.
        unsafe { &(*of).value }
    }
}

impl<T: Send + Sync> Default for PerProcess<T> {
    fn default() -> PerProcess<T> {
        PerProcess::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    mod a_fork {
        use super::*;
        use crate::base::child;
        use std::sync::atomic::AtomicI32;
        use std::thread;

        static INITIALISED: AtomicBool = AtomicBool::new(false);
        static FORKS_AT: AtomicI32 = AtomicI32::new(0);
        /// Set when the fork goes on: 2 if the initialisation was over, or else 1.
        static GOES_ON: AtomicI32 = AtomicI32::new(0);

        fn before() {
            GOES_ON.store(1 + i32::from(INITIALISED.load(Ordering::SeqCst)), Ordering::SeqCst);
        }

        /// Returns true if the thread waits in the kernel.
        fn waits(thread: i32) -> bool {
            let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
            stat.rsplit_once(") ").unwrap().1.starts_with('S')
        }

        #[test]
        fn waits_for_an_initialisation_that_is_under_way() {
            if !child::is("waits_for_an_initialisation_that_is_under_way") {
                return child::passes(module_path!(), "waits_for_an_initialisation_that_is_under_way", &[]);
            }
            // SAFETY: no preconditions. Ends a child that hangs.
            unsafe { libc::alarm(60) };
            watch(&Around { before, after: |_| () }).unwrap();
            static CELL: OnceLock<u8> = OnceLock::new();
            thread::scope(|s| {
                once(&CELL, || {
                    s.spawn(|| {
                        // SAFETY: the child does nothing but end.
                        unsafe {
                            FORKS_AT.store(libc::gettid(), Ordering::SeqCst);
                            match libc::fork() {
                                0 => libc::_exit(0),
                                child => assert_eq!(libc::waitpid(child, ptr::null_mut(), 0), child),
                            }
                        }
                    });
                    let forks = || FORKS_AT.load(Ordering::SeqCst);
                    while GOES_ON.load(Ordering::SeqCst) == 0 && (forks() == 0 || !waits(forks())) {
                        thread::yield_now();
                    }
                    // Holding off nests while a fork waits, also in helper threads.
                    thread::scope(|s| s.spawn(|| *once(&OnceLock::new(), || 1)).join().unwrap());
                    INITIALISED.store(true, Ordering::SeqCst);
                    3
                });
            });
            assert_eq!(GOES_ON.load(Ordering::SeqCst), 2, "the fork came in the middle of an initialisation");
        }
    }

    #[test]
    fn one_of_several_that_make_it_is_it() {
        static VALUE: PerProcess<usize> = PerProcess::new();
        let all: Vec<usize> = std::thread::scope(|s| {
            let threads: Vec<_> = (0..8).map(|n| s.spawn(move || *VALUE.get(|| n))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(all.iter().all(|n| *n == all[0]), "{all:?}");
    }
}
