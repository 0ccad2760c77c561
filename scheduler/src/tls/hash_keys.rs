//! The standard library's keys for hash maps: a thread-local that a block keeps when it is reused.
//!
//! `RandomState::new` asks the kernel for two keys when a thread first calls it, and increments one of them for each
//! further map. A goroutine that began without them would pay a system call for its first map. They have no destructor and
//! no owner; so, as on a thread that runs one job after another, the next goroutine goes on with the count of the last one:
//! the keys stay random, secret, and different for each map.
//!
//! No symbol names these words, so the helper thread of `probe` finds them: its first `RandomState::new` fills in
//! three adjacent words (a flag and the two keys), the second increments one of them, and no neighbouring word changes. If
//! the result differs from this, the words are left alone, and each goroutine has keys of its own.

use super::modules::Segment;
use std::hash::RandomState;
use std::ptr;

/// Those words.
pub(super) type Keys = [usize; 3];
/// Larger segments are not searched.
const MOST: usize = 1 << 20;
const WORD: usize = size_of::<usize>();

/// Where the words are, from the FS base. In a thread that has not made a hash map, with `tcb` its own block.
pub(super) fn find(tcb: usize, segments: &[Segment]) -> Option<isize> {
    // Each with its words at the three times. All is allocated before: an allocator may have thread-locals there as well.
    let words_of = |segment: &Segment| {
        let start = (tcb - segment.below).next_multiple_of(WORD);
        let words = (tcb - segment.below + segment.initial.size).saturating_sub(start) / WORD;
        (start, [vec![0_usize; words], vec![0; words], vec![0; words]])
    };
    let mut all: Vec<_> = segments.iter().filter(|segment| segment.initial.size <= MOST).map(words_of).collect();
    for time in 0..3 {
        if time > 0 {
            std::hint::black_box(RandomState::new());
        }
        for (start, shots) in &mut all {
            let shot = &mut shots[time];
            // SAFETY: a segment in our own block, of which nobody else writes a word.
            unsafe { ptr::copy_nonoverlapping(ptr::with_exposed_provenance(*start), shot.as_mut_ptr(), shot.len()) };
        }
    }
    let (at, start) = all.iter().find_map(|(start, shots)| Some((place(shots)?, *start)))?;
    Some((start + at * WORD).cast_signed() - tcb.cast_signed())
}

/// The index of the first of the three words, by what they were before, after the first map and after the second.
fn place([before, first, second]: &[Vec<usize>; 3]) -> Option<usize> {
    let changed =
        |old: &[usize], new: &[usize]| -> Vec<usize> { (0..old.len()).filter(|i| old[*i] != new[*i]).collect() };
    let [a, b, c] = changed(before, first)[..] else { return None };
    let [counted] = changed(first, second)[..] else { return None };
    let neighbours = b == a + 1 && c == b + 1 && [a, b, c].contains(&counted);
    (neighbours && second[counted] == first[counted].wrapping_add(1)).then_some(a)
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn three_words_of_which_one_counts() {
        let before = vec![9, 0, 0, 0, 9];
        let first = vec![9, 1, 70, 80, 9];
        assert_eq!(place(&[before.clone(), first.clone(), vec![9, 1, 71, 80, 9]]), Some(1));
        assert_eq!(place(&[before.clone(), first.clone(), vec![9, 1, 70, 81, 9]]), Some(1));
        // Counted otherwise, by nobody, elsewhere, and more than one.
        for second in [vec![9, 1, 72, 80, 9], first.clone(), vec![9, 1, 70, 80, 10], vec![9, 1, 71, 81, 9]] {
            assert_eq!(place(&[before.clone(), first.clone(), second]), None);
        }
        // Apart from each other, or not three.
        assert_eq!(place(&[before.clone(), vec![9, 1, 70, 0, 8], vec![9, 1, 71, 0, 8]]), None);
        assert_eq!(place(&[before, vec![9, 0, 70, 80, 9], vec![9, 0, 71, 80, 9]]), None);
    }
}
