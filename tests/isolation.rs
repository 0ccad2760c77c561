//! Isolation is not lost without a word: what it can be had with, and what is printed where it can't be had.
//!
//! Each test runs this binary again as a child, because what is found out holds for a whole process.

#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "system calls, filters for them, and names of libc's")]

mod common;

use common::child::{is_child, passes, passes_below, skip, skip_here};
use gorun::runtime::{BuildError, Builder, ThreadLocals, isolation};
use std::cell::Cell;
use std::collections::HashSet;
use std::path::Path;

/// The beginning of the line.
const LINE: &str = "gorun: goroutines are pinned";
/// Internal: isolation can't be had.
const REFUSED: (&str, &str) = ("GORUN_NO_FSGSBASE", "1");

/// Runs goroutines that allocate, hold a thread-local over waits, and change workers.
fn work() {
    work_of(200, 50);
}

fn work_of(goroutines: usize, rounds: usize) {
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(0) };
    }
    let handles: Vec<_> = (1..=goroutines)
        .map(|n| {
            gorun::go(move || {
                let isolated = gorun::current().unwrap().thread_locals() == ThreadLocals::Isolated;
                assert!(MINE.replace(n) == 0 || !isolated, "fresh");
                let mut kept: Vec<Box<usize>> = Vec::new();
                for i in 0..rounds {
                    kept.push(Box::new(n + i));
                    gorun::yield_now();
                    assert!(MINE.get() == n || !isolated, "its own");
                }
                kept.iter().map(|b| **b).sum::<usize>()
            })
        })
        .collect();
    for (n, handle) in (1..=goroutines).zip(handles) {
        assert_eq!(handle.join().unwrap(), rounds * n + rounds * (rounds - 1) / 2);
    }
}

fn is_isolated() {
    assert_eq!(isolation(), Ok(()));
    assert_eq!(Builder::new().build().unwrap().thread_locals(), ThreadLocals::Isolated);
    work();
}

fn is_pinned() {
    let reason = isolation().unwrap_err().to_string();
    for _ in 0..2 {
        assert_eq!(Builder::new().build().unwrap().thread_locals(), ThreadLocals::Pinned);
    }
    // A few: valgrind is slow.
    work_of(20, 5);
    let asked = Builder::new().thread_locals(ThreadLocals::Isolated).build().unwrap_err();
    assert!(asked.to_string().contains(&reason), "{asked}");
    let one = gorun::Builder::new().thread_locals(ThreadLocals::Isolated).go(|| ()).unwrap_err();
    assert!(one.to_string().contains(&reason), "{one}");
}

/// Runs a child test of [`is_pinned`]: one line with the reason, and none where pinned goroutines will do.
fn says_it_once(wrapper: &[&str], name: &str, variables: &[(&str, &str)], reason: &str) {
    let said = passes_below(wrapper, name, variables);
    let lines: Vec<_> = said.lines().filter(|line| line.contains("gorun:")).collect();
    let [line] = lines[..] else { panic!("one line, please: {said}") };
    for part in [LINE, reason, "GORUN_THREAD_LOCALS=auto"] {
        assert!(line.contains(part), "{part:?} is missing in: {line}");
    }
    for quiet in ["pinned", "auto"] {
        let variables = [variables, &[("GORUN_THREAD_LOCALS", quiet)]].concat();
        let said = passes_below(wrapper, name, &variables);
        assert!(!said.contains("gorun:"), "{quiet}: {said}");
    }
}

#[test]
fn where_it_cant_be_had_one_line_says_so_unless_either_will_do() {
    if is_child() {
        return is_pinned();
    }
    let name = "where_it_cant_be_had_one_line_says_so_unless_either_will_do";
    says_it_once(&[], name, &[REFUSED], "GORUN_NO_FSGSBASE is set");
    let said = passes(name, &[REFUSED, ("GORUN_THREAD_LOCALS", "auto"), ("GORUN_SCHEDTRACE", "1")]);
    assert_eq!(said.matches(LINE).count(), 1, "who traces wants to know: {said}");
}

