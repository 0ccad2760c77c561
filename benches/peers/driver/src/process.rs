//! Builds the programs, and runs one of them: its lines, or why there are none.

use crate::catalog::{Build, Peer};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Where things are, and how long a process may take.
#[derive(Debug)]
pub struct Site {
    /// benches/peers.
    pub peers: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
    pub timeout: Duration,
    pub env: Vec<(String, String)>,
}

impl Site {
    pub fn build(&self, build: Build) -> Result<(), String> {
        let mut command = match build {
            Build::Cargo(package) => {
                let mut c = Command::new("cargo");
                c.args(["build", "--release", "--quiet", "-p", package]);
                c.current_dir(&self.peers).env("CARGO_TARGET_DIR", &self.target);
                c
            }
            Build::Go => {
                let mut c = Command::new("go");
                c.args(["build", "-o"]).arg(self.target.join("peer-go")).arg(".").current_dir(self.peers.join("go"));
                c
            }
            Build::Java => {
                let mut c = Command::new("javac");
                c.args(["--release", "17", "-d"]).arg(self.target.join("java"));
                c.arg(self.peers.join("java/Peer.java"));
                c
            }
        };
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{command:?}: {status}")),
            Err(error) => Err(format!("{command:?}: {error}")),
        }
    }

    fn command(&self, peer: &Peer, workload: &str, procs: usize, size: usize) -> Command {
        let mut command = match peer.build {
            Build::Cargo(package) => Command::new(self.target.join("release").join(package)),
            Build::Go => Command::new(self.target.join("peer-go")),
            Build::Java => {
                let mut c = Command::new(std::env::var_os("PEER_JAVA").unwrap_or_else(|| "java".into()));
                for what in ["parallelism", "maxPoolSize"] {
                    c.arg(format!("-Djdk.virtualThreadScheduler.{what}={procs}"));
                }
                c.arg("-cp").arg(self.target.join("java")).arg("Peer");
                c
            }
        };
        command.args([workload, &procs.to_string()]);
        if size > 0 {
            command.arg(size.to_string());
        }
        command.env("RUST_BACKTRACE", "0").envs(peer.env.iter().copied());
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }

    /// What it printed, and what went wrong, if anything did: error and the beginning of its standard error.
    pub fn run(&self, peer: &Peer, workload: &str, procs: usize, size: usize) -> (String, Option<(String, String)>) {
        if workload == "tcp_echo" {
            return self.echo(peer, procs);
        }
        self.watch(self.command(peer, workload, procs, size))
    }

    fn watch(&self, mut command: Command) -> (String, Option<(String, String)>) {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return (String::new(), Some((error.to_string(), String::new()))),
        };
        let (ended, end) = mpsc::channel();
        let stdout = child.stdout.take().map(|pipe| read_all(pipe, Some(ended)));
        let stderr = child.stderr.take().map(|pipe| read_all(pipe, None));
        let late = end.recv_timeout(self.timeout) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ = child.kill();
        }
        let status = child.wait();
        let text = |thread: Option<thread::JoinHandle<String>>| thread.and_then(|t| t.join().ok()).unwrap_or_default();
        let (stdout, stderr) = (text(stdout), text(stderr));
        let error = match status {
            _ if late => Some(format!("timeout, {} s", self.timeout.as_secs())),
            Ok(status) if status.success() => None,
            Ok(status) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        };
        (stdout, error.map(|error| (error, said(&stderr))))
    }

    /// The peer serves, the one load generator measures.
    fn echo(&self, peer: &Peer, procs: usize) -> (String, Option<(String, String)>) {
        let mut server = self.command(peer, "tcp_echo", procs, 0);
        let server = server.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut server = match server {
            Ok(child) => Killed(child),
            Err(error) => return (String::new(), Some((error.to_string(), String::new()))),
        };
        let mut line = String::new();
        let Some(stdout) = server.0.stdout.take() else { return Default::default() };
        let _ = BufReader::new(stdout).read_line(&mut line);
        let Some(port) = line.trim().strip_prefix("LISTEN ") else {
            return (String::new(), Some(("it does not listen".to_owned(), line)));
        };
        let mut load = Command::new(self.target.join("release/peer-loadgen"));
        load.args([peer.name, &procs.to_string(), port]).envs(self.env.iter().map(|(k, v)| (k, v)));
        self.watch(load)
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_all(mut pipe: impl Read + Send + 'static, ended: Option<mpsc::Sender<()>>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        drop(ended);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The first lines that say something, without directories.
fn said(stderr: &str) -> String {
    let lines = stderr.lines().filter(|l| !l.trim().is_empty() && !l.starts_with("note: ") && !l.starts_with('#'));
    let words = lines.take(3).map(|line| {
        let words = line.split(' ').map(|word| match Path::new(word).file_name() {
            Some(name) if word.starts_with('/') => name.to_string_lossy().into_owned(),
            _ => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ").chars().take(200).collect::<String>()
    });
    words.collect::<Vec<_>>().join(" ")
}
