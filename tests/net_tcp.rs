//! TCP: operations park the goroutine, several wait in order, and nobody waits for ever.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "system calls")]

mod common;

use common::forked::in_fork;
use common::{child, within};
use gorun::net::{TcpListener, TcpStream};
use gorun::runtime::{Builder, ThreadLocals};
use gorun::time::timeout;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(600);

fn listen() -> (Arc<TcpListener>, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (Arc::new(listener), address)
}

fn pair() -> (TcpStream, TcpStream) {
    let (listener, address) = listen();
    let one = TcpStream::connect(address).unwrap();
    (one, listener.accept().unwrap().0)
}

/// Ours and the peers' lie in the same process.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: valid for the calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max.min(65_536);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    assert!(limit.rlim_cur > 4_200, "this test needs 4,200 descriptors");
}

/// Sends back what comes, until the end.
fn echo(stream: TcpStream) {
    let mut buffer = [0; 4096];
    loop {
        match (&stream).read(&mut buffer).unwrap() {
            0 => return,
            n => (&stream).write_all(&buffer[..n]).unwrap(),
        }
    }
}

/// On a runtime of its own, with so many workers.
fn on<R: Send + 'static>(workers: usize, f: impl FnOnce() -> R + Send + 'static) -> R {
    within(move || {
        let runtime = Builder::new().workers(workers).build().unwrap();
        runtime.run(f)
    })
}

/// Waits until so many goroutines of this runtime wait for a socket: those that have nothing else to do.
fn let_others_wait() {
    // Each of them runs until it waits.
    for _ in 0..20 {
        gorun::yield_now();
    }
    gorun::time::sleep(Duration::from_millis(5));
}

#[test]
fn echoes_on_any_number_of_workers() {
    for workers in [1, 2, 8] {
        on(workers, || {
            let (listener, address) = listen();
            let server = gorun::go(move || {
                let served: Vec<_> =
                    (0..20).map(|_| listener.accept().unwrap().0).map(|s| gorun::go(|| echo(s))).collect();
                served.into_iter().for_each(|s| s.join().unwrap());
            });
            let clients: Vec<_> = (0..20)
                .map(|client: u32| {
                    gorun::go(move || {
                        let mut stream = TcpStream::connect(address).unwrap();
                        for round in 0..50 {
                            let sent = [client.to_le_bytes(), u32::to_le_bytes(round)].concat();
                            stream.write_all(&sent).unwrap();
                            let mut back = [0; 8];
                            stream.read_exact(&mut back).unwrap();
                            assert_eq!(back[..], sent);
                        }
                    })
                })
                .collect();
            clients.into_iter().for_each(|c| c.join().unwrap());
            server.join().unwrap();
        });
    }
}

#[test]
fn pinned_goroutines_and_plain_threads_wait_too() {
    within(|| {
        let runtime = Builder::new().workers(2).thread_locals(ThreadLocals::Pinned).build().unwrap();
        let (listener, address) = listen();
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"from a thread").unwrap();
            let mut back = [0; 13];
            stream.read_exact(&mut back).unwrap();
            back
        });
        runtime.run(move || gorun::go(move || echo(listener.accept().unwrap().0)).join().unwrap());
        assert_eq!(&client.join().unwrap(), b"from a thread");
    });
}

#[test]
fn two_thousand_idle_readers_hold_no_worker_and_each_is_served() {
    on(2, || {
        let (listener, address) = listen();
        raise_descriptor_limit();
        let n = 2000;
        let server = gorun::go(move || {
            let served: Vec<_> = (0..n).map(|_| listener.accept().unwrap().0).map(|s| gorun::go(|| echo(s))).collect();
            served.into_iter().for_each(|s| s.join().unwrap());
        });
        let mut streams: Vec<_> = (0..n).map(|_| TcpStream::connect(address).unwrap()).collect();
        for _ in 0..2 {
            for (i, stream) in streams.iter_mut().enumerate() {
                stream.write_all(&(i as u64).to_le_bytes()).unwrap();
            }
            for (i, stream) in streams.iter_mut().enumerate() {
                let mut back = [0; 8];
                stream.read_exact(&mut back).unwrap();
                assert_eq!(u64::from_le_bytes(back), i as u64);
            }
        }
        drop(streams);
        server.join().unwrap();
    });
}

/// More than the kernel's buffers hold: the writer waits, writes parts, and goes on.
#[test]
fn a_writer_waits_for_room() {
    on(2, || {
        const LEN: usize = 32 << 20;
        let (mut one, mut other) = pair();
        let writer = gorun::go(move || {
            one.write_all(&vec![7; LEN]).unwrap();
            one.shutdown(Shutdown::Write).unwrap();
            // The other half is still open.
            let mut answer = String::new();
            one.read_to_string(&mut answer).unwrap();
            answer
        });
        let_others_wait();
        let mut received = Vec::new();
        other.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), LEN);
        assert!(received.iter().all(|byte| *byte == 7));
        other.write_all(b"all of it").unwrap();
        drop(other);
        assert_eq!(writer.join().unwrap(), "all of it");
    });
}

