//! Models of the claim word: who runs a goroutine that is claimed while it leaves its stack, and aborts.

use super::*;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, fence};

/// A goroutine that is leaving its stack, and two who want to wake it: it is run again exactly once, by its worker
/// or by the one who claimed it parked, and never while it is still leaving.
#[test]
fn one_winner_and_one_push() {
    loom::model(|| {
        let parker = Arc::new(Parker::for_goroutine());
        parker.arm(false);
        let claimers: Vec<_> = (0..2)
            .map(|i| {
                let parker = parker.clone();
                loom::thread::spawn(move || {
                    // SAFETY: the parker outlives the claim. The goroutine is only counted, never looked at.
                    let claimed = unsafe { Parker::claim(NonNull::from(&*parker), Token::case(i)) };
                    claimed.map(|wake| matches!(wake.0, Woken::Goroutine(_)))
                })
            })
            .collect();
        let commit = parker.commit();
        let claims: Vec<_> = claimers.into_iter().filter_map(|c| c.join().unwrap()).collect();
        assert_eq!(claims.len(), 1, "one winner");
        assert_eq!(claims[0], matches!(commit, Commit::Parked(_)), "pushed if it was parked, else left to its worker");
        assert!(parker.finish().index().is_some());
    });
}

impl Parker {
    /// The end of a parker's memory, as loom sees it: it finds accesses that meet this one.
    pub(crate) fn unmake(&mut self) {
        self.word.with_mut(|word| *word = u32::MAX);
    }
}

fn pointer(parker: &Arc<Parker>) -> NonNull<Parker> {
    NonNull::from(&**parker)
}

/// What `Handle::abort` does. Whether it got the goroutine to push.
fn abort(flag: &AtomicBool, parker: &Arc<Parker>) -> bool {
    flag.store(true, Ordering::SeqCst);
    // In the code both accesses are SeqCst; see `shim`.
    fence(Ordering::SeqCst);
    // SAFETY: the parker outlives the claim. The goroutine is only counted, never looked at.
    let wake = unsafe { Parker::claim_unshielded(pointer(parker), Token::ABORT) };
    wake.is_some_and(|wake| matches!(wake.0, Woken::Goroutine(_)))
}

/// What the worker's `settle` does. Whether it has the goroutine to push.
fn settle(flag: &AtomicBool, parker: &Arc<Parker>) -> bool {
    match parker.commit() {
        Commit::Claimed => true,
        Commit::Parked(wait) => {
            fence(Ordering::SeqCst);
            // SAFETY: it is the parker that was committed.
            flag.load(Ordering::SeqCst) && unsafe { wait.abort(pointer(parker)) }.is_some()
        }
    }
}

/// An abort while the goroutine begins to wait and leaves its stack: it is pushed once, by the aborter or by its worker, and never sleeps
/// through it.
#[test]
fn nobody_sleeps_through_an_abort() {
    loom::model(|| {
        let (flag, parker) = (Arc::new(AtomicBool::new(false)), Arc::new(Parker::for_goroutine()));
        let aborter = {
            let (flag, parker) = (flag.clone(), parker.clone());
            loom::thread::spawn(move || abort(&flag, &parker))
        };
        // Past its checkpoint, it begins to wait.
        parker.arm(false);
        let by_worker = settle(&flag, &parker);
        let by_aborter = aborter.join().unwrap();
        assert!(by_worker != by_aborter, "pushed {}", if by_worker { "twice" } else { "never" });
        assert_eq!(parker.finish(), Token::ABORT);
    });
}

/// P4: the worker's late look at the flag, when the goroutine was woken, has ended elsewhere, and its block waits as another
/// goroutine: that wait is left alone. And the first wait ends once, whoever ends it.
#[test]
fn a_late_abort_ends_no_later_wait() {
    loom::model(|| {
        // Aborted while it ran: the abort is its worker's to see.
        let (flag, parker) = (Arc::new(AtomicBool::new(true)), Arc::new(Parker::for_goroutine()));
        parker.arm(false);
        let waker = {
            let (flag, parker) = (flag.clone(), parker.clone());
            loom::thread::spawn(move || {
                // SAFETY: as above.
                let wake = unsafe { Parker::claim(pointer(&parker), Token::DONE) };
                let ours = wake.is_some_and(|wake| matches!(wake.0, Woken::Goroutine(_)));
                if ours {
                    assert_eq!(parker.finish(), Token::DONE);
                    flag.store(false, Ordering::Relaxed);
                    parker.arm(false);
                    assert!(matches!(parker.commit(), Commit::Parked(_)));
                }
                ours
            })
        };
        let by_worker = settle(&flag, &parker);
        let by_waker = waker.join().unwrap();
        assert!(by_worker != by_waker, "pushed {}", if by_worker { "twice" } else { "never" });
        assert_eq!(parker.claimed().is_none(), by_waker, "the second wait goes on");
    });
}
