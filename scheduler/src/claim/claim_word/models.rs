//! Models of the claim word: who runs a goroutine that is claimed while it leaves its stack, what its claimer and it see of
//! each other, aborts, and shields.

use super::*;
use crate::base::atomics::models::model;
use crate::goroutine::block::Goroutine;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicBool;

impl Parker {
    /// The end of a parker's memory, as loom sees it: it finds accesses that meet this one.
    pub(crate) fn unmake(&mut self) {
        self.word.with_mut(|word| *word = u32::MAX);
    }
}

/// A goroutine, what it has on its stack, and a waiter's slot there, both of which loom watches.
struct Waiting {
    g: Goroutine,
    stack: UnsafeCell<u32>,
    slot: UnsafeCell<u32>,
}

// SAFETY: the claim word keeps the accesses apart; that it does is what the models check.
unsafe impl Sync for Waiting {}

impl Waiting {
    /// One that has begun to wait, so that claimers may come. (Who is spawned after this has seen that, as who comes to the
    /// lock of P3 after the waiter.)
    fn armed() -> Arc<Waiting> {
        let waiting = Waiting { g: Goroutine::empty(), stack: UnsafeCell::new(0), slot: UnsafeCell::new(0) };
        waiting.g.parker.arm(false);
        Arc::new(waiting)
    }

    /// The goroutine goes on: it has all that was on its stack, and what its claimer left.
    fn goes_on(&self) -> Token {
        let token = self.g.parker.finish();
        // SAFETY: loom finds accesses that meet.
        assert_eq!(self.stack.with(|stack| unsafe { *stack }), 1);
        token
    }

    /// It leaves its stack, where it has done something since it could be claimed; the token, if its worker goes on with it.
    fn leaves(&self) -> Option<Token> {
        // SAFETY: as above.
        self.stack.with_mut(|stack| unsafe { *stack += 1 });
        match self.g.commit() {
            (Commit::Claimed, None) => Some(self.goes_on()),
            (Commit::Parked(_), None) => None,
            // SAFETY: it is the parker that was committed.
            (_, Some(wait)) => unsafe { wait.abort(self.g.parker()) }.map(|_| self.goes_on()),
        }
    }

    fn claim(&self, token: Token) -> Option<Wake> {
        // SAFETY: the block outlives the claim.
        unsafe { Parker::claim(self.g.parker(), token) }
    }

    fn fill(&self) {
        // SAFETY: as above.
        self.slot.with_mut(|slot| unsafe { *slot += 1 });
    }

    fn slot(&self) -> u32 {
        // SAFETY: as above.
        self.slot.with(|slot| unsafe { *slot })
    }
}

fn spawn<T: 'static>(waiting: &Arc<Waiting>, f: impl FnOnce(&Waiting) -> T + 'static) -> loom::thread::JoinHandle<T> {
    let waiting = waiting.clone();
    loom::thread::spawn(move || f(&waiting))
}

/// Claimed, the goroutine is the claimer's, if there was anything to push.
fn is_pushed(wake: &Wake) -> bool {
    matches!(wake.0, Woken::Goroutine(_))
}

/// P1, P2: a goroutine that is leaving its stack, and two who want to wake it: it is run again exactly once, by its worker
/// or by the one who claimed it parked, and never while it is still leaving.
#[test]
fn one_winner_and_one_push() {
    model(4, || {
        let waiting = Waiting::armed();
        let claim = |i| {
            move |waiting: &Waiting| {
                let pushed = waiting.claim(Token::case(i)).map(|wake| is_pushed(&wake));
                if pushed == Some(true) {
                    assert_eq!(waiting.goes_on(), Token::case(i));
                }
                pushed
            }
        };
        let claimers = [spawn(&waiting, claim(0)), spawn(&waiting, claim(1))];
        let ours = waiting.leaves();
        let claims: Vec<_> = claimers.into_iter().filter_map(|c| c.join().unwrap()).collect();
        assert_eq!(claims, [ours.is_none()], "one winner; pushed if it was parked, else left to its worker");
    });
}

/// What the claimer left in the waiter's slot is the goroutine's when it goes on, and its stack is the claimer's to go on
/// with.
#[test]
fn a_claim_publishes_both_ways() {
    model(4, || {
        let waiting = Waiting::armed();
        let claimer = spawn(&waiting, |waiting| {
            waiting.fill();
            let wake = waiting.claim(Token::DONE).expect("nobody else ends the wait");
            if is_pushed(&wake) {
                // Before it goes on: to push it is to write to it.
                // SAFETY: loom finds accesses that meet.
                assert_eq!(waiting.stack.with(|stack| unsafe { *stack }), 1);
            }
            is_pushed(&wake) && (waiting.goes_on(), waiting.slot()) == (Token::DONE, 1)
        });
        let ours = waiting.leaves();
        if ours.is_some() {
            assert_eq!(waiting.slot(), 1);
        }
        assert!(claimer.join().unwrap() != ours.is_some());
    });
}

/// The same for the quick claim, where nothing but the word is between the claimer and the goroutine.
#[test]
fn a_quick_claim_publishes_both_ways() {
    model(4, || {
        let waiting = Waiting::armed();
        let claimer = spawn(&waiting, |waiting| {
            waiting.fill();
            // SAFETY: the block outlives the claim.
            let wake = unsafe { Parker::claim_parked(waiting.g.parker(), Token::DONE) };
            if wake.is_some() {
                // SAFETY: loom finds accesses that meet.
                assert_eq!(waiting.stack.with(|stack| unsafe { *stack }), 1);
            } else {
                assert!(waiting.claim(Token::DONE).is_some(), "nobody else ends the wait");
            }
        });
        if waiting.leaves().is_none() {
            while waiting.g.parker.claimed().is_none() {
                loom::thread::yield_now();
            }
        }
        assert_eq!(waiting.slot(), 1);
        claimer.join().unwrap();
    });
}

