//! Models of the lock whose release is a plain store, and which is biased to who takes it again and again.

use super::*;
use crate::base::atomics::models::model;
use loom::cell::UnsafeCell;
use loom::sync::Arc;

/// Two or three who all want it: one at a time has it, each sees what the one before did and noted, and nobody sleeps
/// for ever. (With the light fence gone, or the heavy one, two of them get stuck: see the file's head.)
fn contended(threads: u32, preemptions: usize) {
    model(preemptions, move || {
        let lock = Arc::new(ShortLock::new(UnsafeCell::new(0), 0));
        let section = |lock: &ShortLock<UnsafeCell<u32>>| {
            let held = lock.lock();
            let now = held.with_mut(|value| {
                // SAFETY: under the lock; loom looks whether that is so.
                unsafe { *value += 1 };
                // SAFETY: as above.
                unsafe { *value }
            });
            assert_eq!(held.note(), now - 1);
            held.release(now);
        };
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let lock = lock.clone();
                loom::thread::spawn(move || section(&lock))
            })
            .collect();
        section(&lock);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(lock.note(), threads);
    });
}

#[test]
fn two_contend() {
    contended(2, 5);
}

#[test]
fn three_contend() {
    contended(3, 2);
}

/// Workers, and perhaps a plain thread, each of which takes the lock so often; in the models a lock is biased when it has
/// been taken some four times in a row, and after a strike some sixteen times. One at a time has it, and nobody sleeps for ever.
fn biased(sections: &'static [(Option<usize>, u32)], preemptions: usize) {
    model(preemptions, move || {
        let mut lock = ShortLock::new(UnsafeCell::new(0), 0);
        lock.model.owners = std::sync::Arc::new(Owner::table(2));
        let lock = Arc::new(lock);
        let enter = |lock: &ShortLock<UnsafeCell<u32>>, owner: Option<usize>, times| {
            let owners = lock.model.owners.clone();
            for _ in 0..times {
                let held = lock.lock_by(|| owner.map(|owner| &owners[owner]));
                let now = held.with_mut(|value| {
                    // SAFETY: under the lock; loom looks whether that is so.
                    unsafe { *value += 1 };
                    // SAFETY: as above.
                    unsafe { *value }
                });
                assert_eq!(held.note(), now - 1);
                held.release(now);
            }
        };
        // Biased to the first worker from here on.
        enter(&lock, Some(0), 4);
        assert_ne!(lock.bias.load(Ordering::Relaxed), 0);
        let others: Vec<_> = sections[1..]
            .iter()
            .map(|(owner, times)| {
                let lock = lock.clone();
                loom::thread::spawn(move || enter(&lock, *owner, *times))
            })
            .collect();
        enter(&lock, sections[0].0, sections[0].1);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(lock.note(), 4 + sections.iter().map(|(_, times)| times).sum::<u32>());
    });
}

#[test]
fn a_thread_takes_a_biased_lock_from_its_worker() {
    biased(&[(Some(0), 2), (None, 1)], 3);
}

#[test]
fn two_workers_take_a_biased_lock_by_turns() {
    biased(&[(Some(0), 2), (Some(1), 3)], 2);
}

#[test]
fn two_threads_take_a_biased_lock_from_its_worker() {
    biased(&[(Some(0), 1), (None, 1), (None, 1)], 2);
}

/// L4. The lock's owner is about to announce itself under a title that is lost meanwhile, and another worker takes the lock so
/// often that it would become its own. (Red without L4.)
#[test]
fn a_worker_that_comes_late_disturbs_nobody() {
    biased(&[(Some(0), 1), (Some(1), 18)], 2);
}

/// A worker that ends has done nothing that who takes its lock does not see, and has left nothing held.
#[test]
fn a_worker_leaves_its_title() {
    model(4, || {
        let mut lock = ShortLock::new(UnsafeCell::new(0), 0);
        lock.model.owners = std::sync::Arc::new(Owner::table(1));
        let lock = Arc::new(lock);
        let enter = |lock: &ShortLock<UnsafeCell<u32>>, owner: Option<&Owner>| {
            let held = lock.lock_by(|| owner);
            // SAFETY: under the lock; loom looks whether that is so.
            held.with_mut(|value| unsafe { *value += 1 });
        };
        let owners = lock.model.owners.clone();
        (0..4).for_each(|_| enter(&lock, Some(&owners[0])));
        assert_ne!(lock.bias.load(Ordering::Relaxed), 0);
        let other = {
            let lock = lock.clone();
            loom::thread::spawn(move || enter(&lock, None))
        };
        enter(&lock, Some(&owners[0]));
        owners[0].leave();
        other.join().unwrap();
        // SAFETY: as above.
        lock.lock_by(|| None).with(|value| assert_eq!(unsafe { *value }, 6));
    });
}

/// A guard that was taken under the worker's title, and is dropped on another thread: the worker, which takes the lock again
/// under the same title, sees what was done under it.
#[test]
fn a_guard_is_dropped_elsewhere() {
    model(4, || {
        let mut lock = ShortLock::new(UnsafeCell::new(0), 0);
        lock.model.owners = std::sync::Arc::new(Owner::table(1));
        let lock = Arc::new(lock);
        let owners = lock.model.owners.clone();
        let add = |guard: &ShortGuard<'_, UnsafeCell<u32>>| {
            // SAFETY: under the lock; loom looks whether that is so.
            guard.with_mut(|value| unsafe { *value += 1 });
        };
        (0..4).for_each(|_| add(&lock.lock_by(|| Some(&owners[0]))));
        let guard = lock.lock_by(|| Some(&owners[0]));
        assert_ne!(guard.note & BIASED, 0);
        // SAFETY: the lock outlives the thread.
        let guard: ShortGuard<'static, UnsafeCell<u32>> = unsafe { std::mem::transmute(guard) };
        let other = loom::thread::spawn(move || {
            add(&guard);
            drop(guard);
        });
        add(&lock.lock_by(|| Some(&owners[0])));
        other.join().unwrap();
        // SAFETY: as above.
        lock.lock_by(|| None).with(|value| assert_eq!(unsafe { *value }, 6));
    });
}

#[test]
fn one_title_is_taken_for_two_locks_at_once() {
    model(2, || {
        let owners = std::sync::Arc::new(Owner::table(1));
        let locks: Arc<[ShortLock<UnsafeCell<u32>>; 2]> = Arc::new(std::array::from_fn(|_| {
            let mut lock = ShortLock::new(UnsafeCell::new(0), 0);
            lock.model.owners = owners.clone();
            lock
        }));
        let enter = |lock: &ShortLock<UnsafeCell<u32>>, owner: Option<&Owner>| {
            let held = lock.lock_by(|| owner);
            // SAFETY: under the lock; loom looks whether that is so.
            held.with_mut(|value| unsafe { *value += 1 });
        };
        let mine = Some(&owners[0]);
        locks.iter().for_each(|lock| (0..4).for_each(|_| enter(lock, mine)));
        let others: Vec<_> = (0..2)
            .map(|at| {
                let locks = locks.clone();
                loom::thread::spawn(move || enter(&locks[at], None))
            })
            .collect();
        locks.iter().for_each(|lock| enter(lock, mine));
        others.into_iter().for_each(|other| other.join().unwrap());
        locks.iter().for_each(|lock| {
            lock.lock_by(|| mine).with(|value| {
                // SAFETY: as above.
                assert_eq!(unsafe { *value }, 6);
            })
        });
    });
}
