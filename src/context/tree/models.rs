//! Models of a tree of contexts in which several nodes end concurrently.

use super::*;
use crate::chan::TryRecvError;
use loom::cell::UnsafeCell;
use loom::thread;

/// Something that is done before a cancel.
struct Before(UnsafeCell<u32>);

// SAFETY: that the contexts order the accesses is what the model checks.
unsafe impl Sync for Before {}
// SAFETY: as above.
unsafe impl Send for Before {}

fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

fn canceling(node: &Arc<Node>, error: ContextError) -> thread::JoinHandle<()> {
    let node = node.clone();
    thread::spawn(move || node.cancel(error, None))
}

/// Whoever sees that a context has ended sees what was done before, and below it too.
#[test]
fn what_was_done_before_a_cancel_is_seen() {
    model(3, || {
        let parent = Node::child(None, None);
        let child = Node::child(Some(&parent), None);
        let before = Arc::new(Before(UnsafeCell::new(0)));
        let canceler = {
            let (parent, before) = (parent.clone(), before.clone());
            thread::spawn(move || {
                // SAFETY: loom finds accesses that meet.
                before.0.with_mut(|before| unsafe { *before = 7 });
                parent.cancel(ContextError::Canceled, None);
            })
        };
        // loom may let the other one come first.
        thread::yield_now();
        for node in [&child, &parent] {
            if node.error().is_some() {
                // SAFETY: as above.
                before.0.with(|before| assert_eq!(unsafe { *before }, 7));
            }
        }
        canceler.join().unwrap();
        assert_eq!((parent.error(), child.error()), (Some(ContextError::Canceled), Some(ContextError::Canceled)));
    });
}

/// T2: a child that is made while its parent ends is in the table and is found there, or sees the end and ends.
#[test]
fn a_child_that_is_made_meanwhile_ends() {
    model(4, || {
        let parent = Node::child(None, None);
        let canceler = canceling(&parent, ContextError::Canceled);
        let child = Node::child(Some(&parent), None);
        canceler.join().unwrap();
        assert_eq!(child.error(), Some(ContextError::Canceled));
    });
}

/// T1: a node ends once, for one reason, whoever comes first.
#[test]
fn two_cancel_the_same() {
    model(4, || {
        let node = Node::child(None, None);
        let deadline = canceling(&node, ContextError::DeadlineExceeded);
        node.cancel(ContextError::Canceled, None);
        let error = node.error();
        deadline.join().unwrap();
        assert!(error.is_some() && node.error() == error);
    });
}

/// A cancel that returns has ended all below, also where another has ended a node in the middle and is on its way down.
#[test]
fn a_cancel_that_returns_has_ended_all_below() {
    model(3, || {
        let root = Node::child(None, None);
        let middle = Node::child(Some(&root), None);
        let leaf = Node::child(Some(&middle), None);
        let deadline = canceling(&middle, ContextError::DeadlineExceeded);
        root.cancel(ContextError::Canceled, None);
        assert!(middle.error().is_some() && leaf.error().is_some());
        deadline.join().unwrap();
    });
}

/// Whoever sees a context's error finds its channel closed.
#[test]
fn an_error_is_seen_when_the_channel_is_closed() {
    model(2, || {
        let node = Node::child(None, None);
        assert!(matches!(node.done().try_recv(), Err(TryRecvError::Empty)));
        let canceler = canceling(&node, ContextError::Canceled);
        // As above.
        thread::yield_now();
        if node.error().is_some() {
            assert!(matches!(node.done().try_recv(), Err(TryRecvError::Closed)));
        }
        canceler.join().unwrap();
    });
}