#[test]
fn a_runtime_that_asks_for_pinned_prints_no_line() {
    if is_child() {
        let runtime = Builder::new().thread_locals(ThreadLocals::Pinned).build().unwrap();
        return runtime.run(work);
    }
    let said = passes("a_runtime_that_asks_for_pinned_prints_no_line", &[REFUSED]);
    // `work` spawns into the runtime that runs it.
    assert!(!said.contains("gorun:"), "{said}");
}

#[test]
fn either_is_isolated_where_that_can_be_had() {
    if is_child() {
        return is_isolated();
    }
    let said = passes("either_is_isolated_where_that_can_be_had", &[("GORUN_THREAD_LOCALS", "auto")]);
    assert!(!said.contains("gorun:"), "{said}");
}

#[test]
fn a_preloaded_allocator_leaves_goroutines_isolated() {
    if is_child() {
        return is_isolated();
    }
    for (package, file) in [("libjemalloc2", "libjemalloc.so.2"), ("libtcmalloc-minimal4", "libtcmalloc_minimal.so.4")]
    {
        let path = format!("/usr/lib/x86_64-linux-gnu/{file}");
        if !Path::new(&path).exists() {
            skip(package);
            continue;
        }
        for migrate in ["0", "1"] {
            let variables = [("LD_PRELOAD", path.as_str()), ("GORUN_TEST_MIGRATE", migrate)];
            let said = passes("a_preloaded_allocator_leaves_goroutines_isolated", &variables);
            assert!(!said.contains("gorun:"), "{package}: {said}");
        }
    }
}

#[test]
fn under_valgrind_a_line_says_that_goroutines_are_pinned() {
    if is_child() {
        return is_pinned();
    }
    if !Path::new("/usr/bin/valgrind").exists() {
        return skip("valgrind");
    }
    let valgrind = ["valgrind", "--quiet", "--error-exitcode=0", "--log-file=/dev/null"];
    let name = "under_valgrind_a_line_says_that_goroutines_are_pinned";
    says_it_once(&valgrind, name, &[("GORUN_MAXPROCS", "1")], "valgrind");
}

