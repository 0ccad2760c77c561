//! The claim word: one winner among all who could end a wait.

#[allow(unsafe_code, reason = "from the claim word back to the task")]
pub(crate) mod async_waiter;
#[allow(unsafe_code, reason = "claims reach the waiter by pointer")]
pub(crate) mod claim_word;
