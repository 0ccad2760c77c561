//! Goroutines that compute or block in the kernel, and one that sleeps a millisecond at a time: how late it wakes.
//!
//! Two workers, two hogs that make no runtime call, once computing and once in `std::thread::sleep`, and beside them a
//! goroutine that sleeps 1 ms again and again. Another worker takes over what the stuck ones had to do, so the sleeper
//! hardly notices. Then the same beside two that yield after turns of 10 us, 200 us and 2 ms, for which nobody has to be
//! brought in: the sleeper is late by a turn or two. Run with `cargo run --release --example hogs -- 3`; the argument is how many seconds each part takes.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use gorun::runtime::Builder;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const NAP: Duration = Duration::from_millis(1);

/// How long each nap took, sorted.
fn naps(hog: fn(&AtomicBool), hogs: usize, time: Duration) -> Vec<Duration> {
    let runtime = Builder::new().workers(2).build().expect("a runtime");
    runtime.run(|| {
        let over = Arc::new(AtomicBool::new(false));
        let begun = Arc::new(gorun::sync::WaitGroup::new());
        begun.add(hogs);
        for _ in 0..hogs {
            let (over, begun) = (over.clone(), begun.clone());
            gorun::go(move || {
                begun.done();
                hog(&over);
            });
        }
        begun.wait();
        let began = Instant::now();
        let mut naps = Vec::new();
        while began.elapsed() < time {
            let at = Instant::now();
            gorun::time::sleep(NAP);
            naps.push(at.elapsed());
        }
        over.store(true, Ordering::Relaxed);
        naps.sort_unstable();
        naps
    })
}

fn compute(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

#[expect(clippy::disallowed_methods, reason = "this is what it shows")]
fn sleep_in_the_kernel(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Computes for so many microseconds, yields, and so on.
fn yield_after<const MICROS: u64>(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let at = Instant::now();
        while at.elapsed() < Duration::from_micros(MICROS) {
            std::hint::spin_loop();
        }
        gorun::yield_now();
    }
}

fn main() -> ExitCode {
    let Ok(seconds) = std::env::args().nth(1).map_or(Ok(1.0), |arg| arg.parse::<f64>()) else {
        eprintln!("hogs: how many seconds each part takes, for example 3");
        return ExitCode::from(2);
    };
    let time = Duration::from_secs_f64(seconds.clamp(0.1, 3600.0));
    for (what, hog, hogs) in [
        ("no hogs", compute as fn(&AtomicBool), 0),
        ("2 hogs that compute", compute, 2),
        ("2 hogs in std::thread::sleep", sleep_in_the_kernel, 2),
        ("2 that yield every 10 us", yield_after::<10>, 2),
        ("2 that yield every 200 us", yield_after::<200>, 2),
        ("2 that yield every 2 ms", yield_after::<2000>, 2),
    ] {
        let naps = naps(hog, hogs, time);
        let at = |share: f64| naps[((naps.len() - 1) as f64 * share) as usize];
        println!(
            "{what}: {} naps of {NAP:?} took {:?} (p50), {:?} (p99), {:?} at most",
            naps.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
        assert!(naps[0] >= NAP, "a sleep is never too short");
    }
    ExitCode::SUCCESS
}
