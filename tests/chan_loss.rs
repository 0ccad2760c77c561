//! Nothing is lost and nothing is doubled: values that nobody receives, drops that panic, aborts at any point, and then
//! everything at once, at random, with what became of each value written down.

mod common;

use common::{Counted, Random, counter, until, within};
use gorun::chan::{Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError, TrySendError};
use gorun::select;
use gorun::select::Select;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

#[test]
fn what_nobody_received_is_dropped_with_the_last_receiver() {
    let (count, dropped) = counter();
    let (tx, rx) = gorun::channel(8);
    (0..8).for_each(|_| tx.send(Counted(count.clone())).unwrap());
    let rx2 = rx.clone();
    drop(rx.recv().unwrap());
    drop(rx);
    assert_eq!(dropped(), 1);
    drop(rx2);
    assert_eq!(dropped(), 8, "at once, with senders still there");
    drop(tx.send(Counted(count.clone())));
    assert_eq!(dropped(), 9);
}

/// Its `Drop` uses the channel it lies in, and some of them panic.
struct Meddler {
    channel: gorun::Sender<Meddler>,
    panics: bool,
    count: Arc<AtomicUsize>,
}

impl Drop for Meddler {
    fn drop(&mut self) {
        // Deadlocks if the channel's lock is held.
        assert!(self.channel.is_closed());
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.panics {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }
}

#[test]
fn values_are_dropped_outside_the_lock_and_a_panicking_drop_loses_no_others() {
    within(|| {
        let (count, dropped) = counter();
        let (tx, rx) = gorun::channel(8);
        for n in 0..8 {
            tx.send(Meddler { channel: tx.clone(), panics: n == 2, count: count.clone() }).unwrap_or_else(|_| panic!());
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(rx)));
        assert_eq!(*outcome.unwrap_err().downcast::<&str>().unwrap(), "on purpose");
        assert_eq!(dropped(), 8);
        assert!(tx.is_closed());
    });
}

#[test]
fn an_abort_drops_the_value_that_waits_to_be_sent_once_and_leaves_the_queue_whole() {
    within(|| {
        for capacity in [0, 1] {
            let (count, dropped) = counter();
            let (tx, rx) = gorun::channel(capacity);
            (0..capacity).for_each(|_| tx.send(Counted(count.clone())).unwrap());
            let began = Arc::new(AtomicUsize::new(0));
            let senders: Vec<_> = (0..9)
                .map(|_| {
                    let (tx, began, value) = (tx.clone(), began.clone(), Counted(count.clone()));
                    gorun::go(move || {
                        began.fetch_add(1, Ordering::SeqCst);
                        tx.send(value).unwrap();
                    })
                })
                .collect();
            until(|| began.load(Ordering::SeqCst) == 9);
            senders.iter().step_by(2).for_each(gorun::JoinHandle::abort);
            let mut aborted = 0;
            let mut odd = Vec::new();
            for (n, sender) in senders.into_iter().enumerate() {
                if n % 2 == 0 {
                    assert!(sender.join().unwrap_err().is_aborted());
                    aborted += 1;
                } else {
                    odd.push(sender);
                }
            }
            assert_eq!(dropped(), aborted);
            // The others' values come through, and no more than those.
            drop(tx);
            let received: Vec<_> = rx.iter().collect();
            assert_eq!(received.len(), capacity + odd.len());
            odd.into_iter().for_each(|sender| sender.join().unwrap());
            drop(received);
            assert_eq!(dropped(), capacity + 9);
        }
    });
}

#[test]
fn an_aborted_receiver_has_received_nothing() {
    within(|| {
        let (tx, rx) = gorun::channel(0);
        for round in 0..200 {
            let receiver = gorun::go({
                let rx = rx.clone();
                move || rx.recv()
            });
            if round % 2 == 0 {
                gorun::go(|| ()).join().unwrap();
            }
            receiver.abort();
            // Either it has the value, or the value comes back: never both, never neither.
            let sent = tx.try_send(round);
            match receiver.join() {
                Ok(received) => {
                    assert_eq!(received, Ok(round));
                    assert_eq!(sent, Ok(()));
                }
                Err(error) => {
                    assert!(error.is_aborted());
                    assert_eq!(sent, Err(TrySendError::Full(round)));
                }
            }
        }
    });
}

#[test]
fn an_abort_strikes_before_an_operation_that_would_not_wait() {
    within(|| {
        let (tx, rx) = gorun::channel(1);
        let (go_on, waits) = mpsc::channel();
        let (told, tells) = mpsc::channel();
        let sender = gorun::go(move || {
            told.send(()).unwrap();
            waits.recv().unwrap(); // holds its thread: no cancellation point
            tx.send(1).unwrap();
        });
        tells.recv().unwrap();
        sender.abort();
        go_on.send(()).unwrap();
        assert!(sender.join().unwrap_err().is_aborted());
        assert_eq!(rx.recv(), Err(RecvError), "and the value is gone with it");
    });
}