/// A waiter that decided not to wait, and was claimed before it could: what the claimer left is there.
#[test]
fn a_disarmed_waiter_has_been_claimed_or_never_will_be() {
    model(4, || {
        let waiting = Waiting::armed();
        let claimer = spawn(&waiting, |waiting| {
            waiting.fill();
            waiting.claim(Token::DONE).is_some()
        });
        let disarmed = waiting.g.parker.disarm();
        if !disarmed {
            assert_eq!(waiting.slot(), 1);
        }
        assert!(claimer.join().unwrap() != disarmed);
    });
}

/// An abort while the goroutine begins to wait and leaves its stack: it is pushed once, by the aborter or by its worker, and
/// never sleeps through it.
#[test]
fn nobody_sleeps_through_an_abort() {
    model(4, || {
        let waiting = Arc::new(Waiting { g: Goroutine::empty(), stack: UnsafeCell::new(0), slot: UnsafeCell::new(0) });
        let aborter = spawn(&waiting, |waiting| waiting.g.ask_to_end().is_some_and(|wake| is_pushed(&wake)));
        // Past its checkpoint, it begins to wait.
        waiting.g.parker.arm(false);
        let by_worker = waiting.leaves();
        let by_aborter = aborter.join().unwrap();
        assert!(by_worker.is_some() != by_aborter, "pushed {}", if by_aborter { "twice" } else { "never" });
        assert_eq!(by_worker.unwrap_or_else(|| waiting.goes_on()), Token::ABORT);
    });
}

/// The same where the wait begins shielded, and the shield is lifted by the next on the thread (`abort_shields`).
#[test]
fn nobody_sleeps_through_an_abort_that_met_a_shield() {
    model(4, || {
        let waiting = Arc::new(Waiting { g: Goroutine::empty(), stack: UnsafeCell::new(0), slot: UnsafeCell::new(0) });
        let aborter = spawn(&waiting, |waiting| waiting.g.ask_to_end().is_some());
        let wait = waiting.g.parker.arm(true);
        let by_worker = waiting.leaves();
        assert_eq!(by_worker, None, "an abort does not end a shielded wait");
        // A neighbour finds that nobody panics.
        let made_up_for = waiting.g.lift(wait) && waiting.g.ask_to_end().is_some();
        assert!(aborter.join().unwrap() != made_up_for);
        assert_eq!(waiting.goes_on(), Token::ABORT);
    });
}

/// D2 in `abort_shields`: a later wait of the same goroutine keeps its shield.
#[test]
fn a_shield_is_lifted_off_the_very_wait() {
    model(4, || {
        let waiting = Arc::new(Waiting { g: Goroutine::empty(), stack: UnsafeCell::new(0), slot: UnsafeCell::new(0) });
        let wait = waiting.g.parker.arm(true);
        assert_eq!(waiting.leaves(), None);
        let waker = spawn(&waiting, |waiting| waiting.claim(Token::DONE).is_some());
        let lifted = waiting.g.lift(wait);
        assert!(!lifted, "nobody aborts");
        assert!(waker.join().unwrap());
        assert_eq!(waiting.goes_on(), Token::DONE);
        let later = waiting.g.parker.arm(true);
        assert!(matches!(waiting.g.commit(), (Commit::Parked(_), None)));
        assert!(!waiting.g.parker.unshield(wait) && waiting.g.parker.unshield(later));
    });
}

/// P4: the worker's late look at the flag, when the goroutine was woken, has ended elsewhere, and its block waits as another
/// goroutine: that wait is left alone. And the first wait ends once, whoever ends it.
#[test]
fn a_late_abort_ends_no_later_wait() {
    model(4, || {
        // Aborted while it ran: the abort is its worker's to see.
        let (flag, parker) = (Arc::new(AtomicBool::new(true)), Arc::new(Parker::for_goroutine()));
        let pointer = |parker: &Arc<Parker>| NonNull::from(&**parker);
        parker.arm(false);
        let waker = {
            let (flag, parker) = (flag.clone(), parker.clone());
            loom::thread::spawn(move || {
                // SAFETY: the parker outlives the claim. The goroutine is only counted, never looked at.
                let wake = unsafe { Parker::claim(pointer(&parker), Token::DONE) };
                let ours = wake.is_some_and(|wake| is_pushed(&wake));
                if ours {
                    assert_eq!(parker.finish(), Token::DONE);
                    flag.store(false, Ordering::Relaxed);
                    parker.arm(false);
                    assert!(matches!(parker.commit(), Commit::Parked(_)));
                }
                ours
            })
        };
        let by_worker = match parker.commit() {
            Commit::Claimed => true,
            // SAFETY: it is the parker that was committed.
            Commit::Parked(wait) => flag.load(Ordering::Relaxed) && unsafe { wait.abort(pointer(&parker)) }.is_some(),
        };
        let by_waker = waker.join().unwrap();
        assert!(by_worker != by_waker, "pushed {}", if by_worker { "twice" } else { "never" });
        assert_eq!(parker.claimed().is_none(), by_waker, "the second wait goes on");
    });
}
