//! Which CPUs exist, and which core does what on which of them.

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// How `--ingest-cores` names the CPUs: how many, or which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoreChoice {
    /// So many, the lowest numbers first, the writer's last.
    Count(usize),
    /// Exactly these CPU numbers, one ingest core each, in this order.
    List(Vec<usize>),
}

/// CPUs one list may name: more than any machine has, so that `0-18446744073709551615` is refused, not built.
const LIST_CPUS_MAX: usize = 4096;

impl FromStr for CoreChoice {
    type Err = TopologyError;

    /// Reads a count (`4`) or a list (`0,2-5`; `3,` and `3-3` are the list of CPU 3 alone).
    fn from_str(text: &str) -> Result<Self, TopologyError> {
        let malformed = || TopologyError::Malformed(text.to_owned());
        if let Ok(count) = text.parse() {
            return Ok(CoreChoice::Count(count));
        }
        let mut list = Vec::new();
        for part in text.strip_suffix(',').unwrap_or(text).split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.trim().parse().map_err(|_| malformed())?;
            let last: usize = last.trim().parse().map_err(|_| malformed())?;
            if first > last || last - first >= LIST_CPUS_MAX || list.len() >= LIST_CPUS_MAX {
                return Err(malformed());
            }
            list.extend(first..=last);
        }
        Ok(CoreChoice::List(list))
    }
}

impl fmt::Display for CoreChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoreChoice::Count(count) => write!(f, "{count}"),
            // The comma at the end keeps a list of one CPU from reading as a count.
            CoreChoice::List(list) => list.iter().try_for_each(|cpu| write!(f, "{cpu},")),
        }
    }
}

impl Serialize for CoreChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            CoreChoice::Count(count) => count.serialize(serializer),
            CoreChoice::List(list) => list.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for CoreChoice {
    /// Reads `4`, `[0, 2, 3]`, or the text form of the flag.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = CoreChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of cores, a list of CPU numbers, or a text like \"0,2-5\"")
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<CoreChoice, E> {
                usize::try_from(count)
                    .map(CoreChoice::Count)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(count), &self))
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<CoreChoice, E> {
                Ok(CoreChoice::Count(count as usize))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CoreChoice, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut cpus: A) -> Result<CoreChoice, A::Error> {
                let mut list = Vec::new();
                while let Some(cpu) = cpus.next_element()? {
                    list.push(cpu);
                }
                Ok(CoreChoice::List(list))
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

/// Which CPU each core is pinned to.
///
/// Only the data plane is pinned. The control thread, the signal thread and the admin pages stay free: together they
/// work a few milliseconds a second, the scheduler finds them an idle CPU, and `/livez` must answer when the
/// writer's CPU is saturated. The embedded engine inherits the mask of the thread that starts it, so that thread
/// must be a free one, or ClickHouse would think it has one CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// CPU of each ingest core, by core index.
    pub ingest: Vec<usize>,
    /// CPU of the writer core.
    pub writer: usize,
}

impl Topology {
    /// Lays the cores out over `cpus` (ascending, see [`available`]).
    ///
    /// Without a choice the writer takes the last CPU and every other is an ingest core: parsing costs many times what
    /// sending compressed blocks does, and CPU 0, where most interrupts land, is better shared with one of
    /// many ingest cores than with the only writer. On one CPU both share it.
    ///
    /// # Errors
    /// A CPU that does not exist or is named twice, no ingest core, or more than there are CPUs.
    pub fn plan(
        cpus: &[usize],
        ingest: Option<&CoreChoice>,
        writer: Option<usize>,
    ) -> Result<Topology, TopologyError> {
        let exists = |cpu: usize| {
            if cpus.contains(&cpu) {
                Ok(cpu)
            } else {
                Err(TopologyError::NoSuchCpu {
                    cpu,
                    cpus: cpus.to_vec(),
                })
            }
        };
        let last = *cpus.last().ok_or(TopologyError::NoCpus)?;
        if let Some(cpu) = writer {
            exists(cpu)?;
        }
        match ingest {
            Some(CoreChoice::List(list)) => {
                for (at, cpu) in list.iter().enumerate() {
                    exists(*cpu)?;
                    if list[..at].contains(cpu) {
                        return Err(TopologyError::Twice(*cpu));
                    }
                }
                if list.is_empty() {
                    return Err(TopologyError::NoIngestCores);
                }
                let free = cpus.iter().rev().find(|cpu| !list.contains(cpu));
                Ok(Topology {
                    ingest: list.clone(),
                    writer: writer.or(free.copied()).unwrap_or(last),
                })
            }
            Some(CoreChoice::Count(0)) => Err(TopologyError::NoIngestCores),
            Some(CoreChoice::Count(count)) if *count > cpus.len() => Err(TopologyError::TooMany {
                count: *count,
                cpus: cpus.to_vec(),
            }),
            choice => {
                let writer = writer.unwrap_or(last);
                // The writer's CPU comes last: it is shared only when every CPU is asked for, or there is one.
                let mut order: Vec<usize> = cpus.iter().copied().filter(|cpu| *cpu != writer).collect();
                order.push(writer);
                let count = match choice {
                    Some(CoreChoice::Count(count)) => *count,
                    _ => (cpus.len() - 1).max(1),
                };
                order.truncate(count);
                Ok(Topology {
                    ingest: order,
                    writer,
                })
            }
        }
    }

