//! What a worker has to run: its two deques, the next slot, the inbox for goroutines that come home.

#[allow(unsafe_code, reason = "buffers by pointer, and elements that are not null")]
pub(crate) mod deque;
#[allow(unsafe_code, reason = "a stack linked through the blocks")]
pub(crate) mod inbox;
#[allow(unsafe_code, reason = "a goroutine in a word")]
pub(crate) mod next_slot;
#[allow(unsafe_code, reason = "goroutines by pointer")]
pub(crate) mod run_queue;
