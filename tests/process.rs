//! What only a process of its own can show: overflow reports, environment, exhaustion. Each test runs this very binary
//! again, with itself as the only test and a variable that says so.

#![allow(unsafe_code, reason = "limits of the process, by system calls")]

mod common;

use common::child::skip_isolated;
use corosensei::{Coroutine, Yielder};
use gorun::runtime::{Builder, ThreadLocals, isolation};
use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::time::Duration;

const CHILD: &str = "GORUN_TEST_CHILD";
/// Seconds after which a child that hangs is killed, and its test fails.
const GENEROUS: libc::c_uint = 120;

/// Whether this is the child; it then ends by itself, and leaves no core file.
fn is_child() -> bool {
    if std::env::var_os(CHILD).is_none() {
        return false;
    }
    // SAFETY: a valid rlimit for the duration of the call; `alarm` has no preconditions.
    unsafe {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::alarm(GENEROUS);
    }
    true
}

/// Runs test `name` in a child, with these variables and none of gorun's from outside.
fn child(name: &str, variables: &[(&str, &str)]) -> (Output, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GORUN_")) {
        command.env_remove(name);
    }
    let output = command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, stderr)
}

/// As `child`, which has to run that one test and pass. Its standard error.
fn child_passes(name: &str, variables: &[(&str, &str)]) -> String {
    let (output, stderr) = child(name, variables);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{variables:?} {:?}: {stderr}", output.status);
    stderr
}

fn recurse(n: u64) -> u64 {
    let frame = std::hint::black_box([n; 32]);
    if n == u64::MAX { 0 } else { frame[1].wrapping_add(recurse(n + 1)) }
}

#[test]
fn an_overflow_names_the_goroutine() {
    let line = line!() + 2;
    if is_child() {
        let deep = gorun::Builder::new().name("deep").stack_size(100_000).go(|| recurse(0)).unwrap();
        let _ = deep.join();
        return;
    }
    let (output, stderr) = child("an_overflow_names_the_goroutine", &[]);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{stderr}");
    let report = stderr.lines().find(|l| l.starts_with("gorun: goroutine ")).expect("a report on a line of its own");
    let (number, _) = report["gorun: goroutine ".len()..].split_once(' ').expect("its number");
    assert!(number.parse::<u64>().is_ok(), "{report}");
    let site = format!(" \"deep\", spawned at tests/process.rs:{line}, ");
    for part in [&site, "Builder::stack_size", "GORUN_STACK_SIZE", "gorun::grow"] {
        assert!(report.contains(part), "{part:?} is missing in: {report}");
    }
    // What it had: what was asked for, rounded up to what a slot of a power of two leaves.
    let (_, after) = report.split_once("overflowed its stack of ").expect("its size");
    let bytes: usize = after.split(' ').next().unwrap().parse().unwrap();
    assert!((100_000..1 << 17).contains(&bytes), "{report}");
}

#[test]
fn an_overflow_of_a_goroutine_without_a_name_is_reported_too() {
    if is_child() {
        gorun::run(|| gorun::go(|| recurse(0)).join().map(drop)).unwrap();
        return;
    }
    let (output, stderr) = child("an_overflow_of_a_goroutine_without_a_name_is_reported_too", &[]);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{stderr}");
    let report = stderr.lines().find(|l| l.starts_with("gorun: goroutine ")).expect("a report on a line of its own");
    assert!(report.contains("spawned at tests/process.rs:") && report.contains("overflowed its stack of "), "{report}");
    assert!(!report.contains('"'), "{report}");
}

