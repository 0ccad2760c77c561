//! Unit tests of the spare workers' counts and limits, with threads that are refused or end at once.

use super::*;
use crate::processor::shared::{Shared, Start};
use std::sync::Arc;

fn shared(workers: usize, spare_workers: usize, start: Start) -> Arc<Shared> {
    let config = Config { workers, spare_workers, ..Config::from_env().unwrap() };
    let class_and_mode = config.check().unwrap();
    Arc::new(Shared::new(config, class_and_mode, (start, |_, _| unreachable!())))
}

fn refuse(_: &Arc<Shared>, _: usize, queue: RunQueue) -> Result<JoinHandle<()>, (io::Error, RunQueue)> {
    Err((io::Error::from_raw_os_error(11), queue))
}

/// A thread that ends at once.
fn start(_: &Arc<Shared>, _: usize, _: RunQueue) -> Result<JoinHandle<()>, (io::Error, RunQueue)> {
    Ok(std::thread::spawn(|| ()))
}

#[test]
fn a_refusal_leaves_nothing_behind() {
    let shared = shared(1, 4, refuse);
    for _ in 0..1000 {
        let refused = shared.spares.bring_in(&shared).unwrap_err();
        assert!(matches!(&refused, Refused::Kernel(error) if error.raw_os_error() == Some(11)), "{refused:?}");
    }
    assert_eq!((shared.seats.len(), shared.spares.crew(), shared.spares.threads()), (1, (0, 0), 0));
    assert!(shared.spares.were_refused() && !shared.spares.can_be_had());
}

#[test]
fn the_cap_holds_for_spare_workers_and_not_for_locked_ones() {
    let shared = shared(1, 1, start);
    let spares = &shared.spares;
    spares.bring_in(&shared).unwrap();
    spares.bring_in(&shared).unwrap();
    assert!(matches!(spares.bring_in(&shared), Err(Refused::Cap)));
    // One too many attends: no further worker is needed for one that is locked.
    spares.bring_in_for_lock(&shared).unwrap();
    assert_eq!((spares.threads(), spares.crew()), (2, (1, 0)));
    spares.lend();
    spares.bring_in_for_lock(&shared).unwrap();
    assert_eq!((spares.threads(), spares.crew()), (3, (1, 0)));
    spares.lend();
    // The two that are locked do not count.
    spares.bring_in(&shared).unwrap();
    assert!(matches!(spares.bring_in(&shared), Err(Refused::Cap)));
    assert!(spares.take_excess() && !spares.take_excess());
}

#[test]
fn nobody_is_one_too_many_while_a_thread_is_being_locked() {
    let shared = shared(1, 1, start);
    let spares = &shared.spares;
    spares.bring_in(&shared).unwrap();
    spares.bring_in_for_lock(&shared).unwrap();
    assert!(
        !spares.take_excess(),
        "the successor would retire, and then the locked one be counted off: nobody is left"
    );
    spares.lend();
    assert_eq!(spares.crew(), (1, 0));
}

#[test]
fn a_lock_that_is_refused_leaves_the_worker_as_it_was() {
    let shared = shared(1, 1, refuse);
    shared.spares.crew.come();
    assert!(shared.spares.bring_in_for_lock(&shared).is_err());
    assert_eq!(shared.spares.crew(), (1, 0));
}

#[test]
fn whoever_changes_the_seat_changes_the_counts() {
    let shared = shared(2, 2, start);
    let spares = &shared.spares;
    (0..2).for_each(|_| spares.bring_in(&shared).unwrap());
    let seat = shared.seats.get(0);
    assert!(!spares.found_stuck(seat), "nobody has sat down yet");
    seat.sit_down();
    assert!(spares.found_stuck(seat) && !spares.found_stuck(seat));
    assert_eq!(spares.crew(), (1, 1));
    spares.come_back(seat);
    spares.come_back(seat);
    assert_eq!(spares.crew(), (2, 0));
    assert!(spares.found_stuck(seat));
    spares.set_aside(seat);
    assert_eq!(spares.crew(), (2, 0));
}

#[test]
fn dozens_leave_a_worker_to_those_that_have_begun() {
    let shared = shared(2, 60, start);
    let spares = &shared.spares;
    (0..2 + DOZENS + 2).for_each(|_| spares.bring_in(&shared).unwrap());
    let seat = |i| shared.seats.get(i);
    (0..2 + DOZENS + 2).for_each(|i| seat(i).sit_down());
    (0..1 + DOZENS).for_each(|i| assert!(spares.found_stuck(seat(i))));
    assert!(!spares.see_to_care(false) && !spares.is_careful());
    assert!(spares.found_stuck(seat(1 + DOZENS)));
    assert!(spares.see_to_care(false) && spares.is_careful());
    let (a, b) = (seat(2 + DOZENS), seat(3 + DOZENS));
    assert!(spares.may_begin(&shared.seats, a));
    assert!(!spares.may_begin(&shared.seats, b), "the last free one is for those that have begun");
    a.rounds.store(1, Ordering::Relaxed);
    assert!(spares.may_begin(&shared.seats, b), "that turn is over");
}

/// Starts one worker's thread, and refuses the next one while the first worker, which was stuck, comes back.
fn refuse_as_one_comes_back(
    shared: &Arc<Shared>,
    index: usize,
    queue: RunQueue,
) -> Result<JoinHandle<()>, (io::Error, RunQueue)> {
    if index == 0 {
        return start(shared, index, queue);
    }
    shared.spares.come_back(shared.seats.get(0));
    assert!(!shared.spares.take_excess(), "it would retire for one that does not come: nobody is left");
    refuse(shared, index, queue)
}

#[test]
fn nobody_retires_for_one_that_is_refused() {
    let shared = shared(1, 4, refuse_as_one_comes_back);
    let spares = &shared.spares;
    spares.bring_in(&shared).unwrap();
    shared.seats.get(0).sit_down();
    assert!(spares.found_stuck(shared.seats.get(0)));
    assert!(spares.bring_in(&shared).is_err());
    assert_eq!(spares.crew(), (1, 0));
}
