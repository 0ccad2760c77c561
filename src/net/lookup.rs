//! Name look-up, which the C library does with blocking calls: on the threads for those.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// The addresses of `host`, as [`ToSocketAddrs`] finds them, while the goroutine waits parked. Go's `net.LookupHost`.
///
/// # Errors
/// When the name can't be resolved.
///
/// ```
/// let loopback = gorun::go(|| gorun::net::lookup_host("127.0.0.1:80")).join().unwrap()?;
/// assert_eq!(loopback, ["127.0.0.1:80".parse().unwrap()]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn lookup_host(host: impl ToSocketAddrs + Send) -> io::Result<Vec<SocketAddr>> {
    crate::blocking(move || host.to_socket_addrs().map(Iterator::collect))
}

/// Tries one address after the other; the last one's error, if all fail.
pub(super) fn first<R>(
    host: impl ToSocketAddrs + Send,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<R>,
) -> io::Result<R> {
    let mut last = None;
    for address in lookup_host(host)? {
        match attempt(address) {
            Ok(result) => return Ok(result),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no address was found")))
}
