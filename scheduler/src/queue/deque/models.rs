//! Models of the deque: an owner that pushes and takes, and thieves. Rings of two and indices about to wrap around, so that
//! slots are written to again and buffers are replaced under the thieves.
//!
//! Each element is an index into plain data, written before the push and again by the thread that took it: loom detects if
//! two threads took it, or if one did not see the other's write. The sum of all elements taken shows that none is lost.

use super::*;
use loom::cell::UnsafeCell;
use loom::thread;

/// The third element's index is zero.
const START: u64 = u64::MAX - 1;

struct Element(UnsafeCell<u32>);

// SAFETY: the queue orders the accesses; that it does is what the models check.
unsafe impl Sync for Element {}
// SAFETY: as above.
unsafe impl Send for Element {}

#[derive(Clone, Copy)]
enum Step {
    Push,
    Pop,
    Oldest,
}
use Step::{Oldest, Pop, Push};

/// Elements `0..n`.
fn elements(n: usize) -> Arc<Vec<Element>> {
    Arc::new((0..n).map(|_| Element(UnsafeCell::new(0))).collect())
}

/// The caller has got this element: its number, once the data is looked at and written over.
fn got(element: NonNull<Element>, elements: &[Element]) -> usize {
    // SAFETY: the elements outlive the queue, and this one is ours.
    unsafe { element.as_ref().0.with_mut(|data| assert_eq!(std::mem::replace(&mut *data, 9), 7)) };
    elements.iter().position(|e| ptr::eq(e, element.as_ptr())).unwrap()
}

macro_rules! model {
    ($kind:ty, $preemptions:expr, $steps:expr, [$($thief:expr),*]) => {{
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some($preemptions);
        model.check(|| {
            let elements = elements($steps.iter().filter(|step| matches!(step, Push)).count());
            let owner = Owner::<Element, $kind>::starting_at(START, 2);
            let thieves = [$({
                let (thief, elements) = (owner.stealer(), elements.clone());
                thread::spawn(move || $thief(thief, &elements))
            }),*];
            let (mut out, mut pushed) = (Vec::new(), 0);
            for step in $steps {
                match step {
                    Push => {
                        let element = &elements[pushed];
                        // SAFETY: ours until it is pushed.
                        element.0.with_mut(|data| unsafe { *data = 7 });
                        owner.push(NonNull::from(element));
                        pushed += 1;
                    }
                    Pop => out.extend(owner.pop().map(|e| got(e, &elements))),
                    Oldest => out.extend(owner.pop_oldest().map(|e| got(e, &elements))),
                }
            }
            for thief in thieves {
                let stolen: Vec<usize> = thief.join().unwrap();
                assert!(stolen.is_sorted(), "the oldest first: {stolen:?}");
                out.extend(stolen);
            }
            out.extend(std::iter::from_fn(|| owner.pop()).map(|e| got(e, &elements)));
            out.sort_unstable();
            assert_eq!(out, (0..pushed).collect::<Vec<_>>());
        });
    }};
}

/// Takes so many, if they are there.
fn one<K>(
    steal: impl Fn() -> Option<NonNull<Element>>,
    times: usize,
    elements: &[Element],
    _: PhantomData<K>,
) -> Vec<usize> {
    (0..times).filter_map(|_| steal()).map(|e| got(e, elements)).collect()
}

fn steals_newest_first(thief: Stealer<Element, Lifo>, elements: &[Element]) -> Vec<usize> {
    one(|| thief.steal(), 1, elements, thief.kind)
}

fn steals_twice(thief: Stealer<Element, Lifo>, elements: &[Element]) -> Vec<usize> {
    one(|| thief.steal(), 2, elements, thief.kind)
}

fn steals_from_fifo(thief: Stealer<Element, Fifo>, elements: &[Element]) -> Vec<usize> {
    one(|| thief.steal(), 1, elements, thief.kind)
}

/// As `steal_half`, without a queue for the others.
fn steals_half(thief: Stealer<Element, Fifo>, elements: &[Element]) -> Vec<usize> {
    let mut taken = [ptr::null_mut(); 2];
    let count = thief.take(false, half, |i, read| taken[i as usize] = read);
    taken[..count as usize].iter().map(|e| got(NonNull::new(*e).unwrap(), elements)).collect()
}

#[test]
fn a_lifo_and_two_thieves() {
    model!(Lifo, 3, [Push, Push, Pop, Pop], [steals_newest_first, steals_newest_first]);
}

#[test]
fn a_lifo_and_one_that_steals_twice() {
    model!(Lifo, 3, [Push, Push, Pop, Push, Pop, Pop], [steals_twice]);
}

#[test]
fn a_lifo_that_grows_under_a_thief() {
    model!(Lifo, 3, [Push, Push, Push, Pop, Pop], [steals_twice]);
}

#[test]
fn a_lifo_whose_owner_takes_the_oldest() {
    model!(Lifo, 3, [Push, Push, Oldest, Push, Pop], [steals_newest_first]);
}

#[test]
fn a_fifo_and_two_thieves() {
    model!(Fifo, 2, [Push, Push, Pop, Push], [steals_from_fifo, steals_half]);
}

#[test]
fn a_fifo_that_grows_under_a_thief() {
    model!(Fifo, 3, [Push, Push, Push, Pop, Push], [steals_half]);
}

#[test]
fn slots_are_written_to_again_under_a_thief() {
    model!(Fifo, 3, [Push, Push, Pop, Push, Pop, Push], [steals_from_fifo]);
    model!(Lifo, 3, [Push, Push, Oldest, Push, Oldest, Push], [steals_newest_first]);
}

/// B3. loom's atomic loads never see what is stored later, so plain data stands for the slots: looked at where the thief reads
/// one, written where the owner does. That is no race only if the thief never reads in vain: one thief, and an owner that takes
/// nothing.
#[test]
fn a_thief_has_read_before_the_owner_writes_again() {
    loom::model(|| {
        let slots = elements(2);
        let owner = Owner::<Element, Fifo>::starting_at(START, 2);
        let thief = {
            let (thief, slots) = (owner.stealer(), slots.clone());
            thread::spawn(move || {
                let mut taken = 0;
                for _ in 0..2 {
                    let slot = &slots[taken as usize % 2].0;
                    // SAFETY: B3, which is what the model checks.
                    taken += thief.take(false, |_| 1, |_, _| slot.with(|data| assert_eq!(unsafe { *data }, 7)));
                }
            })
        };
        for n in 0..3 {
            let back = owner.inner.back.load(Ordering::Relaxed);
            if back == owner.limit.get() {
                if owner.len() == 2 {
                    // It would grow; then nothing is written again.
                    break;
                }
                owner.make_room(back);
            }
            // SAFETY: as above.
            slots[n % 2].0.with_mut(|data| unsafe { *data = 7 });
            owner.push(NonNull::from(&slots[n % 2]));
        }
        thief.join().unwrap();
    });
}
