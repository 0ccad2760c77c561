//! `time::timeout`: what it gives, and that nothing of the call is left when it returns.

mod common;

use common::child::in_mode;
use common::within;
use gorun::runtime::{Builder, ThreadLocals};
use gorun::time::{Duration, Instant, sleep, timeout, timeout_at};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

/// Counts its drops.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// From a goroutine and from a plain thread.
fn both(check: impl Fn() + Send + Sync) {
    check();
    Builder::new().workers(2).build().unwrap().run(check);
}

#[test]
fn a_call_in_time_gives_its_value() {
    both(|| {
        let borrowed = String::from("value");
        assert_eq!(timeout(LONG, || borrowed.as_str()), Ok("value"));
        assert_eq!(timeout(Duration::MAX, || borrowed.len()), Ok(5));
    });
}

#[test]
fn a_call_that_takes_too_long_is_over_when_timeout_returns() {
    both(|| {
        let dropped = AtomicUsize::new(0);
        let start = Instant::now();
        let result = timeout(SHORT, || {
            let _on_its_stack = Counted(&dropped);
            sleep(LONG);
        });
        assert!(result.is_err());
        assert!(start.elapsed() >= SHORT);
        let begun = dropped.load(Ordering::Relaxed);
        assert!(begun <= 1);
        // What it has captured goes, whether it has begun or not.
        let captured = Counted(&dropped);
        let result = timeout(SHORT, move || {
            let _captured = &captured;
            sleep(LONG);
        });
        assert!(result.is_err());
        assert_eq!(dropped.load(Ordering::Relaxed), begun + 1);
    });
}

#[test]
fn a_deadline_that_has_passed_ends_a_call_that_waits() {
    both(|| assert!(timeout_at(Instant::now(), || sleep(LONG)).is_err()));
}

/// The result was there when the call had ended, though the time was up: it is not lost.
#[test]
fn a_late_value_is_given() {
    /// Time enough for the call to begin, on a busy machine too: one that has not is ended.
    const BEGINS: Duration = Duration::from_millis(500);
    Builder::new().workers(1).build().unwrap().run(|| {
        let late = timeout(BEGINS, || {
            // Holds up the only worker until it is too late.
            let start = Instant::now();
            while start.elapsed() < 2 * BEGINS {
                std::hint::spin_loop();
            }
            7
        });
        assert_eq!(late, Ok(7));
    });
}

#[test]
fn a_panic_goes_on_in_the_caller() {
    both(|| {
        let panic = catch_unwind(AssertUnwindSafe(|| timeout(LONG, || std::panic::panic_any(17u8)))).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&17u8));
    });
}

/// On whose stack a destructor waits, so many times within each other.
struct Waits(u32);

impl Drop for Waits {
    fn drop(&mut self) {
        if self.0 > 0 {
            let within = Waits(self.0 - 1);
            let call = move || {
                let _within = within;
                sleep(LONG);
            };
            assert!(timeout(SHORT, call).is_err());
        }
    }
}

/// A pinned goroutine that began on the thread of one that panics could not be told from it, nor be aborted.
fn waits_in_destructors(builder: Builder, depth: u32) {
    for mode in [ThreadLocals::Pinned, ThreadLocals::Isolated] {
        let Some(runtime) = in_mode(builder.clone(), mode) else { continue };
        runtime.run(move || {
            for by_abort in [true, false] {
                let (tell, told) = gorun::channel(0);
                let panics = gorun::go(move || {
                    let _waits = Waits(depth);
                    tell.send(()).unwrap();
                    if by_abort {
                        sleep(LONG);
                    }
                    std::panic::resume_unwind(Box::new(()));
                });
                told.recv().unwrap();
                panics.abort();
                let end = panics.join().unwrap_err();
                assert!(end.is_aborted() || (!by_abort && end.is_panic()));
            }
        });
    }
}

#[test]
fn in_a_destructor_during_a_panic_it_ends_the_call_as_anywhere() {
    for workers in [1, 2] {
        within(move || waits_in_destructors(Builder::new().workers(workers), 1));
    }
}

#[test]
fn so_it_does_in_a_destructor_of_that_call() {
    for workers in [1, 2, 8] {
        within(move || waits_in_destructors(Builder::new().workers(workers), 6));
    }
}

#[test]
fn goexit_ends_the_caller() {
    let caller = gorun::go(|| timeout(LONG, || -> () { gorun::goexit() }));
    assert!(caller.join().unwrap_err().is_goexit());
}

#[test]
fn an_aborted_caller_aborts_its_call_first() {
    Builder::new().workers(2).build().unwrap().run(|| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (tx, rx) = gorun::channel(0);
        let caller = gorun::go({
            let dropped = dropped.clone();
            move || {
                timeout(LONG, || {
                    let _on_its_stack = Counted(&dropped);
                    tx.send(()).unwrap();
                    sleep(LONG);
                })
            }
        });
        rx.recv().unwrap();
        caller.abort();
        assert!(caller.join().unwrap_err().is_aborted());
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    });
}

/// Deadlines hit at every point of short calls: each call gives its value or is ended, never both.
#[test]
fn deadlines_race_results() {
    const N: u64 = 3000;
    gorun::run(|| {
        let given = AtomicUsize::new(0);
        let dropped = AtomicUsize::new(0);
        gorun::scope(|s| {
            for n in 0..N {
                let (given, dropped) = (&given, &dropped);
                s.go(move || {
                    let value = timeout(Duration::from_micros(n % 60), || {
                        sleep(Duration::from_micros(n % 30));
                        Counted(dropped)
                    });
                    if let Ok(value) = value {
                        given.fetch_add(1, Ordering::Relaxed);
                        drop(value);
                    }
                });
            }
        });
        assert_eq!(given.load(Ordering::Relaxed), dropped.load(Ordering::Relaxed));
    });
}

#[test]
fn timeouts_nest() {
    both(|| {
        let outer = timeout(SHORT, || timeout(LONG, || sleep(LONG)));
        assert!(outer.is_err());
        let inner = timeout(LONG, || timeout(SHORT, || sleep(LONG)));
        assert!(inner.unwrap().is_err());
    });
}
