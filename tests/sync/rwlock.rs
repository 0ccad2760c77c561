//! `RwLock`, by the documentation of Go's `sync.RWMutex`.

use super::{HOUR, let_others_wait, on_one_worker, until, within};
use gorun::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

// Go, `sync.RWMutex`: "A RWMutex is a reader/writer mutual exclusion lock. The lock can be held by an arbitrary number of readers or a single
// writer."
#[test]
fn many_read_or_one_writes() {
    within(|| {
        let lock = Arc::new(RwLock::new((0u64, 0u64)));
        let (readers, writers) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let body = |seed: usize| {
            let (lock, readers, writers) = (lock.clone(), readers.clone(), writers.clone());
            move || {
                for n in 0..1500 {
                    if (n + seed).is_multiple_of(4) {
                        let mut held = lock.write();
                        assert_eq!(writers.fetch_add(1, Ordering::SeqCst), 0, "another writer");
                        assert_eq!(readers.load(Ordering::SeqCst), 0, "a reader");
                        held.0 += 1;
                        if n % 16 == 0 {
                            gorun::yield_now();
                        }
                        held.1 += 1;
                        writers.fetch_sub(1, Ordering::SeqCst);
                    } else {
                        let held = lock.read();
                        readers.fetch_add(1, Ordering::SeqCst);
                        if n % 16 == 0 {
                            gorun::yield_now();
                        }
                        assert_eq!(held.0, held.1);
                        assert_eq!(writers.load(Ordering::SeqCst), 0, "a writer");
                        readers.fetch_sub(1, Ordering::SeqCst);
                    }
                }
            }
        };
        let goroutines: Vec<_> = (0..8).map(|n| gorun::go(body(n))).collect();
        let threads: Vec<_> = (0..2).map(|n| thread::spawn(body(n))).collect();
        goroutines.into_iter().for_each(|g| g.join().unwrap());
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(lock.try_write().expect("nobody has it").0, 10 * 375);
    });
}

// Go, `sync.RWMutex.RUnlock`: "it does not affect other simultaneous readers". `TryLock`, `TryRLock`: "reports whether it
// succeeded".
#[test]
fn readers_are_in_together() {
    within(|| {
        let lock = RwLock::new(1);
        let (one, other) = (lock.read(), lock.try_read().unwrap());
        assert!(lock.try_write().is_none());
        drop(one);
        assert!(lock.try_write().is_none());
        drop(other);
        let writing = lock.try_write().unwrap();
        assert!(lock.try_read().is_none() && lock.try_write().is_none());
        drop(writing);
        assert!(lock.try_read().is_some());
    });
}

// Go, `sync.RWMutex`: "If any goroutine calls RWMutex.Lock while the lock is already held by one or more readers, concurrent calls to
// RWMutex.RLock will block until the writer has acquired (and released) the lock, to ensure that the lock eventually
// becomes available to the writer." And: "Note that this prohibits recursive read-locking."
#[test]
fn a_writer_that_waits_keeps_new_readers_out() {
    on_one_worker(|| {
        let (lock, order) = (Arc::new(RwLock::new(())), Arc::new(std::sync::Mutex::new(Vec::new())));
        let reading = lock.read();
        let note = |what: &'static str| {
            let (lock, order) = (lock.clone(), order.clone());
            let goroutine = gorun::go(move || {
                if what == "write" {
                    let _held = lock.write();
                    order.lock().unwrap().push(what);
                    let_others_wait();
                } else {
                    let _held = lock.read();
                    order.lock().unwrap().push(what);
                }
            });
            let_others_wait();
            goroutine
        };
        let all = [note("write"), note("read"), note("write"), note("read")];
        assert!(lock.try_read().is_none(), "a writer waits");
        assert!(order.lock().unwrap().is_empty());
        drop(reading);
        all.into_iter().for_each(|g| g.join().unwrap());
        // Unlock: readers that waited come before the next writer.
        assert_eq!(*order.lock().unwrap(), ["write", "read", "read", "write"]);
    });
}

