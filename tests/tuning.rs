//! `tuning/host`: says what it sees, changes nothing unasked, and puts back exactly what was there.
//!
//! Most of it runs against a made-up host in a directory; the kernel's own files are written only in a network
//! namespace of the test's, and only settings that every namespace has for itself.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::Engine;
use ringhouse::schema::{TableName, TableSchema};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/host")
}

fn host(arguments: &[&str]) -> Output {
    Command::new(script())
        .args(arguments)
        .output()
        .expect("bash runs")
}

/// What it printed, after it went as told.
fn printed(output: &Output, status: i32) -> String {
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}{errors}");
    assert_eq!(errors, "", "{out}");
    out
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Forty CPUs, a card with two queues on node 0, everything as a distribution leaves it.
struct MadeUp(tempfile::TempDir);

const FILES: &[(&str, &str)] = &[
    ("proc/cmdline", "quiet isolcpus=1-2 rcu_nocbs=1-2"),
    ("proc/net/route", "Iface\tDestination\neth7\t00000000"),
    (
        "proc/interrupts",
        " 9: 0 IR-PCI acpi\n 60: 7 IR-PCI eth7\n 61: 7 IR-PCI eth7-TxRx-0\n 62: 7 IR-PCI eth7-TxRx-1",
    ),
    ("proc/irq/60/smp_affinity_list", "0-39"),
    ("proc/irq/61/smp_affinity_list", "0-39"),
    ("proc/irq/62/smp_affinity_list", "0-39"),
    (
        "proc/self/limits",
        "Max locked memory 65536 8388608 bytes\nMax open files 1024 1048576 files",
    ),
    ("proc/sys/kernel/io_uring_disabled", "2"),
    ("proc/sys/kernel/numa_balancing", "1"),
    ("proc/sys/kernel/random/boot_id", "first-boot"),
    ("proc/sys/net/core/somaxconn", "128"),
    ("proc/sys/net/core/netdev_max_backlog", "1000"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "65536"),
    ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t2097152"),
    ("proc/sys/vm/dirty_background_bytes", "0"),
    ("proc/sys/vm/dirty_background_ratio", "10"),
    ("proc/sys/vm/swappiness", "60"),
    ("sys/class/net/eth7/device/numa_node", "0"),
    ("sys/class/net/eth7/device/msi_irqs/60", "msix"),
    ("sys/class/net/eth7/device/msi_irqs/61", "msix"),
    ("sys/class/net/eth7/device/msi_irqs/62", "msix"),
    ("sys/class/net/eth7/queues/rx-0/rps_cpus", "ff,ffffffff"),
    ("sys/class/net/eth7/queues/rx-1/rps_cpus", "00,00000000"),
    ("sys/class/net/eth7/queues/tx-0/xps_cpus", "00,00000002"),
    ("sys/class/net/eth7/queues/tx-1/xps_cpus", "00,00000000"),
    ("sys/devices/system/cpu/online", "0-39"),
    ("sys/devices/system/cpu/isolated", "1-2"),
    (
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
        "powersave",
    ),
    ("sys/devices/system/cpu/cpu1/cpuidle/state0/latency", "0"),
    ("sys/devices/system/cpu/cpu1/cpuidle/state1/latency", "133"),
    ("sys/devices/system/cpu/cpu1/node0/cpulist", "0-19"),
    ("sys/devices/system/cpu/cpu1/power/pm_qos_resume_latency_us", "0"),
    (
        "sys/devices/system/cpu/cpu35/cpufreq/scaling_governor",
        "performance",
    ),
    ("sys/devices/system/cpu/cpu35/node1/cpulist", "20-39"),
    (
        "sys/devices/system/cpu/cpu35/power/pm_qos_resume_latency_us",
        "n/a",
    ),
    (
        "sys/kernel/mm/transparent_hugepage/enabled",
        "[always] madvise never",
    ),
];

