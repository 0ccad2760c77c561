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
mod tcp_listener;
mod tcp_stream;

pub use lookup::lookup_host;
pub use tcp_listener::{Incoming, TcpListener};
pub use tcp_stream::TcpStream;

/// What all types over a descriptor have.
macro_rules! descriptor {
    ($name:ident, $std:ty) => {
        impl std::os::fd::AsFd for $name {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.0.as_fd()
            }
        }

        impl std::os::fd::AsRawFd for $name {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsFd::as_fd(self).as_raw_fd()
            }
        }

        /// The descriptor stays non-blocking.
        impl From<$name> for std::os::fd::OwnedFd {
            fn from(socket: $name) -> std::os::fd::OwnedFd {
                socket.0.into_inner().into()
            }
        }

        impl TryFrom<std::os::fd::OwnedFd> for $name {
            type Error = std::io::Error;

            fn try_from(fd: std::os::fd::OwnedFd) -> std::io::Result<$name> {
                <$name>::from_std(fd.into())
            }
        }

        impl TryFrom<$std> for $name {
            type Error = std::io::Error;

            fn try_from(socket: $std) -> std::io::Result<$name> {
                <$name>::from_std(socket)
            }
        }
    };
}

/// `Read` and `Write`, also for shared references.
macro_rules! read_and_write {
    ($($name:ty),*) => { $(
        impl std::io::Read for $name {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.0.read(|mut socket| std::io::Read::read(&mut socket, buffer))
            }

            fn read_vectored(&mut self, buffers: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                self.0.read(|mut socket| std::io::Read::read_vectored(&mut socket, buffers))
            }
        }

        impl std::io::Write for $name {
            fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
                self.0.write(|mut socket| std::io::Write::write(&mut socket, buffer))
            }

            fn write_vectored(&mut self, buffers: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                self.0.write(|mut socket| std::io::Write::write_vectored(&mut socket, buffers))
            }

            /// Does nothing: nothing is buffered here.
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
    )* };
}

use {descriptor, read_and_write};
