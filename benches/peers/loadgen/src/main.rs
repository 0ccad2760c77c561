//! The one load generator of tcp_echo: 1 thread, 50 connections, each with one
//! 64-byte request under way. Usage: peer-loadgen PEER PROCS PORT [seconds]
//! Warms up for 1 s, then measures five windows of `seconds` (default 5).
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 50;
const SIZE: usize = 64;

struct Conn {
    s: TcpStream,
    sent_at: Instant,
    got: usize,
}

impl Conn {
    fn request(&mut self) {
        self.sent_at = Instant::now();
        self.got = 0;
        // One request is under way at most, so the socket buffer has room.
        assert_eq!(self.s.write(&[b'x'; SIZE]).expect("write"), SIZE);
    }
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (peer, procs, port) = (&a[1], &a[2], a[3].parse::<u16>().unwrap());
    let window = Duration::from_secs_f64(a.get(4).map_or(5.0, |s| s.parse().unwrap()));

    let mut poll = Poll::new().unwrap();
    let mut conns: Vec<Conn> = (0..CONNECTIONS)
        .map(|i| {
            let s = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connect");
            s.set_nodelay(true).unwrap();
            s.set_nonblocking(true).unwrap();
            let mut s = TcpStream::from_std(s);
            poll.registry().register(&mut s, Token(i), Interest::READABLE).unwrap();
            Conn { s, sent_at: Instant::now(), got: 0 }
        })
        .collect();
    conns.iter_mut().for_each(Conn::request);

    let mut events = Events::with_capacity(CONNECTIONS);
    let windows = std::env::var("PEER_REPEAT").map_or(5, |v| v.parse::<usize>().unwrap());
    let (mut rate, mut p50, mut p99) = (vec![], vec![], vec![]);
    for i in 0..windows + 1 {
        let length = if i == 0 { Duration::from_secs(1) } else { window };
        let mut ns: Vec<u32> = Vec::with_capacity(2_000_000);
        let begin = Instant::now();
        while begin.elapsed() < length {
            poll.poll(&mut events, Some(Duration::from_millis(100))).unwrap();
            for e in events.iter() {
                let c = &mut conns[e.token().0];
                let mut buf = [0u8; SIZE];
                loop {
                    match c.s.read(&mut buf[c.got..]) {
                        Ok(0) => panic!("server closed the connection"),
                        Ok(n) => c.got += n,
                        Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                        Err(e) => panic!("read: {e}"),
                    }
                    if c.got == SIZE {
                        ns.push(c.sent_at.elapsed().as_nanos() as u32);
                        // Nothing can be left to read: the answer to this
                        // request makes a new edge.
                        c.request();
                        break;
                    }
                }
            }
        }
        let took = begin.elapsed().as_secs_f64();
        if i > 0 {
            assert!(!ns.is_empty(), "no answers");
            ns.sort_unstable();
            rate.push(ns.len() as f64 / took);
            p50.push(ns[ns.len() / 2] as f64 / 1e3);
            p99.push(ns[ns.len() * 99 / 100] as f64 / 1e3);
        }
    }
    for (metric, mut v) in [("ops_per_s", rate), ("p50_us", p50), ("p99_us", p99)] {
        v.sort_by(f64::total_cmp);
        println!(
            "{{\"peer\":\"{peer}\",\"workload\":\"tcp_echo\",\"procs\":{procs},\"metric\":\"{metric}\",\"value\":{:.3},\"min\":{:.3},\"max\":{:.3},\"runs\":{},\"n\":{CONNECTIONS}}}",
            v[v.len() / 2],
            v[0],
            v[v.len() - 1],
            v.len()
        );
    }
}
