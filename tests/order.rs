//! Who runs first of several that are woken together: on one worker, whoever waited first.

use gorun::runtime::{Builder, ThreadLocals};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Runs `f` on one worker, once for each kind of goroutine that can be had, with a list to note who ran.
fn on_one_worker(f: impl Fn(&Arc<Mutex<Vec<u32>>>) + Send + Sync) {
    for mode in [ThreadLocals::Pinned, ThreadLocals::Isolated] {
        if let Ok(runtime) = Builder::new().workers(1).thread_locals(mode).build() {
            let ran = Arc::new(Mutex::new(Vec::new()));
            runtime.run(|| f(&ran));
            assert_eq!(*ran.lock().unwrap(), [0, 1, 2, 3, 4], "{mode}");
        }
    }
}

#[test]
fn sleepers_that_are_due_together_go_on_in_the_order_of_their_deadlines() {
    on_one_worker(|ran| {
        loop {
            ran.lock().unwrap().clear();
            let base = Instant::now() + Duration::from_millis(50);
            let begun = Arc::new(AtomicUsize::new(0));
            let sleepers: Vec<_> = [3, 0, 4, 1, 2]
                .into_iter()
                .map(|n| {
                    let (ran, begun) = (ran.clone(), begun.clone());
                    gorun::go(move || {
                        begun.fetch_add(1, Ordering::Relaxed);
                        gorun::time::sleep_until(base + Duration::from_millis(1) * n);
                        ran.lock().unwrap().push(n);
                    })
                })
                .collect();
            while begun.load(Ordering::Relaxed) < 5 {
                gorun::yield_now();
            }
            let all_asleep = Instant::now() < base;
            // The worker is ours until all are due.
            while Instant::now() < base + Duration::from_millis(10) {
                std::hint::spin_loop();
            }
            sleepers.into_iter().for_each(|s| s.join().unwrap());
            // Else the machine took its time, and some never slept.
            if all_asleep {
                break;
            }
        }
    });
}

/// Five goroutines that wait, one after the other, in `wait`; then `wake` wakes them all.
fn wake_five(ran: &Arc<Mutex<Vec<u32>>>, wait: impl Fn() + Clone + Send + 'static, wake: impl FnOnce()) {
    let waiters: Vec<_> = (0..5)
        .map(|n| {
            let (ran, wait) = (ran.clone(), wait.clone());
            let waiter = gorun::go(move || {
                wait();
                ran.lock().unwrap().push(n);
            });
            gorun::yield_now();
            waiter
        })
        .collect();
    assert!(ran.lock().unwrap().is_empty());
    wake();
    waiters.into_iter().for_each(|w| w.join().unwrap());
}

#[test]
fn receivers_of_a_channel_that_is_closed_go_on_in_their_order() {
    on_one_worker(|ran| {
        let (tx, rx) = gorun::channel::<()>(0);
        wake_five(ran, move || assert!(rx.recv().is_err()), || tx.close());
    });
}

#[test]
fn senders_to_a_channel_that_is_closed_go_on_in_their_order() {
    on_one_worker(|ran| {
        let (tx, rx) = gorun::channel::<()>(0);
        wake_five(ran, move || assert!(tx.send(()).is_err()), || drop(rx));
    });
}

#[test]
fn waiters_of_a_group_go_on_in_their_order() {
    on_one_worker(|ran| {
        let group = gorun::sync::WaitGroup::new();
        group.add(1);
        let waiters = group.clone();
        wake_five(ran, move || waiters.wait(), || group.done());
    });
}
