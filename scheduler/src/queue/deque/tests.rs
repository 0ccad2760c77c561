//! Tests of the deque against a plain `VecDeque`, with indices about to wrap around, and with thieves on real threads.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;

/// So that they wrap around soon.
const START: u64 = u64::MAX - 5;

/// Stands for element `n`, which is never looked into.
fn element(n: usize) -> NonNull<u8> {
    NonNull::new(ptr::without_provenance_mut(n + 1)).unwrap()
}

fn number(element: NonNull<u8>) -> usize {
    element.as_ptr().addr() - 1
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(usize),
    Pop,
    PopOldest,
    Steal,
    StealHalf,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1usize..9).prop_map(Step::Push),
        8 => Just(Step::Pop),
        2 => Just(Step::PopOldest),
        4 => Just(Step::Steal),
        1 => Just(Step::StealHalf),
    ];
    prop::collection::vec(step, 0..200)
}

/// Both kinds do as a `VecDeque` does: what differs is given.
macro_rules! as_a_model {
    ($kind:ty, $pop:expr, $steps:expr, $start:expr) => {{
        let (queue, other) = (Owner::<u8, $kind>::starting_at($start, 2), Owner::<u8, $kind>::starting_at($start, 1));
        let thief = queue.stealer();
        let (mut model, mut pushed) = (VecDeque::new(), 0);
        for step in $steps {
            match step {
                Step::Push(n) => {
                    for _ in 0..n {
                        queue.push(element(pushed));
                        model.push_back(pushed);
                        pushed += 1;
                    }
                }
                Step::Pop => prop_assert_eq!(queue.pop().map(number), $pop(&mut model)),
                Step::PopOldest => prop_assert_eq!(queue.pop_oldest().map(number), model.pop_front()),
                Step::Steal => prop_assert_eq!(thief.steal().map(number), model.pop_front()),
                Step::StealHalf => {
                    let wanted: Vec<usize> = model.drain(..model.len().div_ceil(2).min(32)).collect();
                    let first = thief.steal_half(&other).map(number);
                    let rest = std::iter::from_fn(|| other.pop_oldest().map(number));
                    prop_assert_eq!(first.into_iter().chain(rest).collect::<Vec<_>>(), wanted);
                }
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert_eq!(thief.len(), model.len());
            prop_assert_eq!(queue.is_empty(), model.is_empty());
        }
    }};
}

proptest! {
    #[test]
    fn a_fifo_is_one(steps in steps(), start in prop_oneof![Just(0), START..]) {
        as_a_model!(Fifo, VecDeque::pop_front, steps, start);
    }

    #[test]
    fn a_lifo_is_one(steps in steps(), start in prop_oneof![Just(0), START..]) {
        as_a_model!(Lifo, VecDeque::pop_back, steps, start);
    }
}

/// An owner that pushes and pops, with a buffer that is full again and again, and thieves that take what they can, by ones and
/// by halves. Each element comes out once, and thieves get them in order.
macro_rules! nothing_lost_or_doubled {
    ($kind:ty) => {{
        const ELEMENTS: usize = 100_000;
        let owner = Owner::<u8, $kind>::starting_at(START, 2);
        let over = AtomicBool::new(false);
        let mut out = std::thread::scope(|scope| {
            let thieves: Vec<_> = (0..3)
                .map(|n| {
                    let (thief, over) = (owner.stealer(), &over);
                    scope.spawn(move || {
                        let mine = Owner::<u8, $kind>::starting_at(START, 2);
                        let (mut out, mut last) = (Vec::new(), None);
                        while !over.load(Ordering::SeqCst) {
                            let first = if n == 0 { thief.steal_half(&mine) } else { thief.steal() };
                            for element in first.into_iter().chain(std::iter::from_fn(|| mine.pop_oldest())) {
                                assert!(Some(number(element)) > last, "the oldest first");
                                last = Some(number(element));
                                out.push(number(element));
                            }
                        }
                        out
                    })
                })
                .collect();
            let mut out = Vec::new();
            for n in 0..ELEMENTS {
                owner.push(element(n));
                // Up to some hundred, and down to none.
                let burst = n % 400 > 200;
                let pops = if burst { 2 } else { usize::from(n % 7 == 0) };
                out.extend((0..pops).filter_map(|_| owner.pop().map(number)));
            }
            out.extend(std::iter::from_fn(|| owner.pop().map(number)));
            over.store(true, Ordering::SeqCst);
            out.extend(thieves.into_iter().flat_map(|thief| thief.join().unwrap()));
            out
        });
        out.sort_unstable();
        out
    }};
}

#[test]
fn of_a_fifo_nothing_is_lost_or_doubled() {
    assert!(nothing_lost_or_doubled!(Fifo).into_iter().eq(0..100_000));
}

#[test]
fn of_a_lifo_nothing_is_lost_or_doubled() {
    assert!(nothing_lost_or_doubled!(Lifo).into_iter().eq(0..100_000));
}

#[test]
fn what_has_been_grown_out_of_stays_small_and_goes_with_the_queue() {
    let queue = Owner::<u8, Lifo>::new();
    (0..1000).for_each(|n| queue.push(element(n)));
    let mut buffer = queue.inner.buffer.load(Ordering::Relaxed);
    let mut rooms = Vec::new();
    while !buffer.is_null() {
        // SAFETY: B4.
        let this = unsafe { &*buffer };
        rooms.push(this.slots.len());
        buffer = this.before;
    }
    assert_eq!(rooms, [1024, 512, 256, 128, 64]);
    assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 1000);
    // Room that was made stays.
    (0..1000).for_each(|n| queue.push(element(n)));
    assert_eq!(queue.mask.get(), 1023);
}
