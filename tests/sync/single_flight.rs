//! `SingleFlight`, by the documentation of Go's `golang.org/x/sync/singleflight`.

use super::{HOUR, let_others_wait, on_one_worker, within};
use gorun::JoinHandle;
use gorun::sync::SingleFlight;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

type Flights = Arc<SingleFlight<String, usize>>;

fn fly(flights: &Flights, f: impl FnOnce() -> usize + Send + 'static) -> JoinHandle<(usize, bool)> {
    let flights = flights.clone();
    let goroutine = gorun::go(move || flights.run("key".to_owned(), f));
    let_others_wait();
    goroutine
}

/// Goes on when the gate is opened.
fn behind(gate: &gorun::Receiver<()>, value: usize) -> impl FnOnce() -> usize + Send + 'static {
    let gate = gate.clone();
    move || {
        let _opened = gate.recv();
        value
    }
}

// x/sync/singleflight, Group.Do: "Do executes and returns the results of the given function, making sure that only one execution is in-flight for a given
// key at a time. If a duplicate comes in, the duplicate caller waits for the original to complete and receives the same
// results. The return value shared indicates whether v was given to multiple callers."
#[test]
fn one_flies_for_all() {
    on_one_worker(|| {
        let flights = Flights::default();
        let (open, gate) = gorun::channel(0);
        let first = fly(&flights, behind(&gate, 1));
        let others: Vec<_> = (0..5).map(|_| fly(&flights, || unreachable!())).collect();
        assert_eq!(flights.run("another".into(), || 7), (7, false));
        assert_eq!(format!("{flights:?}"), "SingleFlight { under_way: Some(1), .. }");
        drop(open);
        assert_eq!(first.join().unwrap(), (1, true));
        others.into_iter().for_each(|o| assert_eq!(o.join().unwrap(), (1, true)));
        assert_eq!(flights.run("key".into(), || 2), (2, false), "a new one");
        assert_eq!(format!("{flights:?}"), "SingleFlight { under_way: Some(0), .. }");
    });
}

// x/sync/singleflight, Group.Forget: "Forget tells the singleflight to forget about a key. Future calls to Do for this key will call the function rather than
// waiting for an earlier call to complete."
#[test]
fn what_is_forgotten_flies_on_alone() {
    on_one_worker(|| {
        let flights = Flights::default();
        let (open, gate) = gorun::channel(0);
        let (old, old_too) = (fly(&flights, behind(&gate, 1)), fly(&flights, || unreachable!()));
        flights.forget(&"key".to_owned());
        let (open_new, gate_new) = gorun::channel(0);
        let new = fly(&flights, behind(&gate_new, 2));
        drop(open);
        assert_eq!((old.join().unwrap(), old_too.join().unwrap()), ((1, true), (1, true)));
        // The end of the old one has not taken the new one out.
        let new_too = fly(&flights, || unreachable!());
        drop(open_new);
        assert_eq!((new.join().unwrap(), new_too.join().unwrap()), ((2, true), (2, true)));
    });
}

// singleflight.go: "A panicError is an arbitrary value recovered from a panic": each caller panics with it.
#[test]
fn a_panic_reaches_all_who_wait() {
    on_one_worker(|| {
        let flights = Flights::default();
        let (open, gate) = gorun::channel::<()>(0);
        let first = fly(&flights, move || {
            let _opened = gate.recv();
            std::panic::resume_unwind(Box::new("on purpose"))
        });
        let other = fly(&flights, || unreachable!());
        drop(open);
        assert_eq!(*first.join().unwrap_err().into_panic().unwrap().downcast::<&str>().unwrap(), "on purpose");
        assert_eq!(*other.join().unwrap_err().into_panic().unwrap().downcast::<String>().unwrap(), "on purpose");
        assert_eq!(flights.run("key".into(), || 2), (2, false));
    });
}

