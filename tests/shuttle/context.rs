//! Contexts: a cancel reaches everybody below, however it meets the making of children and channels.

use super::{Log, Parties, model};
use gorun::context::{self, ContextError};
use gorun::{channel, select};

/// A select of work and the end: it ends, and the work that was handed over was done.
#[test]
fn a_cancel_ends_a_select() {
    model(|| {
        let (done, sent) = (Log::default(), Log::default());
        let (context, cancel) = context::background().with_cancel();
        let (sender, jobs) = channel(0);
        let mut parties = Parties::default();
        let (worker, log) = (context.clone(), done.clone());
        parties.add(move || {
            loop {
                select! {
                    recv(jobs) -> job => log.add(job.unwrap()),
                    recv(worker.done()) -> _ => break,
                }
            }
            assert_eq!(worker.err(), Some(ContextError::Canceled));
        });
        let (log, sender_) = (sent.clone(), sender.clone());
        parties.add(move || {
            for job in 0..3 {
                select! {
                    send(sender_, job) -> taken => if taken.is_ok() { log.add(job) },
                    recv(context.done()) -> _ => break,
                }
            }
        });
        parties.add(move || cancel.cancel());
        parties.join();
        drop(sender);
        assert_eq!(done.sorted(), sent.sorted());
    });
}

/// Children and grandchildren are made while their ancestor ends: each of them ends, and none is left waiting.
#[test]
fn a_cancel_reaches_children_that_are_being_made() {
    model(|| {
        let (context, cancel) = context::background().with_cancel();
        let mut parties = Parties::default();
        for _ in 0..2 {
            let context = context.clone();
            parties.add(move || {
                let (child, _cancel) = context.with_cancel();
                let (grandchild, own) = child.with_cancel();
                drop(child);
                assert!(grandchild.done().recv().is_err());
                assert_eq!(grandchild.err(), Some(ContextError::Canceled));
                drop(own);
            });
        }
        parties.add(move || drop(cancel));
        parties.join();
    });
}

/// Siblings that end by themselves while their parent ends them.
#[test]
fn a_child_ends_once() {
    model(|| {
        let (context, cancel) = context::background().with_cancel_cause();
        let mut parties = Parties::default();
        for own in ["one", "two"] {
            let (child, cancel) = context.with_cancel_cause();
            let waiting = child.clone();
            parties.add(move || {
                assert!(waiting.done().recv().is_err());
                let cause = waiting.cause().unwrap().to_string();
                assert!(cause == own || cause == "all", "{cause}");
                assert_eq!(waiting.cause().unwrap().to_string(), cause, "it stays");
            });
            parties.add(move || {
                cancel.cancel(own);
                assert!(child.err().is_some());
            });
        }
        parties.add(move || cancel.cancel("all"));
        parties.join();
    });
}
