//! The error of a typed key without a value. Used by `key`.

use std::error::Error;
use std::fmt;

/// A goroutine-local cannot be had now.
///
/// Its value is being dropped; or the exit path is over its bound of rounds and lets nothing be stored; or the
/// caller is a plain thread that is past the end of its thread-locals.
///
/// ```
/// use gorun::local::AccessError;
/// # use std::sync::mpsc::{channel, Sender};
/// struct Last(Sender<Result<(), AccessError>>);
/// impl Drop for Last {
///     fn drop(&mut self) {
///         self.0.send(LAST.try_with(|_| ())).unwrap();
///     }
/// }
/// gorun::goroutine_local! { static LAST: std::cell::OnceCell<Last> = const { std::cell::OnceCell::new() } }
///
/// let (tx, rx) = channel();
/// gorun::go(|| LAST.with(|l| drop(l.set(Last(tx))))).join().unwrap();
/// assert!(rx.recv().unwrap().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessError;

impl fmt::Debug for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessError")
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("goroutine-local accessed while it is destroyed")
    }
}

impl Error for AccessError {}
