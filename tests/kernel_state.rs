//! What the kernel and the processor keep for a thread, and code that runs in a goroutine may change: the table in
//! docs/thread-locals.md, line by line.

#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "system calls")]

mod common;

use common::child::{is_child, passes, skip_here};
use common::stuck::block_in_a_c_library;
use common::{kernel_thread, until};
use gorun::runtime::{Builder, ThreadLocals};
use std::cell::Cell;
use std::collections::HashSet;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const MODES: [ThreadLocals; 2] = [ThreadLocals::Isolated, ThreadLocals::Pinned];

/// A child that is to be killed when the thread that started it ends.
fn start_child() -> Child {
    let mut command = Command::new("sleep");
    command.arg("600");
    // SAFETY: one system call.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command.spawn().unwrap()
}

#[test]
fn children_outlive_the_rush_in_which_goroutines_have_started_them() {
    const CHILDREN: usize = 6;
    let rush = |mode| {
        let runtime = Builder::new().workers(1).thread_locals(mode).build().unwrap();
        let (tell, told) = gorun::channel(CHILDREN);
        let free = Arc::new(AtomicBool::new(false));
        // One worker after the other starts a child and is stuck; then all but one are too many.
        let mut threads = HashSet::new();
        let children: Vec<Child> = (0..CHILDREN)
            .map(|_| {
                let (tell, free) = (tell.clone(), free.clone());
                let begins = runtime.go(move || {
                    tell.send((start_child(), kernel_thread())).unwrap();
                    block_in_a_c_library(&free);
                });
                drop(begins.unwrap());
                let (child, thread) = told.recv().unwrap();
                assert!(threads.insert(thread));
                child
            })
            .collect();
        free.store(true, Ordering::SeqCst);
        (runtime, children)
    };
    let mut rushes = MODES.map(rush);
    wait_for_threads_to_end(CHILDREN);
    for (mode, (_, children)) in MODES.into_iter().zip(&mut rushes) {
        let killed = children.iter_mut().map(|child| child.try_wait().unwrap()).filter(Option::is_some).count();
        assert_eq!(killed, 0, "{mode}: of {CHILDREN} children");
    }
    for (runtime, children) in rushes {
        // The end of the runtime is the end of its threads.
        drop(runtime);
        for mut child in children {
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        }
    }
}

/// Waits for as long as threads of a runtime take to end that have not forked and are not needed any more.
fn wait_for_threads_to_end(threads: usize) {
    let runtime = Builder::new().workers(1).build().unwrap();
    let free = Arc::new(AtomicBool::new(false));
    for _ in 0..threads {
        let (begun, begins) = gorun::channel(1);
        let free = free.clone();
        let blocks = runtime.go(move || {
            begun.send(()).unwrap();
            block_in_a_c_library(&free);
        });
        drop(blocks.unwrap());
        begins.recv().unwrap();
    }
    assert!(runtime.metrics().threads >= threads);
    free.store(true, Ordering::SeqCst);
    until(|| runtime.metrics().threads == 1);
}

thread_local! {
    static OWN_STACK: OwnStack = const { OwnStack(Cell::new(None)) };
}
static OWN_STACKS: AtomicUsize = AtomicUsize::new(0);

/// An alternate signal stack that belongs to a thread, to a library: in force until the thread ends.
struct OwnStack(Cell<Option<Box<[u8]>>>);

