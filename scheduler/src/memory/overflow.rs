//! What happens when a goroutine overflows its stack: a report on standard error that says which one and what
//! to do, then abort. Every other fault goes to whoever handled it before.
//!
//! Called by the runtime's start-up ([`install`], [`set_describe`]) and by each worker thread
//! ([`ensure_alt_stack`]); the kernel calls `on_fault`.
//!
//! * **O1, async-signal-safe.** Between the fault and the abort nothing allocates, locks, formats or touches a
//!   thread-local. This binds the hook of [`set_describe`] too.
//! * **O2, one report.** The first overflow reports; any other thread's waits for the end of the process.
//! * **O3, a good neighbour.** A fault outside our guard pages is handled as if we were not there, whatever
//!   the previous action was: default, ignored, a handler of one argument or of three (std's, a JIT's, a
//!   crash reporter's).

use super::arena::slot_of;
use super::page::page_size;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Once, OnceLock};
use std::{mem, ptr};

/// Alternate stacks smaller than this are replaced. The kernel's frame alone can take 11 KiB (AMX); but a library that asks
/// for more than it finds (wasmtime: 256 KiB) puts its own in force and frees it with the goroutine's thread-locals, while it is
/// still the worker's. Only what is touched takes memory.
const SMALLEST_ALT_STACK: usize = 512 << 10;
const ALT_STACK: usize = 512 << 10;

/// Writes the words after "goroutine " that tell the goroutine on the stack with this top: id, name, where it
/// was spawned; or nothing, if there is none. Bound by O1.
pub(crate) type Describe = fn(slot_top: usize, out: &mut Report);

/// The hook, as the address of a [`Describe`]; null = none.
static DESCRIBE: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());
/// The actions before ours. Set before ours are in force, read by the handler.
static PREVIOUS: [OnceLock<libc::sigaction>; 2] = [OnceLock::new(), OnceLock::new()];
const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Sets who describes goroutines in reports.
pub(crate) fn set_describe(hook: Describe) {
    // Release: pairs with the Acquire in `report_and_abort`.
    DESCRIBE.store(hook as *mut (), Ordering::Release);
}

/// Installs the handlers, once for the process. If the system refuses, an overflow still ends the process, by
/// SIGSEGV and without a report.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (signal, slot) in SIGNALS.into_iter().zip(&PREVIOUS) {
            // SAFETY: all-zero is a valid sigaction (SIG_DFL, no flags, empty mask) and both outlive their calls.
            // `on_fault` has the signature that SA_SIGINFO promises and obeys O1.
            unsafe {
                let mut previous: libc::sigaction = mem::zeroed();
                if libc::sigaction(signal, ptr::null(), &raw mut previous) != 0 {
                    continue;
                }
                let previous = slot.get_or_init(|| previous);
                let mut ours = *previous;
                ours.sa_sigaction = on_fault as *const () as usize;
                ours.sa_flags &= libc::SA_NODEFER | libc::SA_RESTART;
                ours.sa_flags |= libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigaction(signal, &raw const ours, ptr::null_mut());
            }
        }
    });
}

extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo; the address is read of faults only (code > 0).
    let fault = unsafe { ((*info).si_code > 0).then(|| (*info).si_addr().addr()) };
    if let Some(slot) = fault.and_then(slot_of).filter(|slot| slot.in_guard) {
        report_and_abort(slot.top, slot.class.usable_size());
    }
    pass_on(signal, info, context, fault.is_some());
}

/// Does what the previous action would have done (O3).
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void, is_fault: bool) {
    let which = usize::from(signal == libc::SIGBUS);
    let (action, flags) = PREVIOUS[which].get().map_or((libc::SIG_DFL, 0), |p| (p.sa_sigaction, p.sa_flags));
    match action {
        // As the kernel does it: only a signal that somebody sent can be ignored, a fault cannot.
        libc::SIG_IGN if !is_fault => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            restore_default(signal);
            // A fault happens again on return; what was sent has to be sent again, and waits for the return.
            if !is_fault {
                // SAFETY: raise has no preconditions.
                unsafe { libc::raise(signal) };
            }
        }
        handler if flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: a handler installed with SA_SIGINFO has this signature; it gets the kernel's own arguments.
            unsafe {
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    mem::transmute(handler);
                handler(signal, info, context);
            }
        }
        handler => {
            // SAFETY: a handler installed without SA_SIGINFO has this signature.
            unsafe {
                let handler: extern "C" fn(libc::c_int) = mem::transmute(handler);
                handler(signal);
            }
        }
    }
}

fn restore_default(signal: libc::c_int) {
    // SAFETY: all-zero is a valid sigaction: SIG_DFL, no flags, an empty mask.
    unsafe {
        let default: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, &raw const default, ptr::null_mut());
    }
}

