//! `Semaphore`, by the documentation of Go's `golang.org/x/sync/semaphore`.

use super::{HOUR, let_others_wait, on_one_worker, within};
use gorun::context::{ContextError, background};
use gorun::sync::Semaphore;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

// x/sync/semaphore, type Weighted: "Weighted provides a way to bound concurrent access to a resource."
#[test]
fn there_are_never_more_out_than_there_are() {
    within(|| {
        let (semaphore, out) = (Arc::new(Semaphore::new(5)), Arc::new(AtomicUsize::new(0)));
        let body = |seed: usize| {
            let (semaphore, out) = (semaphore.clone(), out.clone());
            move || {
                for turn in 0..1000 {
                    let n = (turn + seed) % 6;
                    let permit = match turn % 3 {
                        0 => semaphore.acquire_timeout(n, Duration::from_micros(turn as u64 % 50)),
                        1 => semaphore.try_acquire(n),
                        _ => Some(semaphore.acquire(n)),
                    };
                    if let Some(permit) = permit {
                        assert!(out.fetch_add(permit.count(), Ordering::SeqCst) + permit.count() <= 5);
                        if turn % 4 == 0 {
                            gorun::yield_now();
                        }
                        out.fetch_sub(n, Ordering::SeqCst);
                    }
                }
            }
        };
        let goroutines: Vec<_> = (0..6).map(|n| gorun::go(body(n))).collect();
        let threads: Vec<_> = (0..2).map(|n| thread::spawn(body(n))).collect();
        goroutines.into_iter().for_each(|g| g.join().unwrap());
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(semaphore.available_permits(), 5);
    });
}

// x/sync/semaphore, notifyWaiters in semaphore.go: "We could keep going (to try to find a waiter with a smaller request), but
// under load that could cause starvation for large requests; instead, we leave all remaining waiters blocked."
#[test]
fn a_large_request_is_not_overtaken() {
    on_one_worker(|| {
        let (semaphore, order) = (Arc::new(Semaphore::new(3)), Arc::new(std::sync::Mutex::new(Vec::new())));
        let two = semaphore.acquire(2);
        let ask = |n: usize| {
            let (semaphore, order) = (semaphore.clone(), order.clone());
            let goroutine = gorun::go(move || {
                let _permit = semaphore.acquire(n);
                order.lock().unwrap().push(n);
                let_others_wait();
            });
            let_others_wait();
            goroutine
        };
        let asking = [ask(3), ask(1), ask(2)];
        // One is free, and is kept for who wants three.
        assert_eq!(semaphore.available_permits(), 1);
        assert!(semaphore.try_acquire(1).is_none());
        assert!(semaphore.try_acquire(0).is_none());
        assert!(order.lock().unwrap().is_empty());
        drop(two);
        asking.into_iter().for_each(|g| g.join().unwrap());
        assert_eq!(order.lock().unwrap()[0], 3);
        assert_eq!(semaphore.available_permits(), 3);
    });
}

// x/sync/semaphore, Weighted.Acquire: "On failure, returns ctx.Err() and leaves the semaphore unchanged." And in semaphore.go:
// "If we're at the front and there're extra tokens left, notify other waiters."
#[test]
fn who_gives_up_takes_nothing_and_lets_the_next_go() {
    on_one_worker(|| {
        for way in 0..4 {
            let semaphore = Arc::new(Semaphore::new(3));
            let (ctx, cancel) = background().with_cancel();
            let two = semaphore.acquire(2);
            let large = gorun::go({
                let semaphore = semaphore.clone();
                move || match way {
                    0 => drop(semaphore.acquire(3)),
                    3 => assert_eq!(semaphore.acquire_with(&ctx, 3).unwrap_err(), ContextError::Canceled),
                    1 => assert!(semaphore.acquire_timeout(3, Duration::from_millis(1)).is_none()),
                    _ => assert!(semaphore.acquire_until(3, Instant::now()).is_none()),
                }
            });
            let_others_wait();
            let small = gorun::go({
                let semaphore = semaphore.clone();
                move || drop(semaphore.acquire(1))
            });
            let_others_wait();
            if way == 0 {
                assert!(!small.is_finished());
                large.abort();
                assert!(large.join().unwrap_err().is_aborted());
            } else {
                assert!(way != 3 || !small.is_finished());
                cancel.cancel();
                large.join().unwrap();
            }
            small.join().unwrap();
            assert_eq!(semaphore.available_permits(), 1);
            drop(two);
            assert_eq!(semaphore.available_permits(), 3);
        }
    });
}

#[test]
fn what_can_never_be_had() {
    within(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        assert!(catch_unwind(AssertUnwindSafe(|| semaphore.acquire(2).forget())).is_err());
        assert!(semaphore.try_acquire(2).is_none());
        let start = Instant::now();
        assert!(semaphore.acquire_timeout(2, Duration::from_millis(3)).is_none());
        assert!(start.elapsed() >= Duration::from_millis(3));
        let other = semaphore.clone();
        let doomed = gorun::go(move || other.acquire_timeout(2, HOUR).is_none());
        // It keeps nobody waiting.
        gorun::go({
            let semaphore = semaphore.clone();
            move || drop(semaphore.acquire(1))
        })
        .join()
        .unwrap();
        doomed.abort();
        assert!(doomed.join().unwrap_err().is_aborted());
    });
}

