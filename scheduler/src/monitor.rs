//! The monitor thread: sees what a busy worker can't see of itself.
//!
//! Started by `scheduler`; sleeps while all workers sleep, else looks every [`PERIOD`]:
//! * a goroutine that has run for a whole period while something waits is asked to yield at its next runtime call;
//! * after a period more its worker is *stuck*: its seat is unattended (S4 in `seats`), and as soon as something waits
//!   that no sleeping worker is there for, another worker is brought in (`spares`);
//! * work or timers that wait while some worker sleeps get that worker woken (a second net under `idle`, and the
//!   first one for what waits on the seat of a busy worker);
//! * goroutines that were not worth another worker (`grain`) become so when the turns before them have turned out to be longer
//!   in a [`GLANCE`];
//! * stacks that are kept warm in vain are given back, bit by bit (`warm`), also while all workers sleep.

use crate::goroutine::YIELD;
use crate::grain::FINE_IN_GLANCE;
use crate::seats::Seat;
use crate::shared::{STOPPING, Shared};
use crate::timers;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(10);
/// While somebody sleeps beside work that was not worth waking him for (`grain`).
const GLANCE: Duration = Duration::from_millis(1);

/// What the last look at a seat saw.
#[derive(Clone, Copy, Default)]
struct Last {
    round: u32,
    /// The round at the last glance.
    glanced: u32,
    /// For how many looks the same turn has been going on.
    looks: u32,
}

#[expect(clippy::disallowed_methods, reason = "the monitor's own thread")]
pub(crate) fn run(shared: &Arc<Shared>) {
    shared.monitor.set(std::thread::current()).expect("a runtime has one monitor");
    let mut last = Vec::new();
    while shared.phase() != STOPPING {
        if shared.idle.asleep() >= shared.spares.active() {
            // Dekker with `Shared::wake_monitor`: the flag, then the count; a waking worker changes the count and
            // then reads the flag.
            shared.monitor_asleep.store(true, Ordering::SeqCst);
            if shared.idle.asleep() >= shared.spares.active() && shared.phase() != STOPPING {
                // As long as there is nothing to give back: a process that does nothing is not to be woken for nothing.
                match shared.warm.next_trim(timers::now()) {
                    Some(in_time) => std::thread::park_timeout(in_time.max(PERIOD)),
                    None => std::thread::park(),
                }
            }
            shared.monitor_asleep.store(false, Ordering::SeqCst);
            shared.warm.trim(timers::now());
            continue;
        }
        wait_and_glance(shared, &mut last);
        look(shared, &mut last);
        shared.warm.trim(timers::now());
    }
}

/// Waits for a period, and looks at fine work meanwhile, if there is any.
#[expect(clippy::disallowed_methods, reason = "the monitor's own thread")]
fn wait_and_glance(shared: &Arc<Shared>, last: &mut Vec<Last>) {
    let mut left = PERIOD;
    while !left.is_zero() && shared.phase() != STOPPING {
        let fine = shared.idle.any_asleep() && shared.seats.iter().any(|seat| seat.grain.is_fine());
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
    for (seat, last) in shared.seats.iter().zip(last.iter_mut()) {
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

fn look(shared: &Arc<Shared>, last: &mut Vec<Last>) {
    let now = timers::now();
    last.resize(shared.seats.len(), Last::default());
    let mut waiting = !shared.injector.is_empty() || (!shared.held.is_empty() && !shared.spares.are_scarce());
    for (seat, last) in shared.seats.iter().zip(last.iter_mut()) {
        // Relaxed: two looks at a counter.
        let round = seat.rounds.load(Ordering::Relaxed);
        let busy = !seat.running.load(Ordering::Relaxed).is_null();
        last.looks = if busy && round == last.round { last.looks + 1 } else { 0 };
        last.round = round;
        if last.looks > 0 {
            seat.grain.forget();
        }
        let overdue = seat.timers.earliest() <= now;
        waiting |= overdue || seat.has_work() || (last.looks > 0 && seat.next.has_stealable());
    }
    for (seat, last) in shared.seats.iter().zip(&*last).filter(|(_, last)| last.looks > 0) {
        // What is held back waits until threads are no longer scarce, which may be up to this very goroutine.
        if waiting || !seat.inbox.is_empty() || !shared.held.is_empty() {
            ask_to_yield(seat);
        }
        if last.looks > 1 {
            found_stuck(shared, seat, now);
        }
        // Relaxed: written by us, or by a worker that has come back and is then no longer stuck.
        let replaced = seat.replaced.load(Ordering::Relaxed);
        if waiting
            && !replaced
            && seat.is_unattended()
            && !shared.idle.any_awaits_work()
            && shared.spares.bring_in(shared).is_ok()
        {
            // Only now: the worker may come back at any time, and whoever finds the note lets one retire. SeqCst: the note,
            // then whether it has come back; against `Spares::come_back`.
            if seat.replaced.swap(true, Ordering::SeqCst) {
                // A goroutine of its own has locked the thread meanwhile, and has brought in a worker as well.
                shared.spares.count_excess();
            }
            if !seat.is_unattended() {
                // It may sleep, and is to look again.
                seat.unpark();
            }
        }
    }
    if waiting && shared.idle.any_asleep() {
        shared.notify();
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

fn found_stuck(shared: &Shared, seat: &Seat, now: u64) {
    if !seat.is_unattended() {
        // Relaxed: for observers.
        seat.stuck_since.store(now, Ordering::Relaxed);
        if !seat.set_unattended(true) {
            shared.spares.count_stuck(true);
        }
    }
}
