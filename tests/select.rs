//! `select!` and `Select` from the outside: Go's rules for select statements one by one, and crossbeam-channel's grammar.
//!
//! The source is the Go specification (version of Go 1.24); each test says which sentence it holds to. What can't be said
//! here is at the end of docs/porting-from-go.md. A select that loses a wake-up hangs its test; `within` turns that into a
//! failure.

mod common;

use common::{GENEROUS, on_one_worker, others_wait, within};
use gorun::chan::{RecvError, SendError, TryRecvError};
use gorun::select::{Select, TrySelectError};
use gorun::{Receiver, Sender, channel, never, select, select_biased, unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// An expression for a value that does not come to one.
fn no_value() -> i32 {
    std::panic::resume_unwind(Box::new("no value"))
}

// Go spec, Select statements, step 2: "If one or more of the communications can proceed, a single one that can proceed is
// chosen". Step 3: "the respective communication operation is executed".
#[test]
fn of_those_that_can_proceed_one_does() {
    let (tx1, rx1) = channel(1);
    let (tx2, rx2) = channel(1);
    let (tx3, rx3) = channel::<i32>(1);
    tx1.send(1).unwrap();
    tx2.send(2).unwrap();
    let taken = select! {
        recv(rx1) -> v => v.unwrap(),
        recv(rx2) -> v => v.unwrap(),
        send(tx3, 3) -> sent => { sent.unwrap(); 3 }
    };
    let left = [rx1.try_recv().is_ok(), rx2.try_recv().is_ok(), rx3.try_recv().is_err()];
    assert_eq!(left, [taken != 1, taken != 2, taken != 3]);
}

// Go spec, Select statements, step 2: it "is chosen via a uniform pseudo-random selection".
#[test]
fn the_choice_is_uniform_among_the_ready_wherever_they_stand() {
    const ROUNDS: usize = 16_000;
    let channels: Vec<_> = (0..8).map(|_| unbounded::<()>()).collect();
    // Unevenly placed: a start at random that goes on to the next one would favour the fifth.
    let ready = [0, 1, 5, 6];
    for index in ready {
        (0..2 * ROUNDS).for_each(|_| channels[index].0.send(()).unwrap());
    }
    let r: Vec<_> = channels.iter().map(|(_, rx)| rx).collect();
    let mut counts = [0; 8];
    for _ in 0..ROUNDS {
        let taken = select! {
            recv(r[0]) -> _ => 0, recv(r[1]) -> _ => 1, recv(r[2]) -> _ => 2, recv(r[3]) -> _ => 3,
            recv(r[4]) -> _ => 4, recv(r[5]) -> _ => 5, recv(r[6]) -> _ => 6, recv(r[7]) -> _ => 7,
        };
        counts[taken] += 1;
    }
    let mut set = Select::new();
    r.iter().for_each(|rx| _ = set.recv(rx));
    for _ in 0..ROUNDS {
        let operation = set.select();
        let index = operation.index();
        operation.recv(r[index]).unwrap();
        counts[index] += 1;
    }
    for (index, count) in counts.into_iter().enumerate() {
        // 8000 each; the deviation's standard is 77.
        let wanted = if ready.contains(&index) { 7_300..8_700 } else { 0..1 };
        assert!(wanted.contains(&count), "{counts:?}");
    }
}

// Go spec, Select statements, step 5: "The statement list of the selected case is executed." Its example: "note: no statement,
// no fallthrough, no folding of cases".
#[test]
fn a_random_sequence_of_bits() {
    within(|| {
        let (tx, rx) = channel(0);
        let sender = gorun::go(move || {
            let mut taken = [0; 2];
            for _ in 0..400 {
                select! {
                    send(tx, 0) -> sent => { sent.unwrap(); taken[0] += 1 }
                    send(tx, 1) -> sent => { sent.unwrap(); taken[1] += 1 }
                }
            }
            taken
        });
        let received = rx.iter().fold([0; 2], |mut seen, bit: usize| {
            seen[bit] += 1;
            seen
        });
        assert_eq!(sender.join().unwrap(), received);
        assert!(received.iter().all(|n| *n > 100), "{received:?}");
    });
}

// Go spec, Select statements: "There can be at most one default case and it may appear anywhere in the list of cases." (A
// second one does not compile.)
#[test]
fn the_default_may_stand_anywhere() {
    let (tx, rx) = channel(1);
    let silent = never::<()>();
    let first = || select! { default => 0, recv(rx) -> _ => 1, recv(silent) -> _ => 2 };
    let middle = || select! { recv(rx) -> _ => 1, default => 0, recv(silent) -> _ => 2 };
    let last = || select! { recv(rx) -> _ => 1, recv(silent) -> _ => 2, default => 0 };
    for step in [&first as &dyn Fn() -> i32, &middle, &last] {
        assert_eq!(step(), 0);
        tx.send(()).unwrap();
        assert_eq!(step(), 1);
    }
}

#[test]
fn the_biased_one_takes_the_first() {
    let (tx1, rx1) = channel(3);
    let (tx2, rx2) = channel(3);
    (0..3).for_each(|n| tx1.send(n).unwrap());
    (0..3).for_each(|n| tx2.send(10 + n).unwrap());
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(select_biased! {
            recv(rx1) -> v => v.unwrap(),
            recv(rx2) -> v => v.unwrap(),
        });
    }
    assert_eq!(seen, [0, 1, 2, 10, 11, 12]);
}

