//! `TcpStream`: a TCP connection.

use super::io::Io;
use super::lookup;
use super::socket_traits::{descriptor, read_and_write};
use gorun_scheduler::Direction;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{self, Shutdown, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

/// A TCP connection: [`std::net::TcpStream`], whose operations park the goroutine.
///
/// One goroutine may read while another one writes, and several may do either (`Read` and `Write` are also there for
/// `&TcpStream`). When it is dropped the connection is closed.
#[derive(Debug)]
pub struct TcpStream(Io<net::TcpStream>);

descriptor!(TcpStream, net::TcpStream);
read_and_write!(TcpStream, &TcpStream);

impl TcpStream {
    /// Connects to the first of these addresses that accepts. Each may take as long as the system lets it, some two minutes;
    /// [`timeout`](crate::time::timeout) gives up earlier.
    ///
    /// # Errors
    /// When the name can't be resolved, or no address accepts: then what the last one answered.
    ///
    /// ```
    /// let listener = gorun::net::TcpListener::bind("127.0.0.1:0")?;
    /// let stream = gorun::net::TcpStream::connect(listener.local_addr()?)?;
    /// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect(address: impl ToSocketAddrs + Send) -> io::Result<TcpStream> {
        lookup::first(address, |address| connect(address, None))
    }

    /// Connects to `address`, within `timeout`.
    ///
    /// # Errors
    /// `TimedOut` after that time; `InvalidInput` if it is zero; what the peer or the system answers.
    ///
    /// ```
    /// use std::time::Duration;
    /// let listener = gorun::net::TcpListener::bind("127.0.0.1:0")?;
    /// let stream = gorun::net::TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_secs(5))?;
    /// # drop(stream);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a time-out of zero"));
        }
        connect(*address, Instant::now().checked_add(timeout))
    }

    /// From a connection of std's, which becomes non-blocking.
    ///
    /// # Errors
    /// When the system has no room for another descriptor to wait for.
    ///
    /// ```
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// let stream = gorun::net::TcpStream::from_std(stream)?;
    /// # drop(stream);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_std(stream: net::TcpStream) -> io::Result<TcpStream> {
        Io::new(stream).map(TcpStream)
    }

    /// Back to a connection of std's, which blocks.
    ///
    /// # Errors
    /// When it can't be made blocking.
    ///
    /// ```
    #[doc = include_str!("pair.txt")]
    /// let stream: std::net::TcpStream = one.into_std()?;
    /// # drop(stream);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn into_std(self) -> io::Result<net::TcpStream> {
        let stream = self.0.into_inner();
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// The peer's address.
    ///
    /// # Errors
    /// When it is not connected any more.
    ///
    /// ```
    #[doc = include_str!("pair.txt")]
    /// assert_eq!(one.peer_addr()?, other.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().peer_addr()
    }

    /// Its own address.
    ///
    /// # Errors
    /// When the system refuses to tell.
    ///
    /// ```
    #[doc = include_str!("pair.txt")]
    /// assert_eq!(one.local_addr()?, other.peer_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get().local_addr()
    }

    /// Shuts down reading, writing or both, for all duplicates. Those that wait go on: a reader finds the end.
    ///
    /// # Errors
    /// When it is not connected.
    ///
    /// ```
    /// use std::io::Read;
    #[doc = include_str!("pair.txt")]
    /// one.shutdown(std::net::Shutdown::Write)?;
    /// assert_eq!((&other).read(&mut [0])?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.get().shutdown(how)
    }

    /// Another descriptor of the same connection, with the same time-outs. Deadlines are each one's own.
    ///
    /// # Errors
    /// When there is no descriptor left.
    ///
    /// ```
    /// use std::io::{Read, Write};
    #[doc = include_str!("pair.txt")]
    /// one.try_clone()?.write_all(b"x")?;
    /// assert_eq!((&other).read(&mut [0])?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        Io::with_timeouts_of(self.0.get().try_clone()?, &self.0).map(TcpStream)
    }

    /// Receives without taking what it receives.
    ///
    /// # Errors
    /// As a read.
    ///
    /// ```
    /// use std::io::{Read, Write};
    #[doc = include_str!("pair.txt")]
    /// (&one).write_all(b"x")?;
    /// assert_eq!((other.peek(&mut [0])?, (&other).read(&mut [0])?), (1, 1));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(|stream| stream.peek(buffer))
    }

    /// Sets how long a read may take.
    ///
    /// # Errors
    /// If it is zero.
    ///
    /// ```
    /// use std::io::Read;
    #[doc = include_str!("pair.txt")]
    /// one.set_read_timeout(Some(std::time::Duration::from_millis(1)))?;
    /// assert_eq!((&one).read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_timeout(Direction::Read, timeout)
    }

    /// Sets how long a write may take.
    ///
    /// # Errors
    /// If it is zero.
    ///
    /// ```
    #[doc = include_str!("pair.txt")]
    /// one.set_write_timeout(Some(std::time::Duration::from_secs(1)))?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_timeout(Direction::Write, timeout)
    }

    /// How long a read may take.
    ///
    /// # Errors
    /// None; the signature is std's.
    ///
    /// ```
    #[doc = include_str!("pair.txt")]
    /// assert_eq!(one.read_timeout()?, None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.get_timeout(Direction::Read))
    }

    /// How long a write may take.
    ///
    /// # Errors
    /// None; the signature is std's.
    ///
    /// ```
    #[doc = include_str!("pair.txt")]
    /// assert_eq!(one.write_timeout()?, None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.get_timeout(Direction::Write))
    }

    /// Sets or clears the time after which reads fail with `TimedOut`, also those that wait at present: Go's
    /// `SetReadDeadline`.
    ///
    /// ```
    /// use std::io::Read;
    #[doc = include_str!("pair.txt")]
    /// one.set_read_deadline(Some(std::time::Instant::now()));
    /// assert_eq!((&one).read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_read_deadline(&self, deadline: Option<Instant>) {
        self.0.set_deadline(Direction::Read, deadline);
    }

    /// The same for writes: Go's `SetWriteDeadline`.
    ///
    /// ```
    /// use std::io::Write;
    #[doc = include_str!("pair.txt")]
    /// one.set_write_deadline(Some(std::time::Instant::now()));
    /// assert_eq!((&one).write(&[0]).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_write_deadline(&self, deadline: Option<Instant>) {
        self.0.set_deadline(Direction::Write, deadline);
    }

    /// Fails all operations of this value from now on with `NotConnected`, also those that wait at present, and shuts the
    /// connection down. The descriptor is closed when the value is dropped.
    ///
    /// ```
    /// use std::io::Read;
    #[doc = include_str!("pair.txt")]
    /// one.close();
    /// assert_eq!((&one).read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    /// assert_eq!((&other).read(&mut [0])?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close(&self) {
        self.0.close();
        // It fails only if the peer has ended the connection before.
        let _ = self.0.get().shutdown(Shutdown::Both);
    }

    /// Sets whether small writes are sent at once (`TCP_NODELAY`). Go sets it for each connection; std and gorun do not.
    ///
    /// # Errors
    /// When the system refuses.
    ///
    /// ```
    #[doc = include_str!("pair.txt")]
    /// one.set_nodelay(true)?;
    /// assert!(one.nodelay()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.0.get().set_nodelay(nodelay)
    }

    /// Returns true if small writes are sent at once.
    ///
    /// # Errors
    /// When the system refuses to tell.
    ///
    /// ```
    #[doc = include_str!("pair.txt")]
    /// assert!(!one.nodelay()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn nodelay(&self) -> io::Result<bool> {
        self.0.get().nodelay()
    }

    /// The error that the socket has pending, which is cleared.
    ///
    /// # Errors
    /// When the system refuses to tell.
    ///
    /// ```
    #[doc = include_str!("pair.txt")]
    /// assert!(one.take_error()?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.get().take_error()
    }
}

fn connect(address: SocketAddr, until: Option<Instant>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    // The registration makes an event when the connection is there, or was.
    let stream = TcpStream::from_std(socket.into())?;
    stream.0.write_until(until, |stream| match stream.take_error()? {
        Some(error) => Err(error),
        None => match stream.peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
            answer => answer.map(drop),
        },
    })?;
    Ok(stream)
}
