//! A model of the quick claim: the first of a queue is a parked goroutine, and something else ends its wait meanwhile.

use super::*;
use loom::sync::{Arc, Mutex};

struct Shared {
    parker: Parker,
    queue: Mutex<WaitQueue<Cell<u32>>>,
    waiter: Waiter<Cell<u32>>,
}

// SAFETY: W1: the model touches the waiter under the queue's lock only.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Whoever loses has done nothing: the timer finds the waiter in its queue and its slot as it was, or the channel has
/// taken it out and filled its slot.
#[test]
fn a_quick_claim_that_is_lost_leaves_the_waiter_as_it_was() {
    loom::model(|| {
        let shared = Arc::new(Shared {
            parker: Parker::for_goroutine(),
            queue: Mutex::new(WaitQueue::new()),
            waiter: Waiter::idle(Cell::new(0)),
        });
        let parker = NonNull::from(&shared.parker);
        shared.waiter.assign(parker, Token::case(0));
        let _wait = shared.parker.arm(false);
        // SAFETY: W2: the waiter lives as long as the queue.
        unsafe { shared.queue.lock().unwrap().push_back(&shared.waiter) };
        assert!(matches!(shared.parker.commit(), crate::claim::claim_word::Commit::Parked(_)));
        let channel = {
            let shared = shared.clone();
            loom::thread::spawn(move || {
                let mut queue = shared.queue.lock().unwrap();
                let claimed = queue.claim_parked(|slot| Some(slot.set(7)), |slot, ()| slot.set(0));
                claimed.is_some()
            })
        };
        // SAFETY: the parker outlives the claim. The goroutine is only counted, never looked at.
        let by_timer = unsafe { Parker::claim(parker, Token::TIMEOUT) }.is_some();
        if by_timer {
            // What the goroutine does then.
            let mut queue = shared.queue.lock().unwrap();
            assert_eq!(shared.waiter.slot.get(), 0);
            // SAFETY: it is in this queue or in none.
            assert!(unsafe { queue.remove(&shared.waiter) } && queue.is_empty());
        }
        let by_channel = channel.join().unwrap();
        assert!(by_timer != by_channel, "one winner");
        if by_channel {
            assert_eq!((shared.waiter.slot.get(), shared.waiter.is_queued()), (7, false));
            assert!(shared.queue.lock().unwrap().is_empty());
        }
    });
}