#[test]
fn a_bad_variable_is_named_with_its_value() {
    const NAME: &str = "a_bad_variable_is_named_with_its_value";
    if is_child() {
        let (name, value) = ["GORUN_MAXPROCS", "GORUN_STACK_SIZE", "GORUN_SPARE_WORKERS", "GORUN_THREAD_LOCALS"]
            .into_iter()
            .find_map(|name| Some((name, std::env::var(name).ok()?)))
            .expect("one of them is set");
        let says = |text: &str| assert!(text.contains(name) && text.contains(&format!("{value:?}")), "{text}");
        says(&Builder::new().build().unwrap_err().to_string());
        // The second time as the first: a failed start leaves nothing behind.
        for _ in 0..2 {
            let panic = std::panic::catch_unwind(|| gorun::go(|| ())).unwrap_err();
            says(panic.downcast_ref::<String>().expect("a panic with a text"));
        }
        let panic = std::panic::catch_unwind(|| gorun::run(|| ())).unwrap_err();
        says(panic.downcast_ref::<String>().expect("a panic with a text"));
        return;
    }
    for (name, value) in [
        ("GORUN_MAXPROCS", "many"),
        ("GORUN_MAXPROCS", "0"),
        ("GORUN_MAXPROCS", "-1"),
        ("GORUN_MAXPROCS", ""),
        ("GORUN_STACK_SIZE", "64k"),
        ("GORUN_STACK_SIZE", "0"),
        ("GORUN_STACK_SIZE", "18446744073709551616"),
        ("GORUN_SPARE_WORKERS", "some"),
        ("GORUN_SPARE_WORKERS", "-1"),
        ("GORUN_THREAD_LOCALS", "shared"),
        ("GORUN_THREAD_LOCALS", "Pinned"),
        ("GORUN_THREAD_LOCALS", ""),
        // Numbers, but out of range.
        ("GORUN_SPARE_WORKERS", "65537"),
        ("GORUN_MAXPROCS", "1025"),
        ("GORUN_MAXPROCS", "4000000000"),
        ("GORUN_MAXPROCS", "18446744073709551615"),
        ("GORUN_STACK_SIZE", "2000000000"),
        ("GORUN_STACK_SIZE", "18446744073709551615"),
    ] {
        child_passes(NAME, &[(name, value)]);
    }
}

#[test]
fn the_variables_are_honoured() {
    if is_child() {
        let runtime = Builder::new().build().unwrap();
        assert_eq!((runtime.workers(), runtime.metrics().spare_workers), (3, 5));
        assert_eq!(runtime.thread_locals(), ThreadLocals::Pinned);
        // Without optimisation there are two of it.
        let used = runtime.go(|| std::hint::black_box([1u8; 3 << 19]).len()).unwrap();
        assert_eq!(used.join().unwrap(), 3 << 19);
        // The builder has the last word.
        let told = Builder::new().workers(2).spare_workers(1).build().unwrap();
        assert_eq!((told.workers(), told.metrics().spare_workers), (2, 1));
        if isolation().is_ok() {
            let told = Builder::new().thread_locals(ThreadLocals::Isolated).build().unwrap();
            assert_eq!(told.thread_locals(), ThreadLocals::Isolated);
        } else {
            skip_isolated();
        }
        return;
    }
    let four = ("GORUN_STACK_SIZE", "4194304");
    let others = [("GORUN_MAXPROCS", "3"), ("GORUN_SPARE_WORKERS", "5"), ("GORUN_THREAD_LOCALS", "pinned"), four];
    let said = child_passes("the_variables_are_honoured", &others);
    assert!(!said.contains("gorun:"), "{said}");
}

#[test]
fn a_variable_that_is_none_of_gorun_is_told_once_with_those_that_are() {
    if is_child() {
        for _ in 0..2 {
            gorun::run(|| ());
            gorun::go(|| ()).join().unwrap();
        }
        return;
    }
    const NAME: &str = "a_variable_that_is_none_of_gorun_is_told_once_with_those_that_are";
    let said = child_passes(NAME, &[("GORUN_MAXPROC", "3"), ("GORUN_TEST_ANYTHING", "1"), ("GORUN_STACKSIZE", "1")]);
    let told: Vec<_> = said.lines().filter(|l| l.starts_with("gorun:")).collect();
    let [told] = told[..] else { panic!("one line, please: {said}") };
    let known =
        ["GORUN_MAXPROCS", "GORUN_STACK_SIZE", "GORUN_SPARE_WORKERS", "GORUN_THREAD_LOCALS", "GORUN_SCHEDTRACE"];
    for part in ["GORUN_MAXPROC,", "GORUN_STACKSIZE"].into_iter().chain(known) {
        assert!(told.contains(part), "{part:?} is missing in: {told}");
    }
    assert!(!told.contains("ANYTHING"), "{told}");
}

