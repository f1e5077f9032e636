//! What Linux tells of a process: CPU time, memory, children.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of the calling thread, in nanoseconds and not in ticks.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What the calling thread has had of its CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadTime {
    /// Time it ran.
    pub cpu: Duration,
    /// Time it could have run and had no CPU, because another thread did.
    pub waited: Duration,
}

/// Times of the calling thread; what it waited is zero when the system does not tell.
pub fn thread_time() -> ThreadTime {
    ThreadTime {
        cpu: thread_cpu(),
        ..schedstat(Path::new("/proc/thread-self"))
    }
}

/// Times of all threads of a process whose names begin like this, in nanoseconds and not in ticks; zero when the system does
/// not tell.
pub fn time_of_threads(pid: u32, start: &str) -> ThreadTime {
    let mut sum = ThreadTime::default();
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with(start) {
            let time = schedstat(&task.path());
            sum.cpu += time.cpu;
            sum.waited += time.waited;
        }
    }
    sum
}

/// Time on a CPU, then time waiting for one, in nanoseconds (Documentation/scheduler/sched-stats.rst).
fn schedstat(task: &Path) -> ThreadTime {
    let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let mut fields = text.split_whitespace().map(|field| field.parse().unwrap_or(0));
    let mut next = || Duration::from_nanos(fields.next().unwrap_or(0));
    ThreadTime {
        cpu: next(),
        waited: next(),
    }
}

/// CPU time of a process so far, user and system, all its threads, those that have ended too. In clock ticks of mostly
/// 10 ms. `None` when there is no such process.
pub fn cpu(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    ticks(&stat).map(duration)
}

/// CPU time of the threads of a process whose names begin like this, in the same ticks.
pub fn cpu_of_threads(pid: u32, start: &str) -> Duration {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Duration::ZERO;
    };
    let of_task = |task: fs::DirEntry| {
        let comm = fs::read_to_string(task.path().join("comm")).ok()?;
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        comm.starts_with(start).then_some(ticks(&stat)?)
    };
    duration(tasks.flatten().filter_map(of_task).sum())
}

fn duration(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// utime + stime, fields 14 and 15 of proc_pid_stat(5); the name before them may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

/// The most memory a process has had, in bytes (VmHWM). `None` when there is no such process.
pub fn memory_peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let parent_of = |entry: fs::DirEntry| {
        let child: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (parent == pid).then_some(child)
    };
    fs::read_dir("/proc")
        .map(|entries| entries.flatten().filter_map(parent_of).collect())
        .unwrap_or_default()
}

/// Keeps all threads of a process on these CPUs, those that they will start as well.
///
/// # Errors
/// A CPU is none of the machine's, or the process is another user's.
pub fn pin(pid: u32, cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    let mut pinned = Vec::new();
    loop {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
        let ids: Vec<i32> = tasks
            .filter_map(|task| task.file_name().to_str()?.parse().ok())
            .filter(|id| !pinned.contains(id))
            .collect();
        // A thread that was started meanwhile, by one that was not pinned yet, is found the next time round.
        if ids.is_empty() {
            return Ok(());
        }
        for id in ids {
            match sched_setaffinity(Pid::from_raw(id), &set) {
                // It may have ended.
                Ok(()) | Err(rustix::io::Errno::SRCH) => pinned.push(id),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether the process runs: it exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(')')
            .is_some_and(|(_, fields)| !fields.trim_start().starts_with('Z'))
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn pins_another_process() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let cpu = crate::topology::available()[0];
        let pinned = pin(child.id(), &[cpu]);
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        pinned.unwrap();
        assert!(
            status.contains(&format!("Cpus_allowed_list:\t{cpu}\n")),
            "{status}"
        );
    }

    #[test]
    fn finds_the_times_behind_any_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 70 8 0 0 20 0 1 0";
        assert_eq!(ticks(stat), Some(78));
        assert_eq!(ticks("42 (a) S 1"), None);
    }

    #[test]
    fn sees_this_process() {
        let pid = std::process::id();
        assert!(is_alive(pid));
        assert!(memory_peak_bytes(pid).is_some_and(|bytes| bytes > 100_000));
        let before = thread_time().cpu;
        let mut sum = 0_u64;
        while thread_time().cpu < before + Duration::from_millis(30) {
            sum = std::hint::black_box(sum.wrapping_mul(31) + 1);
        }
        assert!(cpu(pid) >= Some(Duration::from_millis(20)));
        assert_eq!(cpu(u32::MAX), None);
        assert!(time_of_threads(pid, "").cpu >= Duration::from_millis(30));
        assert_eq!(
            time_of_threads(pid, "no thread is called so"),
            ThreadTime::default()
        );
    }
}
