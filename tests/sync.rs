//! `Mutex`, `WaitGroup` and `time::sleep` from the outside, on goroutines, on plain threads and between them.
//!
//! Go's `sync` documentation is the source. A lost wake-up hangs its test; `within` turns that into a failure.

use gorun::sync::{Mutex, MutexGuard, WaitGroup};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);
/// Long enough for a loaded machine, short enough to tell a hang.
const GENEROUS: Duration = Duration::from_secs(60);

/// Runs `f` on a thread of its own and fails when it has not ended in a generous time.
fn within<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (told, tells) = mpsc::channel();
    let body = thread::spawn(move || {
        let _ = told.send(f());
    });
    match tells.recv_timeout(GENEROUS) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("nothing moves any more"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match body.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("it sends before it ends"),
        },
    }
}

/// Waits, without sleeping, until `condition` holds.
fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < GENEROUS, "the condition never came true");
        thread::yield_now();
    }
}

#[test]
fn a_mutex_lets_one_in_at_a_time() {
    within(|| {
        let mutex = Arc::new(Mutex::new((0usize, false)));
        let body = || {
            let mutex = mutex.clone();
            move || {
                for n in 0..2000 {
                    let mut inside = if n % 3 == 0 {
                        loop {
                            match mutex.try_lock() {
                                Some(guard) => break guard,
                                None => gorun::yield_now(),
                            }
                        }
                    } else {
                        mutex.lock()
                    };
                    assert!(!std::mem::replace(&mut inside.1, true), "somebody else is inside");
                    if n % 16 == 0 {
                        gorun::yield_now(); // with the lock held: others have to wait
                    }
                    inside.0 += 1;
                    inside.1 = false;
                }
            }
        };
        let goroutines: Vec<_> = (0..8).map(|_| gorun::go(body())).collect();
        let threads: Vec<_> = (0..2).map(|_| thread::spawn(body())).collect();
        goroutines.into_iter().for_each(|g| g.join().unwrap());
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(mutex.lock().0, 10 * 2000);
    });
}

#[test]
fn a_try_lock_that_fails_leaves_the_lock_alone() {
    within(|| {
        let mutex = Arc::new(Mutex::new(0));
        let held = mutex.lock();
        for _ in 0..3 {
            assert!(mutex.try_lock().is_none());
            let other = mutex.clone();
            assert!(gorun::go(move || other.try_lock().is_none()).join().unwrap());
        }
        drop(held);
        *mutex.try_lock().expect("it is free") += 1;
        assert_eq!(*mutex.lock(), 1);
    });
}

#[test]
fn who_waits_for_a_mutex_holds_no_worker() {
    within(|| {
        let runtime = gorun::runtime::Builder::new().workers(1).build().unwrap();
        runtime.run(|| {
            let mutex = Arc::new(Mutex::new(0));
            let held = mutex.lock();
            let others: Vec<_> = (0..50)
                .map(|_| {
                    let mutex = mutex.clone();
                    gorun::go(move || *mutex.lock() += 1)
                })
                .collect();
            // The one worker runs this although fifty wait.
            assert_eq!(gorun::go(|| 1).join().unwrap(), 1);
            assert_eq!(*held, 0);
            drop(held);
            others.into_iter().for_each(|o| o.join().unwrap());
            assert_eq!(*mutex.lock(), 50);
        });
    });
}

#[test]
fn a_waiter_that_starves_is_handed_the_lock() {
    within(|| {
        let runtime = gorun::runtime::Builder::new().workers(1).build().unwrap();
        runtime.run(|| {
            let mutex = Arc::new(Mutex::new(0));
            let mut held = Some(mutex.lock());
            let waiter = gorun::go({
                let mutex = mutex.clone();
                move || *mutex.lock() += 1
            });
            // Nobody else runs between an unlock and the try: one worker, and it is ours. So a lock that is taken
            // then was handed over. It takes more attempts only if the waiter was slow to get into the queue.
            let handed = (0..200).any(|_| {
                gorun::yield_now();
                let since = Instant::now();
                while since.elapsed() < Duration::from_millis(2) {
                    std::hint::spin_loop(); // with the lock held: the waiter starves
                }
                drop(held.take());
                held = mutex.try_lock();
                held.is_none()
            });
            assert!(handed, "its owner can always take it again");
            waiter.join().unwrap();
            assert_eq!(*mutex.try_lock().expect("given back"), 1);
        });
    });
}