#[test]
fn one_worker_is_one_thread() {
    if is_child() {
        assert_eq!(Builder::new().build().unwrap().workers(), 1);
        // In a `run`, and in the default runtime.
        let threads = || {
            let handles: Vec<_> = (0..50)
                .map(|_| {
                    gorun::go(|| {
                        gorun::yield_now();
                        // SAFETY: no preconditions. The kernel's thread: what std calls one may be the goroutine itself.
                        unsafe { libc::gettid() }
                    })
                })
                .collect();
            handles.into_iter().map(|h| h.join().unwrap()).collect::<std::collections::HashSet<_>>().len()
        };
        assert_eq!((gorun::run(threads), threads()), (1, 1));
        return;
    }
    child_passes("one_worker_is_one_thread", &[("GORUN_MAXPROCS", "1")]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "on a thread for blocking calls, which never ends")]
fn run_names_on_stderr_what_it_leaves_behind() {
    let line = line!() + 6;
    if is_child() {
        let runtime = Builder::new().workers(2).grace(Duration::from_millis(50)).build().unwrap();
        let value = runtime.run(|| {
            let (began, begins) = gorun::channel(0);
            // No abort ends a wait for what runs on a thread of its own, and that never ends. Its worker is free.
            let stubborn = gorun::Builder::new().name("stubborn").go(move || {
                gorun::blocking(move || -> () {
                    began.send(()).unwrap();
                    loop {
                        std::thread::park();
                    }
                });
            });
            let obedient = gorun::Builder::new().name("obedient").go(|| gorun::channel::<()>(0).1.recv());
            begins.recv().unwrap();
            drop((stubborn.unwrap(), obedient.unwrap()));
            7
        });
        assert_eq!(value, 7, "the value comes all the same");
        return;
    }
    let stderr = child_passes("run_names_on_stderr_what_it_leaves_behind", &[]);
    let named = format!(" \"stubborn\", spawned at tests/process.rs:{line}:");
    assert!(
        stderr.contains("gorun: 1 goroutine had not ended after 50ms") && stderr.contains(&named),
        "{named}: {stderr}"
    );
    assert!(!stderr.contains("obedient"), "{stderr}");
}

#[test]
fn a_panic_that_nobody_joins_names_its_goroutine() {
    let line = line!() + 3;
    if is_child() {
        let goroutines = || {
            let named = gorun::Builder::new().name("carol").go(|| panic!("of one with a name")).unwrap();
            let other = gorun::go(|| panic!("of number {}", 2));
            // Dropped before they have begun, when they are through, or not at all.
            (named, other)
        };
        Builder::new().workers(1).spare_workers(0).build().unwrap().run(|| {
            drop::<(gorun::JoinHandle<()>, gorun::JoinHandle<()>)>(goroutines());
            // Many more turns than they need, on the only worker.
            (0..1000).for_each(|_| gorun::yield_now());
            let handles = goroutines();
            while !(handles.0.is_finished() && handles.1.is_finished()) {
                gorun::yield_now();
            }
            drop(handles);
            let (named, other) = goroutines();
            assert!(named.join().is_err() && other.join().is_err());
            // What is no panic.
            drop(gorun::go(|| gorun::goexit()));
            gorun::go(|| gorun::time::sleep(Duration::MAX)).abort();
        });
        return;
    }
    let stderr = child_passes("a_panic_that_nobody_joins_names_its_goroutine", &[]);
    let told: Vec<_> = stderr.lines().filter_map(|l| l.strip_prefix("gorun: goroutine ")).collect();
    let named = format!(" \"carol\", spawned at tests/process.rs:{line}:");
    let other = format!(", spawned at tests/process.rs:{}:", line + 1);
    assert_eq!(told.len(), 4, "{stderr}");
    for text in told {
        let (who, what) = if text.contains("carol") { (&named, "of one with a name") } else { (&other, "of number 2") };
        let (number, rest) = text.split_at(text.find([' ', ',']).unwrap());
        assert!(number.parse::<u64>().is_ok() && rest.starts_with(who.as_str()), "{text}");
        assert!(rest.ends_with(&format!(" panicked, and nobody joins it: {what}")), "{text}");
    }
    assert_eq!(stderr.matches("\"carol\"").count(), 2, "{stderr}");
}