#[test]
fn an_abort_ends_each_wait() {
    on(2, || {
        let (listener, _) = listen();
        // Their peers stay, so nothing but the abort ends a wait.
        let ((one, _its_peer), (other, _others_peer)) = (pair(), pair());
        let accepts = gorun::go({
            let listener = listener.clone();
            move || drop(listener.accept())
        });
        let reads = gorun::go(move || drop((&one).read(&mut [0])));
        let writes = gorun::go(move || drop((&other).write_all(&vec![0; 64 << 20])));
        let_others_wait();
        for waits in [accepts, reads, writes] {
            waits.abort();
            assert!(waits.join().unwrap_err().is_aborted());
        }
        // Nobody is left in the queue: the next connection goes to the next one.
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.accept().unwrap();
    });
}

#[test]
fn the_end_of_the_runtime_ends_each_wait() {
    within(|| {
        let runtime = Builder::new().workers(2).build().unwrap();
        let (listener, address) = listen();
        let dropped = Arc::new(());
        for _ in 0..3 {
            let (listener, held) = (listener.clone(), dropped.clone());
            drop(runtime.go(move || {
                let _held = held;
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    gorun::go(move || stream.read(&mut [0]));
                }
            }));
        }
        let _client = TcpStream::connect(address).unwrap();
        runtime.shutdown(LONG).unwrap();
        assert_eq!(Arc::strong_count(&dropped), 1);
    });
}

#[test]
fn a_deadline_that_is_set_meanwhile_ends_the_wait() {
    on(1, || {
        let (one, other) = pair();
        let one = Arc::new(one);
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let one = one.clone();
                gorun::go(move || (&*one).read(&mut [0]).unwrap_err().kind())
            })
            .collect();
        let_others_wait();
        // One that is far away wakes nobody for good.
        one.set_read_deadline(Some(Instant::now() + LONG));
        let_others_wait();
        assert!(readers.iter().all(|reader| !reader.is_finished()));
        one.set_read_deadline(Some(Instant::now() + Duration::from_millis(2)));
        for reader in readers {
            assert_eq!(reader.join().unwrap(), ErrorKind::TimedOut);
        }
        // It stays, also for what is there, until it is taken away.
        (&other).write_all(b"x").unwrap();
        assert_eq!((&*one).read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        one.set_read_deadline(None);
        assert_eq!((&*one).read(&mut [0]).unwrap(), 1);
    });
}

