//! `lock_os_thread`: a goroutine with a thread to itself, and the worker that is brought in for it.

mod common;

use common::child::in_mode;
use common::stuck::{compute, flag, found_stuck, goes_back, keep_busy, stick};
use common::{kernel_thread, within};
use gorun::runtime::{Builder, Runtime, ThreadLocals};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

fn runtime(workers: usize) -> Runtime {
    Builder::new().workers(workers).build().unwrap()
}

#[test]
fn a_locked_goroutine_has_its_thread_to_itself() {
    within(|| {
        for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
            let Some(runtime) = in_mode(Builder::new().workers(2), mode) else { continue };
            let locked_thread = runtime.run(move || {
                let guard = gorun::lock_os_thread();
                let inner = gorun::lock_os_thread();
                let mine = kernel_thread();
                drop(inner);
                let others: Vec<_> = (0..200)
                    .map(|_| {
                        gorun::go(move || {
                            for _ in 0..20 {
                                assert_ne!(kernel_thread(), mine);
                                gorun::yield_now();
                            }
                        })
                    })
                    .collect();
                for other in others {
                    // Waits, and comes back on the same thread.
                    other.join().unwrap();
                    assert_eq!(kernel_thread(), mine);
                    gorun::time::sleep(Duration::from_micros(10));
                    assert_eq!(kernel_thread(), mine);
                }
                drop(guard);
                mine
            });
            assert_ne!(locked_thread, kernel_thread());
        }
    });
}

#[test]
fn a_timer_of_a_locked_goroutine_that_computes_is_fired_by_others() {
    within(|| {
        let runtime = runtime(2);
        let (fired, fires) = mpsc::channel();
        let free = stick(&runtime, 1, move |free| {
            let _locked = gorun::lock_os_thread();
            let fired = fired.clone();
            let _timer = gorun::time::after_func(Duration::from_millis(1), move || fired.send(()).unwrap());
            compute(free);
        });
        fires.recv().expect("somebody else fires it");
        free.store(true, Ordering::SeqCst);
        goes_back(&runtime);
    });
}

#[test]
fn several_pinned_ones_lock_one_thread_and_let_go_in_any_order() {
    within(|| {
        let runtime = Builder::new().workers(1).thread_locals(ThreadLocals::Pinned).build().unwrap();
        let (second, first) = (gorun::channel::<()>(0), gorun::channel::<()>(0));
        let begun = runtime.go(move || {
            let one = gorun::go(move || {
                gorun::yield_now();
                let lock = gorun::lock_os_thread();
                second.0.send(()).unwrap();
                drop(lock);
                kernel_thread()
            });
            let two = gorun::go(move || {
                gorun::yield_now();
                let lock = gorun::lock_os_thread();
                second.1.recv().unwrap();
                first.1.recv().unwrap();
                drop(lock);
                kernel_thread()
            });
            let thread = one.join().unwrap();
            first.0.send(()).unwrap();
            (thread, two.join().unwrap())
        });
        let (one, two) = begun.unwrap().join().unwrap();
        assert_eq!(one, two);
        goes_back(&runtime);
        assert_eq!(runtime.go(|| 7).unwrap().join().unwrap(), 7);
    });
}

#[test]
fn a_forgotten_lock_beside_a_pinned_goroutine_leaves_a_worker() {
    within(|| {
        let runtime = runtime(1);
        let (go_on, waits) = gorun::channel::<()>(0);
        let (begun, begins) = gorun::channel::<()>(0);
        let spoiler = runtime.go(move || {
            let pinned = gorun::Builder::new().thread_locals(ThreadLocals::Pinned);
            let pinned = pinned.go(move || {
                begun.send(()).unwrap();
                waits.recv().unwrap();
            });
            begins.recv().unwrap();
            std::mem::forget(gorun::lock_os_thread());
            pinned.unwrap()
        });
        let pinned = spoiler.unwrap().join().unwrap();
        for n in 0..100 {
            assert_eq!(runtime.go(move || n).unwrap().join().unwrap(), n);
        }
        go_on.send(()).unwrap();
        pinned.join().unwrap();
        goes_back(&runtime);
        assert_eq!(runtime.go(|| 7).unwrap().join().unwrap(), 7);
    });
}

#[test]
fn a_goroutine_that_ends_locked_takes_its_thread_along() {
    within(|| {
        let runtime = runtime(1);
        let locked = runtime.go(|| {
            std::mem::forget(gorun::lock_os_thread());
            kernel_thread()
        });
        let spoilt = locked.unwrap().join().unwrap();
        for _ in 0..100 {
            assert_ne!(runtime.go(kernel_thread).unwrap().join().unwrap(), spoilt);
        }
        goes_back(&runtime);
        drop(gorun::lock_os_thread()); // on a plain thread: nothing
    });
}

