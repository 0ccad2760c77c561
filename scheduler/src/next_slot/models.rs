//! Models of the slot whose owner changes it without exchanges.

use super::*;
use loom::sync::Arc;

/// Stands for goroutine `n`, which is never looked into.
fn goroutine(n: usize) -> Word {
    ptr::without_provenance_mut(n * 64)
}

/// An owner that puts `puts` in and takes out again by turns, and thieves who come at any time: each goroutine comes out
/// once. (Red without either fence, and with a thief that does not look whether the owner is busy.)
fn each_comes_out_once(puts: usize, thieves: usize, preemptions: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let slot = Arc::new(NextSlot::new());
        let thieves: Vec<_> = (0..thieves)
            .map(|_| {
                let slot = slot.clone();
                loom::thread::spawn(move || slot.steal_word().addr() / 64)
            })
            .collect();
        let mut out: Vec<usize> = Vec::new();
        for n in 1..=puts {
            out.push(slot.replace(goroutine(n)).addr() / 64);
            if n % 2 == 0 {
                out.push(slot.replace(ptr::null_mut()).addr() / 64);
            }
        }
        out.extend(thieves.into_iter().map(|thief| thief.join().unwrap()));
        out.push(slot.replace(ptr::null_mut()).addr() / 64);
        out.retain(|n| *n != 0);
        out.sort_unstable();
        assert_eq!(out, (1..=puts).collect::<Vec<_>>());
    });
}

#[test]
fn an_owner_and_a_thief() {
    each_comes_out_once(3, 1, 4);
}

#[test]
fn an_owner_and_two_thieves() {
    each_comes_out_once(2, 2, 3);
}
