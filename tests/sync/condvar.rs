//! `Condvar`, by the documentation of Go's `sync.Cond`.

use super::{HOUR, until, within};
use gorun::sync::{Condvar, Mutex};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// `waiting` waiters, the tickets given out, and who was woken in which order.
#[derive(Default)]
struct Place {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: usize,
    woken: Vec<usize>,
}

impl Place {
    /// One more waits when this returns: it has unlocked the mutex.
    fn enter(self: &Arc<Place>, n: usize, thread: bool) -> Box<dyn FnOnce() + Send> {
        let place = self.clone();
        let body = move || {
            let mut state = place.state.lock();
            state.waiting += 1;
            place.changed.wait(&mut state);
            state.woken.push(n);
        };
        let before = self.state.lock().waiting;
        let join: Box<dyn FnOnce() + Send> = if thread {
            let body = thread::spawn(body);
            Box::new(move || body.join().unwrap())
        } else {
            let body = gorun::go(body);
            Box::new(move || body.join().unwrap())
        };
        until(|| self.state.lock().waiting > before);
        join
    }

    fn woken(&self) -> usize {
        self.state.lock().woken.len()
    }
}

// Go, `sync.Cond.Signal`: "Signal wakes one goroutine waiting on c, if there is any. It is allowed but not required for the
// caller to hold c.L during the call." `Cond.Wait`: "Unlike in other systems, Wait cannot return unless awoken by
// Cond.Broadcast or Cond.Signal."
#[test]
fn notify_one_wakes_one_in_the_order_of_coming() {
    within(|| {
        let place = Arc::new(Place::default());
        place.changed.notify_one(); // nobody: not kept for later
        let waiters: Vec<_> = (0..6).map(|n| place.enter(n, n % 3 == 0)).collect();
        for n in 1..=6 {
            // With the mutex or without.
            let held = (n % 2 == 0).then(|| place.state.lock());
            place.changed.notify_one();
            drop(held);
            until(|| place.woken() >= n);
            thread::yield_now();
            assert_eq!(place.woken(), n, "one for each");
        }
        waiters.into_iter().for_each(|join| join());
        assert_eq!(place.state.lock().woken, [0, 1, 2, 3, 4, 5]);
    });
}

// Go, `sync.Cond.Broadcast`: "Broadcast wakes all goroutines waiting on c."
#[test]
fn notify_all_wakes_all_and_nobody_later() {
    within(|| {
        let place = Arc::new(Place::default());
        place.changed.notify_all();
        let waiters: Vec<_> = (0..6).map(|n| place.enter(n, n % 3 == 0)).collect();
        place.changed.notify_all();
        waiters.into_iter().for_each(|join| join());
        assert_eq!(place.woken(), 6);
        let late = place.enter(6, false);
        thread::yield_now();
        assert_eq!(place.woken(), 6);
        place.changed.notify_all();
        late();
    });
}

// Go, `sync.Cond.Wait`: "Wait atomically unlocks c.L and suspends execution of the calling goroutine. After later resuming execution, Wait locks
// c.L before returning." And: "the caller should Wait in a loop".
#[test]
fn a_queue_of_one_place_loses_nothing() {
    within(|| {
        let place = Arc::new((Mutex::new(None::<u32>), Condvar::new(), Condvar::new()));
        let producers: Vec<_> = (0..4)
            .map(|n| {
                let place = place.clone();
                gorun::go(move || {
                    for i in 0..500 {
                        let mut slot = place.0.lock();
                        place.1.wait_while(&mut slot, |slot| slot.is_some());
                        *slot = Some(n * 500 + i);
                        place.2.notify_one();
                    }
                })
            })
            .collect();
        let take = move |n| {
            let place = place.clone();
            move || {
                let mut sum = 0u64;
                for _ in 0..n {
                    let mut slot = place.0.lock();
                    while slot.is_none() {
                        place.2.wait(&mut slot);
                    }
                    sum += u64::from(slot.take().unwrap());
                    place.1.notify_one();
                }
                sum
            }
        };
        let (on_goroutine, on_thread) = (gorun::go(take(1000)), thread::spawn(take(1000)));
        producers.into_iter().for_each(|p| p.join().unwrap());
        assert_eq!(on_goroutine.join().unwrap() + on_thread.join().unwrap(), (0..2000).sum::<u64>());
    });
}

#[test]
fn a_wait_ends_at_its_time_with_the_mutex() {
    within(|| {
        let body = || {
            let (mutex, condvar) = (Mutex::new(0), Condvar::new());
            let mut held = mutex.lock();
            let start = Instant::now();
            assert!(condvar.wait_timeout(&mut held, Duration::from_millis(3)).timed_out());
            assert!(start.elapsed() >= Duration::from_millis(3));
            assert!(condvar.wait_until(&mut held, start).timed_out());
            let mut looks = 0;
            let result = condvar.wait_timeout_while(&mut held, Duration::from_millis(3), |n| {
                looks += 1;
                *n == 0
            });
            assert!(result.timed_out() && looks == 2, "{looks} looks");
            assert!(!condvar.wait_timeout_while(&mut held, HOUR, |n| *n == 1).timed_out());
            assert!(mutex.is_locked());
        };
        body();
        gorun::go(body).join().unwrap();
    });
}

#[test]
fn a_notification_beats_the_time() {
    within(|| {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let mut held = shared.0.lock();
        let other = shared.clone();
        let notifier = gorun::go(move || {
            *other.0.lock() = true;
            other.1.notify_one();
        });
        assert!(!shared.1.wait_timeout(&mut held, HOUR).timed_out());
        assert!(*held);
        drop(held);
        notifier.join().unwrap();
        // One that has gone takes nobody's notification along.
        let mut held = shared.0.lock();
        assert!(shared.1.wait_timeout(&mut held, Duration::from_millis(1)).timed_out());
        *held = false;
        drop(held);
        let other = shared.clone();
        let waiter = gorun::go(move || other.1.wait_while(&mut other.0.lock(), |done| !*done));
        *shared.0.lock() = true;
        shared.1.notify_one();
        waiter.join().unwrap();
    });
}

#[test]
fn an_abort_unwinds_with_the_mutex_and_leaves_the_notification() {
    within(|| {
        for round in 0..50 {
            let place = Arc::new(Place::default());
            let (told, tells) = std::sync::mpsc::channel();
            let aborted = gorun::go({
                let place = place.clone();
                move || {
                    struct Tell(std::sync::mpsc::Sender<bool>, Arc<Place>);
                    impl Drop for Tell {
                        fn drop(&mut self) {
                            self.0.send(self.1.state.is_locked()).unwrap();
                        }
                    }
                    let mut state = place.state.lock();
                    let _tell = Tell(told, place.clone());
                    state.waiting += 1;
                    place.changed.wait(&mut state);
                }
            });
            until(|| place.state.lock().waiting == 1);
            let patient = place.enter(1, false);
            if round % 2 == 0 {
                // It can't end before it has the mutex again.
                let held = place.state.lock();
                aborted.abort();
                thread::yield_now();
                assert!(!aborted.is_finished());
                drop(held);
                assert!(aborted.join().unwrap_err().is_aborted());
                place.changed.notify_one();
            } else {
                // They race: whoever is first, the notification wakes one that goes on.
                let racer = gorun::go({
                    let place = place.clone();
                    move || place.changed.notify_one()
                });
                aborted.abort();
                racer.join().unwrap();
                if aborted.join().is_ok() {
                    place.changed.notify_one();
                }
            }
            assert!(tells.recv().unwrap(), "unwound with the mutex locked");
            patient();
            assert!(place.state.try_lock().is_some());
        }
    });
}
