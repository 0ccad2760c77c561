//! Blocking clients of real servers, one connection for each goroutine: redis and PostgreSQL, on sockets in a folder of ours.
//!
//! Where a server is not installed, the test says so and is not run; with `GORUN_TEST_COMPLETE=1` that is an error.

use gorun_bindings::Folder;
use gorun_compat::{ISOLATED, at_once};
use redis::Commands;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const CONNECTIONS: usize = 100;

/// Returns true after saying that a test can't be run, unless all are wanted.
fn is_missing(what: &str) -> bool {
    assert!(std::env::var_os("GORUN_TEST_COMPLETE").is_none(), "{what} is not installed");
    eprintln!("not tried: {what} is not installed");
    true
}

/// A process that ends with the value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn redis() {
    let folder = Folder::new("redis");
    let socket = folder.path().join("socket");
    let started = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(&socket)
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        is_missing("redis-server");
        return;
    };
    let said = BufReader::new(child.stdout.take().expect("piped"));
    let _server = Server(child);
    let mut said = said.lines().map_while(Result::ok);
    assert!(said.any(|line| line.contains("eady to accept connections")), "it has not started");
    let address = format!("redis+unix://{}", socket.display());
    let client = redis::Client::open(address).expect("an address");
    let counter = client.clone();
    at_once(ISOLATED, CONNECTIONS, move |i| {
        let mut connection = client.get_connection().expect("a connection");
        for n in 0..20 {
            let key = format!("{i}/{n}");
            let () = connection.set(&key, n).expect("set");
            gorun::yield_now();
            assert_eq!(connection.get::<_, usize>(&key), Ok(n));
            let () = connection.incr("all", 1).expect("incremented");
        }
        // The error is this connection's.
        let wrong: redis::RedisResult<usize> = connection.llen("all");
        assert_eq!(wrong.expect_err("no list").code(), Some("WRONGTYPE"));
    });
    let all: usize = counter.get_connection().and_then(|mut c| c.get("all")).expect("counted");
    assert_eq!(all, CONNECTIONS * 20);
}

/// The folder with the programs of PostgreSQL.
fn postgres_programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<_> = versions.filter_map(|version| Some(version.ok()?.path().join("bin"))).collect();
    folders.retain(|folder| folder.join("initdb").exists());
    folders.sort();
    folders.pop()
}

/// PostgreSQL does not run as root: `nobody` then.
const NOBODY: u32 = 65534;

fn command(programs: &Path, name: &str, folder: &Folder) -> Command {
    let mut command = Command::new(programs.join(name));
    command.current_dir(folder.path()).stdout(Stdio::null());
    if std::fs::metadata(folder.path()).is_ok_and(|folder| std::os::unix::fs::MetadataExt::uid(&folder) == NOBODY) {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

#[test]
fn postgresql() {
    let Some(programs) = postgres_programs() else {
        is_missing("PostgreSQL");
        return;
    };
    let folder = Folder::new("postgresql");
    // Fails without the right to, and then we are not root.
    let _ = chown(folder.path(), Some(NOBODY), Some(NOBODY));
    let data = folder.path().join("data");
    let made =
        command(&programs, "initdb", &folder).args(["-U", "gorun", "-A", "trust", "-N", "-D"]).arg(&data).status();
    assert!(made.expect("initdb").success());
    let options = format!(
        "-c listen_addresses= -c fsync=off -c max_connections={} -k {}",
        CONNECTIONS + 20,
        folder.path().display()
    );
    let control = |what: &[&str]| {
        let log = folder.path().join("log");
        let done = command(&programs, "pg_ctl", &folder)
            .arg("-w")
            .arg("-D")
            .arg(&data)
            .arg("-l")
            .arg(&log)
            .args(what)
            .status();
        assert!(done.expect("pg_ctl").success(), "{}", std::fs::read_to_string(log).unwrap_or_default());
    };
    control(&["-o", &options, "start"]);
    let address = format!("host={} user=gorun dbname=postgres", folder.path().display());
    let served = std::panic::catch_unwind(|| serve(&address));
    control(&["-m", "immediate", "stop"]);
    if let Err(panic) = served {
        std::panic::resume_unwind(panic);
    }
}

/// Each goroutine transfers between two accounts, in transactions that wait for each other.
fn serve(address: &str) {
    let connect = |address: &str| postgres::Client::connect(address, postgres::NoTls).expect("a connection");
    let mut client = connect(address);
    client
        .batch_execute(
            "CREATE TABLE account (id int PRIMARY KEY, money int); INSERT INTO account VALUES (1, 1000), (2, 0)",
        )
        .expect("a table");
    let own = address.to_owned();
    at_once(ISOLATED, CONNECTIONS, move |i| {
        let mut client = connect(&own);
        for n in 0..3 {
            let mut transaction = client.transaction().expect("begun");
            let back = transaction.query_one("SELECT $1::int, pg_sleep(0.001)", &[&(i as i32)]).expect("a row");
            assert_eq!(back.get::<_, i32>(0), i as i32);
            transaction.execute("UPDATE account SET money = money - 1 WHERE id = 1", &[]).expect("updated");
            transaction.execute("UPDATE account SET money = money + 1 WHERE id = 2", &[]).expect("updated");
            gorun::yield_now();
            if n == 2 {
                let error = transaction.execute("SELECT 1 / 0", &[]).expect_err("a division by zero");
                assert_eq!(error.code(), Some(&postgres::error::SqlState::DIVISION_BY_ZERO));
                transaction.rollback().expect("rolled back");
            } else {
                transaction.commit().expect("committed");
            }
        }
    });
    let rows = client.query("SELECT money FROM account ORDER BY id", &[]).expect("rows");
    let money: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    let moved = CONNECTIONS as i32 * 2;
    assert_eq!(money, [1000 - moved, moved]);
}