// Go spec, Select statements, step 2: "Otherwise, if there is a default case, that case is chosen."
#[test]
fn the_default_is_for_when_none_can_proceed() {
    let (tx, rx) = channel(1);
    let step = || {
        select! {
            recv(rx) -> v => v.unwrap(),
            default => -1,
        }
    };
    assert_eq!(step(), -1);
    tx.send(5).unwrap();
    assert_eq!((step(), step()), (5, -1));
    // Of several, all are looked at at once: a value that goes round is always in one of them.
    within(|| {
        let ring: [(Sender<()>, Receiver<()>); 2] = [channel(1), channel(1)];
        ring[0].0.send(()).unwrap();
        let (stop, stopped) = channel::<()>(0);
        let carrier = thread::spawn({
            let ring = ring.clone();
            move || {
                let spare = &ring[1];
                while stopped.try_recv() == Err(TryRecvError::Empty) {
                    spare.0.send(()).unwrap();
                    ring[0].1.recv().unwrap();
                    ring[0].0.send(()).unwrap();
                    spare.1.recv().unwrap();
                }
            }
        });
        // With many between the two, so that a look that is not at one time takes its time.
        let silent: Vec<_> = (0..50).map(|_| never()).collect();
        let mut set = Select::new();
        let from = [&ring[0].1].into_iter().chain(&silent).chain([&ring[1].1]);
        from.for_each(|rx| _ = set.recv(rx));
        for _ in 0..20_000 {
            match set.try_select() {
                Ok(operation) => {
                    let index = usize::from(operation.index() != 0);
                    operation.recv(&ring[index].1).unwrap();
                    ring[index].0.send(()).unwrap();
                }
                Err(TrySelectError) => panic!("there is always one"),
            }
        }
        drop(set);
        drop(stop);
        // It may wait for the value that we put into the other one.
        drop(ring);
        carrier.join().unwrap();
    });
}

// Go spec, Select statements, step 2: "If there is no default case, the "select" statement blocks until at least one of the
// communications can proceed."
#[test]
fn without_a_default_it_waits() {
    within(|| {
        on_one_worker(|| {
            let (tx1, rx1) = channel::<i32>(0);
            let (tx2, rx2) = channel(0);
            let (tx3, rx3) = channel(1);
            tx3.send("full").unwrap();
            let waits = gorun::go({
                let tx3 = tx3.clone();
                move || {
                    select! {
                        recv(rx1) -> v => format!("{v:?}"),
                        recv(rx2) -> v => format!("{v:?}"),
                        send(tx3, "more") -> sent => format!("{sent:?}"),
                    }
                }
            });
            others_wait();
            assert!(!waits.is_finished());
            tx2.send('v').unwrap();
            assert_eq!(waits.join().unwrap(), "Ok('v')");
            // The other two are as they were.
            assert_eq!(tx1.send(1), Err(SendError(1)), "its receiver was in the select");
            assert_eq!((rx3.recv(), rx3.try_recv()), (Ok("full"), Err(TryRecvError::Empty)));
        });
    });
}