#[test]
fn after_a_lock_an_isolated_goroutine_changes_threads_again() {
    within(|| {
        let Some(runtime) = in_mode(Builder::new().workers(2), ThreadLocals::Isolated) else { return };
        let (over, _) = flag();
        keep_busy(&runtime, 8, &over);
        // What a plain thread wakes goes to whichever worker takes it first.
        let (wakes, woken) = gorun::channel(0);
        let waker = std::thread::spawn(move || while wakes.send(()).is_ok() {});
        let moved = runtime.go(move || {
            drop(gorun::lock_os_thread());
            let here = kernel_thread();
            while kernel_thread() == here {
                woken.recv().unwrap();
            }
        });
        moved.unwrap().join().unwrap();
        over.store(true, Ordering::SeqCst);
        waker.join().unwrap();
    });
}

#[test]
fn after_a_lock_workers_that_are_stuck_are_still_replaced() {
    within(|| {
        let runtime = runtime(1);
        runtime.go(|| drop(gorun::lock_os_thread())).unwrap().join().unwrap();
        goes_back(&runtime);
        let free = stick(&runtime, 1, compute);
        runtime.go(|| ()).unwrap().join().unwrap();
        free.store(true, Ordering::SeqCst);
        goes_back(&runtime);
    });
}

#[test]
fn a_seat_that_a_spoilt_thread_left_is_as_new() {
    within(|| {
        // Two seats: the spoilt thread leaves its own to the next worker that is brought in.
        let runtime = Builder::new().workers(1).spare_workers(1).build().unwrap();
        runtime.go(|| std::mem::forget(gorun::lock_os_thread())).unwrap().join().unwrap();
        goes_back(&runtime);
        let free = stick(&runtime, 1, compute);
        runtime.go(|| (0..200).for_each(|_| gorun::yield_now())).unwrap().join().unwrap();
        assert_eq!(runtime.metrics().stuck_workers, 1);
        free.store(true, Ordering::SeqCst);
        // The one that was brought in becomes the one too many, and goes.
        goes_back(&runtime);
        let free = stick(&runtime, 1, compute);
        found_stuck(&runtime, 1);
        runtime.go(|| ()).unwrap().join().unwrap();
        free.store(true, Ordering::SeqCst);
        goes_back(&runtime);
    });
}

#[test]
fn who_locks_after_it_was_replaced_leaves_a_worker() {
    within(|| {
        let runtime = Builder::new().workers(1).spare_workers(1).build().unwrap();
        let locks = runtime.go(|| {
            let (ran, runs) = flag();
            let other = gorun::go(move || runs.store(true, Ordering::SeqCst));
            // The spare worker is brought in for this one: there is no other then.
            compute(&ran);
            let lock = gorun::lock_os_thread();
            other.join().unwrap();
            (0..3).for_each(|_| gorun::go(|| ()).join().unwrap());
            drop(lock);
        });
        locks.unwrap().join().unwrap();
        goes_back(&runtime);
    });
}

/// In a std thread-local, which pinned goroutines of one worker share.
mod parked {
    use super::*;
    use gorun::OsThreadLock;
    use std::cell::RefCell;

    thread_local! { static PARKED: RefCell<Vec<OsThreadLock>> = const { RefCell::new(Vec::new()) } }

    fn park(lock: OsThreadLock) {
        PARKED.with_borrow_mut(|parked| parked.push(lock));
    }

    fn drop_parked() -> usize {
        PARKED.take().len()
    }

    fn pinned_worker() -> Runtime {
        Builder::new().workers(1).thread_locals(ThreadLocals::Pinned).build().unwrap()
    }

