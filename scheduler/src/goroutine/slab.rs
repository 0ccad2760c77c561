//! Where control blocks come from: chunks that are never given back, so that blocks are type-stable.
//!
//! Called by `spawn` (take), by who gives up the last reference (give back) and by `scheduler` (walk the live ones). Each
//! processor keeps a free list of its own ([`BlockList`]); the lock here is taken once for many blocks.

use crate::base::atomics::Lock;
use crate::goroutine::block::{Goroutine, Ref};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::MutexGuard;

const CHUNK: usize = 128;
/// A processor's list gives half of itself back when it grows past this.
const LIST_MAX: usize = 512;

struct Slab {
    chunks: Vec<&'static [Goroutine]>,
    /// By address and not linked: in a list of blocks that nobody has looked at for long each is a cache miss that the next
    /// one has to wait for. Has room for all blocks there are.
    free: Vec<Ref>,
    unused: usize,
}

static SLAB: Lock<Slab> = Lock::new(Slab { chunks: Vec::new(), free: Vec::new(), unused: 0 });

impl Slab {
    fn take(&mut self) -> Option<Ref> {
        if let Some(block) = self.free.pop() {
            return Some(block);
        }
        if self.unused == 0 {
            let mut chunk = Vec::new();
            chunk.try_reserve_exact(CHUNK).ok()?;
            self.chunks.try_reserve(1).ok()?;
            let blocks = (self.chunks.len() + 1) * CHUNK;
            if self.free.capacity() < blocks {
                // Anew, as it is empty: growing would copy, and so touch, what it has room for.
                let mut larger = Vec::new();
                larger.try_reserve_exact(2 * blocks).ok()?;
                self.free = larger;
            }
            chunk.extend((0..CHUNK).map(|_| Goroutine::empty()));
            self.chunks.push(Vec::leak(chunk));
            self.unused = CHUNK;
        }
        let chunk = self.chunks.last()?;
        self.unused -= 1;
        Some(Ref(NonNull::from(&chunk[CHUNK - 1 - self.unused])))
    }

    fn give(&mut self, block: Ref) {
        self.free.push(block);
    }
}

/// A processor's free blocks, last in first out.
#[derive(Debug)]
pub(crate) struct BlockList {
    head: Cell<*const Goroutine>,
    len: Cell<usize>,
}

impl BlockList {
    pub(crate) const fn new() -> BlockList {
        BlockList { head: Cell::new(ptr::null()), len: Cell::new(0) }
    }

    #[inline]
    fn pop(&self) -> Option<Ref> {
        let block = NonNull::new(self.head.get().cast_mut())?;
        // SAFETY: type-stable and on our list.
        let next = unsafe { block.as_ref() }.next.get();
        self.head.set(next);
        // SAFETY: as above.
        if let Some(next) = unsafe { next.as_ref() } {
            // For the one who takes that one.
            next.prefetch();
        }
        self.len.set(self.len.get() - 1);
        Some(Ref(block))
    }

    #[inline]
    fn push(&self, block: Ref) {
        block.next.set(self.head.get());
        self.head.set(block.as_ptr());
        self.len.set(self.len.get() + 1);
    }

    fn trim_to(&self, keep: usize) {
        let mut slab = SLAB.lock();
        while self.len.get() > keep {
            let Some(block) = self.pop() else { break };
            slab.give(block);
        }
    }
}

impl Drop for BlockList {
    fn drop(&mut self) {
        self.trim_to(0);
    }
}

/// A block with `refs == 0` that belongs to the caller now. `None`: no memory.
#[inline]
pub(crate) fn take_block(list: Option<&BlockList>) -> Option<Ref> {
    list.and_then(BlockList::pop).or_else(|| take_cold(list))
}

#[cold]
#[inline(never)]
fn take_cold(list: Option<&BlockList>) -> Option<Ref> {
    let Some(list) = list else { return SLAB.lock().take() };
    let mut slab = SLAB.lock();
    for _ in 0..LIST_MAX / 8 {
        match slab.take() {
            Some(block) => list.push(block),
            None => break,
        }
    }
    list.pop()
}

#[inline]
pub(super) fn give_back(blocks: Option<&BlockList>, block: Ref) {
    match blocks {
        Some(blocks) if blocks.len.get() < LIST_MAX => blocks.push(block),
        _ => give_back_cold(blocks, block),
    }
}

#[cold]
#[inline(never)]
fn give_back_cold(blocks: Option<&BlockList>, block: Ref) {
    match blocks {
        Some(blocks) => {
            blocks.trim_to(LIST_MAX / 2);
            blocks.push(block);
        }
        None => SLAB.lock().give(block),
    }
}

/// The slab's lock, held over a fork.
pub(crate) struct SlabLock {
    _slab: MutexGuard<'static, Slab>,
}

pub(crate) fn lock_slab() -> SlabLock {
    SlabLock { _slab: SLAB.lock() }
}

/// All blocks there are.
pub(super) fn all_blocks() -> impl Iterator<Item = &'static Goroutine> {
    let chunks = SLAB.lock().chunks.clone();
    chunks.into_iter().flatten()
}
