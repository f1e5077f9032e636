//! Syslog from util-linux' logger and from rsyslog.

use std::fs::{self, File};
use std::io::Write;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use crate::clients::{Client, debian, run};
use crate::common::{Server, eventually, signal};
use crate::{assert_bodies, assert_nothing_rejected, connect, lines, port_of, rows};
use rustix::process::Signal;
use serde_json::json;

const LISTENERS: [&str; 5] = [
    "--create-tables",
    "--listener",
    "tcp=syslog://127.0.0.1:0",
    "--listener",
    "udp=syslog-udp://127.0.0.1:0",
];

/// Lines in one burst of datagrams: what waits in a kernel buffer of the usual 208 KiB.
const BURST: usize = 50;

#[test]
fn every_line_of_logger_is_in_clickhouse_as_it_was_logged() {
    let server = Server::embedded(&LISTENERS);
    let lines = lines();
    for (way, options) in [
        ("tcp-5424", &["--tcp", "--rfc5424", "--msgid", "ID"][..]),
        ("tcp-5424-counted", &["--tcp", "--rfc5424", "--octet-count"]),
        ("tcp-3164", &["--tcp", "--rfc3164"]),
        ("tcp-3164-counted", &["--tcp", "--rfc3164", "--octet-count"]),
        ("udp-5424", &["--udp", "--rfc5424"]),
        ("udp-3164", &["--udp", "--rfc3164"]),
    ] {
        let is_udp = way.starts_with("udp");
        let port = port_of(&server, if is_udp { "udp" } else { "tcp" }).to_string();
        let bursts = lines.chunks(if is_udp { BURST } else { lines.len() });
        let mut sent = 0;
        for burst in bursts {
            let path = server.directory().join("lines.txt");
            fs::write(&path, burst.join("\n") + "\n").unwrap();
            run(Command::new("logger")
                .args(["--server", "127.0.0.1", "--port", &port, "--size", "60000"])
                .args(["--priority", "local5.err", "--id=4321", "--tag", way, "--file"])
                .arg(&path)
                .args(options));
            sent += burst.len();
            rows(&server, "Body", &format!("ServiceName = '{way}'"), sent);
        }
        assert_bodies(&server, &format!("ServiceName = '{way}'"), &lines);
        let columns = "DISTINCT SeverityText, SeverityNumber, LogAttributes['syslog.procid'] AS procid, \
                       LogAttributes['syslog.facility'] AS facility, ResourceAttributes['host.name'] != '' AS host, \
                       abs(now() - Timestamp) < 300 AS recent";
        let text = server.sql(&format!(
            "SELECT {columns} FROM otel_logs WHERE ServiceName = '{way}' FORMAT JSONEachRow"
        ));
        let row: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{way}: {text}"));
        let expected = json!({
            "SeverityText": "err", "SeverityNumber": 17, "procid": "4321", "facility": "local5", "host": 1, "recent": 1,
        });
        assert_eq!(row, expected, "{way}");
    }
    let sql = "SELECT countIf(LogAttributes['syslog.msgid'] = 'ID'), countIf(LogAttributes['timeQuality.tzKnown'] = '1') \
               FROM otel_logs WHERE ServiceName = 'tcp-5424'";
    assert_eq!(server.sql(sql), format!("{0}\t{0}", lines.len()));
    assert_nothing_rejected(&server);
    let metrics = server.admin("/metrics").unwrap().body;
    let value_of = |name: &str| -> u64 {
        let values = metrics.lines().filter(|line| line.starts_with(name));
        values
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    };
    assert_eq!(value_of("ringhouse_datagrams_dropped_total"), 0);
    assert_eq!(value_of("ringhouse_datagrams_total"), 2 * lines.len() as u64);
}

const RSYSLOG_PACKAGES: [&str; 4] = ["rsyslog", "libestr0", "libfastjson4", "liblognorm5"];

