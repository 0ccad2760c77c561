//! Other people's deferred functions: what somebody leaves with crossbeam-epoch runs where its collector is entered next,
//! and no queue of the scheduler's may be such a place.
//!
//! The program is safe code throughout. Each test runs it in a child, which a mistake would kill.

#![forbid(unsafe_code)]

use gorun::runtime::{Builder, ThreadLocals, isolation};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const CHILD: &str = "GORUN_TEST_CHILD";
/// Long enough for a loaded machine, short enough to tell a hang.
const GENEROUS: Duration = Duration::from_secs(60);
const GOROUTINES: usize = 600;
const ROUNDS: usize = 4;
/// Every so many goroutines spawn so many each round: queues grow, and are stolen from.
const PARENTS: usize = 20;
const CHILDREN: usize = 100;

/// What a deferred drop does.
#[derive(Clone)]
enum Act {
    Send(gorun::Sender<usize>),
    AskWhoRuns,
    Yield,
    Panic,
    Spawn,
}

/// Counts itself and acts when it is dropped.
struct Deferred {
    act: Act,
    /// While the goroutines are at work. A thread's last moments belong to nobody, and a panic there would end the process,
    /// also where there are threads only.
    at_work: Arc<AtomicBool>,
    ran: Arc<AtomicUsize>,
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if !self.at_work.load(Ordering::SeqCst) {
            return;
        }
        self.ran.fetch_add(1, Ordering::SeqCst);
        match &self.act {
            Act::Send(tx) => tx.send(1).unwrap(),
            // The collector is entered by goroutines of this program alone.
            Act::AskWhoRuns => assert!(gorun::current().is_some(), "run by a worker that runs nobody"),
            Act::Yield => gorun::yield_now(),
            Act::Panic => panic!("on purpose"),
            Act::Spawn => drop(gorun::go(gorun::yield_now)),
        }
    }
}

/// Leaves a value with the collector, and has it collect what it can.
fn defer(act: Act, at_work: Arc<AtomicBool>, ran: Arc<AtomicUsize>) {
    let guard = crossbeam_epoch::pin();
    // Made after the collector was entered: if that panics this one is not dropped as well.
    let value = Box::new(Deferred { act, at_work, ran });
    guard.defer(move || drop(value));
    guard.flush();
}

/// Many goroutines that defer `act`, and wait for their next turn with it deferred.
fn program(mode: ThreadLocals, act: Act) {
    // Without spare workers no thread ends before the runtime does.
    let runtime = Builder::new().workers(4).spare_workers(0).thread_locals(mode).build().unwrap();
    let panics = matches!(act, Act::Panic);
    let (at_work, ran) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    // By way of the injector, of which workers take in batches.
    let outside: Vec<_> = (0..GOROUTINES).map(|_| runtime.go(gorun::yield_now).unwrap()).collect();
    runtime.run(|| {
        let all: Vec<_> = (0..GOROUTINES)
            .map(|n| {
                let (act, at_work, ran) = (act.clone(), at_work.clone(), ran.clone());
                gorun::go(move || {
                    for _ in 0..ROUNDS {
                        let (act, at_work, ran) = (act.clone(), at_work.clone(), ran.clone());
                        // Somebody else's deferred function may run in here, and panic: that is the goroutine's own affair.
                        let outcome = catch_unwind(AssertUnwindSafe(|| defer(act, at_work, ran)));
                        assert!(panics || outcome.is_ok());
                        gorun::yield_now();
                        if n % PARENTS == 0 {
                            let children: Vec<_> = (0..CHILDREN).map(|_| gorun::go(gorun::yield_now)).collect();
                            children.into_iter().for_each(|child| child.join().unwrap());
                        }
                    }
                })
            })
            .collect();
        all.into_iter().chain(outside).for_each(|goroutine| goroutine.join().unwrap());
        at_work.store(false, Ordering::SeqCst);
    });
    assert!(ran.load(Ordering::SeqCst) > 0, "nothing was collected, so nothing was tried");
}

/// Runs the program in a child; `name` is the test that calls. In `.ci/run` none is skipped.
#[expect(clippy::print_stderr, reason = "for who reads the log of a test")]
fn survives(name: &str, mode: ThreadLocals, act: impl FnOnce() -> Act) {
    if mode == ThreadLocals::Isolated
        && let Err(reason) = isolation()
    {
        assert!(std::env::var_os("GORUN_TEST_COMPLETE").is_none(), "{reason}");
        eprintln!("SKIPPED: no isolated goroutines: {reason}");
        return;
    }
    if std::env::var_os(CHILD).is_some() {
        let act = act();
        if matches!(act, Act::Panic) {
            std::panic::set_hook(Box::new(|_| ()));
        }
        let (told, tells) = mpsc::channel();
        let body = std::thread::spawn(move || {
            program(mode, act);
            let _ = told.send(());
        });
        let told = tells.recv_timeout(GENEROUS);
        assert_ne!(told, Err(mpsc::RecvTimeoutError::Timeout), "nothing moves any more");
        return body.join().unwrap();
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    let end = stderr.lines().rev().take(12).collect::<Vec<_>>();
    assert!(child.status.success() && stdout.contains("1 passed"), "{:?}: {end:#?}", child.status);
}

fn send() -> Act {
    // Full most of the time, so that the drop waits.
    let (tx, rx) = gorun::channel(1);
    // Received to the end, by a plain thread that ends when the last sender is gone.
    drop(std::thread::spawn(move || rx.iter().sum::<usize>()));
    Act::Send(tx)
}

#[test]
fn isolated_a_deferred_drop_sends() {
    survives("isolated_a_deferred_drop_sends", ThreadLocals::Isolated, send);
}

#[test]
fn isolated_a_deferred_drop_asks_who_runs() {
    survives("isolated_a_deferred_drop_asks_who_runs", ThreadLocals::Isolated, || Act::AskWhoRuns);
}

#[test]
fn isolated_a_deferred_drop_yields() {
    survives("isolated_a_deferred_drop_yields", ThreadLocals::Isolated, || Act::Yield);
}

#[test]
fn isolated_a_deferred_drop_panics() {
    survives("isolated_a_deferred_drop_panics", ThreadLocals::Isolated, || Act::Panic);
}

#[test]
fn isolated_a_deferred_drop_spawns() {
    survives("isolated_a_deferred_drop_spawns", ThreadLocals::Isolated, || Act::Spawn);
}

#[test]
fn pinned_a_deferred_drop_sends() {
    survives("pinned_a_deferred_drop_sends", ThreadLocals::Pinned, send);
}

#[test]
fn pinned_a_deferred_drop_asks_who_runs() {
    survives("pinned_a_deferred_drop_asks_who_runs", ThreadLocals::Pinned, || Act::AskWhoRuns);
}

#[test]
fn pinned_a_deferred_drop_yields() {
    survives("pinned_a_deferred_drop_yields", ThreadLocals::Pinned, || Act::Yield);
}

#[test]
fn pinned_a_deferred_drop_panics() {
    survives("pinned_a_deferred_drop_panics", ThreadLocals::Pinned, || Act::Panic);
}