// x/sync/singleflight, Group.DoChan: "DoChan is like Do but returns a channel that will receive the results when they are
// ready." (Go: "The returned channel will not be closed." Here it is, as its sender has gone.)
#[test]
fn a_channel_receives_the_result() {
    on_one_worker(|| {
        let flights = Flights::default();
        let (open, gate) = gorun::channel(0);
        let first = SingleFlight::run_chan(&flights, "key".to_owned(), behind(&gate, 1));
        // It is under way at once, before its goroutine has run.
        let second = SingleFlight::run_chan(&flights, "key".to_owned(), || unreachable!());
        let third = fly(&flights, || unreachable!());
        assert!(first.try_recv().is_err() && second.try_recv().is_err());
        drop(open);
        assert_eq!(first.recv(), Ok((1, true)));
        assert_eq!(second.recv(), Ok((1, true)));
        assert_eq!(third.join().unwrap(), (1, true));
        assert!(first.recv().is_err(), "closed");
        assert_eq!(SingleFlight::run_chan(&flights, "key".into(), || 2).recv(), Ok((2, false)));
        assert_eq!(format!("{flights:?}"), "SingleFlight { under_way: Some(0), .. }");
    });
}

// singleflight.go, in doCall: "In order to prevent the waiting channels from being blocked forever".
#[test]
fn a_channel_is_closed_without_a_result() {
    on_one_worker(|| {
        let flights = Flights::default();
        let ended = SingleFlight::run_chan(&flights, "key".to_owned(), || gorun::goexit());
        // The next one that waits flies.
        let next = SingleFlight::run_chan(&flights, "key".to_owned(), || 2);
        assert!(ended.recv().is_err());
        assert_eq!(next.recv().unwrap().0, 2);
        let panicked =
            SingleFlight::run_chan(&flights, "key".to_owned(), || std::panic::resume_unwind(Box::new("on purpose")));
        let with_it = SingleFlight::run_chan(&flights, "key".to_owned(), || 3);
        assert!(panicked.recv().is_err() && with_it.recv().is_err());
        drop(SingleFlight::run_chan(&flights, "key".to_owned(), || 4));
        assert_eq!(flights.run("key".into(), || 5).0, 4, "it flies though nobody wants it");
        assert_eq!(format!("{flights:?}"), "SingleFlight { under_way: Some(0), .. }", "nothing is left");
    });
}

#[test]
fn who_is_ended_leaves_it_to_the_next() {
    on_one_worker(|| {
        for way in 0..3 {
            let flights = Flights::default();
            let (open, gate) = gorun::channel::<()>(0);
            let first = fly(&flights, move || {
                let _opened = gate.recv();
                if way == 2 {
                    gorun::goexit()
                } else {
                    gorun::time::sleep(HOUR)
                }
                0
            });
            let others: Vec<_> = (0..if way == 1 { 0 } else { 2 }).map(|n| fly(&flights, move || 1 + n)).collect();
            if way == 2 {
                drop(open);
            } else {
                first.abort();
            }
            assert!(first.join().is_err());
            let values: Vec<_> = others.into_iter().map(|o| o.join().unwrap().0).collect();
            assert!(values.iter().all(|v| *v == values[0]), "one of them flew for both: {values:?}");
            assert_eq!(format!("{flights:?}"), "SingleFlight { under_way: Some(0), .. }", "nothing is left");
            assert_eq!(flights.run("key".into(), || 9), (9, false));
        }
    });
}

#[test]
fn there_is_one_at_a_time() {
    within(|| {
        let flights = Arc::new(SingleFlight::new());
        let flying: Arc<[AtomicUsize; 3]> = Arc::default();
        let all: Vec<_> = (0..12)
            .map(|n| {
                let (flights, flying) = (flights.clone(), flying.clone());
                let body = move || {
                    for turn in 0..300 {
                        let key = (n + turn) % 3;
                        let f = || {
                            assert_eq!(flying[key].fetch_add(1, Ordering::SeqCst), 0);
                            gorun::yield_now();
                            flying[key].fetch_sub(1, Ordering::SeqCst);
                            key
                        };
                        assert_eq!(flights.run(key, f).0, key);
                    }
                };
                gorun::go(body)
            })
            .collect();
        all.into_iter().for_each(|g| g.join().unwrap());
    });
}
