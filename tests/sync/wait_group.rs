//! `WaitGroup`.

use super::{HOUR, until, within};
use gorun::sync::WaitGroup;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

// Go, `sync.WaitGroup.Wait`: "Wait blocks until the WaitGroup task counter is zero." `Add`: "If the counter becomes zero, all
// goroutines blocked on WaitGroup.Wait are released." `Go`: "the return from f "synchronizes before" the return of any Wait call
// that it unblocks".
#[test]
fn a_wait_group_waits_for_all_and_for_nothing() {
    within(|| {
        let group = WaitGroup::new();
        group.wait();
        for _ in 0..3 {
            let count = Arc::new(AtomicUsize::new(0));
            for _ in 0..100 {
                let count = count.clone();
                group.go(move || {
                    gorun::yield_now();
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
            let waiters: Vec<_> = (0..4)
                .map(|_| {
                    let (group, count) = (group.clone(), count.clone());
                    gorun::go(move || {
                        group.wait();
                        count.load(Ordering::Relaxed)
                    })
                })
                .collect();
            group.wait();
            assert_eq!(count.load(Ordering::Relaxed), 100);
            waiters.into_iter().for_each(|w| assert_eq!(w.join().unwrap(), 100));
        }
    });
}

/// Tells when it is dropped, slowly, whether the group was done by then.
struct Owned(Arc<AtomicUsize>);

impl Drop for Owned {
    fn drop(&mut self) {
        for _ in 0..10 {
            thread::yield_now();
        }
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

// Go, `sync.WaitGroup.Go`: "Go calls f in a new goroutine and adds that task to the WaitGroup. When f returns, the task is
// removed from the WaitGroup."
#[test]
fn a_groups_goroutine_is_done_however_it_ends() {
    within(|| {
        let runtime = gorun::runtime::Builder::new().workers(1).build().unwrap();
        runtime.run(|| {
            let dropped = Arc::new(AtomicUsize::new(0));
            for way in 0..5 {
                let group = WaitGroup::new();
                let owned = Owned(dropped.clone());
                let handle = group.go(move || {
                    let _owned = &owned;
                    match way {
                        0 => {}
                        1 => gorun::goexit(),
                        2 => std::panic::resume_unwind(Box::new("on purpose")),
                        _ => gorun::time::sleep(HOUR),
                    }
                });
                if way == 3 {
                    gorun::yield_now(); // it begins
                }
                if way >= 3 {
                    handle.abort(); // for 4, one worker: before it began
                }
                group.wait();
                assert_eq!(dropped.load(Ordering::SeqCst), way + 1, "what it owned is gone when it is done");
                assert_eq!(handle.join().is_ok(), way == 0);
            }
        });
        // From outside, where the drop and the wait are on two threads.
        let dropped = Arc::new(AtomicUsize::new(0));
        for round in 1..=200 {
            let group = WaitGroup::new();
            let owned = Owned(dropped.clone());
            let handle = group.go(move || {
                let _owned = &owned;
                gorun::time::sleep(HOUR);
            });
            handle.abort();
            group.wait();
            assert_eq!(dropped.load(Ordering::SeqCst), round);
        }
    });
}

// Go, `sync.WaitGroup.Go`: "If the WaitGroup is not empty, Go may happen at any time. This means a goroutine started by Go may
// itself call Go."
#[test]
fn a_group_grows_from_inside() {
    within(|| {
        fn grow(group: &WaitGroup, count: &Arc<AtomicUsize>, depth: u32) {
            count.fetch_add(1, Ordering::SeqCst);
            for _ in 0..if depth > 0 { 2 } else { 0 } {
                let (inside, count) = (group.clone(), count.clone());
                group.go(move || grow(&inside, &count, depth - 1));
            }
        }
        let (group, count) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
        grow(&group, &count, 6);
        group.wait();
        assert_eq!(count.load(Ordering::SeqCst), 127);
    });
}

// Go, `sync.WaitGroup.Done`: "Done decrements the WaitGroup task counter by one." And: "a call to Done "synchronizes before" the
// return of any Wait call that it unblocks". `Add`: "If a WaitGroup is reused to wait for several independent sets of events,
// new Add calls must happen after all previous Wait calls have returned."
#[test]
fn done_counts_down_and_is_an_edge() {
    within(|| {
        let (group, said) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
        for round in 1..200 {
            group.add(2);
            for part in 0..2 {
                let (group, said) = (group.clone(), said.clone());
                gorun::go(move || {
                    // Relaxed: the group is the edge.
                    said.fetch_add(round << (16 * part), Ordering::Relaxed);
                    group.done();
                });
            }
            group.wait();
            assert_eq!(said.swap(0, Ordering::Relaxed), round | round << 16);
        }
    });
}

// Go, `sync.WaitGroup.Add`: "If the counter goes negative, Add panics."
#[test]
fn more_done_than_add_panics_and_leaves_the_group_usable() {
    let group = WaitGroup::new();
    let done = group.clone();
    let panic = thread::spawn(move || done.done()).join().unwrap_err();
    assert!(panic.downcast_ref::<&str>().unwrap().contains("negative WaitGroup counter"));
    let done = group.clone();
    assert!(gorun::go(move || done.done()).join().unwrap_err().is_panic());
    group.add(1);
    group.done();
    group.wait();
    group.add(usize::MAX / 2);
    assert!(gorun::go(move || group.add(1)).join().unwrap_err().is_panic(), "the counter overflows");
}

#[test]
fn an_abort_ends_a_wait_and_the_others_go_on() {
    within(|| {
        let group = WaitGroup::new();
        group.add(1);
        let began = Arc::new(AtomicUsize::new(0));
        let waiters: Vec<_> = (0..6)
            .map(|_| {
                let (group, began) = (group.clone(), began.clone());
                gorun::go(move || {
                    began.fetch_add(1, Ordering::SeqCst);
                    group.wait();
                })
            })
            .collect();
        until(|| began.load(Ordering::SeqCst) == 6);
        waiters.iter().step_by(2).for_each(gorun::JoinHandle::abort);
        for n in [0, 2, 4] {
            until(|| waiters[n].is_finished());
        }
        assert!(!waiters[1].is_finished());
        group.done();
        for (n, waiter) in waiters.into_iter().enumerate() {
            assert_eq!(waiter.join().is_err(), n % 2 == 0);
        }
    });
}
