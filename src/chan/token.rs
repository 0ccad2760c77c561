//! The tokens with which waits at a channel end, and the patience of a receiver for a promised value.
//!
//! Used by everything that waits here, and by `select`.

use gorun_scheduler::Token;
use std::time::{Duration, Instant};

/// The token of a wait that is over: what there was to exchange lies in the slot. With the number of the select's arm.
pub(crate) fn settled(arm: usize) -> Token {
    Token::case(2 * arm)
}

/// The token of an arm that was chosen, while the value is still to come: see `state`. The waiter takes the lock.
pub(crate) fn promise(settled: Token) -> Token {
    settled.index().map_or(settled, |index| Token::case(index | 1))
}

pub(crate) fn is_promise(token: Token) -> bool {
    token.index().is_some_and(|index| index & 1 == 1)
}

/// The arm whose token it is. `None`: time-out or abort.
pub(crate) fn arm_of(token: Token) -> Option<usize> {
    token.index().map(|index| index / 2)
}

/// The time until which a receiver waits for a promised value before it checks its deadline, its abort and its other arms
/// again: see `state`. `None` in models, where time passes at once; there the wait has no limit.
pub(crate) fn patience() -> Option<Instant> {
    /// Long for an expression, and for the turn of the goroutine that computes it; short for a caller with a deadline.
    const PATIENCE: Duration = Duration::from_millis(10);
    (!cfg!(any(loom, shuttle))).then(|| Instant::now() + PATIENCE)
}