impl OwnStack {
    /// Only if the one in force is too small, as libraries do that handle faults.
    fn ensure(&self) {
        const ENOUGH: usize = 256 << 10;
        // SAFETY: a record for the answer; then memory that is in force only while it lives (`drop`).
        unsafe {
            let mut now: libc::stack_t = std::mem::zeroed();
            assert_eq!(libc::sigaltstack(std::ptr::null(), &raw mut now), 0);
            if now.ss_flags & libc::SS_DISABLE == 0 && now.ss_size >= ENOUGH {
                return;
            }
            let mut memory = vec![0_u8; ENOUGH].into_boxed_slice();
            let own = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: ENOUGH };
            assert_eq!(libc::sigaltstack(&raw const own, std::ptr::null_mut()), 0);
            self.0.set(Some(memory));
        }
        OWN_STACKS.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for OwnStack {
    fn drop(&mut self) {
        if self.0.get_mut().is_some() {
            // SAFETY: out of force before the memory goes.
            unsafe {
                let none = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
                libc::sigaltstack(&raw const none, std::ptr::null_mut());
            }
        }
    }
}

#[test]
fn a_library_that_needs_a_large_alternate_stack_finds_one() {
    if is_child() {
        static HANDLED: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn handle(_: libc::c_int) {
            // SAFETY: a record for the answer.
            let on_it = unsafe {
                let mut now: libc::stack_t = std::mem::zeroed();
                libc::sigaltstack(std::ptr::null(), &raw mut now) == 0 && now.ss_flags & libc::SS_ONSTACK != 0
            };
            HANDLED.fetch_add(usize::from(on_it), Ordering::SeqCst);
        }
        // SAFETY: a handler that may be called at any time.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()), 0);
        }
        for mode in MODES {
            let runtime = Builder::new().workers(4).thread_locals(mode).build().unwrap();
            runtime.run(|| {
                let all: Vec<_> = (0..200)
                    .map(|_| {
                        gorun::go(|| {
                            for _ in 0..10 {
                                OWN_STACK.with(OwnStack::ensure);
                                gorun::yield_now();
                                // SAFETY: a signal that is handled.
                                assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
                            }
                        })
                    })
                    .collect();
                all.into_iter().for_each(|one| one.join().unwrap());
            });
        }
        assert_eq!(OWN_STACKS.load(Ordering::SeqCst), 0);
        assert_eq!(HANDLED.load(Ordering::SeqCst), 2 * 200 * 10);
        return;
    }
    passes("a_library_that_needs_a_large_alternate_stack_finds_one", &[("GORUN_TEST_MIGRATE", "1")]);
}

/// Something that the kernel keeps for a thread.
struct State {
    what: &'static str,
    /// Its value on this thread; `None` if the kernel does not have it, or does not tell.
    get: fn() -> Option<usize>,
    /// Makes it `to`; returns false if that is refused.
    set: fn(to: usize) -> bool,
    /// Another value than this one.
    other: fn(usize) -> usize,
}

const ARCH_SET_GS: libc::c_long = 0x1001;
const ARCH_GET_GS: libc::c_long = 0x1004;

fn flip(value: usize) -> usize {
    value ^ 1
}

// SAFETY (of all functions): system calls that change the calling thread, and answers that they write into variables.
#[expect(clippy::undocumented_unsafe_blocks, reason = "above")]
const STATES: [State; 8] = [
    State {
        what: "signal mask",
        get: || unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut set);
            usize::try_from(libc::sigismember(&raw const set, libc::SIGUSR1)).ok()
        },
        set: |to| unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, libc::SIGUSR1);
            let how = if to == 1 { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
            libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) == 0
        },
        other: flip,
    },
    State {
        what: "signal at the parent's end",
        get: || unsafe {
            let mut signal: libc::c_int = 0;
            (libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) == 0).then_some(signal as usize)
        },
        set: |to| unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, to) == 0 },
        other: |_| libc::SIGUSR1 as usize,
    },
    State {
        what: "personality",
        get: || unsafe { usize::try_from(libc::personality(0xffff_ffff)).ok() },
        set: |to| unsafe { libc::personality(to as libc::c_ulong) != -1 },
        other: |now| now ^ libc::ADDR_NO_RANDOMIZE as usize,
    },
    State {
        what: "niceness",
        get: || unsafe { Some((libc::getpriority(libc::PRIO_PROCESS, 0) + 20) as usize) },
        set: |to| unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, to as libc::c_int - 20) == 0 },
        other: |now| if now > 20 { now - 1 } else { now + 1 },
    },
    State {
        what: "user of the file system",
        get: || unsafe { usize::try_from(libc::setfsuid(u32::MAX)).ok() },
        set: |to| unsafe {
            libc::setfsuid(to as u32);
            libc::setfsuid(u32::MAX) == to as i32
        },
        other: |now| now + 1,
    },
    State {
        what: "timer slack",
        get: || unsafe { usize::try_from(libc::prctl(libc::PR_GET_TIMERSLACK)).ok() },
        set: |to| unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, to) == 0 },
        other: |now| now + 1,
    },
    State {
        what: "GS base",
        get: || unsafe {
            let mut base = 0_usize;
            (libc::syscall(libc::SYS_arch_prctl, ARCH_GET_GS, &raw mut base) == 0).then_some(base)
        },
        set: |to| unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, to) == 0 },
        other: |now| now + 0x1000,
    },
    State {
        what: "processors",
        get: || unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            let told = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) == 0;
            let first = (0..64).filter(|cpu| libc::CPU_ISSET(*cpu, &set)).map(|cpu| 1 << cpu).sum();
            (told && first != 0).then_some(first)
        },
        set: |to| unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            (0..64).filter(|cpu| to >> cpu & 1 == 1).for_each(|cpu| libc::CPU_SET(cpu, &mut set));
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
        },
        // The lowest.
        other: |now| now & now.wrapping_neg(),
    },
];

