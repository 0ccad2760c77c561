//! How deep into the stack operations on a channel of large values go: a value is copied a few times, and not at each call.
//!
//! A goroutine paints its stack below itself, runs the operation, and looks how far the paint is gone.

#![allow(unsafe_code, reason = "paints the unused part of the running stack")]

use gorun::{Receiver, Sender, channel, go, select};
use std::hint::black_box;
use std::ptr;
use std::time::Duration;

const VALUE: usize = 32 << 10;
type Value = [u8; VALUE];

const PAINT: u64 = 0x5a17_c0de_5a17_c0de;
/// Of a goroutine's stack of 4 MiB.
const PAINTED: usize = 3 << 20;
/// Frames of `paint` itself.
const MARGIN: usize = 512;

#[inline(never)]
fn paint(from: usize) {
    for at in (from - PAINTED..from - MARGIN).step_by(8) {
        // SAFETY: the goroutine's stack has room for this below `from`, and no frame is there yet.
        unsafe { ptr::with_exposed_provenance_mut::<u64>(at).write_volatile(PAINT) };
    }
}

#[inline(never)]
fn deepest(from: usize) -> usize {
    let touched = (from - PAINTED..from).step_by(8).find(|at| {
        // SAFETY: as in `paint`.
        unsafe { ptr::with_exposed_provenance::<u64>(*at).read_volatile() != PAINT }
    });
    from - touched.unwrap()
}

/// KiB of stack that `operation` needs on a goroutine.
fn depth(operation: impl FnOnce() + Send + 'static) -> usize {
    let run = move || {
        let mark = 0_u64;
        let here = (&raw const mark).expose_provenance() & !7;
        paint(here);
        operation();
        deepest(here) >> 10
    };
    gorun::Builder::new().stack_size(4 << 20).go(run).unwrap().join().unwrap()
}

fn value() -> Value {
    [7; VALUE]
}

#[inline(never)]
fn consume(value: &Value) {
    black_box(value);
}

/// The depth of a send into a channel that has room.
fn empty(send: impl FnOnce(&Sender<Value>) + Send + 'static) -> usize {
    let (tx, _rx) = channel(1);
    depth(move || send(&tx))
}

/// The depth of a receive from a channel that has a value.
fn filled(receive: impl FnOnce(&Receiver<Value>) + Send + 'static) -> usize {
    let (tx, rx) = channel(1);
    tx.send(value()).unwrap();
    depth(move || receive(&rx))
}

/// The depth of a receive from a sender that comes later, most often: both ways are within the bound.
fn fed(receive: impl FnOnce(&Receiver<Value>) + Send + 'static) -> usize {
    let (tx, rx) = channel(0);
    go(move || {
        gorun::yield_now();
        tx.send(value()).unwrap();
    });
    depth(move || receive(&rx))
}

/// KiB at most: the caller's frame with what it gets and what it makes of it, two values, is
/// in it. Unoptimised code copies at each step.
const MOST: usize = if cfg!(debug_assertions) { 700 } else { 130 };

#[test]
fn a_value_is_copied_a_few_times_and_not_at_each_call() {
    let long = Duration::from_secs(60);
    let depths = [
        ("send", empty(|tx| tx.send(value()).unwrap())),
        ("try_send", empty(|tx| tx.try_send(value()).unwrap())),
        ("send_timeout", empty(move |tx| tx.send_timeout(value(), long).unwrap())),
        ("select, send", empty(|tx| select! { send(tx, value()) -> sent => sent.unwrap() })),
        ("recv", filled(|rx| consume(&rx.recv().unwrap()))),
        ("try_recv", filled(|rx| consume(&rx.try_recv().unwrap()))),
        ("recv_timeout", filled(move |rx| consume(&rx.recv_timeout(long).unwrap()))),
        ("select, recv", filled(|rx| select! { recv(rx) -> got => consume(&got.unwrap()) })),
        ("recv that waits", fed(|rx| consume(&rx.recv().unwrap()))),
        ("recv_timeout that waits", fed(move |rx| consume(&rx.recv_timeout(long).unwrap()))),
        ("select, recv that waits", fed(|rx| select! { recv(rx) -> got => consume(&got.unwrap()) })),
        ("timeout", depth(move || consume(&gorun::time::timeout(long, value).unwrap()))),
        ("join", depth(|| consume(&go(value).join().unwrap()))),
    ];
    let too_deep: Vec<_> = depths.iter().filter(|(_, kib)| *kib > MOST).collect();
    assert!(too_deep.is_empty(), "more than {MOST} KiB: {too_deep:?} of {depths:?}");
}
