//! The control block of a goroutine, its references, its storage and its result.

#[allow(unsafe_code, reason = "shared blocks whose fields have one owner at a time")]
pub(crate) mod block;
#[allow(unsafe_code, reason = "a claimed goroutine, by pointer")]
pub(crate) mod claimed;
#[allow(unsafe_code, reason = "shared blocks whose fields have one owner at a time")]
pub(crate) mod completion;
#[allow(unsafe_code, reason = "who runs here, by pointer")]
pub(crate) mod current;
pub(crate) mod goexit;
#[allow(unsafe_code, reason = "shared blocks whose fields have one owner at a time")]
pub(crate) mod handle;
pub(crate) mod refs;
pub(crate) mod runtime_head;
#[allow(unsafe_code, reason = "shared blocks whose fields have one owner at a time")]
pub(crate) mod slab;
#[allow(unsafe_code, reason = "entries by pointer, in an arena of their own")]
pub(crate) mod storage;
#[allow(unsafe_code, reason = "the carrier of a goroutine, by pointer")]
pub(crate) mod suspend;