// Go spec, Select statements, step 1: "For all the cases in the statement, the channel operands of receive operations and the
// channel and right-hand-side expressions of send statements are evaluated exactly once, in source order, upon entering the
// "select" statement." Here as in crossbeam-channel: the channels are; a value when its arm is chosen, else not at all.
#[test]
fn channels_are_evaluated_once_in_order_and_values_only_when_chosen() {
    let (tx, rx) = channel(1);
    let (tx2, rx2) = channel(0);
    let order = std::cell::RefCell::new(Vec::new());
    let note = |what| order.borrow_mut().push(what);
    for _ in 0..2 {
        select_biased! {
            recv({ note("rx2"); &rx2 }) -> _ => unreachable!(),
            send({ note("tx"); &tx }, { note("value"); 1 }) -> sent => { note("sent"); sent.unwrap() }
            send({ note("tx2"); &tx2 }, { note("other value"); 2 }) -> _ => unreachable!(),
            recv({ note("rx"); &rx }) -> v => { note("received"); assert_eq!(v, Ok(1)); }
            default({ note("timeout"); GENEROUS }) => unreachable!(),
        }
    }
    let entering = ["rx2", "tx", "tx2", "rx", "timeout"];
    let expected: Vec<_> = entering.into_iter().chain(["value", "sent"]).chain(entering).chain(["received"]).collect();
    assert_eq!(*order.borrow(), expected);
}

// Go spec, Select statements: "Since communication on nil channels can never proceed, a select with only nil channels and no
// default case blocks forever." Send statements: "A send on a nil channel blocks forever."
#[test]
fn arms_without_a_channel_are_never_ready() {
    within(|| {
        let nobody: Option<Receiver<i32>> = None;
        let no_one: Option<&Sender<i32>> = None;
        let silent = never::<i32>();
        let pick = || {
            select! {
                recv(nobody) -> _ => 1,
                send(no_one, no_value()) -> _ => 2,
                recv(silent) -> _ => 3,
                default => 0,
            }
        };
        assert_eq!(pick(), 0);
        let waited = select! {
            recv(nobody) -> _ => 1,
            recv(Some(&silent)) -> _ => 2,
            default(Duration::from_millis(2)) => 0,
        };
        assert_eq!(waited, 0);
        let (tx, rx) = channel(1);
        tx.send(1).unwrap();
        let mut source = Some(rx);
        // The usual loop: an arm is switched off when its channel is closed.
        drop(tx);
        let mut seen = Vec::new();
        while source.is_some() {
            select! {
                recv(source) -> v => match v {
                    Ok(v) => seen.push(v),
                    Err(RecvError) => source = None,
                },
                recv(silent) -> _ => unreachable!(),
            }
        }
        assert_eq!(seen, [1]);
        let blocked = gorun::go(|| {
            select! { recv(None::<Receiver<()>>) -> _ => unreachable!() }
        });
        blocked.abort();
        assert!(blocked.join().unwrap_err().is_aborted());
    });
}

