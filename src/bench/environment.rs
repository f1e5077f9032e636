//! Where, with what and how something was measured: no figure is written down without it.

use std::fmt;
use std::fs;
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::topology;

/// Machine, commit and command of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Environment {
    /// Model of the first CPU, as Linux names it.
    pub cpu: String,
    /// CPUs this process may run on.
    pub cpus: usize,
    /// Memory of the machine, in bytes.
    pub memory_bytes: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Version of this program.
    pub version: &'static str,
    /// Commit of the source directory it was built from, as it is now; marked when files differ from it.
    pub commit: String,
    /// Whether the program is optimized.
    pub optimized: bool,
    /// Command line.
    pub command: String,
    /// Runnable threads of the machine in the last minute, before the run: others may have shared its CPUs.
    pub load_average: f64,
}

impl Environment {
    /// Of this process, now. Call it before anything is pinned or measured.
    pub fn read() -> Environment {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let uname = rustix::system::uname();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Environment {
            cpu: value(&cpuinfo, "model name").unwrap_or("unknown CPU").to_owned(),
            cpus: topology::available().len(),
            memory_bytes: rustix::system::sysinfo().totalram as u64
                * u64::from(rustix::system::sysinfo().mem_unit),
            kernel: uname.release().to_string_lossy().into_owned(),
            version: env!("CARGO_PKG_VERSION"),
            commit: commit(),
            optimized: !cfg!(debug_assertions),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            load_average: load
                .split(' ')
                .next()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0.0),
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} CPUs, {:.1} GiB, Linux {}, load {:.2} before; ringhouse {} at {}{}\n{}",
            self.cpu,
            self.cpus,
            self.memory_bytes as f64 / f64::from(1 << 30),
            self.kernel,
            self.load_average,
            self.version,
            self.commit,
            if self.optimized {
                ""
            } else {
                ", NOT OPTIMIZED (build with --release)"
            },
            self.command
        )
    }
}

fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim())
}

/// Asked when it is needed, not noted when it is built: a build that knew it would be a new one after every commit.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR")])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown commit".to_owned();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit} with changes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_all_that_a_number_needs() {
        let environment = Environment::read();
        assert!(
            environment.cpus > 0 && environment.memory_bytes > 0,
            "{environment:?}"
        );
        let text = environment.to_string();
        for part in [&environment.cpu, &environment.commit, &environment.command] {
            assert!(text.contains(part.as_str()), "{text}");
        }
    }
}