/// Refuses this thread, and no other, two system calls, if their third argument is `third` (when that is given).
fn refuse(numbers: [libc::c_long; 2], third: Option<u32>, error: libc::c_int) {
    let plain = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump =
        |k: u32, jt, jf| libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt, jf, k };
    let load = |offset| plain(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    // Any argument is equal to itself, so to speak: the comparison falls through both ways.
    let compare = third.map_or(jump(0, 1, 1), |value| jump(value, 1, 0));
    let mut program = [
        load(0), // the number of the system call
        jump(numbers[0] as u32, 1, 0),
        jump(numbers[1] as u32, 0, 2),
        load(16 + 2 * 8), // the low half of the third argument
        compare,
        plain(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        plain(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | error as u32),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a filter that outlives the call, for the calling thread.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}

#[test]
fn errno_stays_while_the_worker_makes_a_stack_for_the_next_one() {
    /// `MADV_GUARD_INSTALL`: where it is refused, the guard of a stack is made otherwise.
    const GUARD_INSTALL: u32 = 102;
    if is_child() {
        let runtime = Builder::new().workers(1).spare_workers(0).build().unwrap();
        let errno = runtime.run(|| {
            // Of the worker's thread.
            refuse([libc::SYS_madvise; 2], Some(GUARD_INSTALL), libc::EPERM);
            // A stack of a size that nobody had yet.
            let next = gorun::Builder::new().stack_size(5 << 20).go(|| ()).unwrap();
            // SAFETY: this goroutine's own; the worker takes a turn of the next one meanwhile.
            let errno = unsafe {
                *libc::__errno_location() = 77;
                gorun::yield_now();
                *libc::__errno_location()
            };
            next.join().unwrap();
            errno
        });
        assert_eq!(errno, 77);
        return;
    }
    passes("errno_stays_while_the_worker_makes_a_stack_for_the_next_one", &[]);
}

#[test]
fn a_thread_that_cant_be_had_is_no_verdict() {
    if is_child() {
        std::thread::spawn(|| {
            refuse([libc::SYS_clone, libc::SYS_clone3], None, libc::EAGAIN);
            let reason = isolation().unwrap_err().to_string();
            assert!(reason.contains("os error 11"), "{reason}");
            for asked in [None, Some(ThreadLocals::Isolated), Some(ThreadLocals::Pinned)] {
                let builder = asked.map_or(Builder::new(), |asked| Builder::new().thread_locals(asked));
                let error = builder.build().unwrap_err();
                assert!(matches!(error, BuildError::Thread(_)), "{asked:?}: {error}");
                assert!(error.to_string().contains("os error 11"), "{error}");
            }
        })
        .join()
        .unwrap();
        // Elsewhere nothing is refused: now it can be found out.
        return is_isolated();
    }
    let said = passes("a_thread_that_cant_be_had_is_no_verdict", &[]);
    assert!(!said.contains("gorun:"), "{said}");
}

#[test]
fn hash_maps_of_goroutines_one_after_the_other_share_a_threads_keys() {
    // As a map sees them. A test can, because it breaks off when they have another size.
    let keys = || -> [u64; 2] {
        // SAFETY: two numbers of which every value is one; std promises nothing, but a change of size does not compile.
        unsafe { std::mem::transmute(std::hash::RandomState::new()) }
    };
    let runtime = Builder::new().workers(1).thread_locals(ThreadLocals::Isolated).build().unwrap();
    let all: Vec<_> = runtime.run(|| (0..1000).map(|_| gorun::go(move || [keys(), keys()]).join().unwrap()).collect());
    let distinct: HashSet<_> = all.iter().flatten().collect();
    assert_eq!(distinct.len(), 2000, "each map has its own");
    let asked_for: HashSet<_> = all.iter().map(|[first, _]| first[1]).collect();
    assert!(asked_for.len() <= 10, "the kernel was asked {} times", asked_for.len());
}

/// glibc's area for restartable sequences in the current thread control block: `cpu_id_start`, `cpu_id`.
fn rseq_area() -> Option<[i32; 2]> {
    // SAFETY: a name with its terminator; glibc 2.35 and later have the distance from the FS base under it.
    unsafe {
        let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()).cast::<isize>().as_ref()?;
        let base: *const u8;
        std::arch::asm!("mov {}, fs:0", out(reg) base, options(nostack, readonly, preserves_flags));
        Some(base.offset(*offset).cast::<[i32; 2]>().read_volatile())
    }
}

#[test]
fn an_isolated_goroutine_has_no_registered_rseq_area() {
    let Some(thread) = rseq_area() else { return skip_here("no rseq areas: they came with glibc 2.35") };
    let seen = gorun::go(|| (0..3).map(|_| (gorun::yield_now(), rseq_area().unwrap()).1).collect::<Vec<_>>());
    // RSEQ_CPU_ID_REGISTRATION_FAILED: glibc and tcmalloc ask the kernel then, and try no more to register it.
    assert_eq!(seen.join().unwrap(), [[0, -2]; 3], "the thread's own: {thread:?}");
}

#[test]
fn sched_getcpu_is_right_on_each_processor() {
    // SAFETY: sets of processors of ours; the thread is the goroutine's alone for that time, and gets its set back.
    let wrong = gorun::go(|| unsafe {
        let locked = gorun::lock_os_thread();
        let size = size_of::<libc::cpu_set_t>();
        let mut before: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size, &raw mut before), 0);
        let mut wrong = Vec::new();
        for cpu in (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &before)) {
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut one);
            assert_eq!(libc::sched_setaffinity(0, size, &raw const one), 0);
            let said = libc::sched_getcpu();
            if said != cpu as i32 {
                wrong.push((cpu, said));
            }
        }
        assert_eq!(libc::sched_setaffinity(0, size, &raw const before), 0);
        drop(locked);
        wrong
    });
    assert_eq!(wrong.join().unwrap(), []);
}
