//! `Pool`, by the documentation of Go's `sync.Pool`.

use super::{until, within};
use gorun::sync::Pool;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Counts those that are there.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

// Go, `sync.Pool.Get`: "Get selects an arbitrary item from the Pool, removes it from the Pool, and returns it to the caller."
// And: "If Get would otherwise return nil and p.New is non-nil, Get returns the result of calling p.New." `Put`: "Put adds x to
// the pool." `Pool`: "A Pool is safe for use by multiple goroutines simultaneously."
#[test]
fn each_value_is_somebodys_or_the_pools() {
    within(|| {
        let (made, there) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let pool = Arc::new(Pool::new({
            let (made, there) = (made.clone(), there.clone());
            move || {
                made.fetch_add(1, Ordering::SeqCst);
                (Counted::new(&there), AtomicUsize::new(0))
            }
        }));
        assert!(pool.try_get().is_none());
        let body = || {
            let pool = pool.clone();
            move || {
                for n in 0..500 {
                    let value = pool.get();
                    assert_eq!(value.1.fetch_add(1, Ordering::SeqCst), 0, "somebody else has it");
                    if n % 8 == 0 {
                        gorun::yield_now();
                    }
                    value.1.fetch_sub(1, Ordering::SeqCst);
                    pool.put(value);
                }
            }
        };
        let goroutines: Vec<_> = (0..6).map(|_| gorun::go(body())).collect();
        let threads: Vec<_> = (0..2).map(|_| thread::spawn(body())).collect();
        goroutines.into_iter().for_each(|g| g.join().unwrap());
        threads.into_iter().for_each(|t| t.join().unwrap());
        // As many as were out at once, and not one for each turn.
        let made = made.load(Ordering::SeqCst);
        assert!((1..=8).contains(&made), "{made} made");
        assert_eq!(there.load(Ordering::SeqCst), made);
        assert_eq!(format!("{pool:?}"), format!("Pool {{ kept: {made}, .. }}"));
        drop(pool);
        assert_eq!(there.load(Ordering::SeqCst), 0);
    });
}

// Go, `sync.Pool`: "Any item stored in the Pool may be removed automatically at any time without notification."
#[test]
fn what_nobody_wants_is_dropped_in_the_end() {
    within(|| {
        let there = Arc::new(AtomicUsize::new(0));
        let pool = {
            let there = there.clone();
            Pool::with_idle(move || Counted::new(&there), Duration::from_millis(2))
        };
        for round in 0..3 {
            (0..10).map(|_| pool.get()).collect::<Vec<_>>().into_iter().for_each(|value| pool.put(value));
            until(|| there.load(Ordering::SeqCst) == 0);
            assert!(pool.try_get().is_none(), "round {round}");
        }
    });
}

#[test]
fn a_pool_has_bounds() {
    within(|| {
        let there = Arc::new(AtomicUsize::new(0));
        let counter = there.clone();
        let pool = Pool::new(move || Counted::new(&counter));
        let many: Vec<_> = (0..1000).map(|_| pool.get()).collect();
        assert_eq!(there.load(Ordering::SeqCst), 1000);
        many.into_iter().for_each(|value| pool.put(value));
        assert_eq!(there.load(Ordering::SeqCst), 256, "a plain thread's shard");
    });
}

/// A drop that puts another value, and one that panics, as the sweep runs it.
#[test]
fn a_drop_may_use_the_pool_and_may_panic() {
    struct Odd(u32);
    static POOL: Pool<Odd> = Pool::with_idle(|| Odd(0), Duration::from_millis(1));
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    impl Drop for Odd {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::SeqCst);
            if self.0 > 0 {
                POOL.put(Odd(self.0 - 1));
                std::panic::resume_unwind(Box::new("on purpose"));
            }
        }
    }
    within(|| {
        POOL.put(Odd(3));
        until(|| DROPS.load(Ordering::SeqCst) == 4);
    });
}
