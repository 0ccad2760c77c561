//! Who runs first of several that are woken together: on one worker, whoever waited first.

mod common;

use common::child::in_mode;
use common::{one_worker, others_wait, within};
use gorun::runtime::ThreadLocals;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Runs `f` on one worker, once for each kind of goroutine that can be had, with a list to note who ran.
fn on_one_worker(f: impl Fn(&Arc<Mutex<Vec<u32>>>) + Clone + Send + Sync + 'static) {
    within(move || {
        for mode in [ThreadLocals::Pinned, ThreadLocals::Isolated] {
            if let Some(runtime) = in_mode(one_worker(), mode) {
                let (ran, f) = (Arc::new(Mutex::new(Vec::new())), f.clone());
                runtime.run(|| f(&ran));
                assert_eq!(*ran.lock().unwrap(), [0, 1, 2, 3, 4], "{mode}");
            }
        }
    });
}

#[test]
fn sleepers_that_are_due_together_go_on_in_the_order_of_their_deadlines() {
    on_one_worker(|ran| {
        // How long they have to fall asleep. A machine that took longer is given more, up to half a minute.
        let mut room = Duration::from_millis(30);
        loop {
            ran.lock().unwrap().clear();
            let base = Instant::now() + room;
            let sleepers = [3, 0, 4, 1, 2].map(|n| {
                let ran = ran.clone();
                gorun::go(move || {
                    gorun::time::sleep_until(base + Duration::from_millis(1) * n);
                    ran.lock().unwrap().push(n);
                })
            });
            others_wait();
            let all_asleep = Instant::now() < base;
            // The worker is ours until all are due.
            while Instant::now() < base + Duration::from_millis(10) {
                std::hint::spin_loop();
            }
            sleepers.into_iter().for_each(|s| s.join().unwrap());
            // Else some never slept, and the test has shown nothing.
            if all_asleep {
                break;
            }
            room *= 2;
            assert!(room < Duration::from_secs(40), "the machine stands still");
        }
    });
}

/// Five goroutines that wait, one after the other, in `wait`; then `wake` wakes them all.
fn wake_five(ran: &Arc<Mutex<Vec<u32>>>, wait: impl Fn() + Clone + Send + Sync + 'static, wake: impl FnOnce()) {
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
