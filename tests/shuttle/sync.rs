//! Locks and the rest of `sync`: exclusion, and nobody left waiting; among those who give up, too.

use super::{Bare, Log, Parties, SOON, model};
use gorun::context::background;
use gorun::sync::{Barrier, Condvar, Mutex, Once, OnceLock, RwLock, Semaphore, SingleFlight, WaitGroup};
use shuttle::thread;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One in the middle gives up, or has it.
#[test]
fn a_mutex_has_one_owner() {
    model(|| {
        let shared = Arc::new((Mutex::new(()), Bare::default()));
        let mut parties = Parties::default();
        for _ in 0..3 {
            let shared = shared.clone();
            parties.add(move || {
                for _ in 0..2 {
                    let _locked = shared.0.lock();
                    shared.1.add();
                }
            });
        }
        let mut hasty = 0;
        for _ in 0..2 {
            if let Some(_locked) = shared.0.try_lock_for(SOON) {
                shared.1.add();
                hasty += 1;
            }
        }
        parties.join();
        assert_eq!(shared.1.get(), 6 + hasty);
    });
}

/// A queue with room for one, of a mutex and two condition variables: nobody sleeps with work to do.
#[test]
fn a_condvar_loses_no_notification() {
    model(|| {
        #[derive(Default)]
        struct Queue {
            items: Mutex<VecDeque<usize>>,
            filled: Condvar,
            emptied: Condvar,
        }
        let (queue, received) = (Arc::new(Queue::default()), Log::default());
        let mut parties = Parties::default();
        for party in 0..2 {
            let other = queue.clone();
            parties.add(move || {
                for n in 0..2 {
                    let mut items = other.items.lock();
                    while !items.is_empty() {
                        other.emptied.wait(&mut items);
                    }
                    items.push_back(2 * party + n);
                    other.filled.notify_one();
                }
            });
            let (queue, log) = (queue.clone(), received.clone());
            parties.add(move || {
                for _ in 0..2 {
                    let mut items = queue.items.lock();
                    // The hasty one looks again and again: its notification must not end with it.
                    while items.is_empty() {
                        if party == 0 {
                            let _timed_out = queue.filled.wait_timeout(&mut items, SOON);
                            drop(items);
                            thread::yield_now();
                            items = queue.items.lock();
                        } else {
                            queue.filled.wait(&mut items);
                        }
                    }
                    log.add(items.pop_front().unwrap());
                    queue.emptied.notify_one();
                }
            });
        }
        parties.join();
        assert_eq!(received.sorted(), [0, 1, 2, 3]);
    });
}

#[test]
fn an_rwlock_has_readers_or_a_writer() {
    model(|| {
        let shared = Arc::new((RwLock::new(()), Bare::default(), Bare::default()));
        let mut parties = Parties::default();
        for _ in 0..2 {
            let writer = shared.clone();
            parties.add(move || {
                let _locked = writer.0.write();
                writer.1.add();
                writer.2.add();
            });
            let reader = shared.clone();
            parties.add(move || {
                for _ in 0..2 {
                    let _locked = reader.0.read();
                    let first = reader.1.get();
                    thread::yield_now();
                    assert_eq!(first, reader.2.get(), "seen half-written");
                }
            });
        }
        let mut hasty = 0;
        if let Some(_locked) = shared.0.try_write_for(SOON) {
            shared.1.add();
            shared.2.add();
            hasty = 1;
        }
        drop(shared.0.try_read_for(SOON));
        parties.join();
        assert_eq!((shared.1.get(), shared.2.get()), (2 + hasty, 2 + hasty));
    });
}

#[test]
fn a_semaphore_gives_out_no_more_than_it_has() {
    model(|| {
        let shared = Arc::new((Semaphore::new(3), AtomicUsize::new(0)));
        let mut parties = Parties::default();
        let mut party = |n: usize, hasty: bool| {
            let shared = shared.clone();
            parties.add(move || {
                for _ in 0..2 {
                    let permit = if hasty { shared.0.acquire_timeout(n, SOON) } else { Some(shared.0.acquire(n)) };
                    if let Some(_permit) = permit {
                        assert!(shared.1.fetch_add(n, Ordering::SeqCst) + n <= 3);
                        thread::yield_now();
                        shared.1.fetch_sub(n, Ordering::SeqCst);
                    }
                }
            });
        };
        for (n, hasty) in [(1, false), (2, false), (3, false), (3, true)] {
            party(n, hasty);
        }
        parties.join();
        assert_eq!(shared.0.available_permits(), 3);
    });
}

/// Somebody waits behind a large request that is given up: what there is is enough for it.
#[test]
fn who_waited_behind_one_that_gives_up_is_served() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(3));
        let (context, cancel) = background().with_cancel();
        let mut parties = Parties::default();
        let two = semaphore.acquire(2);
        for by_time in [true, false] {
            let (hasty, context) = (semaphore.clone(), context.clone());
            parties.add(move || match by_time {
                true => assert!(hasty.acquire_timeout(3, SOON).is_none()),
                false => assert!(hasty.acquire_with(&context, 2).is_err()),
            });
        }
        let small = semaphore.clone();
        parties.add(move || drop(small.acquire(1)));
        parties.add(move || cancel.cancel());
        parties.join();
        drop(two);
        assert_eq!(semaphore.available_permits(), 3);
    });
}

