//! What each call answers that is ended by its runtime's end: it says so, or unwinds. None takes the end for an answer.

mod common;

use common::stuck::{compute, flag};
use common::{one_worker, until, within};
use gorun::context::background;
use gorun::runtime::{Builder, Runtime};
use gorun::sync::{ErrGroup, Once, SingleFlight, WaitGroup};
use gorun::time::{Duration, sleep, tick, timeout};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

const LONG: Duration = Duration::from_secs(3600);
const ROUNDS: usize = 200;

fn runtime() -> Runtime {
    Builder::new().workers(2).build().unwrap()
}

/// Runs `body` as a goroutine of a runtime that is shut down when the body's `begun` was sent; in many rounds. How often
/// the body came to its end; where it did not, it was unwound by the abort.
fn came_back<T: Send + 'static>(body: impl Fn(mpsc::Sender<()>) -> T + Clone + Send + 'static) -> Vec<T> {
    (0..ROUNDS)
        .filter_map(|_| {
            let (begun, begins) = mpsc::channel();
            let (tell, told) = mpsc::channel();
            let runtime = runtime();
            let body = body.clone();
            let handle = runtime.go(move || tell.send(body(begun)).unwrap()).unwrap();
            begins.recv().unwrap();
            runtime.shutdown(Duration::from_secs(60)).unwrap();
            let answer = told.recv().ok();
            match handle.join() {
                Ok(()) => assert!(answer.is_some()),
                Err(error) => assert!(answer.is_none() && error.is_aborted(), "{error:?}"),
            }
            answer
        })
        .collect()
}

#[test]
fn a_timeout_does_not_say_that_the_time_is_up() {
    let answers = came_back(|begun| {
        timeout(LONG, || {
            begun.send(()).unwrap();
            sleep(LONG);
        })
    });
    assert!(answers.is_empty(), "{} of {ROUNDS} went on: {:?}", answers.len(), answers[0]);
}

#[test]
fn an_err_group_does_not_say_that_all_went_well() {
    let answers = came_back(|begun| {
        let group = ErrGroup::<()>::new();
        group.go(move || {
            begun.send(()).unwrap();
            sleep(LONG);
            Ok(())
        });
        group.wait()
    });
    assert!(answers.is_empty(), "{} of {ROUNDS} went on: {:?}", answers.len(), answers[0]);
}

/// The same, for one who waits outside the runtime that ends: there is nothing to unwind, so it is told.
fn tells_of_an_abort(group: &ErrGroup<()>) {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| group.wait()));
    let payload = result.expect_err("it did not go well");
    let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    assert!(text.is_some_and(|text| text.contains("runtime")), "{text:?}");
}

#[test]
fn an_err_group_tells_a_plain_thread_that_a_goroutine_was_aborted() {
    let group = ErrGroup::<()>::new();
    let runtime = runtime();
    let (begun, begins) = mpsc::channel();
    let members = group.clone();
    let spawns = runtime.go(move || {
        members.go(move || {
            begun.send(()).unwrap();
            sleep(LONG);
            Ok(())
        });
    });
    spawns.unwrap().join().unwrap();
    begins.recv().unwrap();
    runtime.shutdown(Duration::from_secs(60)).unwrap();
    tells_of_an_abort(&group);
}

#[test]
fn an_err_group_tells_a_plain_thread_that_a_goroutine_was_aborted_before_it_began() {
    /// Returns true if the member had begun before it was aborted.
    fn begins_in_time(patience: usize) -> bool {
        let group = ErrGroup::<()>::new();
        let runtime = one_worker().build().unwrap();
        let begun = Arc::new(AtomicUsize::new(0));
        let (spawned, spawns) = mpsc::channel();
        let (free, stays) = flag();
        let (members, begins) = (group.clone(), begun.clone());
        let spawner = runtime.go(move || {
            members.go(move || {
                begins.fetch_add(1, Ordering::SeqCst);
                sleep(LONG);
                Ok(())
            });
            spawned.send(()).unwrap();
            // The only worker is held.
            compute(&stays);
        });
        spawns.recv().unwrap();
        let ends = std::thread::spawn(move || runtime.shutdown(Duration::from_secs(60)).unwrap());
        (0..patience).for_each(|_| std::thread::yield_now());
        free.store(true, Ordering::SeqCst);
        ends.join().unwrap();
        drop(spawner);
        tells_of_an_abort(&group);
        begun.load(Ordering::SeqCst) != 0
    }
    // Nothing tells when the abort has been asked for; so until it has come in time.
    within(|| {
        let mut patience = 1000;
        while begins_in_time(patience) {
            patience *= 2;
        }
    });
}