// Go spec, Receive operator: "A receive operation on a closed channel can always proceed immediately". Send statements: "A send
// on a closed channel proceeds by causing a run-time panic." It is chosen here, too, and fails.
#[test]
fn arms_of_closed_channels_can_proceed() {
    within(|| {
        let (tx, rx) = channel(1);
        tx.send(1).unwrap();
        tx.close();
        let go = || select! { recv(rx) -> v => v };
        assert_eq!([go(), go(), go()], [Ok(1), Err(RecvError), Err(RecvError)]);
        assert_eq!(select! { send(tx, 2) -> sent => sent.unwrap_err().into_inner(), }, 2);

        // Also when it is closed while they wait.
        for closes_first in [true, false] {
            on_one_worker(|| {
                let (tx1, rx1) = channel::<&str>(0);
                let (tx2, rx2) = channel::<i32>(0);
                let waits = gorun::go({
                    let (tx1, rx2) = (tx1.clone(), rx2.clone());
                    move || {
                        select! {
                            send(tx1, "back") -> sent => sent.unwrap_err().into_inner().to_string(),
                            recv(rx2) -> v => format!("{v:?}"),
                        }
                    }
                });
                others_wait();
                assert!(!waits.is_finished());
                if closes_first {
                    rx1.close();
                } else {
                    tx2.close();
                }
                assert_eq!(waits.join().unwrap(), if closes_first { "back" } else { "Err(RecvError)" });
            });
        }
    });
}

#[test]
fn a_time_limit_is_a_default_that_waits() {
    within(|| {
        let test = || {
            let (tx, rx) = channel::<i32>(0);
            let wait = Duration::from_millis(5);
            let start = Instant::now();
            let late = select! {
                recv(rx) -> _ => false,
                send(tx, 1) -> _ => false,
                default(wait) => true,
            };
            assert!(late && start.elapsed() >= wait);
            // It is out of the queues.
            assert!(tx.try_send(1).is_err() && rx.try_recv().is_err());
            assert_eq!(select! { default(wait) => 1 }, 1);
            assert_eq!(select! { default => 2 }, 2);
        };
        test();
        gorun::go(test).join().unwrap();
    });
}

