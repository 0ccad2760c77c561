//! Time: a queue of timers per seat, for the deadlines of waits and for timers that are nobody's wait.
//!
//! A wait's timer lies on the waiter's stack ([`with_deadline`], called by `park`); the others are shared objects
//! ([`Timer`] in `timer`, used by `gorun::time`). Both are fired by `worker`: its own seat's at every scheduling
//! round that asks the clock, other seats' when they are overdue. Workers sleep until their seat's earliest, on the
//! kernel's nanosecond clock.
//!
//! * **M1.** What belongs to a timer's being pending changes only under the lock of its seat's queue. Any thread may
//!   take that lock; it is held for a handful of timers at a time.
//! * **M2.** A timer in the queue exists: a wait's is taken out, by firing or by cancelling, before its waiter leaves
//!   [`with_deadline`]; of a shared one the queue has a reference of its own.
//! * **M3.** What a timer does to others when it fires (a claim, a value into a channel) happens under the queue's lock.
//!   So once a stop has the lock, either it takes the timer out and nothing will happen, or all of it has happened.
//!   Wake-ups, and whatever allocates or drops, come after unlocking.
//! * **M4.** Under the queue's lock a channel's lock may be taken, and never the other way round.
//! * **M5.** Once the queue is closed, at its runtime's end, no shared timer is in it and none comes in.
//!
//! # The bad interleavings
//!
//! * Stop and fire: without M3 a worker takes the timer out, the stop finds it gone and empties its channel, then the
//!   worker puts the value in: a value received after the stop. With M3 the value is there when the stop looks.
//! * Reset and fire: the same with the timer then set anew; the old value would look like the new one's.
//! * Drop and fire: the last handle goes while a worker has the timer in its hands. The queue's reference passes to the
//!   worker when it takes the timer out, and is dropped after unlocking.
//! * A wait's end and fire: the waiter was claimed by another and wants its stack back, while a worker looks at the
//!   timer on it. The waiter needs the lock first (M2), and the claim under the lock fails or has woken it (P3).
//! * Set from outside, and the worker falls asleep: see `Seat::timer_set`.
//! * The runtime's end and set: M5; one that is set later never fires.

#[allow(unsafe_code, reason = "a system call")]
pub(crate) mod clock;
#[allow(unsafe_code, reason = "timers by pointer")]
mod heap;
pub(crate) mod node;
#[allow(unsafe_code, reason = "timers by pointer")]
pub(crate) mod queue;
#[allow(unsafe_code, reason = "timers by pointer: on waiters' stacks, and shared ones without their type")]
pub(crate) mod timers;
