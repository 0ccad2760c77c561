//! `blocking`: its jobs hold no worker and wait for nobody else's; what a job stores is neither its caller's nor the next
//! job's.

mod common;

use common::{kernel_thread, one_worker, within};
use gorun::{blocking, goroutine_local, local};
use std::cell::{Cell, OnceCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier};

goroutine_local! {
    static N: Cell<u32> = const { Cell::new(0) };
    static TELL: OnceCell<Tell> = const { OnceCell::new() };
}

/// Sends its name when dropped.
struct Tell(Sender<&'static str>, &'static str);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.send(self.1).unwrap();
    }
}

#[test]
fn a_job_finds_nothing_of_those_before_it_on_its_thread() {
    gorun::run(|| {
        let mut threads = std::collections::HashSet::new();
        for _ in 0..50 {
            let found = blocking(|| {
                threads.insert(kernel_thread());
                let found = (N.replace(7), local::contains(&"secret"));
                local::set("secret", 7u32);
                found
            });
            assert_eq!(found, (0, false));
        }
        assert!(threads.len() < 50, "no thread was used again: the test shows nothing");
    });
}

#[test]
fn what_a_job_stores_and_registers_ends_before_its_caller_goes_on() {
    let (tx, rx) = channel();
    gorun::go(move || {
        let end = |panics: bool| {
            let tx = tx.clone();
            catch_unwind(AssertUnwindSafe(|| {
                blocking(move || {
                    TELL.with(|t| assert!(t.set(Tell(tx.clone(), "typed")).is_ok()));
                    local::set("dynamic", Tell(tx.clone(), "dynamic"));
                    gorun::at_exit(move || tx.send("handler").unwrap());
                    if panics {
                        std::panic::resume_unwind(Box::new(8u8));
                    }
                });
            }))
        };
        for panics in [false, true] {
            assert_eq!(end(panics).is_err_and(|e| e.is::<u8>()), panics);
            assert_eq!(rx.try_iter().collect::<Vec<_>>(), ["handler", "dynamic", "typed"]);
        }
    })
    .join()
    .unwrap();
}

#[test]
fn the_callers_storage_stays_with_the_caller() {
    gorun::go(|| {
        N.set(9);
        local::set("mine", 1);
        let id = local::id();
        let seen = blocking(|| (gorun::current().is_none(), N.get(), local::contains(&"mine"), local::id() == id));
        assert_eq!(seen, (true, 0, false, false));
        assert_eq!((N.get(), local::get(&"mine")), (9, Some(1)));
    })
    .join()
    .unwrap();
}

#[test]
fn on_a_plain_thread_the_job_is_the_caller() {
    N.set(3);
    assert_eq!(blocking(|| N.replace(4)), 3);
    assert_eq!(N.get(), 4);
}

#[test]
fn jobs_hold_no_worker_and_wait_for_no_other_job() {
    within(|| {
        one_worker().build().unwrap().run(|| {
            // None goes on before all are there.
            let all = Arc::new(Barrier::new(50));
            let handles: Vec<_> = (0..50)
                .map(|_| {
                    let all = all.clone();
                    gorun::go(move || blocking(|| all.wait().is_leader()))
                })
                .collect();
            let leaders = handles.into_iter().map(|h| h.join().unwrap()).filter(|leads| *leads).count();
            assert_eq!(leaders, 1);
        });
    });
}

#[test]
fn a_job_may_borrow_and_its_panic_is_its_callers() {
    let borrowed = String::from("lent");
    assert_eq!(gorun::scope(|s| s.go(|| blocking(|| borrowed.len())).join().unwrap()), 4);
    let panics = gorun::go(|| blocking(|| std::panic::resume_unwind(Box::new("inside"))));
    let payload = panics.join().unwrap_err().into_panic().unwrap();
    assert_eq!(payload.downcast_ref(), Some(&"inside"));
}
