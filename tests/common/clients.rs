//! Clients as their users install them: packages of PyPI, npm, Maven and Debian, kept under target/ between runs.
#![allow(dead_code)] // Each test program uses its own part of this.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Python,
    JavaScript,
    /// Its packages are written GROUP:ARTIFACT:VERSION, its scripts are source files with a `main`.
    Java,
}

impl Language {
    /// A directory with `packages`, installed at the first use; `None` when what installs them is missing. A test program asks for
    /// each once: keep what it returns in a `OnceLock`.
    pub fn install(self, name: &str, packages: &[&str]) -> Option<PathBuf> {
        let program = match self {
            Language::Python => "python3",
            Language::JavaScript => "npm",
            Language::Java => "mvn",
        };
        if Command::new(program).arg("--version").output().is_err() {
            println!("{program} is missing: {self:?} is not tried");
            return None;
        }
        let install = |directory: &Path| match self {
            Language::Python => {
                run(Command::new("python3").args(["-m", "venv"]).arg(directory));
                let pip = directory.join("bin/pip");
                run(Command::new(pip).args(["install", "--quiet"]).args(packages));
            }
            Language::JavaScript => {
                fs::write(directory.join("package.json"), r#"{"private": true}"#).unwrap();
                let npm = ["install", "--no-audit", "--no-fund", "--silent"];
                run(Command::new("npm")
                    .args(npm)
                    .args(packages)
                    .current_dir(directory));
            }
            Language::Java => {
                fs::write(directory.join("pom.xml"), pom(packages)).unwrap();
                run(Command::new("mvn")
                    .args(["--quiet", "--batch-mode", "dependency:copy-dependencies"])
                    .args(["-DincludeScope=runtime", "-DoutputDirectory=jars"])
                    .current_dir(directory));
            }
        };
        Some(installed(&format!("{name}-{self:?}"), packages, install))
    }

    /// Starts `script` (a path below tests/) with what is installed in `packages`, and gives it `rows`, a line each. What it says
    /// goes into `said`, what it complains of into `complained`, which may be the same file.
    pub fn start(
        self,
        packages: &Path,
        script: &str,
        arguments: &[&str],
        rows: &[Value],
        said: File,
        complained: File,
    ) -> Client {
        let (program, options) = match self {
            Language::Python => (packages.join("bin/python"), &[][..]),
            Language::JavaScript => (PathBuf::from("node"), &[][..]),
            Language::Java => (PathBuf::from("java"), &["-cp", "jars/*"][..]),
        };
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut child = Command::new(program)
            .args(options)
            .arg(tests.join(script))
            .args(arguments)
            // What the environment says of proxies and exporters is not for these.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(packages)
            .stdin(Stdio::piped())
            .stdout(said)
            .stderr(complained)
            .spawn()
            .unwrap();
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let mut input = child.stdin.take().unwrap();
        input.write_all(lines.as_bytes()).unwrap();
        Client(child)
    }
}

/// A project that depends on these packages.
fn pom(packages: &[&str]) -> String {
    let dependencies = packages.iter().map(|package| {
        let mut parts = package.split(':');
        let [group, artifact, version] = [(); 3].map(|()| parts.next().expect("GROUP:ARTIFACT:VERSION"));
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    });
    let dependencies: String = dependencies.collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>test</groupId><artifactId>clients</artifactId><version>1</version>\
         <dependencies>{dependencies}</dependencies></project>"
    )
}

/// A directory under target/ that `install` has filled once for all of these `packages`.
pub fn installed(name: &str, packages: &[&str], install: impl FnOnce(&Path)) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let stamp = directory.join("installed");
    if !fs::read_to_string(&stamp).is_ok_and(|installed| installed == packages.join("\n")) {
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        install(&directory);
        fs::write(stamp, packages.join("\n")).unwrap();
    }
    directory
}

/// Packages of Debian, unpacked without being installed; `None` where there is no apt.
pub fn debian(name: &str, packages: &[&str]) -> Option<PathBuf> {
    // apt's lists are updated by one process at a time.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if Command::new("apt-get").arg("--version").output().is_err() {
        println!("apt-get is missing: {name} is not tried");
        return None;
    }
    let directory = installed(name, packages, |directory| {
        let download = || {
            let mut command = Command::new("apt-get");
            command.arg("download").args(packages).current_dir(directory);
            command
        };
        if !download().output().unwrap().status.success() {
            run(Command::new("apt-get").arg("update"));
            run(&mut download());
        }
        for entry in fs::read_dir(directory).unwrap() {
            let package = entry.unwrap().path();
            if package.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb").arg("-x").arg(package).arg(directory));
            }
        }
    });
    Some(directory)
}

/// A client's process; killed when dropped.
pub struct Client(pub Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
