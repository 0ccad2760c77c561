//! The memory of goroutines that have ended: kept for the next ones for a while, then given back to the system.
#![cfg(target_os = "linux")]

mod common;

use common::child::skip_isolated;
use gorun::runtime::{Builder, Runtime, ThreadLocals};
use gorun::sync::WaitGroup;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const BURST: usize = 4000;
const PAGE: usize = 4096;

/// The figures are the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn modes() -> impl Iterator<Item = ThreadLocals> {
    let isolated = gorun::runtime::isolation().is_ok();
    if !isolated {
        skip_isolated();
    }
    [ThreadLocals::Pinned, ThreadLocals::Isolated].into_iter().take(1 + usize::from(isolated))
}

fn runtime(mode: ThreadLocals, idle: Duration) -> Runtime {
    Builder::new().workers(2).thread_locals(mode).idle_stacks(idle).build().unwrap()
}

/// Resident pages of the process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Page faults of the process that needed no disk.
fn faults() -> usize {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name in brackets: state, six numbers, then this one.
    stat.rsplit(')').next().unwrap().split_whitespace().nth(7).unwrap().parse().unwrap()
}

/// So many goroutines that all wait at once, and end.
fn burst() {
    let (go_on, wait) = gorun::channel::<()>(0);
    let (begun, all) = (WaitGroup::new(), WaitGroup::new());
    begun.add(BURST);
    for _ in 0..BURST {
        let (wait, begun) = (wait.clone(), begun.clone());
        all.go(move || {
            begun.done();
            assert!(wait.recv().is_err());
        });
    }
    begun.wait();
    go_on.close();
    all.wait();
}

#[test]
fn the_next_burst_finds_its_stacks_warm() {
    let _alone = alone();
    for mode in modes() {
        let runtime = runtime(mode, Duration::from_secs(3600));
        let runtime = &runtime;
        let burst_faults = || {
            let before = faults();
            runtime.go(burst).unwrap().join().unwrap();
            faults() - before
        };
        let first = burst_faults();
        assert!(first >= BURST, "{mode}: {first} page faults for {BURST} stacks");
        // Not none: a worker that has more of them than the last time finds some in the other's cache.
        let second = burst_faults();
        assert!(second < BURST / 2, "{mode}: {second} page faults after {first}");
    }
}

#[test]
fn what_nobody_needs_is_given_back() {
    let _alone = alone();
    for mode in modes() {
        for idle in [Duration::ZERO, Duration::from_millis(20)] {
            let runtime = runtime(mode, idle);
            let before = resident();
            runtime.go(burst).unwrap().join().unwrap();
            // 256 for each worker stay for good, with up to three pages if they are isolated (frames without optimisation
            // don't fit on the one beside the thread-locals), and what else lies beside stacks.
            let most = before + if mode == ThreadLocals::Isolated { BURST * 3 / 4 } else { BURST / 2 };
            let until = Instant::now() + Duration::from_secs(30);
            while resident() > most {
                assert!(Instant::now() < until, "{mode}, {idle:?}: {} pages more than before", resident() - before);
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn a_runtime_that_ends_gives_all_of_it_back() {
    let _alone = alone();
    for mode in modes() {
        // What the process needs once.
        runtime(mode, Duration::from_secs(3600)).run(burst);
        let before = resident();
        let kept = runtime(mode, Duration::from_secs(3600));
        kept.go(burst).unwrap().join().unwrap();
        assert!(resident() >= before + BURST * 3 / 4, "{mode}: kept, {} after {before}", resident());
        drop(kept);
        assert!(resident() < before + BURST / 8, "{mode}: {} pages after {before} of {PAGE} bytes", resident());
    }
}
