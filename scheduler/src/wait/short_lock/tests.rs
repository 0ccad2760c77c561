//! The lock between threads, and between a worker and threads.

use super::*;

#[test]
fn one_at_a_time_and_nobody_sleeps_for_ever() {
    let lock = ShortLock::new(0u64, 0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..20_000u64 {
                    let mut value = lock.lock();
                    let before = *value;
                    if n % 1000 == 0 {
                        // Long enough for the others to sleep.
                        std::thread::yield_now();
                    }
                    *value = before + 1;
                    value.release((before as u32 + 1) & 0xff);
                }
            });
        }
    });
    assert_eq!(*lock.lock(), 80_000);
    assert_eq!(lock.note(), 80_000 & 0xff);
}

#[test]
fn who_takes_it_again_and_again_has_it_until_somebody_else_comes() {
    membarrier::register();
    let Some(owner) = Owner::enrol() else { return };
    let lock = ShortLock::new(0u64, 0);
    let take = |owner: Option<&Owner>| *lock.lock_by(|| owner) += 1;
    let is_biased = || lock.bias.load(Ordering::Relaxed) != 0;
    for strikes in 0..STRIKES {
        let most = 2 * (u32::from(FIRST_RUN) << (3 * strikes)) * 1000;
        assert!((0..most).any(|_| {
            take(Some(owner));
            is_biased()
        }));
        // Another one takes it while its owner goes on.
        let all = 100_000;
        let before = *lock.lock_by(|| Some(owner));
        std::thread::scope(|scope| {
            scope.spawn(|| (0..all).for_each(|_| take(None)));
            (0..all).for_each(|_| take(Some(owner)));
        });
        assert_eq!(*lock.lock_by(|| Some(owner)) - before, 2 * all);
    }
    (0..1_000_000).for_each(|_| take(Some(owner)));
    assert!(!is_biased(), "never again");
    owner.leave();
}

#[test]
fn a_guard_that_is_alive_keeps_its_own_worker_out() {
    membarrier::register();
    let Some(owner) = Owner::enrol() else { return };
    let lock = ShortLock::new((), 0);
    (0..2 * FIRST_RUN).for_each(|_| drop(lock.lock_by(|| Some(owner))));
    let guard = lock.lock_by(|| Some(owner));
    assert_ne!(guard.note & BIASED, 0, "it is biased");
    let (title, entered) = (owner.title(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // As if the same worker came once more.
        scope.spawn(|| {
            drop(lock.lock_by(|| Some(owner)));
            entered.store(true, Ordering::SeqCst);
        });
        // It has to take the title away first.
        while owner.title() == title {
            std::thread::yield_now();
        }
        assert!(!entered.load(Ordering::SeqCst));
        drop(guard);
    });
    assert!(entered.load(Ordering::SeqCst));
    owner.leave();
}

#[test]
fn a_note_stays_until_the_next() {
    let lock = ShortLock::new((), 5);
    let held = lock.lock();
    assert_eq!((held.note(), lock.note()), (5, 5));
    held.release(6);
    drop(lock.lock());
    assert_eq!(lock.note(), 6);
}