#[test]
fn what_a_goroutine_sets_on_its_locked_thread_stays_and_is_nobody_elses() {
    if is_child() {
        for state in &STATES {
            for mode in MODES {
                stays_under_a_lock(state, mode);
            }
        }
        return;
    }
    passes("what_a_goroutine_sets_on_its_locked_thread_stays_and_is_nobody_elses", &[]);
}

fn stays_under_a_lock(state: &'static State, mode: ThreadLocals) {
    let &State { what, get, set, other } = state;
    let runtime = Builder::new().workers(2).thread_locals(mode).build().unwrap();
    let Some(usual) = runtime.go(get).unwrap().join().unwrap() else { return skip_here(what) };
    runtime.run(|| {
        let over = Arc::new(AtomicBool::new(false));
        let others: Vec<_> = (0..8)
            .map(|_| {
                let over = over.clone();
                gorun::go(move || {
                    while !over.load(Ordering::SeqCst) {
                        assert_eq!(get(), Some(usual), "{what}: another goroutine's");
                        gorun::yield_now();
                    }
                })
            })
            .collect();
        let locked = gorun::go(move || {
            let lock = gorun::lock_os_thread();
            if !set(other(usual)) {
                return skip_here(what);
            }
            let is_set = get();
            for round in 0..100 {
                assert_eq!(get(), is_set, "{what}: lost after {round} waits");
                gorun::yield_now();
            }
            // A goroutine that may not undo it keeps the thread for good.
            if set(usual) {
                drop(lock);
            } else {
                std::mem::forget(lock);
            }
        });
        let outcome = locked.join();
        over.store(true, Ordering::SeqCst);
        others.into_iter().for_each(|one| one.join().unwrap());
        outcome.unwrap();
        let after: Vec<_> = (0..50).map(|_| gorun::go(get)).collect();
        after.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), Some(usual), "{what}: left behind"));
    });
}

#[test]
fn what_can_not_be_undone_ends_with_a_thread_that_is_never_let_go() {
    if is_child() {
        // SAFETY: a system call without pointers.
        let get = || unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) };
        assert_eq!(get(), 0);
        for mode in MODES {
            let runtime = Builder::new().workers(2).thread_locals(mode).build().unwrap();
            runtime.run(|| {
                let locked = gorun::go(move || {
                    std::mem::forget(gorun::lock_os_thread());
                    // SAFETY: as above.
                    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
                    gorun::yield_now();
                    get()
                });
                assert_eq!(locked.join().unwrap(), 1);
                let after: Vec<_> = (0..50).map(|_| gorun::go(get)).collect();
                after.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), 0));
            });
        }
        return;
    }
    passes("what_can_not_be_undone_ends_with_a_thread_that_is_never_let_go", &[]);
}

#[test]
fn the_clock_of_a_locked_thread_is_the_goroutines() {
    fn clock() -> Duration {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a place for the answer.
        assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) }, 0);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }
    let runtime = Builder::new().workers(2).build().unwrap();
    runtime.run(|| {
        let busy: Vec<_> = (0..4).map(|_| gorun::go(|| (0..100).for_each(|_| gorun::yield_now()))).collect();
        let locked = gorun::go(|| {
            let _lock = gorun::lock_os_thread();
            let mut last = clock();
            for _ in 0..100 {
                gorun::yield_now();
                let now = clock();
                assert!(now >= last, "it runs backwards");
                last = now;
            }
        });
        locked.join().unwrap();
        busy.into_iter().for_each(|one| one.join().unwrap());
    });
}
