//! Models of a runtime's end against births (N2) and against goroutines that wait for each other's ends (N1).

use super::*;
use crate::base::atomics::models::model;
use crate::goroutine::refs::Walks;
use crate::processor::shared::models::World;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicBool;
use loom::thread;

/// A runtime and two of its goroutines.
struct Two {
    world: Arc<World>,
    walks: Walks,
    goroutines: [Goroutine; 2],
    /// The first one has ended.
    ended: AtomicBool,
    /// The second one is in a queue, from which it is run.
    pushed: AtomicBool,
    payload: UnsafeCell<u32>,
}

// SAFETY: what is not atomic there is written before threads are made, but for `payload`, which loom watches.
unsafe impl Sync for Two {}
// SAFETY: as above.
unsafe impl Send for Two {}

const FIRST: usize = 0;
const SECOND: usize = 1;

impl Two {
    /// The first `live` of them are live.
    fn new(live: usize) -> Arc<Two> {
        let two = Two {
            world: World::new(1),
            walks: Walks::new(),
            goroutines: [Goroutine::empty(), Goroutine::empty()],
            ended: AtomicBool::new(false),
            pushed: AtomicBool::new(false),
            payload: UnsafeCell::new(0),
        };
        for g in &two.goroutines {
            g.runtime.store((&raw const two.world.shared.head).cast_mut(), std::sync::atomic::Ordering::Relaxed);
        }
        two.goroutines[..live].iter().for_each(|g| g.publish(2));
        Arc::new(two)
    }

    /// Does what the scheduler does, with the blocks that there are.
    fn end(&self) {
        end_all(&self.world.shared.head, |f| {
            let walk = self.walks.begin();
            for handle in self.goroutines.iter().filter_map(|g| g.try_ref(&walk)) {
                f(&handle);
                // Its drop would look for the process's walks.
                std::mem::forget(handle);
            }
        });
    }

    /// Takes the steps of `spawn_on`.
    fn spawn_second(&self) {
        let g = &self.goroutines[SECOND];
        // SAFETY: loom finds accesses that meet.
        self.payload.with_mut(|payload| unsafe { *payload = 1 });
        g.publish(2);
        g.is_born(&self.world.shared.head, || false);
        self.pushed.store(true, Ordering::Release);
    }

    /// The first one ends, if it is to.
    fn first_ends_if(&self, is_to: impl FnOnce(&Goroutine) -> bool) {
        if is_to(&self.goroutines[FIRST]) {
            self.ended.store(true, Ordering::Release);
        }
    }

    /// The second one, which waits for the first one, sees its end.
    fn second_looks(&self) {
        let told = || self.goroutines[SECOND].ends_with_others();
        assert!(!self.ended.load(Ordering::Acquire) || told(), "an abort was taken for an answer");
    }

    fn is_second_aborted(&self) -> bool {
        self.goroutines[SECOND].is_asked_to_end()
    }
}

fn spawn<T: 'static>(two: &Arc<Two>, f: impl FnOnce(&Two) -> T + 'static) -> thread::JoinHandle<T> {
    let two = two.clone();
    thread::spawn(move || f(&two))
}

/// N2: it is aborted, by one or the other; and the walk sees what the block was filled with.
#[test]
fn a_newborn_is_aborted() {
    model(3, || {
        let two = Two::new(1);
        let spawner = spawn(&two, Two::spawn_second);
        two.end();
        if two.is_second_aborted() {
            // SAFETY: as above.
            assert_eq!(two.payload.with(|payload| unsafe { *payload }), 1);
        }
        spawner.join().unwrap();
        assert!(two.is_second_aborted(), "nobody has aborted it");
    });
}

/// N1 and N2: a newborn waits for one that is aborted by the end.
#[test]
fn a_newborn_does_not_take_an_abort_for_an_answer() {
    model(2, || {
        let two = Two::new(1);
        let spawner = spawn(&two, Two::spawn_second);
        let runs = spawn(&two, |two| {
            if two.pushed.load(Ordering::Acquire) {
                // The end of the first one is seen: a thread less for loom.
                two.first_ends_if(Goroutine::is_aborted);
                two.second_looks();
            }
        });
        two.end();
        [spawner, runs].into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// N1: the first one was aborted, or has seen a third one's end and acts on having been told.
#[test]
fn none_takes_the_end_for_an_answer() {
    for is_to in [Goroutine::is_aborted, Goroutine::ends_with_others] {
        model(3, move || {
            let two = Two::new(2);
            let first = spawn(&two, move |two| two.first_ends_if(is_to));
            let second = spawn(&two, Two::second_looks);
            two.end();
            first.join().unwrap();
            second.join().unwrap();
        });
    }
}