#[test]
fn a_goexit_that_ends_nothing_says_where_and_what_to_do() {
    if is_child() {
        std::panic::catch_unwind(|| gorun::goexit()).unwrap_err();
        return;
    }
    let line = line!() - 3;
    let stderr = child_passes("a_goexit_that_ends_nothing_says_where_and_what_to_do", &[]);
    assert!(stderr.contains(&format!("tests/process.rs:{line}:")) && stderr.contains("return instead"), "{stderr}");
}

/// Spawns until there is no more, in a child whose resources are limited; then everything spawned still ends.
fn exhaust() -> gorun::SpawnError {
    let runtime = Builder::new().workers(1).build().unwrap();
    runtime.run(|| {
        let (gate, opens) = gorun::channel::<()>(0);
        let mut handles = Vec::new();
        let error = loop {
            let opens = opens.clone();
            match gorun::Builder::new().go(move || opens.recv().is_err()) {
                Ok(handle) => handles.push(handle),
                Err(error) => break error,
            }
        };
        assert!(handles.len() > 100, "{error}");
        drop(gate);
        handles.into_iter().for_each(|h| assert!(h.join().unwrap()));
        assert!(gorun::go(|| true).join().unwrap(), "and there is room again");
        error
    })
}

#[test]
fn too_little_address_space_is_an_error_from_the_builder() {
    if is_child() {
        let limit = libc::rlimit { rlim_cur: 4 << 30, rlim_max: 4 << 30 };
        // SAFETY: a valid rlimit for the duration of the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        let error = exhaust().to_string();
        assert!(error.contains("RLIMIT_AS"), "{error}");
        return;
    }
    child_passes("too_little_address_space_is_an_error_from_the_builder", &[]);
}

#[test]
fn what_is_reserved_for_a_stack_comes_back_with_it() {
    if is_child() {
        let limit = libc::rlimit { rlim_cur: 4 << 30, rlim_max: 4 << 30 };
        // SAFETY: a valid rlimit for the duration of the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
        // One after the other, and many more than there is room for at a time.
        Builder::new().workers(1).build().unwrap().run(|| {
            for n in 0..60_000 {
                let one = gorun::Builder::new().go(|| ()).unwrap_or_else(|error| panic!("number {n}: {error}"));
                one.join().unwrap();
            }
        });
        return;
    }
    child_passes("what_is_reserved_for_a_stack_comes_back_with_it", &[]);
}

#[test]
fn too_few_mappings_are_an_error_from_the_builder() {
    if is_child() {
        let error = exhaust().to_string();
        assert!(error.contains("vm.max_map_count"), "{error}");
        return;
    }
    // As on kernels before 6.13: each guard page takes mappings.
    child_passes("too_few_mappings_are_an_error_from_the_builder", &[("GORUN_NO_GUARD_INSTALL", "1")]);
}

#[test]
fn too_little_address_space_is_an_error_on_a_plain_thread() {
    if is_child() {
        // Begun, and the list of handles had, before there is little: what else allocates is none of this test's.
        assert!(gorun::go(|| true).join().unwrap());
        let mut handles = Vec::with_capacity(1 << 20);
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        let most = pages * 4096 + (1 << 30);
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: a valid rlimit for the duration of the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
        let (gate, opens) = gorun::channel::<()>(0);
        let error = loop {
            let opens = opens.clone();
            match gorun::Builder::new().go(move || opens.recv().is_err()) {
                Ok(handle) => handles.push(handle),
                Err(error) => break error,
            }
        };
        let text = error.to_string();
        assert!(matches!(error, gorun::SpawnError::Stack(gorun::StackError::AddressSpace { .. })), "{text}");
        assert!(["RLIMIT_AS", "ulimit -v", "fewer goroutines"].iter().all(|part| text.contains(part)), "{text}");
        assert!(handles.len() > 100, "{} and then {text}", handles.len());
        drop(gate);
        handles.into_iter().for_each(|h| assert!(h.join().unwrap()));
        return;
    }
    child_passes("too_little_address_space_is_an_error_on_a_plain_thread", &[]);
}

