//! The monitor thread: sees what a busy worker can't see of itself.
//!
//! Started by `scheduler`; sleeps while all workers sleep, else looks every [`PERIOD`]:
//! * a goroutine that has run for a whole period is asked to yield at its next runtime call (also where nothing waits that
//!   can be seen from here: pinned neighbours can't), and a worker that sleeps may take what waits behind it;
//! * when it has run for [`STUCK`] periods its worker is *stuck*: its seat is unattended (S4 in `seats`), and as soon as
//!   something waits that no sleeping worker is there for, another worker is brought in (`replacement`);
//! * a worker that has made few rounds looks beyond its own queues before its next turn (L3 in `poll_interval`);
//! * work or timers that wait while some worker sleeps get that worker woken (a second net under `idle`, and the
//!   first one for what waits on the seat of a busy worker);
//! * goroutines that were not worth another worker (`turn_length`) become so when the turns before them have turned out to be longer
//!   in a [`GLANCE`];
//! * stacks that are kept warm in vain are given back, bit by bit (`cache`), also while all workers sleep.

use crate::base::atomics::current_thread;
use crate::base::poll_interval;
use crate::goroutine::block::YIELD;
use crate::goroutine::runtime_head::STOPPING;
use crate::processor::shared::Shared;
use crate::seat::seats::Seat;
use crate::seat::turn_length::FINE_IN_GLANCE;
use crate::timer::clock;
use crate::worker::replacement::{Replacing, Seen};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(5);
/// Looks at the same turn after which its worker is stuck: the turn has gone on for 15 to 20 ms.
const STUCK: u32 = 3;
/// Rounds in a period that leave more than a millisecond between two looks of the worker's (`poll_interval`).
const FEW: u32 = 5 * poll_interval::MOST;
/// While somebody sleeps beside work that was not worth waking him for (`turn_length`).
const GLANCE: Duration = Duration::from_millis(1);

/// Of the seats that have nothing so many are looked at in one look.
const SOME: usize = 512;

/// What the last look at a seat saw.
#[derive(Clone, Copy, Default)]
struct Last {
    round: u32,
    /// The round at the last glance.
    glanced: u32,
    /// For how many looks the same turn has been going on.
    looks: u32,
    /// For how long the thread had run, when the turn was first found to be long.
    ran: Option<u64>,
    /// Of the first seat: where `look_at_some` goes on.
    next_of_some: usize,
}

#[expect(clippy::disallowed_methods, reason = "the monitor's own thread")]
pub(crate) fn run(shared: &Arc<Shared>) {
    shared.monitor.set(current_thread()).expect("a runtime has one monitor");
    let (mut last, mut replacing) = (Vec::new(), Replacing::default());
    while shared.phase() != STOPPING {
        // What is held back for want of a stack is tried again until it has one.
        if shared.do_all_sleep() && shared.held.is_empty() {
            replacing.rest(shared);
            if shared.announce_monitor_asleep() && shared.phase() != STOPPING {
                // As long as there is nothing to give back: a process that does nothing is not to be woken for nothing.
                match shared.warm.next_trim(clock::now()) {
                    Some(in_time) => std::thread::park_timeout(in_time.max(PERIOD)),
                    None => std::thread::park(),
                }
            }
            shared.announce_monitor_awake();
            shared.warm.trim(clock::now());
            continue;
        }
        wait_and_glance(shared, &mut last);
        look(shared, &mut last, &mut replacing);
        shared.warm.trim(clock::now());
    }
}

/// Waits for a period, and looks at fine work meanwhile, if there is any.
#[expect(clippy::disallowed_methods, reason = "the monitor's own thread")]
fn wait_and_glance(shared: &Arc<Shared>, last: &mut Vec<Last>) {
    let mut left = PERIOD;
    while !left.is_zero() && shared.phase() != STOPPING {
        let fine = shared.idle.any_asleep() && shared.seats.worth_a_look().any(|seat| seat.grain.is_fine());
        let nap = if fine { GLANCE } else { left };
        std::thread::park_timeout(nap);
        left = left.saturating_sub(nap);
        if fine {
            glance(shared, last);
        }
    }
}

fn glance(shared: &Arc<Shared>, last: &mut Vec<Last>) {
    last.resize(shared.seats.len(), Last::default());
    let mut worth = false;
    for seat in shared.seats.worth_a_look() {
        let Some(last) = last.get_mut(seat.index) else { continue };
        // Relaxed: two looks at a counter.
        let round = seat.rounds.load(Ordering::Relaxed);
        let turns = round.wrapping_sub(std::mem::replace(&mut last.glanced, round));
        if turns < FINE_IN_GLANCE && seat.grain.is_fine() && !seat.stealer.is_empty() {
            seat.grain.forget();
            worth = true;
        }
    }
    if worth && shared.idle.any_asleep() {
        shared.notify();
    }
}

