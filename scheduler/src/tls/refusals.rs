//! Tests that inject each refusal of the system during the start of isolation or the making of a block: each has its own
//! error, leaves nothing behind, and the next attempt succeeds.
//!
//! A seccomp filter refuses system calls to one thread, and ends with that thread.

#![expect(clippy::print_stderr, reason = "for who reads the log of a test")]

use super::availability::layout;
use super::error::{Failure, Refusal, Unsupported};
use super::layout::Layout;
use super::verdict::Verdict;
use super::{explore, modules, self_test, setxid};
use crate::base::atomics::Lock;
use crate::base::child;
use crate::tls::block::Block;
use std::ffi::c_void;
use std::io::{Error, ErrorKind};
use std::sync::OnceLock;
use std::time::Duration;

/// A system call that fails: its number, the error, and conditions on its arguments (which one, mask, value).
struct Rule {
    number: libc::c_long,
    error: i32,
    arguments: &'static [(u32, i32, i32)],
}

/// Memory for a stack, of this protection.
const fn stack_memory(protection: &'static [(u32, i32, i32)]) -> Rule {
    Rule { number: libc::SYS_mmap, error: libc::ENOMEM, arguments: protection }
}

const STACK: i32 = libc::MAP_STACK;
/// Ours is writable at once, glibc's is not.
const OUR_STACK: Rule = stack_memory(&[(3, STACK, STACK), (2, libc::PROT_WRITE, libc::PROT_WRITE)]);
const A_THREADS_STACK: Rule = stack_memory(&[(3, STACK, STACK), (2, libc::PROT_WRITE, 0)]);
const CLONE: Rule = Rule { number: libc::SYS_clone, error: libc::EAGAIN, arguments: &[] };
const CLONE3: Rule = Rule { number: libc::SYS_clone3, error: libc::EAGAIN, arguments: &[] };
const AFFINITY: Rule = Rule { number: libc::SYS_sched_setaffinity, error: libc::EPERM, arguments: &[] };
const SIGACTION: Rule = Rule { number: libc::SYS_rt_sigaction, error: libc::EPERM, arguments: &[] };

