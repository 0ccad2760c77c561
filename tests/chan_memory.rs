//! A channel that has been drained gives back the memory of its backlog.
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are allocated now. One test in this program, so they are its.
static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: the system's allocator, and a count of what it has given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Large = [u8; 4096];
const MANY: usize = 10_000;
/// What a channel may keep.
const LITTLE: usize = 256 << 10;

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

#[test]
fn the_memory_of_a_backlog_is_given_back() {
    let (tx, rx) = gorun::unbounded::<Large>();
    let before = live();
    for _ in 0..2 {
        (0..MANY).for_each(|_| tx.send([1; 4096]).unwrap());
        assert!(live() >= before + MANY * size_of::<Large>());
        assert_eq!(rx.try_iter().count(), MANY);
        assert!(live() < before + LITTLE, "{} bytes are kept", live() - before);
    }

    // The other ways to take a value: a select, and a receive that sees the channel closed.
    (0..MANY).for_each(|_| tx.send([1; 4096]).unwrap());
    (0..MANY - 1).for_each(|_| assert!(gorun::select! { recv(rx) -> value => value.is_ok() }));
    tx.close();
    assert!(rx.recv().is_ok());
    assert!(live() < before + LITTLE, "{} bytes are kept by a closed one", live() - before);

    // A bounded one gives them back by and by, as it is used.
    let (tx, rx) = gorun::channel::<Large>(MANY);
    (0..MANY).for_each(|_| tx.send([1; 4096]).unwrap());
    assert_eq!(rx.try_iter().count(), MANY);
    for _ in 0..16 {
        tx.send([1; 4096]).unwrap();
        assert!(rx.recv().is_ok());
    }
    assert!(live() < before + LITTLE, "{} bytes are kept by a bounded one", live() - before);
}