impl MadeUp {
    fn new() -> MadeUp {
        let made_up = MadeUp(tempfile::tempdir().expect("a directory"));
        for (name, content) in FILES {
            let path = made_up.path(name);
            fs::create_dir_all(path.parent().expect("it has a folder")).expect("folders");
            fs::write(path, format!("{content}\n")).expect("a file");
        }
        made_up
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let (root, state) = (
            self.0.path().display().to_string(),
            self.path("state").display().to_string(),
        );
        let mut all = arguments.to_vec();
        all.extend(["--root", &root, "--state", &state]);
        if arguments[0] != "revert" {
            all.extend(["--ingest-cores", "1,35", "--writer-core", "2"]);
        }
        host(&all)
    }

    /// What every file says: of several choices the chosen one, as the kernel's own files do once they are written.
    fn says(&self) -> BTreeMap<&'static str, String> {
        let one = |(name, _): &(&'static str, &str)| {
            let text = fs::read_to_string(self.path(name)).expect("it is still there");
            let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            let words = chosen
                .map_or(text.as_str(), |(chosen, _)| chosen)
                .split_whitespace();
            (*name, words.collect::<Vec<_>>().join(" "))
        };
        FILES.iter().map(one).collect()
    }
}

#[test]
fn says_of_every_setting_of_this_host_what_is_wanted_and_what_is_there() {
    let output = host(&["check"]);
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(errors, "", "{out}");
    let differs = out.lines().any(|line| line.starts_with("differs "));
    assert_eq!(output.status.code(), Some(i32::from(differs)), "{out}");
    assert!(out.lines().count() > 25, "{out}");
    for line in out.lines().skip(1) {
        let verdict = line.split(' ').next().expect("a word");
        assert!(["ok", "differs", "unknown"].contains(&verdict), "{line:?}");
    }
}

#[test]
fn tells_what_is_as_wanted_from_what_differs_and_what_is_not_told() {
    let made_up = MadeUp::new();
    let out = printed(&made_up.run(&["check"]), 1);
    let squeezed: Vec<String> = out
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for expected in [
        "differs net.core.somaxconn >= 4096 128",
        "ok net.ipv4.tcp_max_syn_backlog >= 4096 65536",
        "differs net.ipv4.tcp_rmem third >= 6291456 4096 131072 2097152",
        "unknown net.ipv4.tcp_wmem third >= 4194304 not on this host",
        "ok receive queues of eth7 >= 2 2",
        "differs rps_cpus of eth7 rx-0 0 ff,ffffffff",
        "ok rps_cpus of eth7 rx-1 0 00,00000000",
        "ok xps_cpus of eth7 tx-0 00000002 00,00000002",
        "differs xps_cpus of eth7 tx-1 00000008,00000000 00,00000000",
        "differs interrupt 61 of eth7 1 0-39",
        "differs interrupt 62 of eth7 35 0-39",
        "differs isolated CPUs 1-2,35 1-2",
        "differs nohz_full 1-2,35 none",
        "differs governor of CPUs 1-2,35 performance performance, powersave",
        "differs wake-up of CPUs 1-2,35 <= 20 us 0, n/a",
        "differs nodes of the CPUs one 0 1",
        "differs kernel.io_uring_disabled 0 2",
        "differs transparent huge pages madvise or never always",
        "ok open files of this shell >= 9216 1048576",
        "ok locked memory of this shell, KiB >= 1088 8192",
        "differs vm.dirty_background_bytes <= 67108864 0",
    ] {
        assert!(squeezed.iter().any(|line| line == expected), "{expected}\n{out}");
    }
    assert!(!out.contains("interrupt 60"), "that one is no queue's: {out}");
}

#[test]
fn says_what_it_would_change_without_changing_it() {
    let made_up = MadeUp::new();
    let before = made_up.says();
    let out = printed(&made_up.run(&["apply", "--dry-run"]), 0);
    assert!(out.contains("would set net.core.somaxconn: 128 -> 4096"), "{out}");
    assert_eq!(made_up.says(), before);
    assert!(!made_up.path("state").exists());
    // On this host too, as whoever runs the tests.
    let state = made_up.path("state").display().to_string();
    printed(&host(&["apply", "--dry-run", "--state", &state]), 0);
    assert!(!made_up.path("state").exists());
}

