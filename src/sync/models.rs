//! What decides in `sync`, checked by loom in all interleavings (of so many preemptions): waiters are loom's threads.
//!
//! `RUSTFLAGS='--cfg loom' cargo test -p gorun --lib --features models models`. A lost wake-up is a deadlock, which loom reports. A wait with
//! a time gives up as soon as it looks, so each such model has both ends. An abort ends a wait in the same way as the time
//! does, but for the unwind.

use super::raw_mutex::{Abort, RawMutex};
use super::raw_rwlock::RawRwLock;
use super::shim::model::STARVING;
use super::{Barrier, Condvar, Once, Semaphore, WaitGroup};
use gorun_scheduler::Token;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// One model at a time: `STARVING` is for all.
static TURN: Mutex<()> = Mutex::new(());

fn model(preemptions: usize, starving: bool, body: impl Fn() + Send + Sync + 'static) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    STARVING.store(starving, Ordering::SeqCst);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

/// A primitive and what it protects: loom reports who touches it at the same time, or without having seen the last change.
struct With<P> {
    primitive: P,
    value: UnsafeCell<usize>,
}

impl<P> With<P> {
    /// `touch` makes loom's atomics, before anybody else is there: loom takes their making for a write.
    fn new(primitive: P, touch: impl Fn(&P)) -> Arc<With<P>> {
        touch(&primitive);
        Arc::new(With { primitive, value: UnsafeCell::new(0) })
    }

    fn add(&self) {
        // SAFETY: loom looks whether it is.
        self.value.with_mut(|value| unsafe { *value += 1 });
    }

    fn get(&self) -> usize {
        // SAFETY: as above.
        self.value.with(|value| unsafe { *value })
    }
}

// SAFETY: loom looks whether it is.
unsafe impl<P: Sync> Sync for With<P> {}
// SAFETY: as above.
unsafe impl<P: Send> Send for With<P> {}

fn spawn<P: Send + Sync + 'static>(with: &Arc<With<P>>, f: impl FnOnce(&With<P>) + 'static) -> JoinHandle<()> {
    let with = with.clone();
    thread::spawn(move || f(&with))
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    threads.into_iter().for_each(|t| t.join().unwrap());
}

fn touch(mutex: &RawMutex) {
    assert!(mutex.acquire(None));
    // SAFETY: it was just taken.
    unsafe { mutex.release() };
}

fn touch_both(lock: &RawRwLock) {
    assert!(lock.write(None, Abort::Unwinds));
    // SAFETY: it was just taken.
    unsafe { lock.end_write() };
}

fn locked(with: &With<RawMutex>) {
    assert!(with.primitive.acquire(None));
    with.add();
    // SAFETY: it was just taken.
    unsafe { with.primitive.release() };
}

#[test]
fn a_mutex_excludes_and_wakes() {
    for starving in [false, true] {
        model(3, starving, || {
            let with = With::new(RawMutex::new(), touch);
            let others = [spawn(&with, locked), spawn(&with, locked)];
            locked(&with);
            join(others);
            locked(&with);
            assert_eq!(with.get(), 4);
        });
    }
}

/// An unlock that comes late to the waiters does the work of another holder's, who has unlocked since: whom it wakes sees
/// what that one did.
#[test]
fn an_unlock_acts_for_another() {
    for starving in [false, true] {
        model(3, starving, || {
            let with = With::new(RawMutex::new(), touch);
            assert!(with.primitive.acquire(None));
            let others = [spawn(&with, locked), spawn(&with, locked)];
            with.add();
            // SAFETY: it was just taken.
            unsafe { with.primitive.release() };
            locked(&with);
            join(others);
            locked(&with);
            assert_eq!(with.get(), 5);
        });
    }
}

#[test]
fn a_mutex_survives_those_who_give_up() {
    for starving in [false, true] {
        model(3, starving, || {
            let with = With::new(RawMutex::new(), touch);
            let hasty = spawn(&with, |with| {
                if with.primitive.acquire(Some(Instant::now())) {
                    with.add();
                    // SAFETY: it was just taken.
                    unsafe { with.primitive.release() };
                }
            });
            let patient = spawn(&with, locked);
            locked(&with);
            join([hasty, patient]);
            locked(&with);
            assert!(with.get() >= 3);
        });
    }
}