#[test]
fn timeouts_of_a_value_and_around_a_call() {
    on(1, || {
        let (one, _other) = pair();
        assert_eq!(one.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::InvalidInput);
        one.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        assert_eq!((&one).read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        let copy = one.try_clone().unwrap();
        assert_eq!(copy.read_timeout().unwrap(), Some(Duration::from_millis(2)));
        one.set_read_timeout(None).unwrap();
        assert!(timeout(Duration::from_millis(2), || (&one).read(&mut [0])).is_err());
        one.set_write_timeout(Some(Duration::from_millis(2))).unwrap();
        assert_eq!((&one).write_all(&vec![0; 64 << 20]).unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_close_wakes_whoever_waits() {
    on(2, || {
        let (listener, address) = listen();
        let (one, other) = pair();
        let one = Arc::new(one);
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let (listener, one) = (listener.clone(), one.clone());
            waiting.push(gorun::go(move || listener.accept().unwrap_err().kind()));
            waiting.push(gorun::go(move || (&*one).read(&mut [0]).unwrap_err().kind()));
        }
        let_others_wait();
        listener.close();
        one.close();
        for waits in waiting {
            assert_eq!(waits.join().unwrap(), ErrorKind::NotConnected);
        }
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!((&other).read(&mut [0]).unwrap(), 0);
        assert_eq!((&*one).write(&[0]).unwrap_err().kind(), ErrorKind::NotConnected);
    });
}

/// Numbers of descriptors are used again at once; events for the one before do nothing to the next, and none is lost.
#[test]
fn descriptors_that_are_used_again_get_their_own_events() {
    on(2, || {
        let (listener, address) = listen();
        let server = gorun::go(move || {
            for _ in 0..500 {
                // Left with data on the way, and a reset.
                let (stream, _) = listener.accept().unwrap();
                (&stream).write_all(b"hello").unwrap();
            }
        });
        for round in 0..500 {
            let mut stream = TcpStream::connect(address).unwrap();
            if round % 2 == 0 {
                let mut hello = [0; 5];
                stream.read_exact(&mut hello).unwrap();
                assert_eq!(&hello, b"hello");
            }
        }
        server.join().unwrap();
    });
}

/// One event with enough for all serves all: a reader that leaves something passes its turn on.
#[test]
fn several_readers_of_one_connection_are_all_served() {
    on(2, || {
        for _ in 0..50 {
            let (one, other) = pair();
            let one = Arc::new(one);
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    let one = one.clone();
                    gorun::go(move || (&*one).read(&mut [0; 2]).unwrap())
                })
                .collect();
            gorun::yield_now();
            (&other).write_all(b"abcdefgh").unwrap();
            readers.into_iter().for_each(|reader| assert_eq!(reader.join().unwrap(), 2));
        }
    });
}

#[test]
fn refusals_and_resets_are_errors() {
    on(1, || {
        let (listener, address) = listen();
        drop(listener);
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let (one, other) = pair();
        let reads = gorun::go(move || (&one).read(&mut [0; 8]).unwrap_err().kind());
        let_others_wait();
        let other = other.into_std().unwrap();
        socket2::SockRef::from(&other).set_linger(Some(Duration::ZERO)).unwrap();
        drop(other);
        assert_eq!(reads.join().unwrap(), ErrorKind::ConnectionReset);
    });
}

/// A goroutine that computes on each worker; the others are served by whoever replaces those.
#[test]
fn served_beside_goroutines_that_compute() {
    on(2, || {
        use std::sync::atomic::{AtomicBool, Ordering};
        let done = Arc::new(AtomicBool::new(false));
        let hogs: Vec<_> = (0..2)
            .map(|_| {
                let done = done.clone();
                gorun::go(move || while !done.load(Ordering::Relaxed) {})
            })
            .collect();
        let (one, mut other) = pair();
        let server = gorun::go(|| echo(one));
        for round in 0..20 {
            other.write_all(&[round]).unwrap();
            let mut back = [0];
            other.read_exact(&mut back).unwrap();
            assert_eq!(back, [round]);
        }
        done.store(true, Ordering::Relaxed);
        hogs.into_iter().for_each(|hog| hog.join().unwrap());
        drop(other);
        server.join().unwrap();
    });
}

/// The error reaches whoever accepts, and the connection is there when there is room again.
#[test]
fn no_descriptor_left_is_an_error_of_accept() {
    if !child::is_child() {
        child::passes("no_descriptor_left_is_an_error_of_accept", &[]);
        return;
    }
    on(2, || {
        let (listener, address) = listen();
        let client = std::net::TcpStream::connect(address).unwrap();
        let mut taken = Vec::new();
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: valid for the calls.
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
            limit.rlim_cur = 256;
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        }
        while let Ok(file) = std::fs::File::open("/dev/null") {
            taken.push(file);
        }
        assert_eq!(listener.accept().unwrap_err().raw_os_error(), Some(libc::EMFILE));
        drop(taken);
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
    });
}

/// A child has a poller of its own; a socket of the parent's says so, and works once it was wrapped anew.
#[test]
fn in_the_child_of_a_fork_sockets_are_registered_anew() {
    if !child::is_child() {
        child::passes("in_the_child_of_a_fork_sockets_are_registered_anew", &[]);
        return;
    }
    let (one, mut other) = pair();
    let one = Arc::new(one);
    in_fork(|| {
        assert_eq!((&*one).read(&mut [0]).unwrap_err().kind(), ErrorKind::Unsupported);
        let (mut mine, peer) = pair();
        on(1, move || {
            let server = gorun::go(|| echo(peer));
            mine.write_all(b"x").unwrap();
            assert_eq!(mine.read(&mut [0]).unwrap(), 1);
            drop(mine);
            server.join().unwrap();
        });
        let again = std::os::fd::AsFd::as_fd(&*one).try_clone_to_owned().unwrap();
        let again = TcpStream::try_from(again).unwrap();
        again.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        assert_eq!((&again).read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    });
    // The child has left the parent's registration alone.
    let reads = gorun::go(move || (&*one).read(&mut [0]).unwrap());
    other.write_all(b"x").unwrap();
    assert_eq!(within(|| reads.join().unwrap()), 1);
}

#[test]
fn to_std_and_back() {
    on(1, || {
        let (one, other) = pair();
        let one = one.into_std().unwrap();
        let one = TcpStream::try_from(std::os::fd::OwnedFd::from(one)).unwrap();
        (&one).write_all(b"x").unwrap();
        let mut other = other.into_std().unwrap();
        assert_eq!(other.read(&mut [0]).unwrap(), 1);
    });
}
