//! Models of references that are given up by plain stores, against walks: B1 to B3.

use super::*;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// A block, what it is filled with in each life, and the walks.
struct Block {
    refs: Refs,
    walks: Walks,
    content: UnsafeCell<u32>,
}

// SAFETY: that the references keep the accesses apart is what the models check.
unsafe impl Sync for Block {}

impl Block {
    /// In its first life.
    fn new(refs: u32) -> Arc<Block> {
        let block = Block { refs: Refs::new(), walks: Walks::new(), content: UnsafeCell::new(1) };
        block.refs.publish(refs);
        Arc::new(block)
    }

    fn look(&self) -> u32 {
        // SAFETY: loom finds a look that meets a change.
        self.content.with(|content| unsafe { *content })
    }

    /// Gives up, and if these were the last, the block has the life after this one. `true`: they were.
    fn give_up(&self, mine: u32, held: u32) -> bool {
        let life = self.look();
        let last = self.refs.give_up(mine, held, &self.walks);
        if last {
            // SAFETY: as above.
            self.content.with_mut(|content| unsafe { *content = life + 1 });
        }
        last
    }

    /// Looks in by a walk. Returns true if what it then gave up was the last reference.
    fn walk(&self) -> bool {
        let walk = self.walks.begin();
        let has = self.refs.try_add(&walk);
        drop(walk);
        has && self.give_up(1, 1)
    }
}

fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// One reference, which is given up while somebody walks; the block is used again at once, and given up again. The walk
/// never has a handle to what is being filled.
#[test]
fn the_last_one_and_a_walk() {
    model(4, || {
        let block = Block::new(1);
        let walker = {
            let block = block.clone();
            thread::spawn(move || block.walk())
        };
        let mut ends = 0;
        if block.give_up(1, 1) {
            ends += 1;
            block.refs.publish(1);
            ends += u32::from(block.give_up(1, 1));
        }
        ends += u32::from(walker.join().unwrap());
        assert_eq!(block.look(), 1 + ends);
        assert!((1..=2).contains(&ends));
    });
}

/// Two references on two threads, and a walk: one of the three is the last.
#[test]
fn two_and_a_walk() {
    model(4, || {
        let block = Block::new(2);
        let others = [Block::walk, |block: &Block| block.give_up(1, 1)].map(|act| {
            let block = block.clone();
            thread::spawn(move || act(&block))
        });
        let mine = block.give_up(1, 1);
        let theirs = others.map(|other| other.join().unwrap());
        assert_eq!(u32::from(mine) + theirs.into_iter().map(u32::from).sum::<u32>(), 1);
    });
}

/// Both given up at once, as a detached goroutine does.
#[test]
fn both_at_once_and_a_walk() {
    model(4, || {
        let block = Block::new(2);
        let walker = {
            let block = block.clone();
            thread::spawn(move || block.walk())
        };
        let mine = block.give_up(2, 2);
        assert_ne!(walker.join().unwrap(), mine);
    });
}

/// A worker that gives up the scheduler's reference while it holds the joiner, then wakes that, which gives up its own; a
/// walk; a clone of the handle.
#[test]
fn a_joiner_that_is_held_and_a_walk() {
    for clones in 0..2 {
        model(4 - 2 * clones as usize, move || {
            let block = Block::new(2 + clones);
            let acts: [fn(&Block) -> bool; 2] = [Block::walk, |block| block.give_up(1, 1)];
            let others: Vec<_> = acts[..1 + clones as usize]
                .iter()
                .map(|act| {
                    let (act, block) = (*act, block.clone());
                    thread::spawn(move || act(&block))
                })
                .collect();
            assert!(!block.give_up(1, 2), "the joiner's is left");
            let joiner = {
                let block = block.clone();
                thread::spawn(move || block.give_up(1, 1))
            };
            let mine = joiner.join().unwrap();
            let theirs = others.into_iter().map(|other| u32::from(other.join().unwrap())).sum::<u32>();
            assert_eq!(u32::from(mine) + theirs, 1);
        });
    }
}