const SENDERS: usize = 10;
const EACH: usize = 400;

/// What became of one value, each thing counted.
#[derive(Default)]
struct Fate {
    made: AtomicUsize,
    sent: AtomicUsize,
    came_back: AtomicUsize,
    received: AtomicUsize,
    dropped: AtomicUsize,
}

fn tick(count: &AtomicUsize) {
    count.fetch_add(1, Ordering::SeqCst);
}

/// A value with a number, whose drop is written down.
struct Numbered(usize, Arc<Vec<Fate>>);

impl Drop for Numbered {
    fn drop(&mut self) {
        tick(&self.1[self.0].dropped);
    }
}

/// An expression for a value that does not come to one.
fn no_value() -> Numbered {
    resume_unwind(Box::new("no value"))
}

/// Sends into one of two channels, in one of many ways. The value comes back if it was not sent; `None` if it was, or
/// if it was never made.
fn send_somehow(c: &[Sender<Numbered>; 2], value: Numbered, random: &mut Random) -> Result<(), Option<Numbered>> {
    let one = &c[random.below(2) as usize];
    let briefly = Duration::from_micros(random.below(50));
    match random.below(8) {
        0 => one.try_send(value).map_err(|error| Some(error.into_inner())),
        1 => one.send_timeout(value, briefly).map_err(|error| Some(error.into_inner())),
        2 => select! {
            send(one, value) -> sent => sent.map_err(|error| Some(error.into_inner())),
            default => Err(Some(value)),
        },
        3 => select! {
            send(c[0], value) -> sent => sent.map_err(|error| Some(error.into_inner())),
            send(c[1], value) -> sent => sent.map_err(|error| Some(error.into_inner())),
            default(briefly) => Err(Some(value)),
        },
        4 => {
            // The value's expression panics after the arm was chosen.
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                select! {
                    send(c[0], { drop(value); no_value() }) -> _ => (),
                    send(c[1], { drop(value); no_value() }) -> _ => (),
                    default(briefly) => (),
                }
            }));
            // An abort goes its way.
            match outcome {
                Err(payload) if payload.downcast_ref() != Some(&"no value") => resume_unwind(payload),
                _ => Err(None),
            }
        }
        5 => {
            let mut set = Select::new();
            let _ = (set.send(&c[0]), set.send(&c[1]));
            match set.select_timeout(briefly) {
                Ok(operation) => {
                    let channel = &c[operation.index()];
                    operation.send(channel, value).map_err(|error| Some(error.into_inner()))
                }
                Err(_) => Err(Some(value)),
            }
        }
        // Waits for ever: in both, as nobody may receive from one.
        _ => select! {
            send(c[0], value) -> sent => sent.map_err(|error| Some(error.into_inner())),
            send(c[1], value) -> sent => sent.map_err(|error| Some(error.into_inner())),
        },
    }
}

/// Receives from one of two channels, in one of many ways. An error says that a channel is closed, and which.
fn receive_somehow(c: &[Receiver<Numbered>; 2], random: &mut Random) -> Result<Option<Numbered>, usize> {
    let which = random.below(2) as usize;
    let one = &c[which];
    let briefly = Duration::from_micros(random.below(50));
    let may_be_closed = |closed: bool| if closed { Err(which) } else { Ok(None) };
    match random.below(8) {
        0 => one.try_recv().map(Some).or_else(|error| may_be_closed(error == TryRecvError::Closed)),
        1 => one.recv_timeout(briefly).map(Some).or_else(|error| may_be_closed(error == RecvTimeoutError::Closed)),
        2 => {
            // Dropped after its first poll, served or not.
            match pin!(one.recv_async()).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(received) => received.map(Some).map_err(|_| which),
                Poll::Pending => {
                    gorun::yield_now();
                    Ok(None)
                }
            }
        }
        3 => {
            let mut set = Select::new();
            let _ = (set.recv(&c[0]), set.recv(&c[1]));
            match set.select_timeout(briefly) {
                Ok(operation) => {
                    let index = operation.index();
                    operation.recv(&c[index]).map(Some).map_err(|_| index)
                }
                Err(_) => Ok(None),
            }
        }
        4 => select! {
            recv(c[0]) -> v => v.map(Some).map_err(|_| 0),
            recv(c[1]) -> v => v.map(Some).map_err(|_| 1),
            default(briefly) => Ok(None),
        },
        _ => select! {
            recv(c[0]) -> v => v.map(Some).map_err(|_| 0),
            recv(c[1]) -> v => v.map(Some).map_err(|_| 1),
        },
    }
}

