//! The hidden subcommand's body: loads the engine's library and becomes `clickhouse local`.
#![allow(unsafe_code)]

use std::ffi::{CString, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

/// How often the child looks whether its parent is still there, and the time it then has to end by itself.
const PARENT_CHECK_INTERVAL: Duration = Duration::from_millis(500);
const PARENT_GONE_GRACE: Duration = Duration::from_secs(3);

/// Runs the engine in this process and ends with it. `arguments`: path of the library, then the arguments of
/// `clickhouse local`.
///
/// Exit codes: 0 when the engine returned, 2 when it could not be loaded (the reason is on stderr).
pub fn run_engine_child(arguments: &[OsString]) -> ! {
    let Some((library, arguments)) = arguments.split_first() else {
        eprintln!("embedded-engine is an internal command of ringhouse serve --embedded");
        std::process::exit(2);
    };
    // Its parent does without; the engine decides for itself.
    let _ = rustix::thread::disable_transparent_huge_pages(false);
    watch_parent();
    match call_engine(&PathBuf::from(library), arguments) {
        // Not `exit`: the engine's own clean-up at exit has run inside the call, its destructors need not run again.
        Ok(()) => end_now(0),
        Err(reason) => {
            eprintln!("{reason}");
            end_now(2)
        }
    }
}

/// Ends this process a few seconds after its parent, whatever the engine is doing then.
///
/// The engine ends by itself when its pipe closes; this is for an engine that hangs before or after that.
fn watch_parent() {
    let parent = rustix::process::getppid();
    std::thread::spawn(move || {
        while rustix::process::getppid() == parent {
            std::thread::sleep(PARENT_CHECK_INTERVAL);
        }
        std::thread::sleep(PARENT_GONE_GRACE);
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    });
}

fn call_engine(library: &PathBuf, arguments: &[OsString]) -> Result<(), String> {
    let program = OsString::from("clickhouse");
    let strings = std::iter::once(&program)
        .chain(arguments)
        .map(|argument| CString::new(argument.clone().into_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "an argument of the engine holds a zero byte".to_owned())?;
    let mut pointers: Vec<*mut c_char> = strings.iter().map(|s| s.as_ptr().cast_mut()).collect();
    let count =
        c_int::try_from(pointers.len()).map_err(|_| "too many arguments for the engine".to_owned())?;
    // C programs may rely on argv[argc] being null.
    pointers.push(std::ptr::null_mut());

    // SAFETY: the library's initialisers run here. It is the file `fetch` verified against its pinned hash, and this
    // process exists for nothing but running it: no other thread uses what they may change (signals, allocator).
    let engine = unsafe { libloading::Library::new(library) }.map_err(|error| {
        format!(
            "the engine's library {} does not load: {error}",
            library.display()
        )
    })?;
    // SAFETY: the name and this signature are chdb.h's of the pinned version: `chdb_query_cmdline(int, char **)`,
    // returning a pointer to its result or null.
    let main =
        unsafe { engine.get::<unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void>(ENTRY) }
            .map_err(|error| format!("the engine's library {} has no entry: {error}", library.display()))?;
    // SAFETY: `pointers` are `count` zero-terminated strings and a null, owned by `strings`, which outlives the call. The
    // engine parses them as any main does and does not write to them.
    let result = unsafe { main(count, pointers.as_mut_ptr()) };
    // Its threads may still be running: the code must stay mapped until the process is gone.
    std::mem::forget(engine);
    if result.is_null() {
        Err("the engine returned without a result".to_owned())
    } else {
        Ok(())
    }
}

const ENTRY: &[u8] = b"chdb_query_cmdline\0";

/// Ends the process without running exit handlers.
fn end_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any number, touches no memory of ours and does not return.
    unsafe { _exit(code) }
}

unsafe extern "C" {
    fn _exit(code: c_int) -> !;
}
