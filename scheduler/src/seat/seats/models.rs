//! Models of a worker that falls asleep while others send it work: goroutines sent home, and timers.

use super::*;
use crate::base::atomics::models::model;
use crate::base::atomics::park_thread;
use crate::goroutine::block::Goroutine;
use crate::queue::run_queue::RunQueue;
use loom::cell::UnsafeCell;
use loom::sync::Arc;

/// No runtime.
#[derive(Debug)]
struct Nobody;

impl WakeForTimer for Nobody {
    fn wake_for_timer(&self, _: u64) {
        unreachable!("the seat is attended")
    }
}

/// A seat, a goroutine that may be sent there, and what its last owner did to it.
struct World {
    seat: Seat,
    /// Stands for `Timers::earliest`, which is loaded and stored like this.
    earliest: AtomicU64,
    goroutine: Goroutine,
    done: UnsafeCell<u32>,
}

// SAFETY: that the seat orders the accesses is what the models check.
unsafe impl Sync for World {}

impl World {
    fn new() -> Arc<World> {
        let marks = std::sync::Arc::new(Marks::new(1));
        let seat = Seat::new(Weak::<Nobody>::new(), RunQueue::new().stealer(), (0, marks));
        let (goroutine, done) = (Goroutine::empty(), UnsafeCell::new(0));
        Arc::new(World { seat, earliest: AtomicU64::new(NEVER), goroutine, done })
    }

    /// The seat's worker: until it has found what it waits for, it looks, says that it sleeps, looks once more by `again`,
    /// which may tell it not to sleep, and sleeps. (Not the model's first thread: loom's `join` takes an unpark for its own.)
    fn worker(
        world: &Arc<World>,
        look: impl Fn(&World) -> bool + 'static,
        again: impl Fn(&World) + 'static,
    ) -> loom::thread::JoinHandle<()> {
        let world = world.clone();
        loom::thread::spawn(move || {
            world.seat.sit_down();
            while !look(&world) {
                world.seat.announce_sleep(true);
                again(&world);
                world.seat.announce_sleep(false);
            }
        })
    }

    /// As `Worker::sleep_until`; a time that comes is over at once.
    fn sleep_until(&self, at: u64) {
        self.seat.sleeps_until(at);
        if at == NEVER {
            park_thread();
        }
    }
}

/// A goroutine is sent home while its worker falls asleep: the worker finds it, or is woken. (Else loom finds it asleep for
/// ever.)
#[test]
fn what_is_sent_home_is_found() {
    model(4, || {
        let world = World::new();
        let look = |world: &World| {
            let mut found = false;
            // SAFETY: what is found is ours; loom finds accesses that meet.
            world.seat.inbox.take_all(|_| world.done.with(|done| found = unsafe { *done } == 7));
            found
        };
        let again = |world: &World| {
            if world.seat.inbox.is_empty() {
                world.sleep_until(NEVER);
            }
        };
        let worker = World::worker(&world, look, again);
        // SAFETY: ours until it is sent.
        world.done.with_mut(|done| unsafe { *done = 7 });
        // SAFETY: G1: as above; it outlives the model.
        world.seat.send_home(unsafe { Ref::from_ptr(ptr::NonNull::from(&world.goroutine)) });
        worker.join().unwrap();
    });
}

/// Timers are set by another thread while the worker falls asleep, perhaps once more: it sleeps until the earliest one's time,
/// or is woken. Its own time is of this very sleep, and of none before.
#[test]
fn who_sleeps_too_long_for_a_timer_is_woken() {
    for (before, times) in [(NEVER, &[20, 10][..]), (5, &[10])] {
        model(3, move || {
            let world = World::new();
            if before != NEVER {
                // It has slept until then.
                world.seat.announce_sleep(true);
                world.seat.sleeps_until(before);
                world.seat.announce_sleep(false);
            }
            let again = |world: &World| {
                let at = world.earliest.load(Ordering::Relaxed);
                world.seat.sleeps_until(at);
                if at > 10 {
                    // Also until a later time: in the model that does not come.
                    park_thread();
                }
            };
            let look = |world: &World| world.earliest.load(Ordering::Relaxed) == 10;
            let worker = World::worker(&world, look, again);
            for at in times {
                // Relaxed: as `Timers` does it.
                world.earliest.store(*at, Ordering::Relaxed);
                world.seat.timer_set(*at);
            }
            worker.join().unwrap();
        });
    }
}