/// Many that wait for the end of one goroutine, which the end of the runtime aborts: of those that see it before they are
/// aborted themselves, none takes it for an answer.
fn none_comes_back(go: impl FnOnce(&Runtime, mpsc::Sender<()>), wait: impl Fn() + Clone + Send + 'static) {
    const WAITING: usize = 1000;
    let runtime = runtime();
    let (start, started) = gorun::channel::<()>(0);
    let began = Arc::new(AtomicUsize::new(0));
    let waiters = || {
        let (started, began, wait) = (started.clone(), began.clone(), wait.clone());
        let waiter = runtime.go(move || {
            let _closed = started.recv();
            began.fetch_add(1, Ordering::SeqCst);
            wait();
        });
        waiter.unwrap()
    };
    // It is in their midst, so that some are aborted after it.
    let mut all: Vec<_> = (0..WAITING).map(|_| waiters()).collect();
    let (begun, begins) = mpsc::channel();
    go(&runtime, begun);
    begins.recv().unwrap();
    all.extend((0..WAITING).map(|_| waiters()));
    // A worker that is awake when the end comes: what is aborted first ends at once.
    all.push(
        runtime
            .go(|| {
                loop {
                    gorun::yield_now()
                }
            })
            .unwrap(),
    );
    drop(start);
    until(|| began.load(Ordering::SeqCst) == 2 * WAITING);
    runtime.shutdown(Duration::from_secs(60)).unwrap();
    for waiter in all {
        match waiter.join() {
            Ok(()) => panic!("it went on"),
            Err(error) => assert!(error.is_aborted(), "{error:?}"),
        }
    }
}

#[test]
fn none_of_many_takes_an_aborted_goroutine_for_the_end_of_a_wait_group() {
    for _ in 0..5 {
        let group = WaitGroup::new();
        let members = group.clone();
        let member = move |runtime: &Runtime, begun: mpsc::Sender<()>| {
            let spawner = runtime.go(move || {
                drop(members.go(move || {
                    begun.send(()).unwrap();
                    sleep(LONG);
                }));
            });
            spawner.unwrap().join().unwrap();
        };
        none_comes_back(member, move || group.wait());
    }
}

#[test]
fn none_of_many_takes_an_aborted_goroutine_for_the_end_of_an_err_group() {
    for _ in 0..5 {
        let group = ErrGroup::<()>::new();
        let members = group.clone();
        let member = move |runtime: &Runtime, begun: mpsc::Sender<()>| {
            let spawner = runtime.go(move || {
                members.go(move || {
                    begun.send(()).unwrap();
                    sleep(LONG);
                    Ok(())
                });
            });
            spawner.unwrap().join().unwrap();
        };
        none_comes_back(member, move || assert_eq!(group.wait(), Ok(())));
    }
}

#[test]
fn a_scope_is_unwound() {
    let answers = came_back(|begun| {
        let mut value = 0;
        gorun::scope(|s| {
            s.go(|| {
                begun.send(()).unwrap();
                sleep(LONG);
                value = 1;
            });
        });
        value
    });
    assert!(answers.is_empty(), "{} of {ROUNDS} went on: {:?}", answers.len(), answers[0]);
}

#[test]
fn a_wait_group_is_unwound() {
    let answers = came_back(|begun| {
        let group = WaitGroup::new();
        group.go(move || {
            begun.send(()).unwrap();
            sleep(LONG);
        });
        group.wait();
    });
    assert!(answers.is_empty(), "{} of {ROUNDS} went on", answers.len());
}

#[test]
fn a_join_says_so() {
    let answers = came_back(|begun| {
        let handle = gorun::go(move || {
            begun.send(()).unwrap();
            sleep(LONG);
        });
        handle.join().unwrap_err().is_aborted()
    });
    assert!(answers.iter().all(|aborted| *aborted));
}

/// The one that waits does not call its own function in place of the one that was aborted.
#[test]
fn a_single_flight_does_not_begin_anew() {
    let answers = came_back(|begun| {
        let flights = Arc::new(SingleFlight::<u8, u8>::new());
        let first = flights.clone();
        let (flies, flying) = gorun::channel(0);
        gorun::go(move || {
            first.run(1, || {
                flies.send(()).unwrap();
                sleep(LONG);
                1
            })
        });
        flying.recv().unwrap();
        begun.send(()).unwrap();
        flights.run(1, || 2)
    });
    assert!(answers.is_empty(), "{} of {ROUNDS} went on: {:?}", answers.len(), answers[0]);
}

#[test]
fn a_single_flights_channel_closes_without_a_value() {
    let flights = Arc::new(SingleFlight::<u8, u8>::new());
    let runtime = runtime();
    let channel = runtime
        .go(move || {
            SingleFlight::run_chan(&flights, 1, || {
                sleep(LONG);
                1
            })
        })
        .unwrap()
        .join()
        .unwrap();
    runtime.shutdown(Duration::from_secs(60)).unwrap();
    assert!(channel.recv().is_err());
}

