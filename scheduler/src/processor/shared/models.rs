//! Models of a runtime's end and of its monitor's sleep: a drain waits for all goroutines that were counted, and is woken;
//! a late spawn is seen by the drain, or sees the end; the monitor does not sleep while a worker is at work.

use super::*;
use crate::base::atomics::models::model;
use crate::base::atomics::{current_thread, park_thread};
use crate::goroutine::runtime_head::DRAINING;
use crate::queue::run_queue::RunQueue;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::time::Duration;

/// A runtime with so many seats whose workers are whom the model says, and something that goroutines write to.
pub(crate) struct World {
    pub(crate) shared: Shared,
    effect: UnsafeCell<u32>,
}

// SAFETY: that the counts order the accesses is what the models check.
unsafe impl Sync for World {}

impl World {
    pub(crate) fn new(seats: usize) -> Arc<World> {
        let config = Config { workers: seats, spare_workers: 0, ..Config::from_env().unwrap() };
        let mode = (StackClass::default(), ThreadLocals::Pinned);
        let shared = Shared::new(
            config,
            mode,
            (|_, _, queue| Err((std::io::Error::other("a model"), queue)), |_, _| unreachable!()),
        );
        for _ in 0..seats {
            let index = shared.seats.add(std::sync::Weak::<Shared>::new(), RunQueue::new().stealer()).expect("room");
            shared.seats.get(index).sit_down();
            shared.spares.take_back();
        }
        shared.idle.touch();
        drop(shared.drained.lock());
        Arc::new(World { shared, effect: UnsafeCell::new(0) })
    }

    fn act(&self) {
        // SAFETY: loom finds accesses that meet.
        self.effect.with_mut(|effect| unsafe { *effect += 1 });
    }

    fn effect(&self) -> u32 {
        // SAFETY: as above.
        self.effect.with(|effect| unsafe { *effect })
    }
}

fn spawn<T: 'static>(world: &Arc<World>, f: impl FnOnce(&World) -> T + 'static) -> thread::JoinHandle<T> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

/// A goroutine was counted, and ends while the drain begins: the drain waits for it, is woken, and sees what it did.
#[test]
fn a_drain_waits_for_the_last_one() {
    model(3, || {
        let world = World::new(1);
        world.shared.seats.get(0).count_spawn();
        let worker = spawn(&world, |world| {
            world.act();
            // As the exit path does it.
            world.shared.seats.get(0).count_finish();
            world.shared.check_drained();
        });
        world.shared.head.begin_drain();
        // loom's search misses an exchange before our load where the other one guesses by a load first; so it may come first.
        thread::yield_now();
        assert!(world.shared.wait_drained(Duration::MAX));
        assert_eq!(world.effect(), 1);
        worker.join().unwrap();
    });
}