#[test]
fn readers_in_turns_do_not_keep_a_writer_out() {
    within(|| {
        let (lock, done) = (Arc::new(RwLock::new(())), Arc::new(AtomicUsize::new(0)));
        // There is always one in.
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (lock, done) = (lock.clone(), done.clone());
                thread::spawn(move || {
                    while done.load(Ordering::SeqCst) < 20 {
                        let _reading = lock.read();
                        let since = Instant::now();
                        while since.elapsed() < Duration::from_micros(100) {
                            std::hint::spin_loop();
                        }
                    }
                })
            })
            .collect();
        let writer = gorun::go(move || {
            for _ in 0..20 {
                drop(lock.write());
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
        writer.join().unwrap();
        readers.into_iter().for_each(|r| r.join().unwrap());
    });
}

#[test]
fn who_gives_up_lets_the_others_in() {
    on_one_worker(|| {
        for way in 0..4 {
            let lock = Arc::new(RwLock::new(0));
            let reading = lock.read();
            let writer = gorun::go({
                let lock = lock.clone();
                move || match way {
                    0 | 1 => *lock.write() += 1,
                    2 => assert!(lock.try_write_for(Duration::from_millis(1)).is_none()),
                    _ => assert!(lock.try_write_until(Instant::now()).is_none()),
                }
            });
            let_others_wait();
            let reader = gorun::go({
                let lock = lock.clone();
                move || *lock.read()
            });
            let_others_wait();
            if way == 0 {
                // The reader gives up, then the writer gets its turn.
                reader.abort();
                assert!(reader.join().unwrap_err().is_aborted());
                drop(reading);
                writer.join().unwrap();
                assert_eq!(*lock.try_read().unwrap(), 1);
            } else {
                if way == 1 {
                    writer.abort();
                    assert!(writer.join().unwrap_err().is_aborted());
                } else {
                    writer.join().unwrap();
                }
                assert_eq!(reader.join().unwrap(), 0, "a reader is let in beside the other");
                drop(reading);
            }
            assert!(lock.try_write().is_some());
        }
    });
}

// Go, `sync.RWMutex.Unlock`: "As with Mutexes, a locked RWMutex is not associated with a particular goroutine. One goroutine may
// RWMutex.RLock (RWMutex.Lock) a RWMutex and then arrange for another goroutine to RWMutex.RUnlock (RWMutex.Unlock) it."
#[test]
fn another_goroutine_or_thread_unlocks() {
    within(|| {
        static LOCK: RwLock<u32> = RwLock::new(0);
        let reading = LOCK.read();
        let writer = gorun::go(|| *LOCK.write() += 1);
        gorun::go(move || drop(reading)).join().unwrap();
        writer.join().unwrap();
        let writing = LOCK.write();
        let reader = thread::spawn(|| *LOCK.read());
        gorun::go(move || drop(writing)).join().unwrap();
        assert_eq!(reader.join().unwrap(), 1);
    });
}

// Go, `sync.RWMutex.Lock`: "If the lock is already locked for reading or writing, Lock blocks until the lock is available."
#[test]
fn a_writer_waits_for_readers_and_for_writers() {
    on_one_worker(|| {
        let lock = Arc::new(RwLock::new(0));
        let write = || {
            let lock = lock.clone();
            gorun::go(move || *lock.write() += 1)
        };
        let (reading, other) = (lock.read(), lock.read());
        let waiting = write();
        let_others_wait();
        drop(reading);
        let_others_wait();
        assert!(!waiting.is_finished() && *other == 0);
        drop(other);
        waiting.join().unwrap();
        let writing = lock.write();
        let waiting = write();
        let_others_wait();
        assert!(!waiting.is_finished() && *writing == 1);
        drop(writing);
        waiting.join().unwrap();
        assert_eq!(*RwLock::<u8>::default().write(), 0, "unlocked, as Go's zero value");
    });
}

#[test]
fn a_reader_gives_up_in_time() {
    within(|| {
        let lock = RwLock::new(0);
        let writing = lock.write();
        let start = Instant::now();
        assert!(lock.try_read_for(Duration::from_millis(3)).is_none());
        assert!(start.elapsed() >= Duration::from_millis(3));
        assert!(lock.try_read_until(Instant::now()).is_none());
        assert!(lock.try_write_until(Instant::now()).is_none());
        drop(writing);
        assert!(lock.try_read_for(Duration::MAX).is_some());
        assert!(lock.try_write_for(Duration::MAX).is_some());
    });
}

// Go, `sync.RWMutex`: "nor can a RWMutex.Lock be downgraded into a RWMutex.RLock". Here it can.
#[test]
fn a_downgrade_lets_readers_in_and_no_writer() {
    on_one_worker(|| {
        let lock = Arc::new(RwLock::new(0));
        let mut writing = lock.write();
        let writer = gorun::go({
            let lock = lock.clone();
            move || *lock.write() += 10
        });
        let reader = gorun::go({
            let lock = lock.clone();
            move || *lock.read()
        });
        let_others_wait();
        *writing += 1;
        let reading = RwLockWriteGuard::downgrade(writing);
        assert_eq!(reader.join().unwrap(), 1);
        let_others_wait();
        assert_eq!((*reading, writer.is_finished()), (1, false));
        drop(reading);
        writer.join().unwrap();
        assert_eq!(*lock.read(), 11);
    });
}

#[test]
fn a_panic_unlocks_and_poisons_nothing() {
    within(|| {
        let lock = Arc::new(RwLock::new(0));
        for way in 0..4 {
            let inside = Arc::new(AtomicUsize::new(0));
            let owner = gorun::go({
                let (lock, inside) = (lock.clone(), inside.clone());
                move || {
                    let (_reading, _writing);
                    if way % 2 == 0 {
                        _reading = lock.read()
                    } else {
                        _writing = lock.write()
                    }
                    inside.store(1, Ordering::SeqCst);
                    match way {
                        0 | 1 => std::panic::resume_unwind(Box::new("on purpose")),
                        _ => gorun::time::sleep(HOUR),
                    }
                }
            });
            until(|| inside.load(Ordering::SeqCst) == 1);
            if way >= 2 {
                assert!(lock.try_write().is_none());
                owner.abort();
            }
            assert!(owner.join().is_err());
            *lock.try_write().expect("unlocked") += 1;
        }
        assert_eq!(*lock.read(), 4);
    });
}

#[test]
fn an_rwlock_gives_its_value_and_shows_it() {
    fn send_sync<T: Send + Sync>() {}
    send_sync::<RwLock<u8>>();
    send_sync::<RwLockReadGuard<'_, u8>>();
    send_sync::<RwLockWriteGuard<'_, u8>>();
    static NAMES: RwLock<Vec<u8>> = RwLock::new(Vec::new());
    NAMES.write().push(1);
    assert_eq!(format!("{NAMES:?}"), "RwLock([1])");
    let writing = NAMES.write();
    assert_eq!(format!("{NAMES:?} {writing:?}"), "RwLock(<locked>) [1]");
    drop(writing);
    let mut lock = RwLock::from(1);
    *lock.get_mut() += 1;
    assert_eq!(lock.into_inner() + *RwLock::<i32>::default().read(), 2);
    let unsized_one: &RwLock<[u8]> = &RwLock::new([1, 2]);
    assert_eq!(RwLockReadGuard::map(unsized_one.read(), |all| &all[1]).to_owned(), 2);
}