#[test]
fn a_greedy_owner_does_not_keep_the_others_out() {
    within(|| {
        // The holder gives the lock back and takes it again at once, a greedy loop on its own thread; the others
        // would barge in for ever.
        let mutex = Arc::new(Mutex::new(()));
        let (waiting, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let greedy = thread::spawn({
            let (mutex, waiting, done) = (mutex.clone(), waiting.clone(), done.clone());
            move || {
                let start = Instant::now();
                while done.load(Ordering::SeqCst) < 20 {
                    assert!(start.elapsed() < GENEROUS, "the others starve");
                    let _guard = mutex.lock();
                    waiting.store(true, Ordering::SeqCst);
                    let since = Instant::now();
                    while since.elapsed() < Duration::from_micros(200) {
                        std::hint::spin_loop();
                    }
                }
            }
        });
        until(|| waiting.load(Ordering::SeqCst));
        let others: Vec<_> = (0..20)
            .map(|_| {
                let (mutex, done) = (mutex.clone(), done.clone());
                gorun::go(move || {
                    let _guard = mutex.lock();
                    done.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        others.into_iter().for_each(|o| o.join().unwrap());
        greedy.join().unwrap();
    });
}

#[test]
fn an_aborted_waiter_leaves_the_mutex_to_the_others() {
    within(|| {
        for round in 0..50 {
            let mutex = Arc::new(Mutex::new(0));
            let held = mutex.lock();
            let began = Arc::new(AtomicUsize::new(0));
            let waiters: Vec<_> = (0..8)
                .map(|_| {
                    let (mutex, began) = (mutex.clone(), began.clone());
                    gorun::go(move || {
                        began.fetch_add(1, Ordering::SeqCst);
                        *mutex.lock() += 1;
                    })
                })
                .collect();
            until(|| began.load(Ordering::SeqCst) == 8);
            if round % 2 == 0 {
                // The aborts run against the unlock.
                let unlocked = gorun::go(|| ());
                waiters.iter().step_by(2).for_each(gorun::JoinHandle::abort);
                drop(held);
                unlocked.join().unwrap();
            } else {
                waiters.iter().step_by(2).for_each(gorun::JoinHandle::abort);
                for n in [0, 2, 4, 6] {
                    until(|| waiters[n].is_finished());
                }
                drop(held);
            }
            let mut through = 0;
            for (n, waiter) in waiters.into_iter().enumerate() {
                match waiter.join() {
                    Ok(()) => through += 1,
                    Err(error) => assert!(error.is_aborted() && n % 2 == 0),
                }
            }
            assert_eq!(*mutex.lock(), through);
            assert!(if round % 2 == 0 { through >= 4 } else { through == 4 });
            assert!(mutex.try_lock().is_some());
        }
    });
}

#[test]
fn a_panic_with_the_lock_held_unlocks_and_poisons_nothing() {
    within(|| {
        let mutex = Arc::new(Mutex::new(1));
        for way in 0..3 {
            let inside = Arc::new(AtomicBool::new(false));
            let owner = gorun::go({
                let (mutex, inside) = (mutex.clone(), inside.clone());
                move || {
                    let mut guard = mutex.lock();
                    *guard += 1;
                    inside.store(true, Ordering::SeqCst);
                    match way {
                        0 => std::panic::resume_unwind(Box::new("on purpose")),
                        1 => gorun::goexit(),
                        _ => gorun::time::sleep(HOUR),
                    }
                }
            });
            until(|| inside.load(Ordering::SeqCst));
            if way == 2 {
                assert!(mutex.try_lock().is_none());
                owner.abort();
            }
            assert!(owner.join().is_err());
            assert_eq!(*mutex.lock(), 2 + way);
        }
    });
}

#[test]
fn a_mutex_gives_its_value_and_shows_it() {
    fn send_sync<T: Send + Sync>() {}
    send_sync::<Mutex<std::cell::Cell<u8>>>();
    fn sync<T: Sync>() {}
    sync::<MutexGuard<'_, u8>>();
    static COUNT: Mutex<u8> = Mutex::new(0);
    *COUNT.lock() += 1;
    assert_eq!(*COUNT.lock(), 1);
    let mut mutex = Mutex::from(vec![1]);
    mutex.get_mut().push(2);
    assert_eq!(format!("{mutex:?}"), "Mutex([1, 2])");
    let guard = mutex.lock();
    assert_eq!((format!("{mutex:?}"), format!("{guard:?}")), ("Mutex(<locked>)".into(), "[1, 2]".into()));
    drop(guard);
    assert_eq!(mutex.into_inner(), [1, 2]);
    let unsized_one: &Mutex<[u8]> = &Mutex::new([1, 2, 3]);
    assert_eq!(unsized_one.lock().len(), 3);
    assert_eq!(*Mutex::<u8>::default().lock(), 0);
}

#[test]
fn a_wait_group_waits_for_all_and_for_nothing() {
    within(|| {
        let group = WaitGroup::new();
        group.wait();
        for _ in 0..3 {
            let count = Arc::new(AtomicUsize::new(0));
            for _ in 0..100 {
                let count = count.clone();
                group.go(move || {
                    gorun::yield_now();
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
            let waiters: Vec<_> = (0..4)
                .map(|_| {
                    let (group, count) = (group.clone(), count.clone());
                    gorun::go(move || {
                        group.wait();
                        count.load(Ordering::Relaxed)
                    })
                })
                .collect();
            group.wait();
            assert_eq!(count.load(Ordering::Relaxed), 100);
            waiters.into_iter().for_each(|w| assert_eq!(w.join().unwrap(), 100));
        }
    });
}

/// Tells when it is dropped, slowly, whether the group was done by then.
struct Owned(Arc<AtomicUsize>);

impl Drop for Owned {
    fn drop(&mut self) {
        for _ in 0..10 {
            thread::yield_now();
        }
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_groups_goroutine_is_done_however_it_ends() {
    within(|| {
        let runtime = gorun::runtime::Builder::new().workers(1).build().unwrap();
        runtime.run(|| {
            let dropped = Arc::new(AtomicUsize::new(0));
            for way in 0..5 {
                let group = WaitGroup::new();
                let owned = Owned(dropped.clone());
                let handle = group.go(move || {
                    let _owned = &owned;
                    match way {
                        0 => {}
                        1 => gorun::goexit(),
                        2 => std::panic::resume_unwind(Box::new("on purpose")),
                        _ => gorun::time::sleep(HOUR),
                    }
                });
                if way == 3 {
                    gorun::yield_now(); // it begins
                }
                if way >= 3 {
                    handle.abort(); // for 4, one worker: before it began
                }
                group.wait();
                assert_eq!(dropped.load(Ordering::SeqCst), way + 1, "what it owned is gone when it is done");
                assert_eq!(handle.join().is_ok(), way == 0);
            }
        });
        // From outside, where the drop and the wait are on two threads.
        let dropped = Arc::new(AtomicUsize::new(0));
        for round in 1..=200 {
            let group = WaitGroup::new();
            let owned = Owned(dropped.clone());
            let handle = group.go(move || {
                let _owned = &owned;
                gorun::time::sleep(HOUR);
            });
            handle.abort();
            group.wait();
            assert_eq!(dropped.load(Ordering::SeqCst), round);
        }
    });
}

#[test]
fn more_done_than_add_panics_and_leaves_the_group_usable() {
    let group = WaitGroup::new();
    let done = group.clone();
    let panic = thread::spawn(move || done.done()).join().unwrap_err();
    assert!(panic.downcast_ref::<&str>().unwrap().contains("negative WaitGroup counter"));
    let done = group.clone();
    assert!(gorun::go(move || done.done()).join().unwrap_err().is_panic());
    group.add(1);
    group.done();
    group.wait();
    group.add(usize::MAX);
    assert!(gorun::go(move || group.add(1)).join().unwrap_err().is_panic(), "the counter overflows");
}

#[test]
fn an_abort_ends_a_wait_and_the_others_go_on() {
    within(|| {
        let group = WaitGroup::new();
        group.add(1);
        let began = Arc::new(AtomicUsize::new(0));
        let waiters: Vec<_> = (0..6)
            .map(|_| {
                let (group, began) = (group.clone(), began.clone());
                gorun::go(move || {
                    began.fetch_add(1, Ordering::SeqCst);
                    group.wait();
                })
            })
            .collect();
        until(|| began.load(Ordering::SeqCst) == 6);
        waiters.iter().step_by(2).for_each(gorun::JoinHandle::abort);
        for n in [0, 2, 4] {
            until(|| waiters[n].is_finished());
        }
        assert!(!waiters[1].is_finished());
        group.done();
        for (n, waiter) in waiters.into_iter().enumerate() {
            assert_eq!(waiter.join().is_err(), n % 2 == 0);
        }
    });
}

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

/// As `until`, on a goroutine that shares its worker with what it waits for.
fn until_by_yielding(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < GENEROUS, "the condition never came true");
        gorun::yield_now();
    }
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