#[test]
fn every_line_of_rsyslog_is_in_clickhouse_once() {
    let Some(root) = debian("rsyslog", &RSYSLOG_PACKAGES) else {
        return;
    };
    let server = Server::embedded(&LISTENERS);
    let lines = lines();
    let directory = server.directory();
    fs::write(directory.join("lines.txt"), lines.join("\n") + "\n").unwrap();
    let port = port_of(&server, "tcp");
    let ways = [
        ("counted-5424", "octet-counted", "RSYSLOG_SyslogProtocol23Format"),
        ("lines-5424", "traditional", "RSYSLOG_SyslogProtocol23Format"),
        (
            "counted-3164",
            "octet-counted",
            "RSYSLOG_TraditionalForwardFormat",
        ),
        ("lines-3164", "traditional", "RSYSLOG_ForwardFormat"),
    ];
    let mut config = format!(
        "global(workDirectory=\"{}\" maxMessageSize=\"64k\")\nmodule(load=\"imfile\" mode=\"polling\" pollingInterval=\"1\")\n",
        directory.display()
    );
    for (way, framing, template) in ways {
        // A file may be watched once: each way has its own.
        let path = directory.join(format!("{way}.txt"));
        fs::copy(directory.join("lines.txt"), &path).unwrap();
        config += &format!(
            "input(type=\"imfile\" File=\"{}\" Tag=\"{way}:\" Facility=\"local3\" Severity=\"warning\" ruleset=\"{way}\")\n\
             ruleset(name=\"{way}\") {{ action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{port}\" protocol=\"tcp\" \
             tcp_framing=\"{framing}\" template=\"{template}\") }}\n",
            path.display()
        );
    }
    let config_path = directory.join("rsyslog.conf");
    fs::write(&config_path, config).unwrap();
    let libraries = root
        .join("usr/lib")
        .join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let log = directory.join("rsyslog.txt");
    let said = File::create(&log).unwrap();
    let mut rsyslog = Client(
        Command::new(root.join("usr/sbin/rsyslogd"))
            .args(["-n", "-f"])
            .arg(&config_path)
            .arg("-i")
            .arg(directory.join("rsyslog.pid"))
            .arg("-M")
            .arg(libraries.join("rsyslog"))
            .env("LD_LIBRARY_PATH", &libraries)
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap(),
    );
    for (way, ..) in ways {
        assert_bodies(&server, &format!("ServiceName = '{way}'"), &lines);
    }
    signal(rsyslog.0.id(), Signal::TERM);
    let status = eventually("the end of rsyslog", || rsyslog.0.try_wait().unwrap());
    let said = fs::read_to_string(&log).unwrap();
    assert!(status.success() && said.is_empty(), "{status}\n{said}");
    assert_eq!(
        server.sql(
            "SELECT DISTINCT SeverityText, SeverityNumber, LogAttributes['syslog.facility'] FROM otel_logs"
        ),
        "warning\t13\tlocal3"
    );
    assert_nothing_rejected(&server);
}

#[test]
fn what_was_read_before_the_server_ends_is_in_clickhouse() {
    let mut server = Server::embedded(&LISTENERS);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut tcp = connect(port_of(&server, "tcp"));
    for line in 0..100 {
        tcp.write_all(format!("<14>1 - h tcp - - - line {line}\n").as_bytes())
            .unwrap();
        udp.send_to(
            format!("<14>1 - h udp - - - line {line}").as_bytes(),
            ("127.0.0.1", port_of(&server, "udp")),
        )
        .unwrap();
    }
    // A message that has begun, and never ends.
    tcp.write_all(b"<14>1 - h tcp - - - the begin").unwrap();
    eventually("all of it to be read", || {
        let metrics = server.admin("/metrics").unwrap().body;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("ringhouse_rows_accepted_total"))?;
        (line.rsplit(' ').next()?.parse::<u64>().ok()? >= 200).then_some(())
    });
    server.signal(Signal::TERM);
    let status = server.wait();
    assert!(status.success(), "{status}");
    // 100 datagrams, 100 lines and what there was of another.
    let output = server.output();
    let ledger = "otel_logs: received 201 = inserted 201 + rejected 0";
    assert!(output.contains(ledger), "{output}");
    assert!(!server.log().contains("WARN"), "{}", server.log());
}
