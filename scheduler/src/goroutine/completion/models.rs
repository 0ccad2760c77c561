//! Models of a goroutine's end against its handle: C1 to C4, with every interleaving.

use super::*;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::task::Wake;

/// A completion and the result it is about, whose accesses loom watches (C1).
struct Ended {
    done: Completion,
    result: UnsafeCell<Option<u32>>,
}

// SAFETY: the completion orders the accesses to the result; that it does is what the models check.
unsafe impl Sync for Ended {}

impl Ended {
    fn new() -> Arc<Ended> {
        Arc::new(Ended { done: Completion::new(), result: UnsafeCell::new(None) })
    }

    /// The result, or `None` if somebody has taken it.
    fn take(&self) -> Option<u32> {
        // SAFETY: loom finds accesses that meet.
        self.result.with_mut(|result| unsafe { (*result).take() })
    }

    /// What the exit path does. Whether the goroutine dropped the result itself.
    fn end(&self) -> bool {
        // SAFETY: as above.
        self.result.with_mut(|result| unsafe { *result = Some(7) });
        match self.done.publish(|| ()) {
            Published::Detached => {
                assert_eq!(self.take(), Some(7));
                self.done.finish_detached();
                return true;
            }
            Published::Handed(Some(wake)) => wake.wake(),
            Published::Handed(None) | Published::HandedToTask => {}
        }
        false
    }
}

fn ending(ended: &Arc<Ended>) -> thread::JoinHandle<bool> {
    let ended = ended.clone();
    thread::spawn(move || ended.end())
}

/// Counts in plain memory: it is looked at after the threads' ends only.
#[derive(Default)]
struct Woken(std::sync::atomic::AtomicUsize);

impl Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        // Relaxed: see above.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// C3: exactly one of the two drops the result.
#[test]
fn a_handle_that_is_dropped() {
    loom::model(|| {
        let ended = Ended::new();
        let goroutine = ending(&ended);
        // SAFETY: C4: the only handle.
        let detached = unsafe { ended.done.detach() };
        let taken = if detached { None } else { ended.take() };
        let dropped_inside = goroutine.join().unwrap();
        assert_eq!(dropped_inside, detached);
        assert_eq!(taken, if detached { None } else { Some(7) });
        assert!(ended.done.is_finished());
    });
}

/// A future that is polled with one waker, then with another one, then dropped: one of them wakes, or it was ready; no
/// waker is left behind or dropped twice.
#[test]
fn a_handle_that_is_polled() {
    loom::model(|| {
        let ended = Ended::new();
        let goroutine = ending(&ended);
        let counters = [0; 2].map(|_| std::sync::Arc::new(Woken::default()));
        let mut ready = false;
        for counter in &counters {
            // SAFETY: C4: the only handle.
            ready = unsafe { ended.done.poll_register(&counter.clone().into()) };
            if ready {
                break;
            }
        }
        if ready {
            assert_eq!(ended.take(), Some(7));
        }
        assert!(!goroutine.join().unwrap());
        // Relaxed: joined.
        let woken = counters.each_ref().map(|c| c.0.load(Ordering::Relaxed));
        assert!(ready || woken[1] == 1, "the last waker wakes: {woken:?}");
        assert_eq!(counters.map(|c| std::sync::Arc::strong_count(&c)), [1, 1]);
    });
}

/// A future that is dropped while it waits.
#[test]
fn a_handle_that_is_polled_and_dropped() {
    loom::model(|| {
        let ended = Ended::new();
        let goroutine = ending(&ended);
        let counter = std::sync::Arc::new(Woken::default());
        // SAFETY: C4: the only handle.
        let ready = unsafe { ended.done.poll_register(&counter.clone().into()) };
        // SAFETY: as above.
        let detached = unsafe { ended.done.detach() };
        assert!(!(ready && detached), "ready once is ready for good");
        let taken = if detached { None } else { ended.take() };
        assert_eq!((goroutine.join().unwrap(), taken), (detached, if detached { None } else { Some(7) }));
        assert_eq!(std::sync::Arc::strong_count(&counter), 1);
    });
}

/// C2: a joiner whose wait an abort ends leaves only when nobody looks at its waiter any more.
#[test]
fn a_joiner_that_is_aborted() {
    loom::model(|| {
        let ended = Ended::new();
        let goroutine = ending(&ended);
        let mut parker = Box::new(Parker::for_goroutine());
        parker.arm(false);
        let waiter = Waiter::Parked(NonNull::from(&*parker));
        let address = (&raw const waiter) as usize;
        // As `wait` does it.
        let registered = ended.done.0.compare_exchange(EMPTY, address, Ordering::Release, Ordering::Acquire).is_ok();
        if registered {
            // The abort, which races with the publisher's claim; then the goroutine would be back from `park`.
            // SAFETY: ours.
            let aborted = unsafe { Parker::claim(NonNull::from(&*parker), Token::ABORT) }.is_some();
            let token = parker.finish();
            assert_eq!(token, if aborted { Token::ABORT } else { Token::DONE });
            if aborted {
                ended.done.give_up(address);
            } else {
                assert_eq!(ended.take(), Some(7));
            }
        } else {
            assert!(parker.disarm());
            assert_eq!(ended.take(), Some(7));
        }
        // We leave: loom finds a claim that meets this.
        parker.unmake();
        drop(parker);
        assert!(!goroutine.join().unwrap());
    });
}
