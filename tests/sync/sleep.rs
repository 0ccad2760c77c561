//! `time::sleep`: goroutines that are asleep hold no worker.

use super::{GENEROUS, HOUR, until_by_yielding, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_sleep_lasts_at_least_as_long_as_it_says() {
    within(|| {
        let runtime = gorun::runtime::Builder::new().workers(1).build().unwrap();
        runtime.run(|| {
            let base = Instant::now();
            let sleepers: Vec<_> = (0..100u64)
                .rev()
                .map(|n| {
                    gorun::go(move || {
                        let deadline = base + Duration::from_millis(10 + n % 7);
                        gorun::time::sleep_until(deadline);
                        assert!(Instant::now() >= deadline);
                        let start = Instant::now();
                        gorun::time::sleep(Duration::from_millis(n % 5));
                        assert!(start.elapsed() >= Duration::from_millis(n % 5));
                    })
                })
                .collect();
            sleepers.into_iter().for_each(|s| s.join().unwrap());
        });
        for sleep in [
            || gorun::time::sleep(Duration::from_millis(5)),
            || gorun::time::sleep_until(Instant::now() + Duration::from_millis(5)),
        ] {
            let start = Instant::now();
            sleep();
            assert!(start.elapsed() >= Duration::from_millis(5), "a plain thread's");
        }
        gorun::time::sleep(Duration::ZERO);
        gorun::time::sleep_until(Instant::now());
    });
}

#[test]
fn who_sleeps_holds_no_worker_and_the_earlier_deadline_comes_first() {
    within(|| {
        let runtime = gorun::runtime::Builder::new().workers(1).build().unwrap();
        runtime.run(|| {
            let began = Arc::new(AtomicUsize::new(0));
            let long: Vec<_> = (0..50u32)
                .map(|n| {
                    let began = began.clone();
                    gorun::go(move || {
                        began.fetch_add(1, Ordering::SeqCst);
                        gorun::time::sleep(HOUR * (50 - n));
                    })
                })
                .collect();
            while began.load(Ordering::SeqCst) < 50 {
                gorun::yield_now();
            }
            // Set last, due first: it ends although the one worker has fifty others asleep.
            gorun::go(|| gorun::time::sleep(Duration::from_millis(5))).join().unwrap();
            assert!(long.iter().all(|l| !l.is_finished()));
            // From the middle, the front and the back of the timers: the rest go on sleeping, and new ones wake.
            for n in [25, 49, 0] {
                long[n].abort();
                until_by_yielding(|| long[n].is_finished());
                gorun::go(|| gorun::time::sleep(Duration::from_millis(1))).join().unwrap();
            }
            assert_eq!(long.iter().filter(|l| l.is_finished()).count(), 3);
        });
    });
}

#[test]
fn a_sleep_of_nothing_lets_the_others_run() {
    within(|| {
        for sleep in [|| gorun::time::sleep(Duration::ZERO), || gorun::time::sleep_until(Instant::now())] {
            let runtime = gorun::runtime::Builder::new().workers(1).build().unwrap();
            runtime.run(move || {
                let ran = Arc::new(AtomicBool::new(false));
                let other = ran.clone();
                gorun::go(move || other.store(true, Ordering::SeqCst));
                assert!(!ran.load(Ordering::SeqCst), "one worker, and it is ours");
                let start = Instant::now();
                while !ran.load(Ordering::SeqCst) {
                    assert!(start.elapsed() < GENEROUS, "it does not yield");
                    sleep();
                }
            });
        }
    });
}

#[test]
fn an_abort_ends_a_sleep_even_an_endless_one() {
    within(|| {
        for length in [HOUR, Duration::MAX] {
            let sleeper = gorun::go(move || gorun::time::sleep(length));
            gorun::go(|| ()).join().unwrap();
            sleeper.abort();
            assert!(sleeper.join().unwrap_err().is_aborted());
        }
    });
}