/// Runs `f` on a thread to which the kernel refuses these.
fn refused<T: Send>(rules: &[Rule], f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let body = || {
            install(rules);
            f()
        };
        scope.spawn(body).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn install(rules: &[Rule]) {
    let plain = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |offset| plain(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let mut program = Vec::new();
    for rule in rules {
        let mut this = vec![load(0)];
        let mut unequal = vec![(1, rule.number as u32)];
        this.push(plain(0, 0));
        for &(which, mask, value) in rule.arguments {
            // The low half of an argument, after the number, the architecture and the address of the call.
            this.push(load(16 + 8 * which));
            this.push(plain(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask as u32));
            unequal.push((this.len(), value as u32));
            this.push(plain(0, 0));
        }
        this.push(plain(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | rule.error as u32));
        for (at, value) in unequal {
            let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
            this[at] = libc::sock_filter { code, jt: 0, jf: (this.len() - at - 1) as u8, k: value };
        }
        program.extend(this);
    }
    program.push(plain(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a filter that outlives the call, for the calling thread only.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}

/// The real one, if it can be had where these tests run; in `.ci/run` it can.
fn real() -> Option<&'static Layout> {
    let skipped = |refusal: &_| {
        assert!(std::env::var_os("GORUN_TEST_COMPLETE").is_none(), "{refusal:?}");
        eprintln!("SKIPPED: {refusal:?}");
    };
    layout().inspect_err(skipped).ok()
}

#[track_caller]
fn is_refusal<T: std::fmt::Debug>(result: Result<T, Failure>, what: &str, kind: ErrorKind) {
    match result {
        Err(Failure::Refused(error)) => {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().starts_with(what), "{error}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn memory_and_threads_for_the_exploration() {
    if real().is_none() {
        return;
    }
    let what = "no memory for the thread that examines thread-locals";
    is_refusal(refused(&[OUR_STACK], explore::explore), what, ErrorKind::OutOfMemory);
    let what = "no thread to examine thread-locals";
    is_refusal(refused(&[CLONE, CLONE3], explore::explore), what, ErrorKind::WouldBlock);
    assert!(explore::explore().is_ok());
}

#[test]
fn memory_threads_and_processors_for_the_self_test() {
    // In a process of its own: glibc would take the stack of a thread of another test's that has ended, and ask for none.
    let name = "memory_threads_and_processors_for_the_self_test";
    if !child::is(name) {
        return child::passes(module_path!(), name, &[]);
    }
    let Some(layout) = real() else { return };
    for rules in [&[A_THREADS_STACK][..], &[CLONE, CLONE3]] {
        let outcome = refused(rules, || self_test::run(layout));
        is_refusal(outcome, "no thread for the self-test", ErrorKind::WouldBlock);
    }
    is_refusal(self_test::run(&without_memory(layout)), "no thread-local block", ErrorKind::OutOfMemory);
    assert!(refused(&[AFFINITY], || self_test::run(layout)).is_ok(), "the processor need not be chosen");
    assert!(self_test::run(layout).is_ok());
}

/// As if `_dl_allocate_tls` had no memory.
fn without_memory(layout: &Layout) -> Layout {
    unsafe extern "C" fn nothing(_: *mut c_void) -> *mut c_void {
        std::ptr::null_mut()
    }
    let mut layout = layout.clone();
    layout.symbols.allocate_tls = nothing;
    layout
}

#[test]
fn the_handler_of_setuid() {
    if real().is_none() {
        return;
    }
    match refused(&[SIGACTION], setxid::install) {
        Err(reason) => assert!(reason.to_string().contains("signal 33"), "{reason}"),
        Ok(()) => panic!("it was refused"),
    }
}

#[test]
fn a_refusal_is_tried_again_and_is_no_verdict() {
    let Some(layout) = real() else { return };
    let verdict: &Verdict = Box::leak(Box::new(Verdict { known: OnceLock::new(), one_at_a_time: Lock::new(()) }));
    let refusal = || Err(Failure::refused("nothing", &Error::from_raw_os_error(libc::EAGAIN)));
    let (mut tries, paused) = (0, std::cell::Cell::new(Duration::ZERO));
    let pause = |time| paused.set(paused.get() + time);
    let refused = verdict.get(
        || {
            tries += 1;
            refusal()
        },
        pause,
    );
    let Err(Refusal::NotNow(error)) = refused else { panic!("{refused:?}") };
    assert_eq!((tries, paused.get()), (21, Duration::from_millis(210)));
    assert_eq!(error.to_string(), format!("nothing: {}", Error::from_raw_os_error(libc::EAGAIN)));
    // The next call succeeds at its second attempt, and everybody knows.
    let mut answers = [Ok(layout.clone()), refusal()].into_iter().rev();
    assert!(verdict.get(|| answers.next().expect("one of two"), pause).is_ok());
    assert_eq!(paused.get(), Duration::from_millis(211));
    assert!(verdict.get(|| unreachable!("known"), pause).is_ok());
}

#[test]
fn a_verdict_stays() {
    let verdict: &Verdict = Box::leak(Box::new(Verdict { known: OnceLock::new(), one_at_a_time: Lock::new(()) }));
    let pause = |_| unreachable!("nothing was refused");
    for _ in 0..2 {
        let mut first = Some(Err(Unsupported::new("because").into()));
        let answer = verdict.get(|| first.take().expect("asked once"), pause);
        assert!(matches!(answer, Err(Refusal::Never(reason)) if reason.to_string() == "because"));
    }
}

#[test]
fn a_block_to_list_the_libraries_with() {
    let Some(layout) = real() else { return };
    // One of libc's own that nobody has loaded.
    // SAFETY: a name with its terminator.
    let library = unsafe { libc::dlopen(c"libnss_compat.so.2".as_ptr(), libc::RTLD_NOW) };
    if library.is_null() {
        assert!(std::env::var_os("GORUN_TEST_COMPLETE").is_none(), "no library to load");
        return eprintln!("SKIPPED: no library to load");
    }
    let before = modules::latest();
    if !before.is_up_to_date() {
        // The list stays as it was: what is made by it is not used twice.
        assert!(std::ptr::eq(modules::up_to_date(&without_memory(layout)), before));
        let mut area = vec![0_u8; 2 * layout.room()];
        let low = area.as_mut_ptr();
        // SAFETY: the area is ours and large enough.
        let made = unsafe { Block::create(&without_memory(layout), low, low.add(area.len())) };
        assert!(made.is_none());
    }
    assert!(modules::up_to_date(layout).is_up_to_date());
}

#[test]
fn what_is_done_twice_after_a_refusal_is_harmless() {
    // `find_out` tries again from the beginning: all but its last step may be done any number of times.
    let Some(layout) = real() else { return };
    assert!(explore::explore().is_ok() && self_test::run(layout).is_ok());
}
