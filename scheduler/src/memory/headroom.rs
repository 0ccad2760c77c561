//! How much more memory the process may map, by its resource limits.
//!
//! Asked by `arena` before it maps a chunk (A3). A trial mapping would tell as well, but for as long as it lasts it takes the
//! room from all other threads: an allocation fails, and std ends the process if a thread that begins finds no room for its
//! alternate signal stack. So the limits are compared with what is mapped, as the kernel does it.

/// Bytes that may be mapped for reading and writing. `None`: the system doesn't say how much is mapped.
#[cfg(target_os = "linux")]
pub(super) fn mappable() -> Option<usize> {
    let (space, data) = (limit(libc::RLIMIT_AS), limit(libc::RLIMIT_DATA));
    if (space, data) == (usize::MAX, usize::MAX) {
        return Some(usize::MAX);
    }
    let (mapped, writable) = mapped()?;
    // The limit on data counts all private writable mappings (Linux 4.7); the count has the main stack besides.
    Some(space.saturating_sub(mapped).min(data.saturating_sub(writable)))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn mappable() -> Option<usize> {
    None
}

#[cfg(target_os = "linux")]
fn limit(which: libc::__rlimit_resource_t) -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a record for the answer, which outlives the call.
    match unsafe { libc::getrlimit(which, &raw mut limit) } {
        0 if limit.rlim_cur != libc::RLIM_INFINITY => usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX),
        _ => usize::MAX,
    }
}

/// Bytes that are mapped, and of these the private writable ones with the main stack. Allocates nothing.
#[cfg(target_os = "linux")]
fn mapped() -> Option<(usize, usize)> {
    let mut text = [0_u8; 128];
    // SAFETY: a name with its terminator; the buffer is as long as said; the descriptor is ours.
    let length = unsafe {
        let file = libc::open(c"/proc/self/statm".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return None;
        }
        let length = libc::read(file, text.as_mut_ptr().cast(), text.len());
        libc::close(file);
        usize::try_from(length).ok()?
    };
    parse(std::str::from_utf8(&text[..length]).ok()?)
}

/// The first and the sixth number of `statm`, in pages, as bytes.
#[cfg(target_os = "linux")]
fn parse(statm: &str) -> Option<(usize, usize)> {
    let mut numbers = statm.split_ascii_whitespace().map(|number| number.parse::<usize>().ok());
    let bytes = |pages: usize| pages.saturating_mul(super::page::page_size());
    Some((bytes(numbers.next()??), bytes(numbers.nth(4)??)))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_is_read_and_grows() {
        assert_eq!(
            parse("10 2 3 4 5 6 7\n"),
            Some((10 * super::super::page::page_size(), 6 * super::super::page::page_size()))
        );
        assert_eq!(parse("10 2 3 4 5"), None);
        assert_eq!(parse("ten 2 3 4 5 6 7"), None);
        let (mapped, writable) = mapped().expect("Linux has it");
        assert!(writable > 0 && writable <= mapped);
    }
}
