//! An echo server, a goroutine for each connection, and clients of it.
//!
//! Run with `cargo run --example echo`; with an address (`cargo run --example echo 127.0.0.1:7000`) it serves until it is
//! killed.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    gorun::run(|| match std::env::args().nth(1) {
        Some(address) => server::serve(&gorun::net::TcpListener::bind(address)?),
        None => server::try_it(),
    })
}

#[cfg(target_os = "linux")]
mod server {
    use gorun::net::{TcpListener, TcpStream};
    use std::io::{self, Read, Write};
    use std::sync::Arc;
    use std::time::Duration;

    /// Until the listener is closed.
    pub(crate) fn serve(listener: &TcpListener) -> io::Result<()> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => drop(gorun::go(move || echo(&stream))),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) => {
                    // No descriptor left, most likely: some time passes until there is one.
                    println!("accept: {error}");
                    gorun::time::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    fn echo(mut stream: &TcpStream) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                n => stream.write_all(&buffer[..n])?,
            }
        }
    }

    pub(crate) fn try_it() -> io::Result<()> {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0")?);
        let address = listener.local_addr()?;
        let server = gorun::go({
            let listener = listener.clone();
            move || serve(&listener)
        });
        let clients = (0..100).map(|client| {
            gorun::go(move || {
                let mut stream = TcpStream::connect(address)?;
                let sent = format!("hello from client {client}");
                stream.write_all(sent.as_bytes())?;
                let mut back = vec![0; sent.len()];
                stream.read_exact(&mut back)?;
                assert_eq!(back, sent.as_bytes());
                Ok::<(), io::Error>(())
            })
        });
        let clients: Vec<_> = clients.collect();
        let served =
            clients.into_iter().map(|client| client.join().expect("no panic")).collect::<io::Result<Vec<()>>>()?;
        listener.close();
        server.join().expect("no panic")?;
        println!("{} clients were served", served.len());
        Ok(())
    }
}