#[test]
fn puts_back_what_the_first_of_two_applies_found() {
    let made_up = MadeUp::new();
    // The kernel empties one of dirty_*_bytes and dirty_*_ratio when the other is written; a directory does not.
    let only = ["--only", "!(vm.dirty*)"];
    let before = made_up.says();
    printed(&made_up.run(&[&["apply"][..], &only].concat()), 0);
    let tuned = made_up.says();
    for (name, value) in [
        ("proc/sys/net/core/somaxconn", "4096"),
        ("proc/sys/net/ipv4/tcp_rmem", "4096 131072 6291456"),
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "65536"),
        ("proc/irq/60/smp_affinity_list", "0-39"),
        ("proc/irq/62/smp_affinity_list", "35"),
        ("sys/class/net/eth7/queues/tx-1/xps_cpus", "00000008,00000000"),
        (
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
            "performance",
        ),
        ("sys/devices/system/cpu/cpu1/power/pm_qos_resume_latency_us", "20"),
        (
            "sys/devices/system/cpu/cpu35/power/pm_qos_resume_latency_us",
            "n/a",
        ),
        ("sys/kernel/mm/transparent_hugepage/enabled", "madvise"),
        ("proc/sys/vm/swappiness", "10"),
    ] {
        assert_eq!(tuned[name], value, "{name}");
    }
    let again = printed(&made_up.run(&[&["apply"][..], &only].concat()), 0);
    assert!(again.starts_with("nothing to change"), "{again}");
    // Somebody meddles, and it is applied once more: what the first found is still what is put back.
    fs::write(made_up.path("proc/sys/net/core/somaxconn"), "256\n").expect("it is ours");
    printed(&made_up.run(&[&["apply"][..], &only].concat()), 0);
    assert_eq!(made_up.says(), tuned);
    printed(&made_up.run(&["revert"]), 0);
    assert_eq!(made_up.says(), before);
    assert!(!made_up.path("state").exists());
    let nothing = printed(&made_up.run(&["revert"]), 0);
    assert!(nothing.starts_with("nothing to put back"), "{nothing}");
}

#[test]
fn puts_back_the_ratio_where_no_bytes_were_set() {
    let made_up = MadeUp::new();
    printed(&made_up.run(&["apply", "--only", "vm.dirty*"]), 0);
    assert_eq!(made_up.says()["proc/sys/vm/dirty_background_bytes"], "67108864");
    // As the kernel does.
    fs::write(made_up.path("proc/sys/vm/dirty_background_ratio"), "0\n").expect("it is ours");
    let out = printed(&made_up.run(&["revert"]), 0);
    assert!(
        out.contains("put back 10 (/proc/sys/vm/dirty_background_ratio)"),
        "{out}"
    );
    assert_eq!(made_up.says()["proc/sys/vm/dirty_background_ratio"], "10");
}

#[test]
fn forgets_what_it_noted_before_the_host_was_started_anew() {
    let made_up = MadeUp::new();
    printed(&made_up.run(&["apply"]), 0);
    fs::write(made_up.path("proc/sys/kernel/random/boot_id"), "second-boot\n").expect("it is ours");
    let tuned = made_up.says();
    let out = printed(&made_up.run(&["revert"]), 0);
    assert!(out.contains("started anew"), "{out}");
    assert_eq!(made_up.says(), tuned);
}