// x/sync/semaphore, Weighted.Acquire: "Acquire acquires the semaphore with a weight of n, blocking until resources are
// available or ctx is done. On success, returns nil."
#[test]
fn who_has_a_context_waits_until_there_are_enough_or_it_ends() {
    on_one_worker(|| {
        for canceled in [false, true] {
            let semaphore = Arc::new(Semaphore::new(2));
            let (ctx, cancel) = background().with_cancel();
            let two = semaphore.acquire_with(&ctx, 2).unwrap();
            let waiting = gorun::go({
                let (semaphore, ctx) = (semaphore.clone(), ctx.clone());
                move || Semaphore::acquire_owned_with(&semaphore, &ctx, 1).map(|permit| permit.count())
            });
            let_others_wait();
            assert!(!waiting.is_finished());
            if canceled {
                cancel.cancel();
                assert_eq!(waiting.join().unwrap(), Err(ContextError::Canceled));
            } else {
                drop(two);
                assert_eq!(waiting.join().unwrap(), Ok(1));
                assert_eq!(semaphore.available_permits(), 2);
            }
        }
        let semaphore = Semaphore::new(1);
        let _all = semaphore.acquire_with(&background(), 1).unwrap();
        let (ctx, _cancel) = background().with_timeout(Duration::from_millis(2));
        assert_eq!(semaphore.acquire_with(&ctx, 1).unwrap_err(), ContextError::DeadlineExceeded);
    });
}

// x/sync/semaphore, Weighted.Acquire in semaphore.go: "We prefer to fail even if we could acquire the mutex without blocking."
#[test]
fn a_context_that_has_ended_goes_before_free_permits() {
    on_one_worker(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let (ctx, cancel) = background().with_cancel();
        cancel.cancel();
        assert_eq!(semaphore.acquire_with(&ctx, 1).unwrap_err(), ContextError::Canceled);
        assert_eq!(semaphore.available_permits(), 1);
        // "Acquired the semaphore. Check that ctx isn't already done." (there): it ends when the permit was handed over and
        // its goroutine has not run yet.
        let (ctx, cancel) = background().with_cancel();
        let all = semaphore.acquire(1);
        let waiting = gorun::go({
            let semaphore = semaphore.clone();
            move || semaphore.acquire_with(&ctx, 1).map(drop)
        });
        let_others_wait();
        drop(all);
        cancel.cancel();
        assert_eq!(waiting.join().unwrap(), Err(ContextError::Canceled));
        assert_eq!(semaphore.available_permits(), 1);
    });
}

// x/sync/semaphore, Weighted.Acquire in semaphore.go: "Don't make other Acquire calls block on one that's doomed to fail."
#[test]
fn who_wants_more_than_there_are_waits_for_its_context_and_holds_up_nobody() {
    on_one_worker(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let (ctx, cancel) = background().with_cancel();
        let doomed = gorun::go({
            let semaphore = semaphore.clone();
            move || semaphore.acquire_with(&ctx, 2).map(drop)
        });
        let_others_wait();
        drop(semaphore.acquire_with(&background(), 1).unwrap());
        assert!(!doomed.is_finished());
        cancel.cancel();
        assert_eq!(doomed.join().unwrap(), Err(ContextError::Canceled));
    });
}

#[test]
fn an_abort_ends_a_wait_with_a_context() {
    on_one_worker(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let (ctx, _cancel) = background().with_cancel();
        let all = semaphore.acquire(1);
        let waiting = gorun::go({
            let (semaphore, ctx) = (semaphore.clone(), ctx.clone());
            move || semaphore.acquire_with(&ctx, 1).map(drop)
        });
        let_others_wait();
        waiting.abort();
        assert!(waiting.join().unwrap_err().is_aborted());
        drop(all);
        assert_eq!(semaphore.available_permits(), 1);
    });
}

// x/sync/semaphore, Weighted.TryAcquire: "On success, returns true. On failure, returns false and leaves the semaphore
// unchanged."
#[test]
fn trying_takes_all_or_nothing() {
    let semaphore = Semaphore::new(2);
    let one = semaphore.try_acquire(1).unwrap();
    assert!(semaphore.try_acquire(2).is_none());
    assert_eq!(semaphore.available_permits(), 1);
    drop(one);
    assert_eq!(semaphore.try_acquire(2).unwrap().count(), 2);
}

// x/sync/semaphore, Weighted.Release in semaphore.go: panic("semaphore: released more than held")
#[test]
fn more_released_than_taken_panics_and_changes_nothing() {
    let semaphore = Arc::new(Semaphore::new(2));
    for n in [1, usize::MAX] {
        assert!(catch_unwind(AssertUnwindSafe(|| semaphore.release(n))).is_err());
        assert_eq!(semaphore.available_permits(), 2);
    }
    Semaphore::acquire_owned(&semaphore, 2).forget();
    assert_eq!(semaphore.available_permits(), 0);
    semaphore.release(1);
    let permit = Semaphore::try_acquire_owned(&semaphore, 1).unwrap();
    assert_eq!(format!("{permit:?} {semaphore:?}"), "Permit(1) Semaphore { size: 2, free: 0 }");
    drop(permit);
    semaphore.release(1);
    assert_eq!(semaphore.available_permits(), 2);
}

#[test]
fn a_permit_goes_back_however_its_goroutine_ends() {
    within(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        for way in 0..3 {
            let permit = Semaphore::acquire_owned(&semaphore, 1);
            let owner = gorun::go(move || {
                let _permit = permit;
                match way {
                    0 => std::panic::resume_unwind(Box::new("on purpose")),
                    1 => gorun::goexit(),
                    _ => gorun::time::sleep(HOUR),
                }
            });
            if way == 2 {
                owner.abort();
            }
            assert!(owner.join().is_err());
            assert_eq!(semaphore.available_permits(), 1);
        }
    });
}