#[test]
fn stacks_that_are_kept_warm_do_not_count_as_used() {
    if is_child() {
        let limit = libc::rlimit { rlim_cur: 4 << 30, rlim_max: 4 << 30 };
        // SAFETY: a valid rlimit for the duration of the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        let keep = Duration::from_secs(3600);
        let runtime = Builder::new().workers(1).warm_stacks(2).idle_stacks(keep).build().unwrap();
        // As many goroutines at once as there is room for.
        let fill = || {
            let (gate, wait) = gorun::channel::<()>(0);
            let one = || {
                let wait = wait.clone();
                gorun::Builder::new().go(move || assert!(wait.recv().is_err()))
            };
            let all: Vec<_> = std::iter::from_fn(|| one().ok()).collect();
            gorun::yield_now();
            gate.close();
            let n = all.len();
            all.into_iter().for_each(|h| h.join().unwrap());
            n
        };
        let filled = runtime.go(move || (fill(), fill())).unwrap().join().unwrap();
        assert!(filled.0 > 1000 && filled.1 > filled.0 * 9 / 10, "{filled:?}");
        return;
    }
    child_passes("stacks_that_are_kept_warm_do_not_count_as_used", &[]);
}

gorun::goroutine_local! {
    static N: Cell<u32> = const { Cell::new(1) };
}

/// A coroutine of a library's, which was left in the middle of `f`.
fn left_in(f: fn(&dyn Fn())) -> Coroutine<(), (), ()> {
    let mut coroutine = Coroutine::new(move |yielder: &Yielder<(), ()>, ()| f(&|| yielder.suspend(())));
    coroutine.resume(());
    coroutine
}

#[test]
fn a_scope_that_ends_before_what_began_in_it_ends_the_process() {
    const NAME: &str = "a_scope_that_ends_before_what_began_in_it_ends_the_process";
    if is_child() {
        gorun::run(|| {
            let before =
                std::env::var("WHAT").unwrap().starts_with("early").then(|| left_in(|leave| N.with(|_| leave())));
            let mut first = left_in(|leave| N.scope(Cell::new(2), leave));
            // One that began before makes room, in a count, for one that begins now.
            before.map(|mut look| look.resume(()));
            match std::env::var("WHAT").unwrap().as_str() {
                // What it gives back at its end would be the value of the first, which is gone by then.
                "scope" => N.scope(Cell::new(3), || _ = first.resume(())),
                _ => N.with(|_| _ = first.resume(())),
            }
        });
        return;
    }
    for what in ["scope", "look", "early look, and another"] {
        let (output, stderr) = child(NAME, &[("WHAT", what)]);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{what}: {stderr}");
        assert!(
            stderr.contains("gorun: fatal: the scope of a goroutine-local ended while another one"),
            "{what}: {stderr}"
        );
    }
}

#[test]
fn a_goroutine_that_ends_in_the_middle_of_a_look_ends_the_process() {
    const NAME: &str = "a_goroutine_that_ends_in_the_middle_of_a_look_ends_the_process";
    thread_local! {
        static LEFT: Cell<Option<Coroutine<(), (), ()>>> = const { Cell::new(None) };
    }
    if is_child() {
        Builder::new().workers(1).thread_locals(ThreadLocals::Pinned).build().unwrap().run(|| {
            gorun::go(|| LEFT.set(Some(left_in(|leave| N.with(|_| leave()))))).join().unwrap();
            // The value was the other goroutine's.
            LEFT.take().unwrap().resume(());
        });
        return;
    }
    let (output, stderr) = child(NAME, &[]);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{stderr}");
    assert!(
        stderr.contains("gorun: fatal: a goroutine ended while a look at its goroutine-locals went on"),
        "{stderr}"
    );
}