    /// Begun before the lock is taken, so that it shares the thread.
    fn neighbour<T: Send + 'static>(
        f: impl FnOnce() -> T + Send + 'static,
    ) -> (gorun::Sender<()>, gorun::JoinHandle<T>) {
        let (go_on, waits) = gorun::channel::<()>(0);
        let (begun, begins) = gorun::channel::<()>(0);
        let handle = gorun::go(move || {
            begun.send(()).unwrap();
            waits.recv().unwrap();
            f()
        });
        begins.recv().unwrap();
        (go_on, handle)
    }

    #[test]
    fn a_neighbour_that_drops_it_lets_nobody_go() {
        within(|| {
            let runtime = pinned_worker();
            let locked = runtime.go(|| {
                let (go_on, other) = neighbour(|| (drop_parked(), kernel_thread()));
                park(gorun::lock_os_thread());
                go_on.send(()).unwrap();
                assert_eq!(other.join().unwrap(), (1, kernel_thread()));
                // Still alone here: who has not begun begins elsewhere.
                assert_ne!(gorun::go(kernel_thread).join().unwrap(), kernel_thread());
                kernel_thread()
            });
            let spoilt = locked.unwrap().join().unwrap();
            // As if forgotten: the thread went along.
            for _ in 0..100 {
                assert_ne!(runtime.go(kernel_thread).unwrap().join().unwrap(), spoilt);
            }
            goes_back(&runtime);
        });
    }

    #[test]
    fn a_neighbour_that_drops_it_keeps_its_own() {
        within(|| {
            let runtime = pinned_worker();
            let begun = runtime.go(|| {
                let (go_on, other) = neighbour(|| {
                    let own = gorun::lock_os_thread();
                    assert_eq!(drop_parked(), 1);
                    let before = kernel_thread();
                    assert_ne!(gorun::go(kernel_thread).join().unwrap(), before);
                    drop(own);
                });
                park(gorun::lock_os_thread());
                go_on.send(()).unwrap();
                other
            });
            let other = begun.unwrap().join().unwrap();
            other.join().unwrap();
            goes_back(&runtime);
            assert_eq!(runtime.go(|| 7).unwrap().join().unwrap(), 7);
        });
    }

    #[test]
    fn one_that_is_dropped_where_no_goroutine_runs_does_nothing() {
        within(|| {
            let runtime = pinned_worker();
            // At the thread's end, which comes with the goroutine's.
            runtime.go(|| park(gorun::lock_os_thread())).unwrap().join().unwrap();
            goes_back(&runtime);
            assert_eq!(runtime.go(|| 7).unwrap().join().unwrap(), 7);
            park(gorun::lock_os_thread());
            assert_eq!(drop_parked(), 1);
        });
    }

    #[test]
    fn one_that_its_goroutine_takes_back_lets_go() {
        within(|| {
            for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
                let Some(runtime) = in_mode(Builder::new().workers(1), mode) else { continue };
                let first = runtime.go(|| {
                    park(gorun::lock_os_thread());
                    gorun::yield_now();
                    assert_eq!(drop_parked(), 1);
                });
                first.unwrap().join().unwrap();
                goes_back(&runtime);
                assert_eq!(runtime.go(|| 7).unwrap().join().unwrap(), 7);
            }
        });
    }

    thread_local! { static LEFT: RefCell<Vec<Box<dyn std::any::Any>>> = const { RefCell::new(Vec::new()) } }

    /// Guards and permits may be sent, so it does not matter who of a thread drops them; nor does it for a selected operation.
    #[test]
    fn guards_and_permits_may_be_dropped_by_a_neighbour() {
        use gorun::sync::{Mutex, RwLock, Semaphore};
        within(|| {
            static MUTEX: Mutex<u8> = Mutex::new(1);
            static LOCK: RwLock<u8> = RwLock::new(1);
            static SEMAPHORE: Semaphore = Semaphore::new(1);
            let (tx, rx) = gorun::channel(1);
            let tx: &'static gorun::Sender<u8> = Box::leak(Box::new(tx));
            pinned_worker().run(move || {
                let (go_on, other) = neighbour(|| drop(LEFT.take()));
                let mut select = gorun::select::Select::new();
                select.send(tx);
                let selected = abandoned(select.select());
                let permit = SEMAPHORE.acquire(1);
                LEFT.with_borrow_mut(|left| {
                    left.extend([
                        Box::new(MUTEX.lock()) as Box<dyn std::any::Any>,
                        Box::new(LOCK.write()),
                        Box::new(permit),
                        Box::new(selected),
                    ]);
                });
                assert!(MUTEX.try_lock().is_none() && LOCK.try_read().is_none() && tx.try_send(1).is_err());
                go_on.send(()).unwrap();
                other.join().unwrap();
                assert!(MUTEX.try_lock().is_some() && LOCK.try_write().is_some());
                assert!(SEMAPHORE.try_acquire(1).is_some());
                assert_eq!((tx.try_send(2), rx.recv()), (Ok(()), Ok(2)));
            });
        });
    }

    /// Dropping one that was not completed panics by design.
    struct Abandoned(Option<gorun::select::SelectedOperation<'static>>);

    fn abandoned(selected: gorun::select::SelectedOperation<'static>) -> Abandoned {
        Abandoned(Some(selected))
    }

    impl Drop for Abandoned {
        fn drop(&mut self) {
            let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(self.0.take())));
            assert!(dropped.is_err());
        }
    }

    /// The scheduler's own: it belongs to whoever made it, and says so to a neighbour.
    #[test]
    fn a_blocker_is_refused_to_a_neighbour() {
        use gorun_scheduler::{Blocker, WaitReason};
        thread_local! { static BLOCKER: RefCell<Option<Blocker>> = const { RefCell::new(None) } }
        within(|| {
            pinned_worker().run(|| {
                let (go_on, other) = neighbour(|| {
                    let blocker = BLOCKER.take().unwrap();
                    let refused = |f: &dyn Fn(&Blocker)| {
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(&blocker))).is_err()
                    };
                    let shielded = refused(&|blocker| blocker.arm_shielded());
                    let disarmed = refused(&|blocker| _ = blocker.disarm());
                    let parked =
                        refused(&|blocker| _ = blocker.park(WaitReason::Other, Some(std::time::Instant::now())));
                    (shielded, disarmed, parked)
                });
                BLOCKER.set(Some(Blocker::current()));
                go_on.send(()).unwrap();
                // In a wait of its own meanwhile.
                assert_eq!(other.join().unwrap(), (true, true, true));
            });
        });
    }
}
