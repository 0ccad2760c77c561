//! The monitor thread: sees what a busy worker can't see of itself.
//!
//! Started by `scheduler`; sleeps while all workers sleep, else looks every [`PERIOD`]:
//! * a goroutine that has run for a whole period while others wait is asked to yield at its next runtime call;
//! * work or timers that wait while some worker sleeps get that worker woken (a second net under `idle`, and the
//!   first one for timers of a seat whose worker is busy).

use crate::shared::{STOPPING, Shared};
use crate::timers;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(10);

pub(crate) fn run(shared: &Arc<Shared>) {
    shared.monitor.set(std::thread::current()).expect("a runtime has one monitor");
    let mut last: Vec<u32> = vec![0; shared.seats.len()];
    while shared.phase() != STOPPING {
        if shared.idle.asleep() == shared.seats.len() {
            // Dekker with `Shared::wake_monitor`: the flag, then the count; a waking worker changes the count and
            // then reads the flag.
            shared.monitor_asleep.store(true, Ordering::SeqCst);
            if shared.idle.asleep() == shared.seats.len() && shared.phase() != STOPPING {
                std::thread::park();
            }
            shared.monitor_asleep.store(false, Ordering::SeqCst);
            continue;
        }
        std::thread::park_timeout(PERIOD);
        look(shared, &mut last);
    }
}

fn look(shared: &Shared, last: &mut [u32]) {
    let now = timers::now();
    let mut waiting = !shared.injector.is_empty();
    for (seat, last) in shared.seats.iter().zip(last) {
        // Relaxed: two looks at a counter.
        let round = seat.rounds.load(Ordering::Relaxed);
        let overdue = seat.timers.earliest() <= now;
        let others = overdue || !seat.stealer.is_empty() || !seat.inbox.is_empty() || !shared.injector.is_empty();
        if round == *last && seat.busy.load(Ordering::Relaxed) && others {
            // Relaxed: a request, nothing is published with it.
            seat.yield_requested.store(true, Ordering::Relaxed);
        }
        *last = round;
        waiting |= overdue || !seat.stealer.is_empty();
    }
    if waiting && shared.idle.any_asleep() {
        shared.notify();
    }
}