/// The last two end at once, on two workers: one of them sees that nobody is left.
#[test]
fn the_last_two_end_at_once() {
    model(4, || {
        let world = World::new(2);
        let workers = [0, 1].map(|index| {
            world.shared.seats.get(index).count_spawn();
            spawn(&world, move |world| {
                world.shared.seats.get(index).count_finish();
                world.shared.check_drained();
            })
        });
        world.shared.head.begin_drain();
        assert!(world.shared.wait_drained(Duration::MAX));
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

/// One is spawned from outside while the drain begins: it is refused, or the drain waits until it has ended.
#[test]
fn a_spawn_from_outside_is_seen_or_refused() {
    model(3, || {
        let world = World::new(1);
        let spawner = spawn(&world, |world| {
            // As `spawn` does it.
            world.shared.count_outside_spawn();
            if world.shared.phase() >= DRAINING {
                world.shared.uncount_outside_spawn();
                return false;
            }
            world.act();
            world.shared.seats.get(0).count_finish();
            world.shared.check_drained();
            true
        });
        world.shared.head.begin_drain();
        assert!(world.shared.wait_drained(Duration::MAX));
        // Nobody is let in from here on.
        let before = world.effect();
        assert_eq!(spawner.join().unwrap(), before == 1);
        assert_eq!(world.effect(), before);
    });
}

/// A goroutine that lives on has spawned one, which has ended on another worker: they are never counted as none.
#[test]
fn whoever_ended_was_spawned_before() {
    model(3, || {
        let world = World::new(2);
        world.shared.seats.get(0).count_spawn();
        let queue = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let spawner = {
            let queue = queue.clone();
            spawn(&world, move |world| {
                world.shared.seats.get(0).count_spawn();
                queue.store(true, Ordering::Release);
            })
        };
        let other = spawn(&world, move |world| {
            if queue.load(Ordering::Acquire) {
                world.shared.seats.get(1).count_finish();
            }
        });
        // As above.
        thread::yield_now();
        assert_ne!(world.shared.live(), 0);
        spawner.join().unwrap();
        other.join().unwrap();
    });
}

/// A worker wakes while the monitor falls asleep: the monitor sees it awake, or is woken.
#[test]
fn the_monitor_is_awake_while_a_worker_is() {
    for wakes in 0..3 {
        model(3, move || {
            let world = World::new(1);
            assert!(world.shared.monitor.set(current_thread()).is_ok());
            world.shared.idle.start_search();
            world.shared.idle.fall_asleep(0);
            let worker = spawn(&world, move |world| {
                match wakes {
                    // By itself.
                    0 => world.shared.idle.wake_up(0),
                    1 => {
                        assert_eq!(world.shared.idle.notify(), Some(0));
                        world.shared.idle.wake_up(0);
                    }
                    // Another one, whose locked goroutine has unlocked it.
                    _ => world.shared.spares.take_back(),
                }
                world.shared.wake_monitor();
            });
            while world.shared.do_all_sleep() {
                if world.shared.announce_monitor_asleep() {
                    park_thread();
                }
                world.shared.announce_monitor_awake();
            }
            worker.join().unwrap();
        });
    }
}

/// The second net in `do_all_sleep`: nobody attends, and only the monitor can bring a worker in.
#[test]
fn the_monitor_is_awake_while_nobody_attends() {
    model(1, || {
        let world = World::new(1);
        assert!(!world.shared.do_all_sleep(), "the worker is at work");
        world.shared.spares.want(0);
        assert!(world.shared.spares.take_excess());
        world.shared.spares.want(1);
        assert_eq!(world.shared.spares.crew(), (0, 0));
        assert!(!world.shared.do_all_sleep(), "nothing ever runs again");
    });
}

/// A worker retires while somebody sets a timer on its seat: one of the two wakes another worker for it.
#[test]
fn a_timer_on_a_seat_that_is_left_is_looked_after() {
    model(3, || {
        let world = World::new(2);
        let earliest = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        // The other worker, which is us, sleeps; for ever, as far as it knows.
        world.shared.idle.start_search();
        world.shared.idle.fall_asleep(1);
        world.shared.seats.get(1).announce_sleep(true);
        let retires = {
            let earliest = earliest.clone();
            spawn(&world, move |world| {
                // As `Worker::step_aside` does it.
                world.shared.spares.set_aside(world.shared.seats.get(0));
                if earliest.load(Ordering::Relaxed) {
                    world.shared.notify();
                }
            })
        };
        let sets = spawn(&world, move |world| {
            earliest.store(true, Ordering::Relaxed);
            let seat = world.shared.seats.get(0);
            // As `Seat::timer_set`, which has a way to its runtime.
            fence(Ordering::SeqCst);
            if seat.is_unattended() {
                world.shared.notify();
            }
        });
        // Nobody else wakes us.
        park_thread();
        retires.join().unwrap();
        sets.join().unwrap();
    });
}

/// The monitor finds a worker stuck that has just come back and falls asleep: it does not sleep with its seat unattended.
#[test]
fn a_worker_that_was_found_stuck_comes_back() {
    model(3, || {
        let world = World::new(1);
        let seat = world.shared.seats.get(0);
        let monitor = spawn(&world, |world| {
            let seat = world.shared.seats.get(0);
            world.shared.spares.found_stuck(seat);
            // As the monitor does it.
            fence(Ordering::SeqCst);
            seat.is_asleep()
        });
        world.shared.spares.come_back(seat);
        // As `Worker::search` does it.
        seat.announce_sleep(true);
        let sees = seat.is_unattended();
        let woken = monitor.join().unwrap();
        assert!(sees || woken || !seat.is_unattended(), "asleep, and nobody looks after the seat");
        seat.announce_sleep(false);
        world.shared.spares.come_back(seat);
        assert!(!seat.is_unattended());
        assert_eq!(world.shared.spares.crew(), (1, 0));
    });
}