// A select on both sides of one channel does not serve itself ...
#[test]
fn both_sides_of_one_channel_do_not_meet_in_one_select() {
    within(|| {
        let (tx, rx) = channel(0);
        let alone = select! {
            send(tx, 1) -> _ => 1,
            recv(rx) -> _ => 2,
            recv(rx) -> _ => 3,
            default(Duration::from_millis(2)) => 0,
        };
        assert_eq!(alone, 0);
        // ... but two of them meet, always, one on either side.
        const ROUNDS: usize = 2_000;
        let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let body = || {
            let (tx, rx, counts) = (tx.clone(), rx.clone(), counts.clone());
            move || {
                for n in 0..ROUNDS {
                    let side = select! {
                        send(tx, n) -> sent => { sent.unwrap(); 0 }
                        recv(rx) -> v => { assert_eq!(v, Ok(n)); 1 }
                    };
                    counts[side].fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        let pairs = [(gorun::go(body()), gorun::go(body()))];
        for (a, b) in pairs {
            a.join().unwrap();
            b.join().unwrap();
        }
        let (a, b) = (thread::spawn(body()), gorun::go(body()));
        a.join().unwrap();
        b.join().unwrap();
        assert_eq!([0, 1].map(|side| counts[side].load(Ordering::SeqCst)), [2 * ROUNDS; 2]);
    });
}

/// Two selects with two channels each, in opposite order, on both sides: neither deadlock nor livelock.
#[test]
fn selects_that_meet_crosswise_go_on() {
    within(|| {
        let (tx1, rx1) = channel(0);
        let (tx2, rx2) = channel(0);
        let (sent, received) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let body = |flip: bool| {
            let (mut s, mut r) = ([tx1.clone(), tx2.clone()], [rx1.clone(), rx2.clone()]);
            if flip {
                s.reverse();
                r.reverse();
            }
            let (sends, receives) = (sent.clone(), received.clone());
            move || {
                let count = |ok: bool, counter: &AtomicUsize| {
                    if ok && counter.fetch_add(1, Ordering::SeqCst) >= 3000 {
                        // Whoever is left alone would wait for ever.
                        s.iter().for_each(Sender::close);
                    }
                    ok
                };
                while select! {
                    send(s[0], ()) -> sent => count(sent.is_ok(), &sends),
                    recv(r[1]) -> v => count(v.is_ok(), &receives),
                    send(s[1], ()) -> sent => count(sent.is_ok(), &sends),
                    recv(r[0]) -> v => count(v.is_ok(), &receives),
                } {}
            }
        };
        let goroutines: Vec<_> = (0..4).map(|n| gorun::go(body(n % 2 == 0))).collect();
        let threads: Vec<_> = (0..2).map(|n| thread::spawn(body(n % 2 == 0))).collect();
        goroutines.into_iter().for_each(|g| g.join().unwrap());
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(received.load(Ordering::SeqCst), sent.load(Ordering::SeqCst));
    });
}

#[test]
fn an_abort_ends_a_select_that_has_done_nothing() {
    within(|| {
        let (tx1, rx1) = channel(0);
        let (tx2, rx2) = channel::<usize>(0);
        for round in 0..300 {
            let selects = gorun::go({
                let (rx1, tx2) = (rx1.clone(), tx2.clone());
                move || {
                    select! {
                        recv(rx1) -> v => v.unwrap(),
                        send(tx2, 1) -> _ => unreachable!(),
                    }
                }
            });
            if round % 2 == 0 {
                gorun::go(|| ()).join().unwrap();
            }
            selects.abort();
            let sent = tx1.try_send(round);
            match selects.join() {
                Ok(received) => assert_eq!((received, sent), (round, Ok(()))),
                Err(error) => assert!(error.is_aborted() && sent.is_err()),
            }
            assert_eq!(rx2.try_recv(), Err(TryRecvError::Empty));
        }
    });
}

// crossbeam-channel's grammar.
#[test]
fn the_grammar_takes_what_crossbeams_does() {
    let (tx, rx) = channel(4);
    let (boxed, shared) = (Box::new(tx.clone()), Arc::new(rx.clone()));
    // Blocks without commas, trailing commas in arguments, patterns, pointers of all kinds, `break` with a value.
    let sum = 'all: loop {
        for n in 0.. {
            select_biased! {
                send(&&boxed, n,) -> (Ok(()) | Err(_)) => {}
                recv(shared,) -> v => {
                    if v.unwrap() == 3 {
                        break 'all n;
                    }
                }
            }
        }
    };
    assert_eq!(sum, 10);
    let (tx, rx) = channel(4);
    // Handles may move away in a body, and temporaries live in it.
    fn ends(rx: Receiver<i32>) -> Result<Receiver<i32>, RecvError> {
        let lock = std::sync::Mutex::new(rx.clone());
        select! {
            recv(*lock.lock().unwrap()) -> v => { v?; drop(rx) }
            default() => return Ok(rx),
        }
        Ok(lock.into_inner().unwrap())
    }
    assert_eq!(ends(rx.clone()).unwrap().len(), 0);
    tx.send(1).unwrap();
    assert_eq!(ends(rx).unwrap().len(), 0);
    // A comma after the last is optional, also after an expression.
    assert_eq!(select! { default => 1, }, 1);
    assert_eq!(select! { default(Duration::ZERO) => { 2 } }, 2);
}

#[test]
fn forty_arms_in_a_macro_and_a_thousand_in_a_set() {
    within(|| {
        let c: Vec<_> = (0..1000).map(|_| channel::<usize>(0)).collect();
        let r: Vec<_> = c.iter().map(|(_, rx)| rx).collect();
        let sends = |index: usize| {
            let tx = c[index].0.clone();
            gorun::go(move || tx.send(index).unwrap())
        };
        macro_rules! forty {
            ($($n:literal)*) => { select! { $(recv(r[$n]) -> v => v.unwrap(),)* } };
        }
        for index in [0, 17, 39] {
            let sender = sends(index);
            let v = forty!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33
                34 35 36 37 38 39);
            assert_eq!(v, index);
            sender.join().unwrap();
        }
        for biased in [false, true] {
            let mut set = if biased { Select::new_biased() } else { Select::new() };
            r.iter().for_each(|rx| _ = set.recv(rx));
            for index in [999, 0, 500] {
                let sender = sends(index);
                let operation = set.select();
                assert_eq!(operation.index(), index);
                assert_eq!(operation.recv(r[index]), Ok(index));
                sender.join().unwrap();
            }
        }
    });
}