/// An initialiser that is aborted leaves the cell as it was: neither made nor poisoned.
#[test]
fn a_once_is_not_made() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let answers = came_back(|begun| {
        let once = Arc::new(Once::new());
        let first = once.clone();
        let (makes, making) = gorun::channel(0);
        gorun::go(move || {
            first.call_once(|| {
                makes.send(()).unwrap();
                sleep(LONG);
            });
        });
        making.recv().unwrap();
        begun.send(()).unwrap();
        once.call_once(|| _ = MADE.fetch_add(1, Ordering::SeqCst));
    });
    assert!(answers.is_empty(), "{} of {ROUNDS} went on", answers.len());
    assert_eq!(MADE.load(Ordering::SeqCst), 0);
}

#[test]
fn a_job_of_blocking_ends_and_then_its_goroutine_is_unwound() {
    static DONE: AtomicUsize = AtomicUsize::new(0);
    let answers = came_back(|begun| {
        // The one whose end tells the job that the runtime ends.
        let (ends, ending) = mpsc::channel::<()>();
        let (sleeps, sleeping) = gorun::channel(0);
        gorun::go(move || {
            let _ends = ends;
            sleeps.send(()).unwrap();
            sleep(LONG);
        });
        sleeping.recv().unwrap();
        let value = gorun::blocking(move || {
            begun.send(()).unwrap();
            assert!(ending.recv().is_err());
            DONE.fetch_add(1, Ordering::SeqCst)
        });
        sleep(LONG);
        value
    });
    assert!(answers.is_empty(), "{} of {ROUNDS} went on", answers.len());
    assert_eq!(DONE.load(Ordering::SeqCst), ROUNDS, "all jobs came to their ends");
}

#[test]
fn a_ticker_closes() {
    within(|| {
        let runtime = runtime();
        let ticks = runtime.go(|| tick(LONG)).unwrap().join().unwrap();
        runtime.shutdown(Duration::from_secs(60)).unwrap();
        assert!(ticks.recv().is_err());
    });
}

/// A deadline whose runtime has ended can't pass any more; its context says so, instead of living on for ever.
#[test]
fn a_context_whose_deadline_is_lost_is_canceled() {
    within(|| {
        let runtime = runtime();
        let (context, cancel) = runtime.go(|| background().with_timeout(LONG)).unwrap().join().unwrap();
        assert!(context.err().is_none());
        runtime.shutdown(Duration::from_secs(60)).unwrap();
        assert!(context.done().recv().is_err());
        assert_eq!(context.err(), Some(gorun::context::ContextError::Canceled));
        assert!(context.cause().unwrap().to_string().contains("runtime"));
        drop(cancel);
    });
}

/// A function that is to be called in a runtime that has ended is dropped.
#[test]
fn a_function_after_a_context_is_dropped() {
    let runtime = runtime();
    let (context, cancel) = background().with_cancel();
    let (tell, told) = mpsc::channel::<()>();
    let after = context.clone();
    runtime.go(move || drop(after.after_func(move || tell.send(()).unwrap()))).unwrap().join().unwrap();
    runtime.shutdown(Duration::from_secs(60)).unwrap();
    cancel.cancel();
    drop(context);
    assert_eq!(told.recv(), Err(mpsc::RecvError));
}

/// Goroutines that an exit path starts while the runtime ends do their work: they are not unwound by what was meant for
/// others.
#[test]
fn what_exit_paths_start_works() {
    for _ in 0..20 {
        let runtime = runtime();
        let (tell, told) = mpsc::channel();
        let (begun, begins) = mpsc::channel();
        runtime
            .go(move || {
                gorun::at_exit(move || {
                    let group = ErrGroup::<()>::new();
                    group.go(|| {
                        gorun::yield_now();
                        Ok(())
                    });
                    tell.send((group.wait(), timeout(LONG, || 7))).unwrap();
                });
                begun.send(()).unwrap();
                sleep(LONG);
            })
            .map(drop)
            .unwrap();
        begins.recv().unwrap();
        runtime.shutdown(Duration::from_secs(60)).unwrap();
        let (waited, called) = told.recv().unwrap();
        assert_eq!((waited, called.ok()), (Ok(()), Some(7)));
    }
}

/// In a destructor that runs while its goroutine unwinds there is no unwinding once more.
#[test]
fn a_timeout_in_a_destructor_tells_of_the_end() {
    struct Flush(mpsc::Sender<String>);
    impl Drop for Flush {
        fn drop(&mut self) {
            let flushed = timeout(LONG, || 1);
            let _ = self.0.send(flushed.map_or_else(|error| error.to_string(), |n| n.to_string()));
        }
    }
    let runtime = runtime();
    let (tell, told) = mpsc::channel();
    let (begun, begins) = mpsc::channel();
    runtime
        .go(move || {
            let _flush = Flush(tell);
            begun.send(()).unwrap();
            sleep(LONG);
        })
        .map(drop)
        .unwrap();
    begins.recv().unwrap();
    runtime.shutdown(Duration::from_secs(60)).unwrap();
    let text = told.recv().unwrap();
    assert!(text == "1" || text.contains("runtime"), "{text}");
}
