//! A worker: its processor, and what it keeps from one turn to the next.
//!
//! Made on its own thread by `scheduler`; driven by `run_loop`, which lets `search` find work.

use crate::base::poll_interval::Pace;
use crate::processor::core::Processor;
use crate::seat::seats::Seat;
use crate::timer::timers::Due;
use crate::tls::{self, Loaded};
use crate::worker::linger::Linger;
use std::marker::PhantomPinned;

pub(crate) struct Worker {
    pub(super) processor: Processor,
    pub(super) round: u32,
    pub(super) pace: Pace,
    /// Timers fired since the last look.
    pub(super) fired: usize,
    pub(super) due: Due,
    pub(super) loaded: Loaded,
    pub(super) linger: Linger,
    /// Not `Unpin`, so that a `&mut Worker` claims no exclusive access: the goroutine that runs next has a pointer to the
    /// processor already (`prepare`) when the last one is let go of.
    _shared: PhantomPinned,
}

impl Worker {
    /// For the thread that calls.
    pub(crate) fn new(processor: Processor) -> Worker {
        let loaded = Loaded::new(tls::layout().ok());
        Worker {
            processor,
            round: 0,
            pace: Pace::new(),
            fired: 0,
            due: Due::default(),
            loaded,
            linger: Linger::default(),
            _shared: PhantomPinned,
        }
    }

    pub(super) fn seat(&self) -> &Seat {
        self.processor.seat_ref()
    }
}
