//! `setuid` and its kin, which glibc makes every thread execute: by a signal, whose handler must find its thread.
//!
//! Linux changes one thread's credentials only. So glibc marks all threads on its lists, signals each (`SIGSETXID`), and
//! signals again those whose mark is still there; the handler takes the mark off the *current* control block. In a
//! goroutine that is the goroutine's, the mark is on the worker's, and `setuid` would go round for ever, wherever it was
//! called (in the child of a `Command` with a `uid`, too). So glibc's handler is called from one that loads the worker's
//! own block for that time. Installed once, by [`layout`](super::availability::layout).

use super::block::home_of;
use super::error::Unsupported;
use super::fsbase;
use std::ffi::{c_int, c_void};
use std::io::Error;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// glibc's second private signal (`SIGRTMIN` of the kernel is 32); its own `sigaction` refuses it.
const SIGSETXID: c_int = 33;
/// Bytes of the kernel's set of signals.
const SET: usize = 8;

/// The kernel's `struct sigaction`.
#[repr(C)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

type Handler = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// glibc's handler.
static ORIGINAL: AtomicUsize = AtomicUsize::new(0);

/// After a first thread was made: that is when glibc installs its handler.
pub(super) fn install() -> Result<(), Unsupported> {
    let mut action = Action { handler: 0, flags: 0, restorer: 0, mask: 0 };
    call(ptr::null(), &raw mut action)?;
    let usual = [libc::SIG_DFL, libc::SIG_IGN].contains(&action.handler);
    if usual || action.flags & libc::SA_SIGINFO as u64 == 0 {
        return Err(Unsupported::new("glibc has no handler for the signal that setuid is spread by"));
    }
    // Release: pairs with the Acquire in `handle`.
    ORIGINAL.store(action.handler, Ordering::Release);
    action.handler = handle as *const () as usize;
    call(&raw const action, ptr::null_mut())
}

fn call(new: *const Action, old: *mut Action) -> Result<(), Unsupported> {
    // SAFETY: the kernel's own layout; `new` has the handler of this file and what else glibc had given.
    match unsafe { libc::syscall(libc::SYS_rt_sigaction, SIGSETXID, new, old, SET) } {
        0 => Ok(()),
        _ => Err(Unsupported::new(format!("the action of signal {SIGSETXID}: {}", Error::last_os_error()))),
    }
}

/// F2: touches no thread-local, and what it calls is a function of its own. It may come between any two instructions,
/// the worker's included; F1 holds, because whatever is loaded is this thread's, and its own block always is.
unsafe extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // Acquire: pairs with the Release in `install`.
    // SAFETY: the address of glibc's handler, which takes three arguments (SA_SIGINFO).
    let original = unsafe { mem::transmute::<usize, Handler>(ORIGINAL.load(Ordering::Acquire)) };
    let mine = fsbase::current();
    match home_of(mine) {
        // SAFETY: see above. malloc's words stay where they are (F4): a signal handler allocates nothing.
        Some(home) => unsafe {
            fsbase::load(home);
            original(signal, info, context);
            fsbase::load(mine);
        },
        // SAFETY: as the kernel calls it.
        None => unsafe { original(signal, info, context) },
    }
}