fn written(with: &With<RawRwLock>) {
    assert!(with.primitive.write(None, Abort::Unwinds));
    with.add();
    // SAFETY: it was just taken.
    unsafe { with.primitive.end_write() };
}

fn seen(with: &With<RawRwLock>) {
    assert!(with.primitive.read(None, Abort::Unwinds));
    with.get();
    // SAFETY: it was just taken.
    unsafe { with.primitive.end_read() };
}

#[test]
fn an_rwlock_excludes_and_wakes() {
    model(3, false, || {
        let with = With::new(RawRwLock::new(), touch_both);
        let others = [spawn(&with, seen), spawn(&with, written)];
        seen(&with);
        join(others);
        assert_eq!(with.get(), 1);
    });
    model(2, false, || {
        let with = With::new(RawRwLock::new(), touch_both);
        let others = [spawn(&with, written), spawn(&with, seen)];
        written(&with);
        seen(&with);
        join(others);
        assert_eq!(with.get(), 2);
    });
}

/// A reader that leaves late must not wake the next writer, who waits for another reader.
#[test]
fn a_reader_wakes_the_writer_that_waits_for_it() {
    model(3, false, || {
        let with = With::new(RawRwLock::new(), touch_both);
        let reader = spawn(&with, seen);
        let writer = spawn(&with, |with| {
            written(with);
            written(with);
        });
        seen(&with);
        join([reader, writer]);
        assert_eq!(with.get(), 2);
    });
}

#[test]
fn an_rwlock_survives_those_who_give_up() {
    model(2, false, || {
        let with = With::new(RawRwLock::new(), touch_both);
        let hasty = spawn(&with, |with| {
            if with.primitive.write(Some(Instant::now()), Abort::Unwinds) {
                with.add();
                // SAFETY: it was just taken.
                unsafe { with.primitive.end_write() };
            }
        });
        let reader = spawn(&with, seen);
        seen(&with);
        join([hasty, reader]);
        written(&with);
    });
    model(2, false, || {
        let with = With::new(RawRwLock::new(), touch_both);
        let hasty = spawn(&with, |with| {
            if with.primitive.read(Some(Instant::now()), Abort::Unwinds) {
                with.get();
                // SAFETY: it was just taken.
                unsafe { with.primitive.end_read() };
            }
        });
        let writer = spawn(&with, written);
        written(&with);
        join([hasty, writer]);
        assert_eq!(with.get(), 2);
    });
}

/// Those that do not wait see what the last one did, or do without.
#[test]
fn an_rwlock_is_tried() {
    model(4, false, || {
        let with = With::new(RawRwLock::new(), touch_both);
        let tries = |with: &With<RawRwLock>| {
            if with.primitive.try_write() {
                with.add();
                // SAFETY: it was just taken.
                unsafe { with.primitive.end_write() };
            }
            if with.primitive.try_read() {
                with.get();
                // SAFETY: it was just taken.
                unsafe { with.primitive.end_read() };
            }
        };
        let other = spawn(&with, tries);
        tries(&with);
        join([other]);
        written(&with);
    });
}

#[test]
fn a_downgrade_keeps_writers_out() {
    model(2, false, || {
        let with = With::new(RawRwLock::new(), touch_both);
        let others = [spawn(&with, written), spawn(&with, seen)];
        assert!(with.primitive.write(None, Abort::Unwinds));
        with.add();
        let before = with.get();
        // SAFETY: it was just taken.
        unsafe { with.primitive.downgrade() };
        assert_eq!(with.get(), before);
        // SAFETY: a reader now.
        unsafe { with.primitive.end_read() };
        join(others);
    });
}

/// One that may give up and one that does not: the notification is not lost with the former.
#[test]
fn a_notification_is_not_lost() {
    struct Place {
        mutex: RawMutex,
        changed: Condvar,
    }
    fn wait(with: &With<Place>, deadline: Option<Instant>) {
        with.primitive.mutex.acquire(None);
        while with.get() == 0 {
            // SAFETY: we have the lock.
            if unsafe { with.primitive.changed.wait_unlocked(&with.primitive.mutex, deadline) } == Token::TIMEOUT {
                break;
            }
        }
        // SAFETY: as above.
        unsafe { with.primitive.mutex.release() };
    }
    model(3, false, || {
        let with = With::new(Place { mutex: RawMutex::new(), changed: Condvar::new() }, |place| {
            touch(&place.mutex);
            place.changed.notify_one();
        });
        let others = [spawn(&with, |with| wait(with, None)), spawn(&with, |with| wait(with, Some(Instant::now())))];
        with.primitive.mutex.acquire(None);
        with.add();
        // SAFETY: we have the lock.
        unsafe { with.primitive.mutex.release() };
        // The hasty one may have been notified; then it is gone, and a second one finds the patient.
        with.primitive.changed.notify_one();
        with.primitive.changed.notify_one();
        join(others);
    });
}

