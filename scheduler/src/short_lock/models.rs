//! Models of the lock whose release is a plain store.

use super::*;
use loom::cell::UnsafeCell;
use loom::sync::Arc;

/// Two or three who all want it: one at a time has it, each sees what the one before did and noted, and nobody sleeps
/// for ever. (With the light fence gone, or the heavy one, two of them get stuck: see the file's head.)
fn contended(threads: u32, preemptions: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
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
