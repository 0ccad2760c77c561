//! Models of a side: arrivals, closing and deadlines against those who attempt and wait.

use super::*;
use crate::base::atomics::models::model;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU32;
use loom::thread;

/// A side, and a buffer in the kernel: what has arrived and was not taken.
struct World {
    side: Side,
    buffer: AtomicU32,
}

impl World {
    fn new() -> Arc<World> {
        let world = World { side: Side::new(), buffer: AtomicU32::new(0) };
        let _touched = world.side.begin();
        Arc::new(world)
    }

    /// Data arrive, and then the poller reports them. (The kernel orders the two.)
    fn arrive(&self, units: u32, generation: u32) {
        // AcqRel: the kernel's lock.
        self.buffer.fetch_add(units, Ordering::AcqRel);
        if let Some(wake) = self.side.event(generation) {
            wake.wake();
        }
    }

    /// Takes one unit, if one is there: the system call.
    fn take(&self) -> Option<()> {
        // AcqRel, Acquire: as above.
        self.buffer.fetch_update(Ordering::AcqRel, Ordering::Acquire, |units| units.checked_sub(1)).ok().map(drop)
    }

    fn read(&self) -> Result<(), Refused> {
        self.side.attempt(None, || self.take())
    }
}

/// E1: whatever comes between the attempt and the wait is seen.
#[test]
fn a_reader_misses_no_arrival() {
    model(3, || {
        let world = World::new();
        let poller = {
            let world = world.clone();
            thread::spawn(move || world.arrive(1, 0))
        };
        world.read().unwrap();
        poller.join().unwrap();
    });
}

/// E2: one event with two units serves two readers.
#[test]
fn a_turn_is_passed_on_while_more_may_be_there() {
    model(2, || {
        let world = World::new();
        let reader = {
            let world = world.clone();
            thread::spawn(move || world.read().unwrap())
        };
        let poller = {
            let world = world.clone();
            thread::spawn(move || world.arrive(2, 0))
        };
        world.read().unwrap();
        reader.join().unwrap();
        poller.join().unwrap();
        assert_eq!(world.take(), None);
    });
}

/// A close ends each wait, with an arrival at the same time or without.
#[test]
fn a_close_ends_a_wait() {
    model(3, || {
        let world = World::new();
        let closes = {
            let world = world.clone();
            thread::spawn(move || Wake::wake_all(world.side.close()))
        };
        assert_eq!(world.read(), Err(Refused::Closed));
        closes.join().unwrap();
    });
}

/// A deadline that is set while a reader waits ends the wait. In a model every time is over.
#[test]
fn a_deadline_ends_a_wait() {
    model(3, || {
        let world = World::new();
        let past = Instant::now();
        let sets = {
            let world = world.clone();
            thread::spawn(move || Wake::wake_all(world.side.set_deadline(Some(past))))
        };
        assert_eq!(world.read(), Err(Refused::TimedOut));
        sets.join().unwrap();
    });
}

/// A deadline that is set while a reader waits is heeded, or the arrival comes first.
#[test]
fn a_deadline_ends_a_wait_or_loses_against_an_arrival() {
    model(2, || {
        let world = World::new();
        let past = Instant::now();
        let sets = {
            let world = world.clone();
            thread::spawn(move || Wake::wake_all(world.side.set_deadline(Some(past))))
        };
        let poller = {
            let world = world.clone();
            thread::spawn(move || world.arrive(1, 0))
        };
        match world.read() {
            Ok(()) => {}
            Err(refused) => assert_eq!(refused, Refused::TimedOut),
        }
        sets.join().unwrap();
        poller.join().unwrap();
    });
}

/// E3: an event that the poller had fetched before the registration ended does nothing to the next one.
#[test]
fn an_event_of_a_registration_that_is_over_changes_nothing() {
    model(3, || {
        let world = World::new();
        let poller = {
            let world = world.clone();
            thread::spawn(move || world.arrive(0, 0))
        };
        world.side.end();
        let before = world.side.look().unwrap();
        assert_eq!(world.side.begin(), 1);
        poller.join().unwrap();
        assert_eq!(world.side.look().unwrap(), before);
    });
}
