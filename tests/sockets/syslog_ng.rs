//! Syslog from syslog-ng.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use crate::authority::Authority;
use crate::clients::{Client, debian};
use crate::common::{Server, eventually, signal};
use crate::{assert_bodies, assert_nothing_rejected, lines, port_of};
use rustix::process::Signal;

/// It, and what of its libraries is not on every machine.
const PACKAGES: [&str; 7] = [
    "syslog-ng-core",
    "libglib2.0-0",
    "libivykis0",
    "libjson-c5",
    "libnet1",
    "libpcre3",
    "libwrap0",
];

#[test]
fn every_line_of_syslog_ng_is_in_clickhouse_once() {
    let Some(root) = debian("syslog-ng", &PACKAGES) else {
        return;
    };
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).display().to_string();
    let authority = Authority::new("the house's");
    authority.write(&files.path().join("ca.pem"));
    authority.issue("localhost").write(files.path(), "server");
    fs::write(
        path("ringhouse.toml"),
        format!(
            "[listener.tls]\nprotocol = 'syslog'\naddress = '127.0.0.1:0'\ntls_cert = '{}'\ntls_key = '{}'\n",
            path("server.pem"),
            path("server.key")
        ),
    )
    .unwrap();
    let server = Server::embedded(&[
        "--create-tables",
        "--config",
        &path("ringhouse.toml"),
        "--listener",
        "tcp=syslog://127.0.0.1:0",
    ]);
    let lines = lines();
    let (tcp, tls) = (port_of(&server, "tcp"), port_of(&server, "tls"));
    let trust = format!(
        "tls(ca-file(\"{}\") peer-verify(required-trusted))",
        path("ca.pem")
    );
    let ways = [
        (
            "counted-5424",
            format!("syslog(\"localhost\" port({tcp}) transport(\"tcp\")"),
        ),
        (
            "lines-5424",
            format!("network(\"localhost\" port({tcp}) transport(\"tcp\") flags(syslog-protocol)"),
        ),
        (
            "lines-3164",
            format!("network(\"localhost\" port({tcp}) transport(\"tcp\")"),
        ),
        (
            "tls-5424",
            format!("syslog(\"localhost\" port({tls}) transport(\"tls\") {trust}"),
        ),
    ];
    let mut config = "@version: 3.38\noptions { keep-hostname(yes); stats-freq(0); };\n".to_owned();
    for (way, destination) in &ways {
        fs::write(path(way), lines.join("\n") + "\n").unwrap();
        config += &format!(
            "source \"s-{way}\" {{ file(\"{}\" flags(no-parse) program-override(\"{way}\")); }};\n\
             destination \"d-{way}\" {{ {destination} persist-name(\"{way}\")); }};\n\
             log {{ source(\"s-{way}\"); destination(\"d-{way}\"); }};\n",
            path(way)
        );
    }
    fs::write(path("syslog-ng.conf"), config).unwrap();
    let own = root.join("usr/lib/syslog-ng");
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let libraries = [
        own.clone(),
        root.join("usr/lib").join(&triple),
        root.join("lib").join(&triple),
    ];
    let said = File::create(path("said.txt")).unwrap();
    let mut syslog_ng = Client(
        Command::new(root.join("usr/sbin/syslog-ng"))
            .args(["--foreground", "--no-caps", "--cfgfile", &path("syslog-ng.conf")])
            .args(["--persist-file", &path("persist"), "--control", &path("control")])
            .args(["--pidfile", &path("pid"), "--module-path"])
            .arg(own.join("3.38"))
            .env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap())
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap(),
    );
    for (way, _) in &ways {
        assert_bodies(&server, &format!("ServiceName = '{way}'"), &lines);
    }
    signal(syslog_ng.0.id(), Signal::TERM);
    let status = eventually("the end of syslog-ng", || syslog_ng.0.try_wait().unwrap());
    let said = fs::read_to_string(path("said.txt")).unwrap();
    assert!(status.success() && said.is_empty(), "{status}\n{said}");
    assert_eq!(
        server.sql(
            "SELECT DISTINCT SeverityText, SeverityNumber, LogAttributes['syslog.facility'] FROM otel_logs"
        ),
        "notice\t10\tuser"
    );
    assert_nothing_rejected(&server);
}
