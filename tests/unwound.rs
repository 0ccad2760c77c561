//! What an abort, a `timeout` and `goexit` leave behind where they unwind: std's cells and locks, gorun's own, and what was to
//! be done once; and what `unload` leaves. The documentation of each says so.

mod common;

use common::within;
use gorun::sync::LazyLock;
use gorun::{Receiver, Sender, local};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// Told by `sleeps`, in one test only.
static BEGUN: LazyLock<(Sender<()>, Receiver<()>)> = LazyLock::new(gorun::unbounded);

fn sleeps() -> u32 {
    BEGUN.0.send(()).unwrap();
    gorun::time::sleep(HOUR);
    7
}

/// Ends `f` when it sleeps, as a `timeout` does.
fn gives_up<T: Send>(f: impl FnOnce() -> T + Send) {
    gorun::scope(|s| {
        let ended = s.go(|| drop(f()));
        BEGUN.1.recv().unwrap();
        ended.abort();
        assert!(ended.join().unwrap_err().is_aborted());
    });
}

#[test]
fn an_abort_poisons_stds_cells_and_not_goruns() {
    within(|| {
        let poisoned = std::sync::Mutex::new(1);
        gives_up(|| {
            let _held = poisoned.lock();
            sleeps();
        });
        assert!(poisoned.is_poisoned());
        let lock = std::sync::RwLock::new(1);
        gives_up(|| {
            let _held = lock.write();
            sleeps();
        });
        assert!(lock.is_poisoned());
        let once = std::sync::Once::new();
        gives_up(|| once.call_once(|| _ = sleeps()));
        assert!(catch_unwind(|| once.call_once(|| ())).is_err());
        let lazy = std::sync::LazyLock::new(sleeps);
        gives_up(|| *lazy);
        assert!(catch_unwind(AssertUnwindSafe(|| *lazy)).is_err());
        let cell = std::sync::OnceLock::new();
        gives_up(|| *cell.get_or_init(sleeps));
        assert_eq!(cell.get_or_init(|| 8), &8, "is empty again");

        let lock = gorun::sync::Mutex::new(1);
        gives_up(|| {
            let _held = lock.lock();
            sleeps();
        });
        assert_eq!(*lock.lock(), 1);
        let once = gorun::sync::Once::new();
        gives_up(|| once.call_once(|| _ = sleeps()));
        once.call_once(|| ());
        let calls = AtomicU32::new(0);
        let lazy = gorun::sync::LazyLock::new(|| if calls.fetch_add(1, Ordering::SeqCst) == 0 { sleeps() } else { 9 });
        gives_up(|| *lazy);
        assert_eq!(*lazy, 9);
        let cell = gorun::sync::OnceLock::new();
        gives_up(|| *cell.get_or_init(sleeps));
        assert_eq!(cell.get_or_init(|| 8), &8);
    });
}

#[test]
fn what_goexit_ended_has_not_been_done_once() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let init = gorun::sync::once_func(|| {
        if CALLS.fetch_add(1, Ordering::SeqCst) == 0 {
            gorun::goexit();
        }
    });
    let first = init.clone();
    assert!(gorun::go(first).join().unwrap_err().is_goexit());
    for _ in 0..2 {
        let again = init.clone();
        gorun::go(again).join().unwrap();
    }
    init();
    assert_eq!(CALLS.load(Ordering::SeqCst), 2);
}

#[test]
fn a_goroutine_keeps_its_number_when_its_storage_is_unloaded() {
    let (tx, rx) = gorun::unbounded();
    gorun::go(move || {
        let id = local::id();
        local::set("key", 1);
        local::unload();
        assert_eq!((local::id(), gorun::id(), local::contains(&"key")), (id, id, false));
        // A handler may call it too.
        local::at_exit(move || {
            local::set("key", 2);
            local::unload();
            tx.send((local::id() == id, local::contains(&"key"))).unwrap();
        });
    })
    .join()
    .unwrap();
    assert_eq!(rx.recv(), Ok((true, false)));
}
