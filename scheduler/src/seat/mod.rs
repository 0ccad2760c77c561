//! The part of a worker that others may touch.

pub(crate) mod seat_bitmap;
pub(crate) mod seats;
pub(crate) mod turn_length;
