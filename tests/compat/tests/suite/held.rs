//! What belongs to a thread, held by a goroutine while others run.

use super::{BOTH, ISOLATED, MANY, suspend};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};

use super::at_once;

#[test]
fn thread_rng() {
    use rand::RngCore;
    // In pinned mode one generator for each worker: shared, and still sound.
    at_once(BOTH, MANY, |_| {
        let mut rng = rand::rng();
        let mut last = 0;
        for _ in 0..50 {
            let next = rng.next_u64();
            assert_ne!(next, last);
            last = next;
            suspend();
        }
    });
}

#[test]
fn an_rc_out_of_a_thread_local() {
    thread_local! {
        static SHARED: Rc<Cell<usize>> = Rc::new(Cell::new(0));
    }
    // Not in pinned mode: the count and the value are the worker's.
    at_once(ISOLATED, MANY, |_| {
        let shared = SHARED.with(Rc::clone);
        for n in 0..50 {
            assert_eq!((shared.get(), Rc::strong_count(&shared)), (n, 2));
            suspend();
            SHARED.with(|shared| shared.set(n + 1));
        }
    });
}

#[test]
fn a_borrow_of_a_thread_local() {
    thread_local! {
        static CELL: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    }
    at_once(ISOLATED, MANY, |i| {
        for n in 0..20 {
            CELL.with_borrow_mut(|cell| {
                cell.push(i + n);
                suspend();
                assert_eq!((cell.len(), cell[n]), (n + 1, i + n));
            });
        }
    });
}

#[test]
fn a_suspension_in_a_lazy_initialiser() {
    thread_local! {
        static LAZY: usize = {
            suspend();
            ID.get()
        };
        static ID: Cell<usize> = const { Cell::new(0) };
    }
    at_once(ISOLATED, MANY, |i| {
        ID.set(i);
        suspend();
        assert_eq!(LAZY.with(|lazy| *lazy), i);
    });
}

#[test]
fn standard_output() {
    static INSIDE: AtomicBool = AtomicBool::new(false);
    // It counts by thread how often it is locked: who has it twice may have it, others may not. Few goroutines,
    // because those who wait block their workers.
    at_once(ISOLATED, 12, |_| {
        for _ in 0..3 {
            let outer = std::io::stdout().lock();
            assert!(!INSIDE.swap(true, SeqCst), "locked by two");
            suspend();
            let inner = std::io::stdout().lock();
            suspend();
            drop(inner);
            suspend();
            INSIDE.store(false, SeqCst);
            drop(outer);
            suspend();
        }
    });
}

#[test]
fn a_std_mutex_that_others_want() {
    static LOCK: Mutex<usize> = Mutex::new(0);
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    let taken = || -> MutexGuard<'static, usize> { LOCK.lock().expect("nobody panics") };
    at_once(ISOLATED, 12, move |_| {
        for _ in 0..3 {
            let mut guard = taken();
            let before = *guard;
            suspend();
            suspend();
            assert_eq!(*guard, before);
            *guard += 1;
            drop(guard);
            TAKEN.fetch_add(1, SeqCst);
            suspend();
        }
    });
    assert_eq!(*taken(), TAKEN.load(SeqCst));
}

#[test]
fn an_epoch_guard() {
    use crossbeam_epoch::{Atomic, Owned, pin};
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    static MADE: AtomicUsize = AtomicUsize::new(0);
    struct Counted(usize);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0 = !0;
            DROPPED.fetch_add(1, SeqCst);
        }
    }
    static VALUE: std::sync::LazyLock<Atomic<Counted>> = std::sync::LazyLock::new(|| Atomic::new(Counted(0)));
    at_once(BOTH, MANY, |i| {
        for _ in 0..5 {
            let guard = pin();
            let seen = VALUE.load(SeqCst, &guard);
            // SAFETY: loaded under the guard; whoever replaces it defers its end.
            let value = unsafe { &seen.deref().0 };
            let before = *value;
            for _ in 0..4 {
                suspend();
                assert_eq!(*value, before, "protected by the guard");
            }
            MADE.fetch_add(1, SeqCst);
            if VALUE.compare_exchange(seen, Owned::new(Counted(i)), SeqCst, SeqCst, &guard).is_ok() {
                // SAFETY: unlinked by us.
                unsafe { guard.defer_destroy(seen) };
            }
        }
    });
    // Each was unlinked or never linked in, and the first one was there.
    assert!(DROPPED.load(SeqCst) <= MADE.load(SeqCst));
}

#[test]
fn an_entered_span() {
    use tracing_subscriber::layer::SubscriberExt;
    // As many as the registry takes: at 4,096 threads with spans it panics.
    let subscriber = tracing_subscriber::registry().with(tracing_subscriber::fmt::layer().with_writer(std::io::sink));
    // Other tests don't mind.
    tracing::subscriber::set_global_default(subscriber).expect("the only one");
    at_once(ISOLATED, MANY, |i| {
        for _ in 0..5 {
            let outer = tracing::info_span!("outer", i).entered();
            suspend();
            assert_eq!(tracing::Span::current().id(), outer.id());
            let inner = tracing::info_span!("inner").entered();
            tracing::info!("an event");
            suspend();
            assert_eq!(tracing::Span::current().id(), inner.id());
            drop(inner);
            suspend();
            assert_eq!(tracing::Span::current().id(), outer.id());
        }
        assert_eq!(tracing::Span::current().id(), None);
    });
}
