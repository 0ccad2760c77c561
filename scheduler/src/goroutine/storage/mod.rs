//! The storage record: what one goroutine, or one plain thread, keeps for itself, inside its control block.
//!
//! `gorun::local` reaches it through [`record`](crate::record); `exit` runs [`Locals::run_exit`] at the foot of
//! every goroutine, `spawn` [`Locals::inherit_into`]. `entry` has the memory, `dynamic` the map of dynamic keys,
//! `exit` the way out. Values and handlers are entries; a table of words, indexed by a key's number, points to the
//! values of typed keys, and a chain holds every value in the order of initialisation.
//!
//! * **L1.** Only its goroutine (before that is published, its spawner) touches a record: plain cells suffice.
//! * **L2.** A word above the sentinels points to a live value of its key's type, in an entry of the chain.
//! * **L3.** The chain holds live entries only, oldest first, and a value leaves it before it is dropped.
//! * **L4.** While there are `looks` no typed value is dropped, but by the end of its scope, in which no look has begun
//!   that goes on; a dynamic entry with a borrow is detached, and dropped by its last borrow. Frames that never return
//!   (`std::process::exit`) are exempt: nobody looks again.
//! * **L5.** An untouched record has the bare exit as its target; one that holds anything has the cleaning exit.
//! * **L6.** After the cleaning exit a record is as `Locals::new` made it ([`Locals::assert_empty`]).
//! * **L7.** A record that holds anything stays where it is: it points into itself. Outside of this crate there are
//!   references to records only.
//! * **L8.** In thread-locals that are the goroutine's own, a key's mirror ([`Kind::mirrored`]) is its word if that is
//!   above the sentinels, else null. In all others mirrors are null.

mod data;
mod dynamic;
mod entry;
mod exit;
pub(super) mod in_force;
mod record;
#[cfg(test)]
mod tests;

pub use data::{Kind, Locals};
pub use dynamic::Look;
pub use exit::{EXIT_ROUNDS, HANDLER_DEPTH, cleaning_exits, exit_overruns, exit_panics, on_exit_overrun};
pub use record::{Begun, Unavailable};