    /// Whether the writer shares its CPU with an ingest core.
    pub fn is_shared(&self) -> bool {
        self.ingest.contains(&self.writer)
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ingest: Vec<String> = self.ingest.iter().map(usize::to_string).collect();
        write!(
            f,
            "ingest on CPU {}, writer on CPU {}",
            ingest.join(","),
            self.writer
        )?;
        if self.is_shared() {
            f.write_str(" (shared)")
        } else {
            Ok(())
        }
    }
}

/// CPUs this thread may run on, ascending: what the machine has, less what a container or `taskset` takes away.
/// Call it before any pinning. Empty when the system does not tell.
pub fn available() -> Vec<usize> {
    let mut cpus: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| core.id)
        .collect();
    cpus.sort_unstable();
    cpus
}

/// Pins the calling thread to one CPU; for threads that are not glommio executors, which pin themselves.
///
/// # Errors
/// The system refused: the CPU went away, or the container forbids it.
pub fn pin_current_thread(cpu: usize) -> Result<(), TopologyError> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        Ok(())
    } else {
        Err(TopologyError::NotPinned(cpu))
    }
}

/// Why cores cannot be laid out as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopologyError {
    /// The text is neither a count nor a list.
    Malformed(String),
    /// The system names no CPU.
    NoCpus,
    /// A CPU number this process may not run on.
    NoSuchCpu {
        /// The number asked for.
        cpu: usize,
        /// What exists.
        cpus: Vec<usize>,
    },
    /// One CPU named for two ingest cores.
    Twice(usize),
    /// Nothing would take requests.
    NoIngestCores,
    /// More ingest cores than CPUs.
    TooMany {
        /// Cores asked for.
        count: usize,
        /// What exists.
        cpus: Vec<usize>,
    },
    /// The system refused to pin a thread to this CPU.
    NotPinned(usize),
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopologyError::Malformed(text) => {
                write!(
                    f,
                    "ingest_cores = `{text}` is neither a count like `4` nor a list of CPUs like `0,2-5`"
                )
            }
            TopologyError::NoCpus => {
                f.write_str("the system does not tell which CPUs this process may run on")
            }
            TopologyError::NoSuchCpu { cpu, cpus } => {
                write!(
                    f,
                    "CPU {cpu} does not exist for this process; it may run on {cpus:?}"
                )
            }
            TopologyError::Twice(cpu) => write!(
                f,
                "ingest_cores names CPU {cpu} twice; each ingest core needs its own"
            ),
            TopologyError::NoIngestCores => f.write_str("ingest_cores must name at least one core"),
            TopologyError::TooMany { count, cpus } => {
                write!(
                    f,
                    "ingest_cores = {count} is more than the {} CPUs this process may run on",
                    cpus.len()
                )
            }
            TopologyError::NotPinned(cpu) => write!(f, "the system refused to pin a thread to CPU {cpu}"),
        }
    }
}