#[cold]
fn report_and_abort(slot_top: usize, usable: usize) -> ! {
    static REPORTING: AtomicBool = AtomicBool::new(false);
    // Relaxed: only the winner matters; nothing is handed over (O2).
    if REPORTING.swap(true, Ordering::Relaxed) {
        loop {
            // SAFETY: pause has no preconditions.
            unsafe { libc::pause() };
        }
    }
    let mut out = Report::new();
    out.write_str("\ngorun: goroutine ");
    // Acquire: pairs with the Release in `set_describe`.
    let hook = DESCRIBE.load(Ordering::Acquire);
    let before = out.len;
    if !hook.is_null() {
        // SAFETY: `set_describe` stored a `Describe`, and nothing else stores but null.
        let hook = unsafe { mem::transmute::<*mut (), Describe>(hook) };
        hook(slot_top, &mut out);
    }
    if out.len == before {
        out.write_str("(unknown)");
    }
    out.write_str(" overflowed its stack of ");
    out.write_usize(usable);
    out.write_str(
        " bytes; if the recursion is not endless, raise it with Builder::stack_size, GORUN_STACK_SIZE, \
         or run the deep part in gorun::grow\n",
    );
    out.flush();
    restore_default(libc::SIGABRT);
    // SAFETY: abort has no preconditions.
    unsafe { libc::abort() }
}

/// A writer to standard error for signal handlers (O1): a buffer that is written out when it is full.
#[derive(Debug)]
pub(crate) struct Report {
    buffer: [u8; 512],
    len: usize,
}

impl Report {
    fn new() -> Report {
        Report { buffer: [0; 512], len: 0 }
    }

    /// Writes text.
    pub(crate) fn write_str(&mut self, text: &str) {
        for &byte in text.as_bytes() {
            if self.len == self.buffer.len() {
                self.flush();
            }
            self.buffer[self.len] = byte;
            self.len += 1;
        }
    }

    /// Writes a number in decimal.
    pub(crate) fn write_usize(&mut self, number: usize) {
        if number >= 10 {
            self.write_usize(number / 10);
        }
        const DIGITS: &str = "0123456789";
        let digit = number % 10;
        self.write_str(&DIGITS[digit..=digit]);
    }

    fn flush(&mut self) {
        let mut rest = &self.buffer[..self.len];
        while !rest.is_empty() {
            // SAFETY: `rest` is initialised memory of this length.
            let written = unsafe { libc::write(libc::STDERR_FILENO, rest.as_ptr().cast(), rest.len()) };
            // Nobody is left to tell that standard error fails.
            let Some(after) = usize::try_from(written).ok().filter(|&n| n > 0) else { break };
            rest = &rest[after..];
        }
        self.len = 0;
    }
}

/// Gives the calling thread an alternate signal stack of its own if it has none or a small one, for as long as
/// the guard lives. Without one, the handler would run on the very stack that overflowed. If there is no memory
/// for it the thread goes on without: then an overflow ends the process by SIGSEGV and without a report.
pub(crate) fn ensure_alt_stack() -> AltStack {
    let mut guard = AltStack { mapping: None, _this_thread: PhantomData };
    let page = page_size();
    let len = ALT_STACK.next_multiple_of(page) + page;
    // SAFETY: all-zero is a valid stack_t, the pointers outlive their calls, and the mapping is fresh, so that
    // nobody else uses its first page. `AltStack` owns it from here and unmaps it only when it is not in force.
    unsafe {
        let mut previous: libc::stack_t = mem::zeroed();
        if libc::sigaltstack(ptr::null(), &raw mut previous) != 0
            || (previous.ss_flags & libc::SS_DISABLE == 0 && previous.ss_size >= SMALLEST_ALT_STACK)
        {
            return guard;
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        let start = libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if start == libc::MAP_FAILED {
            return guard;
        }
        let ours = libc::stack_t { ss_sp: start.byte_add(page), ss_flags: 0, ss_size: len - page };
        if libc::mprotect(start, page, libc::PROT_NONE) != 0 || libc::sigaltstack(&raw const ours, ptr::null_mut()) != 0
        {
            libc::munmap(start, len);
            return guard;
        }
        guard.mapping = Some(Mapping { start, len, usable: ours.ss_sp, previous });
    }
    guard
}

/// The calling thread's alternate signal stack; dropping it restores the previous one.
#[must_use = "the alternate stack goes away with it"]
pub(crate) struct AltStack {
    /// None: the thread had a good one.
    mapping: Option<Mapping>,
    /// An alternate stack is a thread's: not `Send`.
    _this_thread: PhantomData<*mut ()>,
}

struct Mapping {
    start: *mut libc::c_void,
    len: usize,
    usable: *mut libc::c_void,
    previous: libc::stack_t,
}

impl std::fmt::Debug for AltStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AltStack").field("own", &self.mapping.is_some()).finish()
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        let Some(mapping) = self.mapping.take() else { return };
        // SAFETY: the same thread as in `ensure_alt_stack` (not Send), which is not in a handler. Ours is taken
        // out of force before it is unmapped, and if somebody replaced it, theirs stays; if it cannot be taken
        // out, it stays mapped.
        unsafe {
            let mut current: libc::stack_t = mem::zeroed();
            let mut unused = libc::sigaltstack(ptr::null(), &raw mut current) == 0;
            if unused && current.ss_flags & libc::SS_DISABLE == 0 && current.ss_sp == mapping.usable {
                unused = libc::sigaltstack(&raw const mapping.previous, ptr::null_mut()) == 0;
            }
            if unused {
                libc::munmap(mapping.start, mapping.len);
            }
        }
    }
}

#[cfg(test)]
mod tests;