#[test]
fn keeps_what_could_not_be_put_back() {
    let made_up = MadeUp::new();
    printed(&made_up.run(&["apply", "--only", "vm.swappiness"]), 0);
    let file = made_up.path("proc/sys/vm/swappiness");
    fs::remove_file(&file).expect("it is ours");
    fs::create_dir(&file).expect("nothing writes to a folder");
    let output = made_up.run(&["revert"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("could not put back 60"),
        "{output:?}"
    );
    fs::remove_dir(&file).expect("it is ours");
    fs::write(&file, "10\n").expect("it is ours");
    printed(&made_up.run(&["revert"]), 0);
    assert_eq!(made_up.says()["proc/sys/vm/swappiness"], "60");
}

#[test]
fn refuses_to_change_the_host_for_anyone_but_root() {
    for mode in ["apply", "revert"] {
        let mut command = Command::new("setpriv");
        if is_root() {
            command.args(["--reuid=65534", "--clear-groups"]);
        }
        // An absolute path to bash: the folder of the checkout may be closed to others, its text is read from here.
        let output = command
            .args(["/bin/bash", "-s", "--", mode, "--state", "/nonexistent/state"])
            .stdin(fs::File::open(script()).expect("the script"))
            .output()
            .expect("util-linux is there");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains("only root may"), "{output:?}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn reads_of_a_clickhouse_what_matters() {
    let engine = Engine::start();
    let name = TableName {
        database: "default".to_owned(),
        table: "otel_logs".to_owned(),
    };
    engine.sql(&TableSchema::default_table_ddl(&name, None));
    engine.sql(
        "CREATE TABLE forgetful (a UInt8) ENGINE = MergeTree ORDER BY a SETTINGS parts_to_throw_insert = 300",
    );
    let url = format!("http://127.0.0.1:{}", engine.embedded.http_port());
    let check = |table: &str| {
        let output = host(&[
            "check",
            "--clickhouse",
            &url,
            "--table",
            table,
            "--only",
            "*default.*",
        ]);
        let lines = text(&output.stdout);
        lines
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        check("default.otel_logs"),
        [
            "ok parts_to_delay_insert of default.otel_logs >= 1000 1000",
            "ok parts_to_throw_insert of default.otel_logs >= 3000 3000",
            "ok non_replicated_deduplication_window of default.otel_logs >= 1000 1000",
        ]
    );
    assert_eq!(
        check("default.forgetful")[1..],
        [
            "differs parts_to_throw_insert of default.forgetful >= 3000 300",
            "differs non_replicated_deduplication_window of default.forgetful >= 1000 0",
        ]
    );
    assert_eq!(
        check("default.absent")[2..],
        ["unknown deduplication window of default.absent >= 1000 no such table"]
    );
}

#[test]
fn refuses_what_it_does_not_know() {
    for arguments in [&["check", "--fast"][..], &["check", "--state"], &["tune"], &[]] {
        assert_eq!(host(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

/// The real files of a network namespace, which is gone when its last process is.
#[test]
fn applies_and_reverts_in_a_network_namespace() {
    if !is_root() {
        eprintln!("not root: no network namespace");
        return;
    }
    let names = [
        "net/core/somaxconn",
        "net/ipv4/tcp_max_syn_backlog",
        "net/ipv4/tcp_rmem",
    ];
    let of_host =
        || names.map(|name| fs::read_to_string(Path::new("/proc/sys").join(name)).expect("Linux has it"));
    let before = of_host();
    let directory = tempfile::tempdir().expect("a directory");
    let commands = "set -eu; cd /proc/sys/net
        echo 77 >core/somaxconn; echo 88 >ipv4/tcp_max_syn_backlog; echo 4096 65536 1048576 >ipv4/tcp_rmem
        show() { cat core/somaxconn ipv4/tcp_max_syn_backlog ipv4/tcp_rmem; }
        tune() { \"$1\" \"$2\" --state \"$3\" --only 'net.@(core.somaxconn|ipv4.tcp_max_syn_backlog|ipv4.tcp_rmem)' >&2; }
        tune \"$1\" apply \"$2\"; show; echo 99 >core/somaxconn; tune \"$1\" apply \"$2\"; show
        tune \"$1\" revert \"$2\"; show";
    let output = Command::new("unshare")
        .args(["--net", "sh", "-c", commands, "sh"])
        .arg(script())
        .arg(directory.path().join("state"))
        .output()
        .expect("util-linux is there");
    if text(&output.stderr).contains("unshare failed") {
        eprintln!("no network namespace: {}", text(&output.stderr));
        return;
    }
    assert!(output.status.success(), "{output:?}");
    let tuned = "4096\n4096\n4096\t65536\t6291456\n";
    assert_eq!(
        text(&output.stdout),
        [tuned, tuned, "77\n88\n4096\t65536\t1048576\n"].concat()
    );
    assert_eq!(of_host(), before);
}
