//! Models of pushes against workers that search, fall asleep, and wake: no work is left that no worker will find.

use super::*;
use crate::base::atomics::models::model;
use loom::sync::Arc;
use loom::sync::atomic::AtomicBool;
use loom::thread::{self, JoinHandle};

/// What sleeps, and two places where work may lie.
struct World {
    idle: Idle,
    work: [AtomicBool; 2],
}

impl World {
    fn new() -> Arc<World> {
        let world = World { idle: Idle::new(), work: std::array::from_fn(|_| AtomicBool::new(false)) };
        world.idle.touch();
        Arc::new(world)
    }

    /// Pushes at this place; whom that wakes.
    fn push(world: &Arc<World>, at: usize) -> JoinHandle<Option<usize>> {
        let world = world.clone();
        thread::spawn(move || {
            world.work[at].store(true, Ordering::Relaxed);
            world.idle.notify()
        })
    }

    /// A searcher's look at all queues.
    fn find(&self) -> bool {
        self.work.iter().any(|work| work.load(Ordering::Relaxed) && work.swap(false, Ordering::Relaxed))
    }

    fn anything(&self) -> bool {
        self.work.iter().any(|work| work.load(Ordering::Relaxed))
    }

    /// Worker 0 searches and runs what it finds, until it sleeps; as `Worker::search` does it. Those it has woken.
    fn search_until_asleep(&self) -> Vec<usize> {
        let mut woken = Vec::new();
        loop {
            if self.find() {
                if self.idle.end_search() && self.anything() {
                    woken.extend(self.idle.notify());
                }
                self.idle.start_search();
                continue;
            }
            self.idle.fall_asleep(0);
            if !self.anything() {
                return woken;
            }
            self.idle.wake_up(0);
        }
    }
}

/// A push and a worker that goes to sleep: the work is found, by the second look or by a wake-up.
#[test]
fn no_wake_up_is_lost() {
    model(4, || {
        let world = World::new();
        let pusher = World::push(&world, 0);
        world.idle.start_search();
        world.search_until_asleep();
        let woken = pusher.join().unwrap();
        assert!(woken == Some(0) || !world.anything(), "asleep with work in the queue");
    });
}

/// A push while a worker searches, which finds something else and ends its search: it sees that there is more, or the push has
/// woken the one that sleeps.
#[test]
fn the_last_searcher_looks_once_more() {
    model(4, || {
        let world = World::new();
        world.idle.start_search();
        world.idle.fall_asleep(1);
        world.idle.start_search();
        let pusher = World::push(&world, 0);
        let seen = world.idle.end_search() && world.anything();
        assert!(pusher.join().unwrap() == Some(1) || seen);
    });
}

/// A pusher that is about to wake somebody, and finds that there is nobody left to wake, has kept another pusher from it,
/// and the worker from nothing: that may have fallen asleep since.
#[test]
fn a_waker_that_finds_nobody_hides_no_other_push() {
    model(2, || {
        let world = World::new();
        world.idle.start_search();
        world.idle.fall_asleep(0);
        world.work[0].store(true, Ordering::Relaxed);
        let waker = {
            let world = world.clone();
            thread::spawn(move || world.idle.notify())
        };
        let pusher = World::push(&world, 1);
        // It wakes by itself, if it was not woken before (D2).
        world.idle.wake_up(0);
        assert!(world.find(), "by this worker only");
        let seen = world.idle.end_search() && world.anything();
        // It runs what it has found.
        thread::yield_now();
        world.idle.start_search();
        let seen = seen || world.anything();
        if !seen {
            world.idle.fall_asleep(0);
        }
        let seen = seen || world.anything();
        let woken = [waker, pusher].map(|thread| thread.join().unwrap());
        // Whoever has taken it out of the list unparks it, perhaps only now.
        assert!(seen || woken.contains(&Some(0)) || !world.anything(), "asleep with work in the queue");
    });
}
