//! Models of a goroutine's end against its handle: C1 to C4, with every interleaving.

use super::*;
use crate::base::atomics::models::model;
use crate::wait::park::WaitReason;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::task::Wake;
use std::time::Instant;

/// A completion and the result it is about (C1), and what else the goroutine leaves behind; loom watches the accesses.
struct Ended {
    done: Completion,
    result: UnsafeCell<Option<u32>>,
    /// Written by the goroutine before its end.
    storage: UnsafeCell<u32>,
    /// Of the block: read by the handle, and made anew when the handle's reference is left to the goroutine (C3).
    name: UnsafeCell<u32>,
}

// SAFETY: the completion orders the accesses to the result; that it does is what the models check.
unsafe impl Sync for Ended {}

impl Ended {
    fn new() -> Arc<Ended> {
        Arc::new(Ended {
            done: Completion::new(),
            result: UnsafeCell::new(None),
            storage: UnsafeCell::new(0),
            name: UnsafeCell::new(0),
        })
    }

    /// The result, or `None` if somebody has taken it.
    fn take(&self) -> Option<u32> {
        // SAFETY: loom finds accesses that meet.
        self.result.with_mut(|result| unsafe { (*result).take() })
    }

    /// What the exit path does. Returns true if the goroutine dropped the result itself.
    fn end(&self) -> bool {
        // SAFETY: as above.
        self.storage.with_mut(|storage| unsafe { *storage = 7 });
        // SAFETY: as above.
        self.result.with_mut(|result| unsafe { *result = Some(7) });
        match self.done.publish(|| ()) {
            Published::Detached => {
                assert_eq!(self.take(), Some(7));
                self.done.finish_detached();
                assert!(self.done.is_left());
                // SAFETY: as above.
                self.name.with_mut(|name| unsafe { *name += 1 });
                return true;
            }
            Published::Handed(Some(wake)) => wake.wake(),
            Published::Handed(None) | Published::HandedToTask => {}
        }
        false
    }
}

/// The handle gives up the result, after its last use of the block.
fn detach(ended: &Ended) -> bool {
    // SAFETY: loom finds accesses that meet.
    ended.name.with(|name| assert_eq!(unsafe { *name }, 0));
    // SAFETY: C4: the only handle.
    unsafe { ended.done.detach() }
}

fn ending(ended: &Arc<Ended>) -> thread::JoinHandle<bool> {
    let ended = ended.clone();
    thread::spawn(move || ended.end())
}

/// Counts in plain memory: it is looked at after the threads' ends only.
struct Woken {
    times: std::sync::atomic::AtomicUsize,
    /// Written when it is made: the one who wakes has to see that.
    made: UnsafeCell<bool>,
}

// SAFETY: loom looks whether it is.
unsafe impl Sync for Woken {}

impl Woken {
    fn new() -> std::sync::Arc<Woken> {
        let woken = Woken { times: std::sync::atomic::AtomicUsize::new(0), made: UnsafeCell::new(false) };
        // SAFETY: nobody else has it.
        woken.made.with_mut(|made| unsafe { *made = true });
        std::sync::Arc::new(woken)
    }
}

impl Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        // SAFETY: loom finds accesses that meet.
        self.made.with(|made| assert!(unsafe { *made }));
        // Relaxed: see above.
        self.times.fetch_add(1, Ordering::Relaxed);
    }
}

