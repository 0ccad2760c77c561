//! Aborts: wherever a goroutine waits, and whenever; what they take with them, which is nothing.

mod common;

use common::{on_one_worker, others_wait, until, within};
use gorun::context::background;
use gorun::runtime::Builder;
use gorun::select;
use gorun::sync::{Barrier, Condvar, ErrGroup, Mutex, Once, RwLock, Semaphore, WaitGroup};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

type Wait = Box<dyn FnOnce() + Send>;

/// Everything that the waits below wait for, and how to see that none of it was taken by who was aborted.
struct Things {
    lock: Mutex<()>,
    shared: RwLock<()>,
    condvar: Condvar,
    condition: Mutex<bool>,
    group: WaitGroup,
    errors: ErrGroup<()>,
    semaphore: Semaphore,
    barrier: Barrier,
    once: Once,
}

/// Each waits for what never comes.
fn waits(things: &Arc<Things>, empty: &gorun::Receiver<u32>, full: &gorun::Sender<u32>) -> Vec<(&'static str, Wait)> {
    let (rx, tx) = (empty.clone(), full.clone());
    let (rx1, tx1, rx2) = (rx.clone(), tx.clone(), rx.clone());
    let with = |wait: fn(&Things)| -> Wait {
        let things = things.clone();
        Box::new(move || wait(&things))
    };
    vec![
        ("recv", Box::new(move || _ = rx.recv())),
        ("send", Box::new(move || _ = tx.send(7))),
        ("select", Box::new(move || select! { recv(rx1) -> _ => (), send(tx1, 7) -> _ => () })),
        ("recv_timeout", Box::new(move || _ = rx2.recv_timeout(HOUR))),
        ("Mutex", with(|t| drop(t.lock.lock()))),
        ("RwLock::read", with(|t| drop(t.shared.read()))),
        ("RwLock::write", with(|t| drop(t.shared.write()))),
        ("Condvar", with(|t| t.condvar.wait_while(&mut t.condition.lock(), |go_on| !*go_on))),
        ("WaitGroup", with(|t| t.group.wait())),
        ("ErrGroup", with(|t| _ = t.errors.wait())),
        ("Semaphore", with(|t| drop(t.semaphore.acquire(1)))),
        ("Barrier", with(|t| _ = t.barrier.wait())),
        ("Once", with(|t| t.once.wait())),
        ("sleep", Box::new(|| gorun::time::sleep(HOUR))),
        ("sleep for ever", Box::new(|| gorun::time::sleep(Duration::MAX))),
        ("join", Box::new(|| drop(gorun::go(|| gorun::time::sleep(HOUR)).join()))),
        (
            "a context",
            Box::new(|| {
                let (ctx, _cancel) = background().with_cancel();
                let _ = ctx.done().recv();
            }),
        ),
        ("never", Box::new(|| _ = gorun::never::<()>().recv())),
    ]
}

#[test]
fn an_abort_reaches_a_goroutine_in_every_wait() {
    within(|| {
        let (tx, rx) = gorun::channel::<u32>(0);
        let (full, drain) = gorun::channel::<u32>(1);
        full.send(1).unwrap();
        let things = Arc::new(Things {
            lock: Mutex::new(()),
            shared: RwLock::new(()),
            condvar: Condvar::new(),
            condition: Mutex::new(false),
            group: WaitGroup::new(),
            errors: ErrGroup::new(),
            semaphore: Semaphore::new(1),
            barrier: Barrier::new(2),
            once: Once::new(),
        });
        on_one_worker(|| {
            let held = (things.lock.lock(), things.shared.write(), things.semaphore.acquire(1));
            things.group.add(1);
            let (go_on, goes_on) = gorun::channel::<()>(0);
            things.errors.go(move || {
                let _ = goes_on.recv();
                Ok(())
            });
            for (name, wait) in waits(&things, &rx, &full) {
                let begun = Arc::new(AtomicBool::new(false));
                let begins = begun.clone();
                let handle = gorun::go(move || {
                    begins.store(true, Ordering::SeqCst);
                    wait();
                });
                // Until it can't go on by itself: it has begun, and we have the only worker again.
                others_wait();
                assert!(begun.load(Ordering::SeqCst) && !handle.is_finished(), "{name} waits");
                handle.abort();
                assert!(handle.join().unwrap_err().is_aborted(), "{name}");
            }
            // None of them took anything with it.
            drop(held);
            assert!(things.lock.try_lock().is_some() && things.shared.try_write().is_some());
            assert_eq!(things.semaphore.available_permits(), 1);
            drop(go_on);
            assert_eq!(things.errors.wait(), Ok(()));
            things.group.done();
            things.group.wait();
            let other = things.clone();
            let meets = gorun::go(move || other.barrier.wait().is_leader());
            assert_ne!(things.barrier.wait().is_leader(), meets.join().unwrap());
        });
        assert_eq!((drain.try_recv().ok(), drain.try_recv().ok()), (Some(1), None), "nothing was sent");
        let receiver = gorun::go(move || rx.recv());
        tx.send(5).unwrap();
        assert_eq!(receiver.join().unwrap(), Ok(5));
    });
}

#[test]
fn an_abort_reaches_a_goroutine_that_only_yields() {
    within(|| {
        let begun = Arc::new(AtomicBool::new(false));
        let begins = begun.clone();
        let handle = gorun::go(move || {
            loop {
                begins.store(true, Ordering::SeqCst);
                gorun::yield_now();
            }
        });
        until(|| begun.load(Ordering::SeqCst));
        handle.abort();
        let ended: Result<(), _> = handle.join();
        assert!(ended.unwrap_err().is_aborted());
    });
}

#[test]
fn an_abort_meets_a_wait_that_begins() {
    within(|| {
        // Between the look at the request and the wait: about every thousandth time.
        let runtime = Builder::new().workers(2).build().unwrap();
        for _ in 0..100_000 {
            let sleeper = runtime.go(|| gorun::time::sleep(HOUR)).unwrap();
            sleeper.abort();
            assert!(sleeper.join().unwrap_err().is_aborted());
        }
    });
}

#[test]
fn an_abort_that_is_caught_comes_again() {
    let (begun, begins) = mpsc::channel();
    let handle = gorun::go(move || {
        begun.send(()).unwrap();
        let first = std::panic::catch_unwind(|| gorun::time::sleep(HOUR));
        assert!(first.is_err());
        gorun::yield_now();
        unreachable!("a yield is a cancellation point");
    });
    begins.recv().unwrap();
    handle.abort();
    assert!(handle.join().unwrap_err().is_aborted());
}

#[test]
fn a_destructor_may_block_while_an_abort_unwinds() {
    struct Sleeps(mpsc::Sender<()>);
    impl Drop for Sleeps {
        fn drop(&mut self) {
            gorun::time::sleep(Duration::from_millis(1));
            self.0.send(()).unwrap();
        }
    }
    let (done, dones) = mpsc::channel();
    let (begun, begins) = mpsc::channel();
    let handle = gorun::go(move || {
        let _sleeps = Sleeps(done);
        begun.send(()).unwrap();
        gorun::time::sleep(HOUR);
    });
    begins.recv().unwrap();
    handle.abort();
    assert!(handle.join().unwrap_err().is_aborted());
    dones.try_recv().expect("the destructor ran to its end before the join");
}
