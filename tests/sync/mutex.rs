//! `Mutex`.

use super::{GENEROUS, HOUR, let_others_wait, on_one_worker, until, until_by_yielding, within};
use gorun::sync::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

// Go, `sync.Mutex`: "A Mutex is a mutual exclusion lock. The zero value for a Mutex is an unlocked mutex." The value inside is
// no atomic: "the n'th call to Mutex.Unlock "synchronizes before" the m'th call to Mutex.Lock for any n < m", and "A successful
// call to Mutex.TryLock is equivalent to a call to Lock".
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

// Go, `sync.Mutex.TryLock`: "TryLock tries to lock m and reports whether it succeeded."
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

// Go, `sync.Mutex.Lock`: "If the lock is already in use, the calling goroutine blocks until the mutex is available."
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

// Go, internal/sync/mutex.go: "If a waiter fails to acquire the mutex for more than 1ms, it switches mutex to the starvation
// mode. In starvation mode ownership of the mutex is directly handed off from the unlocking goroutine to the waiter at the
// front of the queue."
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

// Go, internal/sync/mutex.go: "A woken up waiter does not own the mutex and competes with new arriving goroutines over the
// ownership. ... In such case it is queued at front of the wait queue."
#[test]
fn a_woken_waiter_that_comes_too_late_goes_to_the_front() {
    on_one_worker(|| {
        for _ in 0..50 {
            let (mutex, order) = (Arc::new(Mutex::new(())), Arc::new(std::sync::Mutex::new(Vec::new())));
            let held = mutex.lock();
            let waiters: Vec<_> = (0..5)
                .map(|n| {
                    let (mutex, order) = (mutex.clone(), order.clone());
                    let waiter = gorun::go(move || {
                        let _held = mutex.lock();
                        order.lock().unwrap().push(n);
                    });
                    let_others_wait();
                    waiter
                })
                .collect();
            drop(held); // wakes, or hands over to, the first
            let retaken = mutex.try_lock();
            let_others_wait(); // it comes, too late
            drop(retaken);
            waiters.into_iter().for_each(|w| w.join().unwrap());
            assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
        }
    });
}

// Go, `sync.Mutex.Unlock`: "A locked Mutex is not associated with a particular goroutine. It is allowed for one goroutine to
// lock a Mutex and then arrange for another goroutine to unlock it."
#[test]
fn another_goroutine_or_thread_unlocks() {
    within(|| {
        static MUTEX: Mutex<u32> = Mutex::new(0);
        let held = MUTEX.lock();
        let waiter = gorun::go(|| *MUTEX.lock() += 1);
        gorun::go(move || drop(held)).join().unwrap();
        waiter.join().unwrap();
        let held = MUTEX.lock();
        let waiter = thread::spawn(|| *MUTEX.lock() += 1);
        thread::spawn(move || drop(held)).join().unwrap();
        waiter.join().unwrap();
        assert_eq!(*MUTEX.lock(), 2);
    });
}

#[test]
fn a_lock_that_is_not_had_in_time_is_left_to_the_others() {
    within(|| {
        let mutex = Arc::new(Mutex::new(0));
        let try_both = |mutex: &Mutex<i32>| {
            let start = Instant::now();
            assert!(mutex.try_lock_for(Duration::from_millis(3)).is_none());
            assert!(start.elapsed() >= Duration::from_millis(3));
            assert!(mutex.try_lock_until(Instant::now()).is_none());
        };
        let held = mutex.lock();
        try_both(&mutex);
        let other = mutex.clone();
        gorun::go(move || try_both(&other)).join().unwrap();
        // One that has time enough gets it, and so do those before and behind whom others gave up.
        let patient: Vec<_> = [HOUR, Duration::MAX]
            .into_iter()
            .map(|time| {
                let (mutex, hasty) = (mutex.clone(), mutex.clone());
                let hasty = gorun::go(move || hasty.try_lock_for(Duration::from_micros(100)).is_none());
                let patient = gorun::go(move || *mutex.try_lock_for(time).unwrap() += 1);
                assert!(hasty.join().unwrap());
                patient
            })
            .collect();
        drop(held);
        patient.into_iter().for_each(|p| p.join().unwrap());
        assert_eq!(*mutex.try_lock_for(Duration::ZERO).unwrap(), 2);
        assert!(!mutex.is_locked());
    });
}

#[test]
fn time_runs_out_while_locks_are_handed_round() {
    within(|| {
        let mutex = Arc::new(Mutex::new(0u64));
        let hands: Vec<_> = (0..8)
            .map(|n| {
                let mutex = mutex.clone();
                gorun::go(move || {
                    let mut had = 0;
                    for turn in 0..1000 {
                        let time = Duration::from_micros((turn * 7 + n) % 60);
                        if let Some(mut held) = mutex.try_lock_for(time) {
                            *held += 1;
                            had += 1;
                            if turn % 8 == 0 {
                                gorun::yield_now();
                            }
                        }
                    }
                    had
                })
            })
            .collect();
        let had: u64 = hands.into_iter().map(|h| h.join().unwrap()).sum();
        assert_eq!(*mutex.lock(), had);
    });
}

/// Where `lock_api` takes a lock again behind a guard, an abort has to wait: unwinding there would leave a guard of a lock
/// that nobody has.
#[test]
fn an_abort_leaves_no_guard_without_a_lock() {
    on_one_worker(|| {
        let mutex = Arc::new(Mutex::new(0));
        // 1: it has unlocked. 2: somebody else has locked.
        let stage = Arc::new(AtomicUsize::new(0));
        let unlocked = gorun::go({
            let (mutex, stage) = (mutex.clone(), stage.clone());
            move || {
                let mut held = mutex.lock();
                MutexGuard::unlocked(&mut held, || {
                    stage.store(1, Ordering::SeqCst);
                    until_by_yielding(|| stage.load(Ordering::SeqCst) == 2);
                });
                *held += 1; // with the lock, and not yet aborted
                gorun::time::sleep(HOUR);
            }
        });
        until_by_yielding(|| stage.load(Ordering::SeqCst) == 1);
        let mut held = mutex.lock();
        stage.store(2, Ordering::SeqCst);
        let_others_wait(); // it wants the lock back
        unlocked.abort();
        let_others_wait();
        assert!(!unlocked.is_finished());
        *held += 10;
        drop(held);
        assert!(unlocked.join().unwrap_err().is_aborted());
        assert_eq!(*mutex.try_lock().expect("unlocked, once"), 11);
    });
}
