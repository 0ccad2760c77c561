//! Unit tests of timers that end waits.

use super::*;
use crate::claim::claim_word::Token;
use crate::timer::clock::NEVER;
use crate::timer::timers::BATCH;
use crate::timer::timers::Due;
use crate::timer::timers::Timers;
use crate::wait::park::{Blocker, WaitReason};

fn wait(blocker: &Blocker) -> Node<What> {
    Node::new(What::Wait(blocker.parker()))
}

#[test]
fn a_timer_fires_at_its_time_and_not_before() {
    let timers = Timers::new();
    let blocker = Blocker::current();
    blocker.arm();
    let node = wait(&blocker);
    timers.push(100, &node);
    let mut due = Due::default();
    assert!(!timers.fire(99, &mut due));
    assert!(due.woken.is_empty());
    assert_eq!(timers.earliest(), 100);
    assert!(!timers.fire(100, &mut due));
    assert_eq!(due.woken.len(), 1);
    assert_eq!(timers.earliest(), NEVER);
    assert_eq!(blocker.park(WaitReason::Sleep, None), Token::TIMEOUT);
    due.woken.pop().unwrap().wake();
}

#[test]
fn a_cancelled_timer_never_fires() {
    let timers = Timers::new();
    let blocker = Blocker::current();
    blocker.arm();
    let node = wait(&blocker);
    timers.push(100, &node);
    timers.cancel(&node);
    timers.cancel(&node);
    let mut due = Due::default();
    assert!(!timers.fire(1000, &mut due));
    assert!(due.woken.is_empty());
    assert!(blocker.disarm());
}

#[test]
fn many_that_are_due_fire_in_batches() {
    let timers = Timers::new();
    let blockers: Vec<_> = (0..BATCH + 1).map(|_| Blocker::current()).collect();
    let nodes: Vec<_> = blockers.iter().map(wait).collect();
    for (blocker, node) in blockers.iter().zip(&nodes) {
        blocker.arm();
        timers.push(5, node);
    }
    let mut due = Due::default();
    assert!(timers.fire(5, &mut due));
    assert_eq!(due.woken.len(), BATCH);
    assert!(!timers.fire(5, &mut due));
    assert_eq!(due.woken.len(), BATCH + 1);
    assert!(blockers.iter().all(|blocker| !blocker.disarm()));
}
