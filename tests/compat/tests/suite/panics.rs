//! Panics, which are counted by thread, and destructors that wait in the middle of them.

use super::{ISOLATED, MANY, at_once, suspend};
use gorun_compat::{OnPurpose, expect_panic, quiet};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::panicking;

#[test]
fn a_suspension_in_a_destructor_in_a_panic() {
    struct Suspends;
    impl Drop for Suspends {
        fn drop(&mut self) {
            assert!(panicking());
            suspend();
            // One more, caught inside; and it suspends, too.
            struct Inner;
            impl Drop for Inner {
                fn drop(&mut self) {
                    suspend();
                    assert!(panicking());
                }
            }
            let inner = expect_panic(|| {
                let _inner = Inner;
                suspend();
                std::panic::panic_any(OnPurpose(1));
            });
            assert_eq!(inner, 1);
            suspend();
            assert!(panicking());
        }
    }
    quiet(false);
    at_once(ISOLATED, MANY, |i| {
        for _ in 0..3 {
            assert!(!panicking(), "others panic, we don't");
            let thrown = expect_panic(|| {
                let _suspends = Suspends;
                suspend();
                assert!(!panicking());
                std::panic::panic_any(OnPurpose(i as u64));
            });
            assert_eq!(thrown, i as u64);
            assert!(!panicking());
        }
    });
}

#[test]
fn every_second_one_panics() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            suspend();
            DROPS.fetch_add(1, SeqCst);
        }
    }
    quiet(false);
    at_once(ISOLATED, MANY, |i| {
        let child = gorun::go(move || {
            let _counted = Counted;
            suspend();
            if i % 2 == 0 {
                std::panic::panic_any(OnPurpose(i as u64));
            }
        });
        let poisoned = std::sync::Mutex::new(());
        let _guard = poisoned.lock();
        suspend();
        assert_eq!(child.join().is_err(), i % 2 == 0);
    });
    assert_eq!(DROPS.load(SeqCst), MANY);
}
