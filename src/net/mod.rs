//! Sockets whose operations park the goroutine, with the methods of std's. Linux only.
//!
//! A goroutine that reads from a socket waits as on a channel: its worker runs others. Plain threads may use them, too.
//!
//! ```
//! use gorun::net::{TcpListener, TcpStream};
//! use std::io::{Read, Write};
//!
//! gorun::run(|| {
//!     let listener = TcpListener::bind("127.0.0.1:0")?;
//!     let address = listener.local_addr()?;
//!     let server = gorun::go(move || {
//!         let (mut peer, _) = listener.accept()?;
//!         std::io::copy(&mut peer.try_clone()?, &mut peer)
//!     });
//!     let mut stream = TcpStream::connect(address)?;
//!     stream.write_all(b"hello")?;
//!     stream.shutdown(std::net::Shutdown::Write)?;
//!     let mut echo = String::new();
//!     stream.read_to_string(&mut echo)?;
//!     assert_eq!(echo, "hello");
//!     assert_eq!(server.join().unwrap()?, 5);
//!     Ok::<(), std::io::Error>(())
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What differs from std
//! * An operation that takes longer than its time-out fails with [`TimedOut`](std::io::ErrorKind::TimedOut), not with
//!   `WouldBlock`. A time-out belongs to the value, not to the socket: a duplicate that `try_clone` makes begins with the same.
//! * A deadline is a point in time after which operations fail; it may be set while others wait, who heed it (Go's
//!   `SetDeadline`).
//! * `close` fails all operations, those that wait at present included, with
//!   [`NotConnected`](std::io::ErrorKind::NotConnected).
//! * Operations are cancellation points: an abort ends the wait and unwinds. So
//!   [`timeout`](crate::time::timeout) works over them.
//! * The descriptor is non-blocking, and so are its duplicates in other processes. `into_std` makes it blocking.
//!
//! In the child of a fork a socket of the parent's fails with `Unsupported` until it was taken out with `into_std` and
//! wrapped again.

mod io;
mod lookup;
mod socket_traits;
mod tcp_listener;
mod tcp_stream;

pub use lookup::lookup_host;
pub use tcp_listener::{Incoming, TcpListener};
pub use tcp_stream::TcpStream;