#[test]
fn it_is_done_once() {
    fn once(with: &With<Once>) {
        with.primitive.call_once(|| with.add());
        assert_eq!(with.get(), 1);
    }
    model(3, false, || {
        let with = With::new(Once::new(), |once| assert!(!once.is_completed()));
        let others = [
            spawn(&with, once),
            spawn(&with, |with| {
                if with.primitive.is_completed() {
                    assert_eq!(with.get(), 1);
                } else {
                    with.primitive.wait();
                    assert_eq!(with.get(), 1);
                }
            }),
        ];
        once(&with);
        join(others);
    });
}

#[test]
fn a_semaphore_serves_all_who_fit() {
    model(2, false, || {
        let semaphore = Arc::new(Semaphore::new(2));
        let others: Vec<_> = [(2, Some(Instant::now())), (1, None)]
            .into_iter()
            .map(|(n, deadline)| {
                let semaphore = semaphore.clone();
                thread::spawn(move || match deadline {
                    Some(deadline) => drop(semaphore.acquire_until(n, deadline)),
                    None => drop(semaphore.acquire(n)),
                })
            })
            .collect();
        drop(semaphore.acquire(2));
        join(others);
        assert_eq!(semaphore.available_permits(), 2);
    });
}

#[test]
fn a_barrier_lets_all_go() {
    model(2, false, || {
        let barrier = Arc::new((Barrier::new(2), AtomicUsize::new(0)));
        let meet = |barrier: &(Barrier, AtomicUsize)| {
            for _ in 0..2 {
                barrier.1.fetch_add(usize::from(barrier.0.wait().is_leader()), Ordering::SeqCst);
            }
        };
        let other = barrier.clone();
        let other = thread::spawn(move || meet(&other));
        meet(&barrier);
        join([other]);
        assert_eq!(barrier.1.load(Ordering::SeqCst), 2);
    });
}

/// The waiter goes on when both are done, and sees what they did.
#[test]
fn a_wait_group_waits_for_all() {
    model(3, false, || {
        let with = With::new(WaitGroup::new(), WaitGroup::touch);
        with.primitive.add(2);
        let adds = spawn(&with, |with| {
            with.add();
            with.primitive.done();
        });
        let counts = spawn(&with, |with| with.primitive.done());
        with.primitive.wait();
        assert_eq!(with.get(), 1);
        join([adds, counts]);
    });
}

/// A waiter that comes when the counter is at zero does not wait, and sees what was done; also where the last one had another waiter to
/// wake.
#[test]
fn a_wait_that_does_not_begin() {
    for waiters in [0, 1] {
        model(3, false, move || {
            let with = With::new(WaitGroup::new(), WaitGroup::touch);
            with.primitive.add(1);
            let mut others: Vec<_> = (0..waiters)
                .map(|_| {
                    spawn(&with, |with| {
                        with.primitive.wait();
                        assert_eq!(with.get(), 1);
                    })
                })
                .collect();
            others.push(spawn(&with, |with| {
                with.add();
                with.primitive.done();
            }));
            // loom may let the others come first.
            thread::yield_now();
            with.primitive.wait();
            assert_eq!(with.get(), 1);
            join(others);
        });
    }
}

/// A waiter for the next round is not woken by the last one's end, and nobody of the last one sleeps on.
#[test]
fn a_wait_group_tells_its_rounds_apart() {
    model(2, false, || {
        let with = With::new(WaitGroup::new(), WaitGroup::touch);
        with.primitive.add(1);
        let (begin, begun) = loom::sync::mpsc::channel();
        let counts = spawn(&with, move |with| {
            with.primitive.done();
            begun.recv().unwrap();
            with.add();
            with.primitive.done();
        });
        let waits = spawn(&with, |with| with.primitive.wait());
        with.primitive.add(1);
        begin.send(()).unwrap();
        with.primitive.wait();
        assert_eq!(with.get(), 1);
        join([counts, waits]);
    });
}
