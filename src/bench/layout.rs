//! Which CPUs the server to measure gets, and which the generator.

use crate::topology::{CoreChoice, Topology, TopologyError};

/// CPUs of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Of the server's ingest cores.
    pub ingest: Vec<usize>,
    /// Of its writer.
    pub writer: usize,
    /// Of the generator, a thread each.
    pub load: Vec<usize>,
}

impl Layout {
    /// Lays a run out over `cpus`, ascending.
    ///
    /// Without a choice a quarter of the CPUs ingests and a quarter makes the load, which leaves the rest, less the
    /// writer's, to ClickHouse: it is not pinned and takes about as much as the ingest cores. With too few CPUs the
    /// generator is on the writer's, which has the least to do.
    ///
    /// # Errors
    /// See [`Topology::plan`].
    pub fn plan(
        cpus: &[usize],
        ingest: Option<&CoreChoice>,
        load: Option<&CoreChoice>,
    ) -> Result<Layout, TopologyError> {
        let quarter = (cpus.len() / 4).max(1);
        let topology = Topology::plan(cpus, Some(ingest.unwrap_or(&CoreChoice::Count(quarter))), None)?;
        let free: Vec<usize> = cpus
            .iter()
            .copied()
            .filter(|cpu| !topology.ingest.contains(cpu) && *cpu != topology.writer)
            .collect();
        let load = match load {
            Some(CoreChoice::List(_)) => Topology::plan(cpus, load, None)?.ingest,
            Some(CoreChoice::Count(count)) => {
                // Checked like ingest cores; the free ones first, then the writer's, then those that ingest.
                Topology::plan(cpus, load, None)?;
                let mut order = free;
                order.push(topology.writer);
                order.extend(topology.ingest.iter().filter(|cpu| **cpu != topology.writer));
                order.truncate(*count);
                order
            }
            None if free.is_empty() => vec![topology.writer],
            None => free.into_iter().take(quarter).collect(),
        };
        Ok(Layout {
            ingest: topology.ingest,
            writer: topology.writer,
            load,
        })
    }

    /// Whether the generator has a CPU of the server's cores.
    pub fn is_shared(&self) -> bool {
        self.load
            .iter()
            .any(|cpu| *cpu == self.writer || self.ingest.contains(cpu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(cpus: usize, ingest: Option<&str>, load: Option<&str>) -> (Vec<usize>, usize, Vec<usize>) {
        let choice = |text: Option<&str>| text.map(|text| text.parse::<CoreChoice>().unwrap());
        let cpus: Vec<usize> = (0..cpus).collect();
        let layout = Layout::plan(&cpus, choice(ingest).as_ref(), choice(load).as_ref()).unwrap();
        (layout.ingest, layout.writer, layout.load)
    }

    #[test]
    fn keeps_the_generator_off_the_server_where_it_can() {
        assert_eq!(layout(1, None, None), (vec![0], 0, vec![0]));
        assert_eq!(layout(2, None, None), (vec![0], 1, vec![1]));
        assert_eq!(layout(4, None, None), (vec![0], 3, vec![1]));
        assert_eq!(layout(16, None, None), (vec![0, 1, 2, 3], 15, vec![4, 5, 6, 7]));
        assert_eq!(layout(2, Some("2"), None), (vec![0, 1], 1, vec![1]));
        assert_eq!(layout(4, Some("1,2"), Some("2")), (vec![1, 2], 3, vec![0, 3]));
        assert_eq!(layout(4, None, Some("0,1")), (vec![0], 3, vec![0, 1]));
    }

    #[test]
    fn rejects_cpus_that_do_not_exist() {
        for (ingest, load) in [(Some("9,"), None), (None, Some("9,")), (None, Some("5"))] {
            let choice = |text: Option<&str>| text.map(|text| text.parse::<CoreChoice>().unwrap());
            Layout::plan(&[0, 1], choice(ingest).as_ref(), choice(load).as_ref()).unwrap_err();
        }
    }
}
