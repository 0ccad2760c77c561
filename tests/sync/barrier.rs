//! `Barrier`, by std's documentation.

use super::{let_others_wait, on_one_worker, within};
use gorun::sync::Barrier;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

// "Barriers are re-usable after all threads have rendezvoused once, and can be used continuously." "A single (arbitrary)
// thread will receive a BarrierWaitResult that returns true" (std::sync::Barrier::wait)
#[test]
fn all_go_on_together_round_after_round() {
    within(|| {
        let (barrier, came, leaders) =
            (Arc::new(Barrier::new(6)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let body = || {
            let (barrier, came, leaders) = (barrier.clone(), came.clone(), leaders.clone());
            move || {
                for round in 1..=200 {
                    came.fetch_add(1, Ordering::Relaxed);
                    if barrier.wait().is_leader() {
                        leaders.fetch_add(1, Ordering::Relaxed);
                    }
                    // All of this round, and nobody of the next.
                    assert_eq!(came.load(Ordering::Relaxed), 6 * round);
                    barrier.wait();
                }
            }
        };
        let goroutines: Vec<_> = (0..4).map(|_| gorun::go(body())).collect();
        let threads: Vec<_> = (0..2).map(|_| thread::spawn(body())).collect();
        goroutines.into_iter().for_each(|g| g.join().unwrap());
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(leaders.load(Ordering::Relaxed), 200);
    });
}

#[test]
fn who_is_aborted_has_not_come() {
    on_one_worker(|| {
        let barrier = Arc::new(Barrier::new(3));
        let come = || {
            let barrier = barrier.clone();
            let goroutine = gorun::go(move || barrier.wait().is_leader());
            let_others_wait();
            goroutine
        };
        let (one, aborted) = (come(), come());
        assert_eq!(format!("{barrier:?}"), "Barrier { n: 3, arrived: 2 }");
        aborted.abort();
        assert!(aborted.join().unwrap_err().is_aborted());
        let two = come();
        assert!(!one.is_finished() && !two.is_finished());
        assert!(barrier.wait().is_leader());
        assert!(!one.join().unwrap() && !two.join().unwrap());
        assert_eq!(format!("{barrier:?}"), "Barrier { n: 3, arrived: 0 }");
    });
}

#[test]
fn a_barrier_for_nobody_is_one_for_one() {
    for n in 0..2 {
        let barrier = Barrier::new(n);
        assert!(barrier.wait().is_leader() && barrier.wait().is_leader());
    }
}