impl std::error::Error for TopologyError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(cpus: &[usize]) -> CoreChoice {
        CoreChoice::List(cpus.to_vec())
    }

    fn plan(cpus: &[usize], ingest: Option<CoreChoice>, writer: Option<usize>) -> (Vec<usize>, usize) {
        let topology = Topology::plan(cpus, ingest.as_ref(), writer).unwrap();
        (topology.ingest, topology.writer)
    }

    #[test]
    fn reads_counts_and_lists() {
        assert_eq!("4".parse(), Ok(CoreChoice::Count(4)));
        assert_eq!("0,2-5".parse(), Ok(list(&[0, 2, 3, 4, 5])));
        assert_eq!("3-3".parse(), Ok(list(&[3])));
        assert_eq!("3,".parse(), Ok(list(&[3])));
    }

    #[test]
    fn rejects_what_is_neither_count_nor_list() {
        for text in [
            "",
            ",",
            "a",
            "1,,2",
            "5-2",
            "-1",
            "0-18446744073709551615",
            "0-4095,0-4095,1",
        ] {
            assert_eq!(
                CoreChoice::from_str(text),
                Err(TopologyError::Malformed(text.to_owned())),
                "{text:?}"
            );
        }
    }

    #[test]
    fn prints_what_it_reads() {
        for choice in [CoreChoice::Count(7), list(&[3]), list(&[0, 2, 5])] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
    }

    #[test]
    fn gives_the_writer_the_last_cpu_and_the_rest_to_ingest() {
        assert_eq!(plan(&[0], None, None), (vec![0], 0));
        assert_eq!(plan(&[0, 1], None, None), (vec![0], 1));
        assert_eq!(plan(&[0, 1, 2, 3], None, None), (vec![0, 1, 2], 3));
        assert_eq!(
            plan(&[4, 6, 9], None, None),
            (vec![4, 6], 9),
            "a container's CPUs need not start at 0"
        );
    }

    #[test]
    fn accepts_explicit_choices() {
        assert_eq!(
            plan(&[0, 1, 2, 3], Some(CoreChoice::Count(2)), None),
            (vec![0, 1], 3)
        );
        assert_eq!(
            plan(&[0, 1, 2, 3], Some(CoreChoice::Count(4)), None),
            (vec![0, 1, 2, 3], 3)
        );
        assert_eq!(plan(&[0, 1, 2, 3], None, Some(0)), (vec![1, 2, 3], 0));
        assert_eq!(plan(&[0, 1, 2, 3], Some(list(&[3, 1])), None), (vec![3, 1], 2));
        assert_eq!(
            plan(&[0, 1], Some(list(&[0, 1])), None),
            (vec![0, 1], 1),
            "shared when nothing is left"
        );
        assert_eq!(
            plan(&[0, 1], Some(list(&[0])), Some(0)),
            (vec![0], 0),
            "shared when asked for"
        );
    }

    #[test]
    fn rejects_cpus_that_do_not_exist_or_repeat() {
        let refused = |ingest, writer| Topology::plan(&[0, 1], Some(&ingest), writer).unwrap_err();
        assert_eq!(
            refused(list(&[0, 7]), None),
            TopologyError::NoSuchCpu {
                cpu: 7,
                cpus: vec![0, 1]
            }
        );
        assert_eq!(
            refused(list(&[0]), Some(9)),
            TopologyError::NoSuchCpu {
                cpu: 9,
                cpus: vec![0, 1]
            }
        );
        assert_eq!(refused(list(&[1, 1]), None), TopologyError::Twice(1));
        assert_eq!(refused(list(&[]), None), TopologyError::NoIngestCores);
        assert_eq!(refused(CoreChoice::Count(0), None), TopologyError::NoIngestCores);
        assert_eq!(
            refused(CoreChoice::Count(3), None),
            TopologyError::TooMany {
                count: 3,
                cpus: vec![0, 1]
            }
        );
        assert_eq!(Topology::plan(&[], None, None), Err(TopologyError::NoCpus));
    }

    #[test]
    fn pins_a_thread_to_the_cpu_it_names() {
        let cpus = available();
        let cpu = *cpus.last().expect("a machine that runs tests has a CPU");
        // On a thread of its own: the harness's stay free.
        let pinned = std::thread::spawn(move || pin_current_thread(cpu).map(|()| available()))
            .join()
            .unwrap();
        assert_eq!(pinned, Ok(vec![cpu]));
        assert_eq!(
            std::thread::spawn(|| pin_current_thread(1023)).join().unwrap(),
            Err(TopologyError::NotPinned(1023))
        );
    }
}