/// Senders and receivers on goroutines and threads; a share of the goroutines is aborted at random. In the end each
/// value was received, or came back to its own sender, or went with its aborted sender: one of the three, once; and it
/// was dropped once.
fn conservation(capacities: [usize; 2], aborts: bool, seed: u64) {
    let fates: Arc<Vec<Fate>> = Arc::new((0..SENDERS * EACH).map(|_| Fate::default()).collect());
    let made = Arc::new(AtomicUsize::new(0));
    let (tx, rx): (Vec<_>, Vec<_>) = capacities.map(gorun::channel::<Numbered>).into_iter().unzip();
    let (tx, rx) = (<[_; 2]>::try_from(tx).unwrap(), <[_; 2]>::try_from(rx).unwrap());
    let sender = |index: usize, seed: u64| {
        let (tx, fates, made) = (tx.clone(), fates.clone(), made.clone());
        move || {
            let mut random = Random(seed);
            for number in index * EACH..(index + 1) * EACH {
                tick(&made);
                tick(&fates[number].made);
                // An abort unwinds out of an operation that did not happen, never out of one that did.
                match send_somehow(&tx, Numbered(number, fates.clone()), &mut random) {
                    Ok(()) => tick(&fates[number].sent),
                    Err(value) => {
                        assert!(value.is_none_or(|value| value.0 == number), "somebody else's value came back");
                        tick(&fates[number].came_back);
                    }
                }
            }
        }
    };
    let receiver = |seed: u64| {
        let (rx, fates) = (rx.clone(), fates.clone());
        move || {
            let mut random = Random(seed);
            let mut closed = [false; 2];
            while closed != [true; 2] {
                match receive_somehow(&rx, &mut random) {
                    Ok(Some(value)) => tick(&fates[value.0].received),
                    Ok(None) => gorun::yield_now(),
                    Err(which) => {
                        assert!(rx[which].is_closed(), "a receive failed on an open channel");
                        closed[which] = true;
                    }
                }
            }
        }
    };
    let mut random = Random(seed);
    let mut seeds = || random.below(u64::MAX) | 1;
    let senders: Vec<_> = (0..8).map(|index| gorun::go(sender(index, seeds()))).collect();
    let receivers: Vec<_> = (0..6).map(|_| gorun::go(receiver(seeds()))).collect();
    let sender_threads: Vec<_> = (8..SENDERS).map(|index| thread::spawn(sender(index, seeds()))).collect();
    let receiver_threads: Vec<_> = (0..2).map(|_| thread::spawn(receiver(seeds()))).collect();
    drop((tx, rx));
    if aborts {
        // Spread over the run by its own progress. The threads go on, and see to it that it ends.
        for n in 0..5 {
            until(|| made.load(Ordering::SeqCst) > 300 * (n + 1) || senders[n].is_finished());
            senders[n].abort();
            receivers[n].abort();
        }
    }
    let ended = |(index, end): (usize, Result<(), gorun::JoinError>)| match end {
        Ok(()) => false,
        Err(error) => {
            assert!(error.is_aborted() && aborts && index < 5, "{error}");
            true
        }
    };
    let aborted: Vec<bool> = senders.into_iter().map(|g| g.join()).enumerate().map(ended).collect();
    sender_threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(receivers.into_iter().map(|g| g.join()).enumerate().map(ended).count(), 6);
    receiver_threads.into_iter().for_each(|t| t.join().unwrap());
    let mut lost_with_their_senders = [0; SENDERS];
    for (number, fate) in fates.iter().enumerate() {
        let [made, sent, came_back, received, dropped] =
            [&fate.made, &fate.sent, &fate.came_back, &fate.received, &fate.dropped].map(|c| c.load(Ordering::SeqCst));
        let what = format!("value {number}, capacities {capacities:?}, seed {seed}");
        assert_eq!(sent, received, "sent and received: {what}");
        assert_eq!(made, dropped, "made and dropped: {what}");
        assert!(sent + came_back <= made && made <= 1, "one fate: {what}");
        lost_with_their_senders[number / EACH] += made - sent - came_back;
        let finished = !aborted.get(number / EACH).copied().unwrap_or(false);
        assert!(!finished || made == 1, "never made: {what}");
    }
    for (index, lost) in lost_with_their_senders.into_iter().enumerate() {
        // An aborted sender takes with it the one value it was sending, if it was.
        assert!(lost <= usize::from(aborted.get(index).copied().unwrap_or(false)), "{lost} lost, seed {seed}");
    }
}

const CAPACITIES: [[usize; 2]; 5] = [[0, 0], [0, 1], [1, 1], [2, 0], [16, 3]];

#[test]
fn nothing_is_lost_or_doubled() {
    within(|| {
        for (seed, capacities) in CAPACITIES.into_iter().enumerate() {
            conservation(capacities, false, 0x9e37_79b9 + seed as u64);
        }
    });
}

#[test]
fn nothing_is_lost_or_doubled_with_aborts() {
    within(|| {
        for (seed, capacities) in CAPACITIES.into_iter().enumerate() {
            conservation(capacities, true, 0x7f4a_7c15 + seed as u64);
        }
    });
}
