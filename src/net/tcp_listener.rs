//! `TcpListener`: accepts connections.

use super::io::Io;
use super::lookup;
use super::socket_traits::descriptor;
use super::tcp_stream::TcpStream;
use gorun_scheduler::Direction;
use socket2::SockRef;
use std::io::{self, ErrorKind};
use std::net::{self, Shutdown, SocketAddr, ToSocketAddrs};
use std::time::Instant;

/// A TCP socket that listens: [`std::net::TcpListener`], whose `accept` parks the goroutine.
///
/// Several goroutines may accept from one listener; each connection wakes one of them.
#[derive(Debug)]
pub struct TcpListener(Io<net::TcpListener>);

descriptor!(TcpListener, net::TcpListener);

impl TcpListener {
    /// Listens on the first of these addresses that can be had. Port 0 stands for any that is free.
    ///
    /// # Errors
    /// When the name can't be resolved, or no address can be had.
    ///
    /// ```
    /// let listener = gorun::net::TcpListener::bind("127.0.0.1:0")?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bind(address: impl ToSocketAddrs + Send) -> io::Result<TcpListener> {
        lookup::first(address, |address| TcpListener::from_std(net::TcpListener::bind(address)?))
    }

    /// From a listener of std's, which becomes non-blocking.
    ///
    /// # Errors
    /// When the system has no room for another descriptor to wait for.
    ///
    /// ```
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let listener = gorun::net::TcpListener::from_std(listener)?;
    /// # drop(listener);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_std(listener: net::TcpListener) -> io::Result<TcpListener> {
        Io::new(listener).map(TcpListener)
    }

    /// Back to a listener of std's, which blocks.
    ///
    /// # Errors
    /// When it can't be made blocking.
    ///
    /// ```
    /// let listener = gorun::net::TcpListener::bind("127.0.0.1:0")?.into_std()?;
    /// assert!(listener.local_addr().is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn into_std(self) -> io::Result<net::TcpListener> {
        let listener = self.0.into_inner();
        listener.set_nonblocking(false)?;
        Ok(listener)
    }

    /// Waits for a connection. One that its peer has given up before it was accepted is passed over, as Go does.
    ///
    /// # Errors
    /// Among others when the process has no descriptor left (`EMFILE`). The connection waits on, and the next call returns
    /// at once, with the same error if there is still none: a loop that goes on should pause, or close something.
    ///
    /// ```
    /// let listener = gorun::net::TcpListener::bind("127.0.0.1:0")?;
    /// let client = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// let (_peer, address) = listener.accept()?;
    /// assert_eq!(address, client.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = self.0.read(|listener| {
            loop {
                match listener.accept() {
                    Err(error) if [ErrorKind::ConnectionAborted, ErrorKind::Interrupted].contains(&error.kind()) => {}
                    answer => return answer,
                }
            }
        })?;
        Ok((TcpStream::from_std(stream)?, address))
    }

    /// Accepts one connection after the other. The iterator does not end: after [`close`](TcpListener::close) it returns
    /// errors.
    ///
    /// ```
    /// let listener = gorun::net::TcpListener::bind("127.0.0.1:0")?;
    /// let _client = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// for stream in listener.incoming().take(1) {
    ///     assert!(stream?.peer_addr()?.ip().is_loopback());
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming(self)
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the system refuses to tell.
    ///
    /// ```
    /// let listener = gorun::net::TcpListener::bind("127.0.0.1:0")?;
    /// assert!(listener.local_addr()?.ip().is_loopback());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().local_addr()
    }

    /// Another descriptor of the same socket. Of both, one accepts each connection.
    ///
    /// # Errors
    /// When there is no descriptor left.
    ///
    /// ```
    /// let listener = gorun::net::TcpListener::bind("127.0.0.1:0")?;
    /// assert_eq!(listener.try_clone()?.local_addr()?, listener.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<TcpListener> {
        Io::with_timeouts_of(self.0.get().try_clone()?, &self.0).map(TcpListener)
    }

    /// Sets or clears the time after which `accept` fails with `TimedOut`, also for those that wait at present: Go's
    /// `SetDeadline`.
    ///
    /// ```
    /// let listener = gorun::net::TcpListener::bind("127.0.0.1:0")?;
    /// listener.set_deadline(Some(std::time::Instant::now()));
    /// assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.0.set_deadline(Direction::Read, deadline);
    }

    /// Stops listening. Each `accept` fails from now on with `NotConnected`, also those that wait at present. The descriptor
    /// is closed when the listener is dropped.
    ///
    /// ```
    /// let listener = gorun::net::TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// listener.close();
    /// assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    /// assert!(std::net::TcpStream::connect(address).is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close(&self) {
        self.0.close();
        // It fails only if it does not listen.
        let _ = SockRef::from(self.0.get()).shutdown(Shutdown::Both);
    }

    /// The error that the socket has pending, which is cleared.
    ///
    /// # Errors
    /// When the system refuses to tell.
    ///
    /// ```
    /// assert!(gorun::net::TcpListener::bind("127.0.0.1:0")?.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.get().take_error()
    }
}

/// The connections of a listener, one after the other. See [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a>(&'a TcpListener);

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.0.accept().map(|(stream, _)| stream))
    }
}

impl std::iter::FusedIterator for Incoming<'_> {}
