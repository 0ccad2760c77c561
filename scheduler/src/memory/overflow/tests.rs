//! Overflows in child processes, and what the report says.

use super::*;
use crate::base::child;
use crate::memory::{Slot, StackClass, reserve, take};
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::thread;

fn current() -> libc::stack_t {
    // SAFETY: all-zero is a valid stack_t, and it outlives the call.
    unsafe {
        let mut stack: libc::stack_t = mem::zeroed();
        assert_eq!(libc::sigaltstack(ptr::null(), &raw mut stack), 0);
        stack
    }
}

fn disable() {
    let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    // SAFETY: `none` outlives the call.
    assert_eq!(unsafe { libc::sigaltstack(&raw const none, ptr::null_mut()) }, 0);
}

fn slot() -> Slot {
    let class = StackClass::of_slot(256 << 10);
    reserve(class, 1).expect("reserve");
    take(class).expect("take")
}

fn write_to(address: usize) {
    // SAFETY: none: this is the fault that is tested, in a process of its own.
    unsafe { ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(1) };
}

fn set_action(action: usize, flags: libc::c_int) {
    // SAFETY: all-zero is a valid sigaction; the handlers below have the signatures the flags promise.
    unsafe {
        let mut new: libc::sigaction = mem::zeroed();
        new.sa_sigaction = action;
        new.sa_flags = flags | libc::SA_ONSTACK;
        SIGNALS.iter().for_each(|&s| assert_eq!(libc::sigaction(s, &raw const new, ptr::null_mut()), 0));
    }
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn describe(top: usize, out: &mut Report) {
    let on_alt_stack = current().ss_flags & libc::SS_ONSTACK != 0;
    out.write_usize(1_234_567_890);
    out.write_str(if on_alt_stack { " \"deep\"" } else { " (not on the alternate stack)" });
    out.write_str(if slot_of(top - 1).is_some_and(|s| s.top == top) { " ok" } else { " bad top" });
    // Longer than the buffer: nothing is cut off.
    (0..100).for_each(|_| out.write_str(" spawned"));
}

#[test]
fn an_overflow_is_described_and_aborts() {
    const NAME: &str = "an_overflow_is_described_and_aborts";
    if child::is(NAME) {
        // SAFETY: as somebody who ignores SIGABRT.
        unsafe { libc::signal(libc::SIGABRT, libc::SIG_IGN) };
        disable();
        install();
        set_describe(describe);
        let _alt = ensure_alt_stack();
        write_to(slot().base().addr() - 8);
        std::process::exit(0);
    }
    let out = child::run(module_path!(), NAME, &[]);
    assert_eq!(out.status.signal(), Some(libc::SIGABRT), "{out:?}");
    let usable = StackClass::of_slot(256 << 10).usable_size();
    let expected = format!(
        "\ngorun: goroutine 1234567890 \"deep\" ok{} overflowed its stack of {usable} bytes; ",
        " spawned".repeat(100)
    );
    let text = stderr(&out);
    assert!(text.contains(&expected), "{text}");
    for word in ["Builder::stack_size", "GORUN_STACK_SIZE", "gorun::grow\n"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn one_overflow_of_many_is_reported() {
    const NAME: &str = "one_overflow_of_many_is_reported";
    fn linger(_: usize, out: &mut Report) {
        out.write_str("entered\n");
        out.flush();
        // Time for the others to get here, if they could.
        for _ in 0..1000 {
            // SAFETY: sched_yield has no preconditions.
            unsafe { libc::sched_yield() };
        }
    }
    if child::is(NAME) {
        install();
        set_describe(linger);
        let together = std::sync::Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _alt = ensure_alt_stack();
                    let slot = slot();
                    together.wait();
                    write_to(slot.limit().addr());
                });
            }
        });
        std::process::exit(0);
    }
    let out = child::run(module_path!(), NAME, &[]);
    assert_eq!(out.status.signal(), Some(libc::SIGABRT), "{out:?}");
    assert_eq!(stderr(&out).matches("entered").count(), 1, "{out:?}");
    assert_eq!(stderr(&out).matches("overflowed").count(), 1, "{out:?}");
}