/// C3: exactly one of the two drops the result.
#[test]
fn a_handle_that_is_dropped() {
    model(4, || {
        let ended = Ended::new();
        let goroutine = ending(&ended);
        let detached = detach(&ended);
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
    model(4, || {
        let ended = Ended::new();
        let goroutine = ending(&ended);
        let counters = [0; 2].map(|_| Woken::new());
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
        let woken = counters.each_ref().map(|c| c.times.load(Ordering::Relaxed));
        assert!(ready || woken[1] == 1, "the last waker wakes: {woken:?}");
        assert_eq!(counters.map(|c| std::sync::Arc::strong_count(&c)), [1, 1]);
    });
}

/// A future that is dropped while it waits.
#[test]
fn a_handle_that_is_polled_and_dropped() {
    model(4, || {
        let ended = Ended::new();
        let goroutine = ending(&ended);
        let counter = Woken::new();
        // SAFETY: C4: the only handle.
        let ready = unsafe { ended.done.poll_register(&counter.clone().into()) };
        let detached = detach(&ended);
        assert!(!(ready && detached), "ready once is ready for good");
        let taken = if detached { None } else { ended.take() };
        assert_eq!((goroutine.join().unwrap(), taken), (detached, if detached { None } else { Some(7) }));
        assert_eq!(std::sync::Arc::strong_count(&counter), 1);
    });
}

/// C2: a joiner whose wait ends for another reason (here its time; an abort does the same) leaves only when nobody looks at
/// its waiter any more; and it may wait again, with a waiter that lies where the first one lay.
#[test]
fn a_joiner_that_gives_up() {
    for waits in 1..=2 {
        model(5 - waits, move || {
            let ended = Ended::new();
            let goroutine = ending(&ended);
            let now = Instant::now();
            for _ in 0..waits {
                // SAFETY: C4, C5: the only handle. The waiter and its parker lie in that frame, and are gone afterwards.
                let token = unsafe { ended.done.wait(WaitReason::Join, false, Some(now)) };
                if token == Token::DONE {
                    assert_eq!(ended.take(), Some(7));
                    break;
                }
            }
            assert!(!goroutine.join().unwrap());
        });
    }
}

/// A joiner that waits until the end.
#[test]
fn a_joiner_that_waits() {
    model(5, || {
        let ended = Ended::new();
        let goroutine = ending(&ended);
        // SAFETY: C4, C5: the only handle.
        assert_eq!(unsafe { ended.done.wait(WaitReason::Join, false, None) }, Token::DONE);
        assert_eq!(ended.take(), Some(7));
        assert!(!goroutine.join().unwrap());
    });
}

/// A parker is gone when its joiner is: loom finds a claim that meets its end. And what lies where it lay is another one.
#[test]
fn a_waiter_at_the_same_place_is_another_one() {
    model(4, || {
        let ended = Ended::new();
        let goroutine = ending(&ended);
        let mut registered = false;
        let mut parker = Box::new(Parker::for_goroutine());
        let waiter = Waiter::Parked(NonNull::from(&*parker));
        let address = (&raw const waiter) as usize;
        for _ in 0..2 {
            parker.arm(false);
            // As `wait` does it.
            registered = ended.done.0.compare_exchange(EMPTY, address, Ordering::Release, Ordering::Acquire).is_ok();
            if !registered {
                assert!(parker.disarm());
                break;
            }
            // SAFETY: ours.
            let aborted = unsafe { Parker::claim(NonNull::from(&*parker), Token::ABORT) }.is_some();
            assert_eq!(parker.finish(), if aborted { Token::ABORT } else { Token::DONE });
            if !aborted {
                break;
            }
            registered = false;
            ended.done.give_up(address);
            parker.unmake();
            *parker = Parker::for_goroutine();
        }
        if ended.done.is_finished() {
            assert_eq!(ended.take(), Some(7));
        }
        let _ = registered;
        parker.unmake();
        drop(parker);
        assert!(!goroutine.join().unwrap());
    });
}

/// Somebody with a clone of the handle who sees that the goroutine has ended sees what it did, whoever has the result.
#[test]
fn an_onlooker() {
    for detaches in [false, true] {
        model(3, move || {
            let ended = Ended::new();
            let goroutine = ending(&ended);
            let onlooker = {
                let ended = ended.clone();
                thread::spawn(move || {
                    if ended.done.is_finished() {
                        // SAFETY: loom finds accesses that meet.
                        ended.storage.with(|storage| assert_eq!(unsafe { *storage }, 7));
                    }
                })
            };
            if detaches {
                let detached = detach(&ended);
                assert_eq!(goroutine.join().unwrap(), detached);
            } else {
                assert!(!goroutine.join().unwrap());
            }
            onlooker.join().unwrap();
        });
    }
}
