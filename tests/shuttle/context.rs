//! Contexts: a cancel reaches everybody below, however it meets the making of children and channels.

use super::{Log, Parties, model};
use gorun::context::{self, Context, ContextError};
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

/// Whoever cancels, at the root or in between: all below is over when the cancel returns.
#[test]
fn a_cancel_that_returns_has_ended_all_below() {
    fn over(contexts: &[Context]) -> bool {
        contexts.iter().all(|context| context.err().is_some() && context.done().is_closed())
    }
    model(|| {
        let (root, cancel_root) = context::background().with_cancel();
        let (middle, cancel_middle) = root.with_cancel();
        let (below, _below) = middle.with_cancel();
        let (deep, _deep) = below.with_cancel();
        let all = [middle, below, deep];
        let mut parties = Parties::default();
        for cancel in [cancel_root, cancel_middle] {
            let all = all.clone();
            parties.add(move || {
                cancel.cancel();
                assert!(over(&all));
            });
        }
        parties.join();
    });
}

/// In Go a context's error is there if and only if its channel is closed.
#[test]
fn the_error_and_the_closed_channel_are_seen_together() {
    model(|| {
        let (root, cancel) = context::background().with_cancel();
        let (context, _own) = root.with_cancel();
        let mut parties = Parties::default();
        let seen = context.clone();
        parties.add(move || {
            let done = seen.done();
            assert!(!done.is_closed() || seen.err().is_some());
            assert!(seen.err().is_none() || done.is_closed());
            assert!(done.recv().is_err() && seen.err().is_some());
        });
        // The channel may be asked for while the context ends.
        parties.add(move || assert!(context.err().is_none() || context.done().is_closed()));
        parties.add(move || cancel.cancel());
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
