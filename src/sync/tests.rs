//! Waits of which the order of events can't be brought about from outside: the end of a runtime comes while a goroutine is
//! past the first cancellation point of its wait, and the one that it waits for has been aborted.

use super::{ErrGroup, WaitGroup};
use crate::runtime::Builder;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const GENEROUS: Duration = Duration::from_secs(60);

/// In a goroutine: spawns a member by `go`, with what it is to do; lets its runtime end; waits, without a cancellation
/// point, until the member `has_ended`, which has been aborted by then; and does `wait`, which has to unwind it.
fn is_unwound<G: Send + 'static>(
    group: G,
    go: impl FnOnce(&G, Box<dyn FnOnce() + Send>) + Send + 'static,
    has_ended: impl Fn(&G) -> bool + Send + 'static,
    wait: impl FnOnce(&G) + Send + 'static,
) {
    let runtime = Builder::new().workers(2).build().unwrap();
    let (begin, begun) = mpsc::channel();
    let waiter = runtime.go(move || {
        let (sleep, sleeps) = mpsc::channel();
        let member = move || {
            sleep.send(()).unwrap();
            crate::time::sleep(Duration::from_secs(3600));
        };
        go(&group, Box::new(member));
        // Not gorun's waits: no cancellation points.
        sleeps.recv().unwrap();
        begin.send(()).unwrap();
        let start = Instant::now();
        while !has_ended(&group) {
            assert!(start.elapsed() < GENEROUS, "the member is not aborted");
            std::thread::yield_now();
        }
        wait(&group);
    });
    begun.recv().unwrap();
    runtime.shutdown(GENEROUS).unwrap();
    match waiter.unwrap().join() {
        Ok(()) => panic!("an abort was taken for an answer"),
        Err(error) => assert!(error.is_aborted(), "{error}"),
    }
}

#[test]
fn a_wait_group_whose_member_was_aborted_by_the_runtimes_end_unwinds() {
    is_unwound(WaitGroup::new(), |group, member| drop(group.go(member)), WaitGroup::is_at_zero, WaitGroup::wait_begun);
}

#[test]
fn an_err_group_whose_member_was_aborted_by_the_runtimes_end_unwinds() {
    let member = |group: &ErrGroup<()>, member: Box<dyn FnOnce() + Send>| {
        group.go(|| {
            member();
            Ok(())
        });
    };
    let has_ended = |group: &ErrGroup<()>| format!("{group:?}").contains("active: 0");
    is_unwound(ErrGroup::new(), member, has_ended, |group| assert_eq!(group.wait_begun(), Ok(())));
}