#[test]
fn an_overflow_of_nobody_known_is_reported() {
    const NAME: &str = "an_overflow_of_nobody_known_is_reported";
    if child::is(NAME) {
        install();
        if std::env::var_os("SILENT").is_some() {
            set_describe(|_, _| {});
        }
        let _alt = ensure_alt_stack();
        write_to(slot().limit().addr());
        std::process::exit(0);
    }
    for env in [&[][..], &[("SILENT", "1")]] {
        let out = child::run(module_path!(), NAME, env);
        assert_eq!(out.status.signal(), Some(libc::SIGABRT), "{out:?}");
        assert!(stderr(&out).contains("goroutine (unknown) overflowed"), "{out:?}");
    }
}

extern "C" fn three(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel's siginfo, passed on; _exit has no preconditions.
    unsafe {
        let good = signal == libc::SIGSEGV && (*info).si_addr().addr() == 64 && !context.is_null();
        libc::_exit(if good { 43 } else { 1 })
    }
}

extern "C" fn one(signal: libc::c_int) {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(if signal == libc::SIGBUS { 41 } else { 1 }) }
}

/// Each case: the action before ours, what then happens, how the process is to end.
fn other_faults(case: &str) {
    let raise = |signal| {
        // SAFETY: raise has no preconditions.
        unsafe { libc::raise(signal) }
    };
    match case {
        "std" => {}
        "three" => set_action(three as *const () as usize, libc::SA_SIGINFO),
        "one" => set_action(one as *const () as usize, 0),
        "ignored" | "ignored fault" => set_action(libc::SIG_IGN, 0),
        _ => set_action(libc::SIG_DFL, 0),
    }
    install();
    let _alt = ensure_alt_stack();
    match case {
        "sent" | "one" => assert_eq!(raise(libc::SIGBUS), 0),
        "ignored" => {
            raise(libc::SIGSEGV);
            raise(libc::SIGSEGV);
            std::process::exit(40);
        }
        "on a stack" => {
            let base = slot().base();
            // SAFETY: the slot's own page, in a process that ends here.
            assert_eq!(unsafe { libc::mprotect(base.cast(), page_size(), libc::PROT_NONE) }, 0);
            write_to(base.addr());
        }
        _ => write_to(64),
    }
    std::process::exit(0);
}

#[test]
fn other_faults_go_to_whoever_handled_them_before() {
    const NAME: &str = "other_faults_go_to_whoever_handled_them_before";
    if child::is(NAME) {
        return other_faults(&std::env::var("CASE").expect("a case"));
    }
    for (case, code, signal) in [
        ("std", None, Some(libc::SIGSEGV)),
        ("default", None, Some(libc::SIGSEGV)),
        ("on a stack", None, Some(libc::SIGSEGV)),
        ("sent", None, Some(libc::SIGBUS)),
        ("three", Some(43), None),
        ("one", Some(41), None),
        ("ignored", Some(40), None),
        ("ignored fault", None, Some(libc::SIGSEGV)),
    ] {
        let out = child::run(module_path!(), NAME, &[("CASE", case)]);
        assert_eq!((out.status.code(), out.status.signal()), (code, signal), "{case}: {out:?}");
        assert!(!stderr(&out).contains("gorun:"), "{case}: {out:?}");
    }
}

#[test]
fn a_thread_without_an_alternate_stack_gets_one_while_the_guard_lives() {
    let check = || {
        disable();
        let alt = ensure_alt_stack();
        let inside = current();
        assert_eq!(inside.ss_flags, 0);
        assert_eq!(inside.ss_size, ALT_STACK.next_multiple_of(page_size()));
        {
            // A second one finds the first good enough.
            let _second = ensure_alt_stack();
            assert_eq!(current().ss_sp, inside.ss_sp);
        }
        assert_eq!(current().ss_sp, inside.ss_sp);
        drop(alt);
        assert_ne!(current().ss_flags & libc::SS_DISABLE, 0);
    };
    thread::spawn(check).join().expect("no panic");
}

#[test]
fn a_small_alternate_stack_is_replaced_and_comes_back() {
    let check = || {
        let mut small = vec![0u8; SMALLEST_ALT_STACK - 1];
        let theirs = libc::stack_t { ss_sp: small.as_mut_ptr().cast(), ss_flags: 0, ss_size: small.len() };
        // SAFETY: the memory is in force only until `disable` below.
        assert_eq!(unsafe { libc::sigaltstack(&raw const theirs, ptr::null_mut()) }, 0);
        let alt = ensure_alt_stack();
        assert_ne!(current().ss_sp, theirs.ss_sp);
        drop(alt);
        assert_eq!(current().ss_sp, theirs.ss_sp);
        disable();
    };
    thread::spawn(check).join().expect("no panic");
}