#[test]
fn a_threads_storage_is_not_dropped_under_a_look() {
    gorun::goroutine_local! { static KEY: String = String::from("looked at") }
    if is_child() {
        KEY.with(|text| {
            gorun_scheduler::end_thread_storage();
            assert_eq!(text, "looked at");
        });
        return;
    }
    let (output, stderr) = child("a_threads_storage_is_not_dropped_under_a_look", &[]);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{stderr}");
    assert!(stderr.contains("while a look at its goroutine-locals went on"), "{stderr}");
}

/// As a thread's: std ends the process, and says why.
#[test]
fn a_thread_local_of_an_isolated_goroutine_that_panics_as_it_is_dropped() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    thread_local! { static VALUE: Panics = const { Panics } }
    if isolation().is_err() {
        return skip_isolated();
    }
    if is_child() {
        gorun::go(|| VALUE.with(|_| ())).join().unwrap();
        return;
    }
    let isolated = [("GORUN_THREAD_LOCALS", "isolated")];
    let (output, stderr) = child("a_thread_local_of_an_isolated_goroutine_that_panics_as_it_is_dropped", &isolated);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{stderr}");
    assert!(stderr.contains("thread local panicked on drop"), "{stderr}");
}

/// A destructor that runs because of a panic can't end its goroutine: the process says so, and ends.
#[test]
fn a_goexit_in_a_destructor_during_a_panic_is_named() {
    struct Exits;
    impl Drop for Exits {
        fn drop(&mut self) {
            gorun::goexit();
        }
    }
    if is_child() {
        let handle = gorun::Builder::new().name("leaver").go(|| {
            let _exits = Exits;
            panic!("first");
        });
        let _ = handle.unwrap().join();
        return;
    }
    let (output, stderr) = child("a_goexit_in_a_destructor_during_a_panic_is_named", &[]);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{stderr}");
    let report = stderr.lines().find(|l| l.starts_with("gorun: ") && l.contains("goexit")).expect(&stderr);
    assert!(report.contains("destructor") && report.contains("\"leaver\""), "{report}");
}

/// Such a panic may be that of a pinned goroutine's neighbour: then nothing ends.
#[test]
fn a_goexit_beside_a_panic_is_not_blamed() {
    struct Waits(gorun::Receiver<()>);
    impl Drop for Waits {
        fn drop(&mut self) {
            let _closed = self.0.recv();
        }
    }
    if is_child() {
        let pinned = Builder::new().workers(1).spare_workers(0).thread_locals(ThreadLocals::Pinned);
        pinned.build().unwrap().run(|| {
            let (tell, told) = gorun::channel(0);
            let panics = gorun::go(move || {
                let _waits = Waits(told);
                panic!("first");
            });
            while !std::thread::panicking() {
                gorun::yield_now();
            }
            assert!(gorun::go(|| -> () { gorun::goexit() }).join().unwrap_err().is_goexit());
            drop(tell);
            assert!(panics.join().unwrap_err().is_panic());
        });
        return;
    }
    let (output, stderr) = child("a_goexit_beside_a_panic_is_not_blamed", &[]);
    assert!(output.status.success(), "{stderr}");
    let report = stderr.lines().find(|l| l.starts_with("gorun: ") && l.contains("goexit")).expect(&stderr);
    assert!(report.contains("if that is itself") && !report.contains("in a destructor while it unwinds"), "{report}");
}

/// One that is caught within the destructor ends nothing but what it was caught in.
#[test]
fn a_goexit_that_a_destructor_catches_is_harmless() {
    struct Catches;
    impl Drop for Catches {
        fn drop(&mut self) {
            assert!(std::panic::catch_unwind(|| -> () { gorun::goexit() }).is_err());
        }
    }
    let handle = gorun::go(|| {
        let _catches = Catches;
        panic!("first");
    });
    assert!(handle.join().unwrap_err().is_panic());
}