fn look(shared: &Arc<Shared>, last: &mut Vec<Last>, replacing: &mut Replacing) {
    let now = clock::now();
    last.resize(shared.seats.len(), Last::default());
    let held = !shared.held.is_empty();
    // Relaxed: a note for a while: it may be tried again.
    shared.no_stack.store(false, Ordering::Relaxed);
    let mut waiting = !shared.injector.is_empty();
    for seat in shared.seats.worth_a_look().filter(|seat| seat.sweep()) {
        let last = &mut last[seat.index];
        // Relaxed: two looks at a counter.
        let round = seat.rounds.load(Ordering::Relaxed);
        let busy = !seat.running.load(Ordering::Relaxed).is_null();
        last.looks = if busy && round == last.round { last.looks + 1 } else { 0 };
        let rounds = round.wrapping_sub(std::mem::replace(&mut last.round, round));
        if busy && rounds < FEW {
            seat.look_now();
        }
        seat.set_long_turn((last.looks > 0).then_some(round));
        if last.looks > 0 {
            seat.grain.forget();
        }
        let overdue = seat.timers.earliest() <= now;
        waiting |= overdue || seat.has_work();
    }
    let mut blocked = 0;
    for seat in shared.seats.worth_a_look() {
        // A seat that has been added meanwhile has no look yet.
        let Some(last) = last.get_mut(seat.index).filter(|last| last.looks > 0) else { continue };
        ask_to_yield(seat);
        if last.looks == 1 {
            last.ran = seat.thread_time();
        }
        if last.looks >= STUCK && found_stuck(shared, seat, now) {
            let ran = last.ran.take();
            blocked += usize::from(ran.is_some() && ran == seat.thread_time());
        }
    }
    look_at_some(shared, last);
    let in_panic = shared.seats.worth_a_look().filter(|seat| seat.is_in_panic() && !seat.is_unattended()).count();
    replacing.see(shared, Seen { now, waiting, held, in_panic, blocked });
    if held && shared.idle.any_asleep() {
        shared.notify_of_held();
    }
    if waiting && shared.idle.any_asleep() {
        shared.notify();
    }
}

/// Looks whether something has come to seats that nobody looks after, and that had nothing (`seat_bitmap`): to some of them, as
/// there may be thousands. Whoever puts something there says so if somebody sleeps.
fn look_at_some(shared: &Shared, last: &mut [Last]) {
    let seats = last.len();
    // The first one's is where the last look ended.
    let start = last.first().map_or(0, |first| first.next_of_some);
    for index in (0..seats.min(SOME)).map(|i| (start + i) % seats) {
        let seat = shared.seats.get(index);
        if seat.is_unattended() && (seat.has_work() || seat.timers.earliest() != clock::NEVER) {
            seat.mark();
        }
    }
    if let Some(first) = last.first_mut() {
        first.next_of_some = (start + SOME) % seats;
    }
}

fn ask_to_yield(seat: &Seat) {
    // Acquire: pairs with the Release in `Worker::resume`.
    let running = seat.running.load(Ordering::Acquire);
    // SAFETY: a goroutine's block is type-stable; that it may be another goroutine by now is allowed for (`YIELD`).
    if let Some(g) = unsafe { running.as_ref() } {
        // Relaxed: a request, nothing is published with it.
        g.requests.fetch_or(YIELD, Ordering::Relaxed);
    }
}

/// Returns true if that is news.
fn found_stuck(shared: &Shared, seat: &Seat, now: u64) -> bool {
    if seat.is_unattended() {
        return false;
    }
    // Relaxed: for observers.
    seat.stuck_since.store(now, Ordering::Relaxed);
    let news = shared.spares.found_stuck(seat);
    // From now on its goroutine is to yield as soon as it can: so the worker sees that it is not stuck any more.
    ask_to_yield(seat);
    // It may have come back a moment ago, and have fallen asleep: then it looks once more. Dekker with `Worker::search`: the
    // seat is unattended, then whether it sleeps; it says that it sleeps, then whether its seat is unattended.
    fence(Ordering::SeqCst);
    if seat.is_asleep() {
        seat.unpark();
    }
    news
}
