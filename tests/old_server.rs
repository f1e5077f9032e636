//! Debian's ClickHouse 18.16: an old protocol revision, real users and passwords, a server that survives resets.

mod common;
#[path = "common/load.rs"]
mod load;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use common::{Server, eventually, free_port, http, signal};
use load::{Load, Plan, assert_exactly_once, producers, readyz, settled};
use rustix::process::Signal;

/// Where the package puts it; not every PATH has /usr/sbin.
const PROGRAM: &str = "/usr/sbin/clickhouse-server";

/// The server's program, installed when it is missing and can be; `None`, with a message, when it cannot.
fn program() -> Option<&'static Path> {
    static PROGRAM_READY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let ready = PROGRAM_READY.get_or_init(|| {
        if !Path::new(PROGRAM).exists() && !rustix::process::getuid().is_root() {
            eprintln!("skipped: {PROGRAM} is missing and installing it needs root (apt-get install clickhouse-server)");
            return None;
        }
        if !Path::new(PROGRAM).exists() {
            install();
        }
        if !Path::new(PROGRAM).exists() {
            eprintln!("skipped: apt-get gave no {PROGRAM}");
            return None;
        }
        Some(PROGRAM.into())
    });
    ready.as_deref()
}

fn install() {
    // The package starts its service, on the usual ports, unless a policy forbids that.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let ours = !policy.exists() && fs::write(policy, "#!/bin/sh\nexit 101\n").is_ok();
    if ours {
        let _ = Command::new("chmod").arg("+x").arg(policy).status();
    }
    let apt_get = |arguments: &[&str]| {
        Command::new("apt-get")
            .args(["-y", "-qq", "-o", "DPkg::Lock::Timeout=120"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let package = ["install", "--no-install-recommends", "clickhouse-server"];
    if !apt_get(&package) && apt_get(&["update"]) {
        apt_get(&package);
    }
    if ours {
        let _ = fs::remove_file(policy);
    }
}

/// A server of its own in a directory of its own; killed when dropped.
struct OldServer {
    child: Child,
    tcp_port: u16,
    http_port: u16,
    directory: tempfile::TempDir,
}

/// What reads and writes for the test itself.
const TESTER: (&str, &str) = ("default", "sesame");

impl OldServer {
    /// With a user `writer` of this password. `None`: skipped.
    fn start(password: &str) -> Option<OldServer> {
        let program = program()?;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (tcp_port, http_port) = (free_port(), free_port());
        fs::write(
            path.join("config.xml"),
            format!(
                "<yandex><logger><level>warning</level><log>{0}/server.log</log><errorlog>{0}/error.log</errorlog></logger>\
                 <listen_host>127.0.0.1</listen_host><tcp_port>{tcp_port}</tcp_port><http_port>{http_port}</http_port>\
                 <path>{0}/data/</path><tmp_path>{0}/tmp/</tmp_path><users_config>{0}/users.xml</users_config>\
                 <default_profile>default</default_profile><default_database>default</default_database>\
                 <mark_cache_size>100000000</mark_cache_size><timezone>UTC</timezone></yandex>",
                path.display()
            ),
        )
        .unwrap();
        write_users(path, password, "default");
        let mut server = OldServer {
            child: run(program, path),
            tcp_port,
            http_port,
            directory,
        };
        server.wait_until_it_answers();
        let version = server.sql("SELECT version()");
        if !version.starts_with("18.16") {
            eprintln!("skipped: {PROGRAM} is {version} and not 18.16");
            return None;
        }
        Some(server)
    }

    fn wait_until_it_answers(&mut self) {
        eventually("the old server", || {
            assert_eq!(
                self.child.try_wait().unwrap(),
                None,
                "the old server ended at its start"
            );
            self.try_sql("SELECT 1").ok()
        });
    }

    fn restart(&mut self) {
        signal(self.child.id(), Signal::KILL);
        self.child.wait().unwrap();
        self.child = run(Path::new(PROGRAM), self.directory.path());
        self.wait_until_it_answers();
    }

    /// Changes the writer; the server reads its users again within seconds.
    fn set_writer(&self, password: &str, profile: &str) {
        let file = self.directory.path().join("users.xml");
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        write_users(self.directory.path(), password, profile);
        // It looks at the time of the file, in whole seconds.
        let changed = before + Duration::from_secs(2);
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(changed)
            .unwrap();
    }

    fn try_sql(&self, query: &str) -> Result<String, String> {
        let headers = [("X-ClickHouse-User", TESTER.0), ("X-ClickHouse-Key", TESTER.1)];
        let reply =
            http("POST", self.http_port, "/", &headers, query.as_bytes()).map_err(|e| e.to_string())?;
        match reply.status {
            200 => Ok(reply.body.trim_end_matches('\n').to_owned()),
            _ => Err(reply.body),
        }
    }

    fn sql(&self, query: &str) -> String {
        self.try_sql(query)
            .unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// `ringhouse serve` in front of it as `writer`, into `events`.
    fn serve(&self, password: &str) -> Server {
        let url = format!("tcp://writer:{password}@127.0.0.1:{}/default", self.tcp_port);
        Server::start(&[
            "--clickhouse",
            &url,
            "--table",
            "events",
            "--limit",
            "retry_pause_max_ms=300",
            "--limit",
            "schema_refresh_ms=300",
        ])
    }

    fn create_events(&self) {
        self.sql("CREATE TABLE events (n UInt64, t DateTime, s String) ENGINE = MergeTree PARTITION BY toYYYYMM(t) ORDER BY n");
    }
}

impl Drop for OldServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(program: &Path, directory: &Path) -> Child {
    Command::new(program)
        .arg(format!("--config-file={}/config.xml", directory.display()))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn write_users(directory: &Path, password: &str, profile: &str) {
    let user = |(name, password): (&str, &str), profile: &str| {
        format!(
            "<{name}><password>{password}</password><networks><ip>127.0.0.1</ip></networks>\
             <profile>{profile}</profile><quota>default</quota></{name}>"
        )
    };
    let text = format!(
        "<yandex><users>{}{}</users><profiles><default></default><readonly><readonly>1</readonly></readonly></profiles>\
         <quotas><default><interval><duration>3600</duration><queries>0</queries><errors>0</errors>\
         <result_rows>0</result_rows><read_rows>0</read_rows><execution_time>0</execution_time></interval></default>\
         </quotas></yandex>",
        user(TESTER, "default"),
        user(("writer", password), profile),
    );
    // In one step: the server must not read half of it.
    fs::write(directory.join("users.new"), text).unwrap();
    fs::rename(directory.join("users.new"), directory.join("users.xml")).unwrap();
}

fn plan() -> Plan {
    Plan {
        row: |n| format!(r#"{{"n":{n},"s":"row {n}"}}"#),
        ..Plan::default()
    }
}

#[test]
fn a_wrong_password_holds_the_rows_until_it_is_right() {
    let Some(mut old) = OldServer::start("right") else {
        return;
    };
    old.create_events();

    // From the start: nothing is known of the table, and the reason is told.
    let locked_out = old.serve("wrong");
    let (_, page) = eventually("the reason", || {
        Some(readyz(&locked_out)).filter(|(_, page)| page.contains("code 193"))
    });
    assert!(
        !page.contains("wrong@") && !locked_out.log().contains(":wrong"),
        "{page}"
    );
    let reply = locked_out.post("/ingest", r#"{"n":1}"#);
    assert_eq!(reply.status, 503, "{reply:?}");

    let server = old.serve("right");
    server.wait_until_ready();
    let load = Load::start(server.port, &plan());
    load.more_inserted(150);
    // Under load: connections that are open stay, so the server is started anew.
    old.set_writer("changed", "default");
    old.restart();
    let (_, page) = eventually("/readyz to tell", || {
        Some(readyz(&server)).filter(|(status, page)| *status == 503 && page.contains("code 193"))
    });
    assert!(page.contains("rows are held"), "{page}");
    old.set_writer("right", "default");
    server.wait_until_ready();
    load.more_inserted(150);
    let sent = load.finish();
    // This server drops no doubles of plain tables, so a kill in the middle of an INSERT may leave some: what
    // was promised must be there.
    let ledger = settled(&server);
    assert_eq!((ledger.rejected, ledger.dead_lettered, ledger.lost), (0, 0, 0));
    let there = old.sql("SELECT DISTINCT n FROM events");
    let there: std::collections::HashSet<u64> = there.lines().map(|line| line.parse().unwrap()).collect();
    assert!(
        sent.inserted
            .iter()
            .chain(&sent.memory)
            .all(|n| there.contains(n))
    );
    assert!(sent.broken.is_empty(), "{:?}", sent.broken);
}

#[test]
fn a_user_made_read_only_holds_the_rows_until_he_may_write() {
    let Some(old) = OldServer::start("right") else {
        return;
    };
    old.create_events();
    let server = old.serve("right");
    server.wait_until_ready();
    let load = Load::start(server.port, &plan());
    load.more_inserted(150);
    old.set_writer("right", "readonly");
    // The profile is a session's for its life. The writer's lasts as long as it works, so another server takes over.
    let other = eventually("another server that is refused", || {
        let other = old.serve("right");
        other.wait_until_ready();
        assert_eq!(
            other.post("/ingest?ack=memory", r#"{"n":1,"s":"held"}"#).status,
            202
        );
        let refused = eventually("an outcome", || {
            let log = other.log();
            if log.contains("code 164") {
                return Some(true);
            }
            (load::ledger(&other).waiting == 0).then_some(false)
        });
        refused.then_some(other)
    });
    eventually("/readyz to tell", || (readyz(&other).0 == 503).then_some(()));
    old.set_writer("right", "default");
    let ledger = settled(&other);
    assert_eq!((ledger.received, ledger.inserted), (1, 1));
    other.wait_until_ready();
    let held = old.sql("SELECT count() FROM events WHERE s = 'held'");
    assert!(held.parse::<u64>().unwrap() >= 1);
    load.more_inserted(150);
    let sent = load.finish();
    settled(&server);
    old.sql("CREATE TABLE ours AS events");
    old.sql("INSERT INTO ours SELECT * FROM events WHERE s != 'held'");
    assert_exactly_once(|text| old.sql(text), "ours", "n", &sent, &server);
}

#[test]
fn an_old_revision_takes_the_types_it_knows() {
    let Some(old) = OldServer::start("right") else {
        return;
    };
    old.sql(
        "CREATE TABLE events (n UInt64, d Date, t DateTime, s String, f Float64, e Enum8('low' = 1, 'high' = 2), \
         a Array(String), o Nullable(Int32), x FixedString(4), u UUID, later UInt64 DEFAULT n + 1, \
         twice UInt64 MATERIALIZED n * 2) ENGINE = MergeTree PARTITION BY toYYYYMM(t) ORDER BY n",
    );
    let server = old.serve("right");
    server.wait_until_ready();
    let rows = concat!(
        r#"{"n":1,"d":"2018-12-24","t":"2018-12-24T18:00:00Z","s":"a","f":0.5,"e":"low","a":["x","y"],"o":-7,"x":"abcd","u":"61f0c404-5cb3-11e7-907b-a6006ad3dba0"}"#,
        "\n",
        r#"{"n":2,"d":"2019-01-01","t":1546300800,"s":"b","f":-2,"e":"high","a":[],"x":"ef","u":"61f0c404-5cb3-11e7-907b-a6006ad3dba1","later":9}"#,
        "\n",
        r#"{"n":3,"t":"2019-01-01 00:00:01","e":"neither"}"#,
        "\n",
    );
    let reply = server.post("/ingest", rows);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(
        reply.body.contains("\"accepted\":2") && reply.body.contains("\"rejected\":1"),
        "{reply:?}"
    );
    assert_eq!(
        old.sql("SELECT n, d, t, s, f, e, a, o, x, u, later, twice FROM events ORDER BY n"),
        "1\t2018-12-24\t2018-12-24 18:00:00\ta\t0.5\tlow\t['x','y']\t-7\tabcd\t61f0c404-5cb3-11e7-907b-a6006ad3dba0\t2\t2\n\
         2\t2019-01-01\t2019-01-01 00:00:00\tb\t-2\thigh\t[]\t\\N\tef\\0\\0\t61f0c404-5cb3-11e7-907b-a6006ad3dba1\t9\t4"
    );
    // Many rows in several blocks and INSERTs.
    let load = Load::start(
        server.port,
        &Plan {
            producers: producers(2, 1, 2_000),
            ..plan_with_all_columns()
        },
    );
    load.more(20_000);
    let sent = load.finish();
    let ledger = settled(&server);
    assert_eq!((ledger.rejected, ledger.dead_lettered, ledger.lost), (1, 0, 0));
    assert_eq!(old.sql("SELECT count() FROM events"), ledger.inserted.to_string());
    let counts = old.sql("SELECT count(), uniqExact(n), sum(n * 2 = twice) FROM events WHERE s = 'many'");
    let promised = sent.inserted.len() + sent.memory.len();
    assert_eq!(counts, format!("{promised}\t{promised}\t{promised}"));
    assert_eq!(sent.broken, Vec::<String>::new());
}

fn plan_with_all_columns() -> Plan {
    Plan {
        row: |n| {
            format!(
                r#"{{"n":{n},"d":"2019-02-03","t":{},"s":"many","e":"low","a":["{n}"],"x":"abcd","u":"61f0c404-5cb3-11e7-907b-a6006ad3dba0"}}"#,
                1_500_000_000 + n % 100_000_000
            )
        },
        pause_max_ms: 2,
        ..Plan::default()
    }
}