/// A context ends while its waiter is first in the queue, is handed its permits, or has not begun.
#[test]
fn a_semaphore_survives_contexts_that_end() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let (context, cancel) = background().with_cancel();
        let mut parties = Parties::default();
        for n in [1, 2] {
            let (patient, hasty, context) = (semaphore.clone(), semaphore.clone(), context.clone());
            parties.add(move || {
                let permit = patient.acquire(n);
                thread::yield_now();
                drop(permit);
            });
            parties.add(move || {
                while let Ok(permit) = hasty.acquire_with(&context, n) {
                    assert_eq!(permit.count(), n);
                    thread::yield_now();
                }
            });
        }
        parties.add(move || cancel.cancel());
        parties.join();
        assert_eq!(semaphore.available_permits(), 2);
    });
}

#[test]
fn a_wait_group_waits_for_all() {
    model(|| {
        let (group, done) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
        for round in 1..=2 {
            let mut parties = Parties::default();
            group.add(2);
            for _ in 0..2 {
                let (worker, counter) = (group.clone(), done.clone());
                parties.add(move || {
                    counter.fetch_add(1, Ordering::SeqCst);
                    worker.done();
                });
                let (waiter, counter) = (group.clone(), done.clone());
                parties.add(move || {
                    waiter.wait();
                    assert_eq!(counter.load(Ordering::SeqCst), 2 * round);
                });
            }
            group.wait();
            assert_eq!(done.load(Ordering::SeqCst), 2 * round);
            parties.join();
        }
    });
}

#[test]
fn it_is_done_once() {
    model(|| {
        let shared = Arc::new((Once::new(), OnceLock::new(), Bare::default()));
        let mut parties = Parties::default();
        for party in 0..3 {
            let shared = shared.clone();
            parties.add(move || {
                shared.0.call_once(|| shared.2.add());
                assert_eq!(shared.2.get(), 1);
                let first = *shared.1.get_or_init(|| {
                    thread::yield_now();
                    party
                });
                assert_eq!(shared.1.get(), Some(&first));
            });
        }
        let late = shared.clone();
        parties.add(move || {
            late.0.wait();
            assert_eq!(late.2.get(), 1);
        });
        parties.join();
        assert_eq!(shared.2.get(), 1);
    });
}

/// What is being done panics: one after the other of those who force it does it again, until it is done.
#[test]
fn it_is_done_again_when_it_failed() {
    model(|| {
        let shared = Arc::new((Once::new(), Bare::default()));
        let mut parties = Parties::default();
        for _ in 0..3 {
            let shared = shared.clone();
            parties.add(move || {
                let doing = || {
                    shared.0.call_once_force(|_| {
                        shared.1.add();
                        if shared.1.get() < 3 {
                            std::panic::resume_unwind(Box::new(()));
                        }
                    });
                };
                while std::panic::catch_unwind(std::panic::AssertUnwindSafe(doing)).is_err() {}
                assert_eq!(shared.1.get(), 3);
            });
        }
        parties.join();
        assert!(shared.0.is_completed());
    });
}

#[test]
fn a_barrier_lets_all_go_together() {
    model(|| {
        let shared = Arc::new((Barrier::new(3), AtomicUsize::new(0), AtomicUsize::new(0)));
        let mut parties = Parties::default();
        for _ in 0..3 {
            let shared = shared.clone();
            parties.add(move || {
                for round in 1..=2 {
                    shared.1.fetch_add(1, Ordering::SeqCst);
                    if shared.0.wait().is_leader() {
                        shared.2.fetch_add(1, Ordering::SeqCst);
                    }
                    assert!(shared.1.load(Ordering::SeqCst) >= 3 * round, "somebody was not there yet");
                }
            });
        }
        parties.join();
        assert_eq!(shared.2.load(Ordering::SeqCst), 2, "one leader a round");
    });
}

#[test]
fn of_one_key_one_flies() {
    model(|| {
        let shared = Arc::new((SingleFlight::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
        let mut parties = Parties::default();
        for _ in 0..3 {
            let shared = shared.clone();
            parties.add(move || {
                let (flight, _shared) = shared.0.run("key", || {
                    assert_eq!(shared.1.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                    thread::yield_now();
                    shared.1.fetch_sub(1, Ordering::SeqCst);
                    shared.2.fetch_add(1, Ordering::SeqCst)
                });
                assert!(flight < shared.2.load(Ordering::SeqCst));
            });
        }
        parties.join();
        assert_eq!(format!("{:?}", shared.0), "SingleFlight { under_way: Some(0), .. }", "nothing is left");
    });
}
