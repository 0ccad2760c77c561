//! All of them at once, while goroutines are aborted and panic at random: what they protect stays whole, and whoever is left
//! gets through.

use super::{let_others_wait, until, within};
use gorun::JoinHandle;
use gorun::context::background;
use gorun::sync::{Condvar, Mutex, RwLock, Semaphore, SingleFlight};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

struct World {
    mutex: Mutex<(u64, u64)>,
    rwlock: RwLock<(u64, u64)>,
    semaphore: Semaphore,
    flights: Arc<SingleFlight<u64, u64>>,
    out: AtomicUsize,
    turn: Mutex<u64>,
    turned: Condvar,
}

/// A small generator: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn maybe_panic(&mut self) {
        if self.roll(400) == 0 {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }
}

/// Changes both halves, or panics before or after it.
fn change(both: &mut (u64, u64), dice: &mut Dice) {
    assert_eq!(both.0, both.1);
    dice.maybe_panic();
    both.0 += 1;
    both.1 += 1;
    if dice.roll(8) == 0 {
        // An abort may end it here, with the lock held.
        gorun::yield_now();
    }
    dice.maybe_panic();
}

struct Out<'a>(&'a AtomicUsize, usize);

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::SeqCst);
    }
}

fn live(world: &World, dice: &mut Dice) {
    for _ in 0..60 {
        let time = Duration::from_micros(dice.roll(80));
        match dice.roll(12) {
            0 | 1 => change(&mut world.mutex.lock(), dice),
            2 => drop(world.mutex.try_lock_for(time).map(|mut held| change(&mut held, dice))),
            3 | 4 => change(&mut world.rwlock.write(), dice),
            5 => drop(world.rwlock.try_write_for(time).map(|mut held| change(&mut held, dice))),
            6 => {
                let held = world.rwlock.read();
                assert_eq!(held.0, held.1);
                gorun::yield_now();
                assert_eq!(held.0, held.1);
            }
            7 => {
                let held = world.rwlock.try_read_for(time);
                assert!(held.is_none_or(|held| held.0 == held.1));
            }
            8 => {
                let n = dice.roll(4) as usize;
                let (context, _cancel) = background().with_timeout(time);
                let permit = match dice.roll(2) {
                    0 => world.semaphore.acquire_timeout(n, time * 4),
                    _ => world.semaphore.acquire_with(&context, n).ok(),
                };
                if let Some(permit) = permit {
                    assert!(world.out.fetch_add(permit.count(), Ordering::SeqCst) + permit.count() <= 3);
                    let _out = Out(&world.out, n);
                    gorun::yield_now();
                }
            }
            9 => {
                let (key, mut own) = (dice.roll(2), Dice(dice.roll(1000)));
                let (value, _shared) = world.flights.run(key, || {
                    own.maybe_panic();
                    gorun::yield_now();
                    key
                });
                assert_eq!(value, key);
            }
            10 => {
                let (key, mut own) = (dice.roll(2), Dice(dice.roll(1000)));
                let result = SingleFlight::run_chan(&world.flights, key, move || {
                    own.maybe_panic();
                    gorun::yield_now();
                    key
                });
                // Closed where it panicked.
                assert!(result.recv().is_err() || result.recv().is_err(), "one result");
            }
            _ => {
                let mut turn = world.turn.lock();
                if (*turn).is_multiple_of(2) {
                    *turn += 1;
                    world.turned.notify_one();
                } else {
                    world.turned.wait_timeout(&mut turn, time);
                    *turn += 1;
                    world.turned.notify_all();
                }
            }
        }
    }
}

#[test]
fn what_is_protected_stays_whole() {
    within(|| {
        for seed in 0..6 {
            let world = Arc::new(World {
                mutex: Mutex::default(),
                rwlock: RwLock::default(),
                semaphore: Semaphore::new(3),
                flights: Arc::default(),
                out: AtomicUsize::new(0),
                turn: Mutex::default(),
                turned: Condvar::new(),
            });
            let lives: Vec<JoinHandle<()>> = (0..40)
                .map(|n| {
                    let world = world.clone();
                    gorun::go(move || live(&world, &mut Dice(seed * 100 + n)))
                })
                .collect();
            let mut dice = Dice(seed);
            for _ in 0..15 {
                lives[dice.roll(40) as usize].abort();
                let_others_wait();
            }
            until(|| lives.iter().all(JoinHandle::is_finished));
            for life in lives {
                if let Err(error) = life.join() {
                    // One that waited for another's flight has its text.
                    let purpose = |p: Box<dyn Any + Send>| {
                        p.downcast_ref::<&str>() == Some(&"on purpose")
                            || p.downcast_ref() == Some(&"on purpose".to_owned())
                    };
                    assert!(error.into_panic().ok().is_none_or(purpose), "an assertion failed");
                }
            }
            let both = *world.mutex.try_lock().expect("unlocked");
            assert_eq!(both.0, both.1);
            let both = *world.rwlock.try_write().expect("unlocked");
            assert_eq!(both.0, both.1);
            until(|| format!("{:?}", world.flights) == "SingleFlight { under_way: Some(0), .. }");
            assert_eq!((world.semaphore.available_permits(), world.out.load(Ordering::SeqCst)), (3, 0));
            assert!(!world.turn.is_locked());
        }
    });
}
