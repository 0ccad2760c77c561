//! A debugger and profilers attached to a program of goroutines that change threads: it runs as without, and they see the
//! running goroutine's frames. Under valgrind, which can't stand it, goroutines are pinned.
//!
//! Each test runs this very program again, under the tool, where it is installed and allowed; where not, says so.

use gorun::runtime::{Builder, ThreadLocals, isolation};
use std::cell::RefCell;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::process::Command;

const CHILD: &str = "GORUN_COMPAT_CHILD";

thread_local! {
    static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Where the debugger stops.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn gorun_compat_stop_here(mark: usize) -> usize {
    std::hint::black_box(mark)
}

/// What a profiler is to see.
#[inline(never)]
fn compute(from: usize) -> usize {
    (0..2000).fold(from, |sum, n| std::hint::black_box(sum.wrapping_mul(31) ^ n))
}

/// Returns on how many threads it was.
#[inline(never)]
fn in_a_goroutine(mark: usize) -> usize {
    let mut threads = HashSet::new();
    HELD.with_borrow_mut(|held| {
        for n in 0..300 {
            held.push(mark + n);
            gorun::yield_now();
            if n == 150 && mark < 10 {
                assert_eq!(gorun_compat_stop_here(mark), mark);
            }
            assert_eq!(held.len(), n + 1);
            assert_eq!(held[n], mark + n);
            compute(n);
            threads.insert(gorun_compat::kernel_thread());
        }
    });
    threads.len()
}

/// The program that the tools look at.
#[test]
fn program() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
        if let (ThreadLocals::Isolated, Err(reason)) = (mode, isolation()) {
            println!("no isolation: {reason}");
            continue;
        }
        let runtime = Builder::new().workers(4).thread_locals(mode).build().expect("this platform has it");
        // Pinned ones hold their borrow alone on their thread.
        let crowd = if mode == ThreadLocals::Isolated { 200 } else { 1 };
        let most = runtime.run(|| {
            let goroutines: Vec<_> = (0..crowd).map(|mark| gorun::go(move || in_a_goroutine(mark))).collect();
            goroutines.into_iter().map(|g| g.join().expect("no panic")).max()
        });
        assert_eq!(most > Some(1), mode == ThreadLocals::Isolated, "{most:?}");
    }
}

/// Runs the program under `tool`, and returns all that was said; `None`: not there, or not allowed.
fn under(tool: &str, arguments: &[&str], refused: &[&str]) -> Option<String> {
    let mut command = Command::new(tool);
    command.args(arguments).arg(std::env::current_exe().expect("a path"));
    command
        .args(["--exact", "program", "--test-threads=1", "--nocapture"])
        .env(CHILD, "1")
        .env("GORUN_TEST_MIGRATE", "1");
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("not tried: no `{tool}` here");
            return None;
        }
        Err(error) => panic!("{tool}: {error}"),
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if let Some(why) = refused.iter().find(|why| said.contains(**why)) {
        eprintln!("not tried: {tool} says \"{why}\"");
        return None;
    }
    assert!(said.contains("1 passed"), "under {tool}: {said}");
    assert_eq!(said.contains("no isolation"), tool == "valgrind", "under {tool}: {said}");
    Some(said)
}

#[test]
fn gdb_shows_the_goroutines_frames_and_goes_on() {
    let each = ["-ex", "break gorun_compat_stop_here", "-ex", "run", "-ex", "backtrace", "-ex", "finish"];
    let then = ["-ex", "info threads", "-ex", "delete", "-ex", "continue", "--args"];
    let batch = ["-q", "-nx", "-batch", "-ex", "set debuginfod enabled off"];
    let arguments = [&batch[..], &each[..], &then[..]].concat();
    let Some(said) = under("gdb", &arguments, &["ptrace: Operation not permitted", "Couldn't get registers"]) else {
        return;
    };
    for part in ["Breakpoint 1, ", "in_a_goroutine (", "run_to_end", "exited normally"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn perf_samples_a_goroutines_frames() {
    let data = format!("{}/perf-{}.data", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let arguments = ["record", "-e", "cpu-clock", "-F", "5000", "-g", "-o", &data, "--"];
    let refused = ["Permission denied", "not permitted", "not found for kernel", "is not supported"];
    let Some(_) = under("perf", &arguments, &refused) else { return };
    let report = Command::new("perf").args(["script", "-i", &data]).output().expect("it was there");
    let _ = std::fs::remove_file(&data);
    let report = String::from_utf8_lossy(&report.stdout);
    assert!(report.contains("attached::compute+"), "{} bytes of samples", report.len());
}

#[test]
fn strace_follows_the_threads() {
    let arguments = ["-f", "-qq", "-e", "trace=gettid"];
    let Some(said) = under("strace", &arguments, &["Operation not permitted"]) else { return };
    assert!(said.contains("gettid()"));
}

#[test]
fn valgrind_has_pinned_goroutines_and_the_reason() {
    let Some(said) = under("valgrind", &["--error-exitcode=9"], &[]) else { return };
    assert!(said.contains("no isolation: valgrind"), "{said}");
}
