//! What the measured time cost: CPU time of the server's threads, of ClickHouse and of the generator, beside the rows.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::process::{self, ThreadTime};

/// Whose CPU time is told apart.
#[derive(Debug, Clone)]
pub struct Parties {
    /// Process of the server, and how many ingest cores it has.
    pub server: Option<(u32, usize)>,
    /// Process of its ClickHouse.
    pub engine: Option<u32>,
}

/// CPU times at one moment.
#[derive(Debug, Clone)]
struct Moment {
    at: Instant,
    /// Rows that were acknowledged so far.
    rows: u64,
    times: Vec<(String, ThreadTime)>,
}

/// What one party took in the measured time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Usage {
    /// Who.
    pub name: String,
    /// CPU seconds for a million rows acknowledged meanwhile.
    pub cpu_s_per_million_rows: f64,
    /// The same the other way round: for a single thread the rows a second at which it would have no time left.
    pub rows_per_cpu_s: f64,
    /// CPU time as a share of the time, of one CPU.
    pub busy_share: f64,
    /// Time in which a thread of it could have run and had no CPU, as such a share; 0 where that is not known.
    pub wait_share: f64,
}

/// Looks at the beginning and at the end of the measured time.
#[derive(Debug)]
pub struct Meter {
    parties: Parties,
    from: Duration,
    to: Duration,
    begun: Option<Moment>,
    ended: Option<Moment>,
}

impl Meter {
    /// For what is measured between two times since the start of the run.
    pub fn new(parties: Parties, from: Duration, to: Duration) -> Meter {
        Meter {
            parties,
            from,
            to,
            begun: None,
            ended: None,
        }
    }

    /// To be called often, with the time since the start and the rows acknowledged so far.
    pub fn tick(&mut self, elapsed: Duration, rows: u64) {
        if self.begun.is_none() && elapsed >= self.from {
            self.begun = Some(self.moment(rows));
        }
        if self.ended.is_none() && elapsed >= self.to {
            self.ended = Some(self.moment(rows));
        }
    }

    fn moment(&self, rows: u64) -> Moment {
        let mut times = Vec::new();
        if let Some((pid, cores)) = self.parties.server {
            for core in 0..cores {
                let (ingest, log) = (format!("ingest-{core}-"), format!("log-{core}"));
                times.push((
                    format!("ingest core {core}"),
                    process::time_of_threads(pid, &ingest),
                ));
                times.push((format!("its log {core}"), process::time_of_threads(pid, &log)));
            }
            times.push(("writer".to_owned(), process::time_of_threads(pid, "writer-")));
        }
        if let Some(cpu) = self.parties.engine.and_then(process::cpu) {
            let waited = Duration::ZERO;
            times.push(("ClickHouse".to_owned(), ThreadTime { cpu, waited }));
        }
        Moment {
            at: Instant::now(),
            rows,
            times,
        }
    }

    /// What was taken between the two looks; nothing when there were none.
    pub fn usages(&self) -> Vec<Usage> {
        let (Some(begun), Some(ended)) = (&self.begun, &self.ended) else {
            return Vec::new();
        };
        let (seconds, rows) = ((ended.at - begun.at).as_secs_f64(), ended.rows - begun.rows);
        let both = begun.times.iter().zip(&ended.times);
        both.map(|((name, before), (_, after))| {
            let cpu_s = after.cpu.saturating_sub(before.cpu).as_secs_f64();
            Usage {
                name: name.clone(),
                cpu_s_per_million_rows: cpu_s * 1e6 / (rows as f64).max(1.0),
                // A tick of the clock or less took none.
                rows_per_cpu_s: rows as f64 / cpu_s.max(1e-9),
                busy_share: cpu_s / seconds,
                wait_share: after.waited.saturating_sub(before.waited).as_secs_f64() / seconds,
            }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_the_time_between_the_looks_to_the_rows_between_them() {
        let time = |milliseconds| ThreadTime {
            cpu: Duration::from_millis(milliseconds),
            waited: Duration::from_millis(milliseconds / 10),
        };
        let mut meter = Meter::new(
            Parties {
                server: None,
                engine: None,
            },
            Duration::from_secs(1),
            Duration::from_secs(3),
        );
        meter.tick(Duration::from_millis(900), 5);
        assert!(meter.begun.is_none() && meter.usages().is_empty());
        meter.tick(Duration::from_millis(1010), 1_000_000);
        assert!(meter.ended.is_none());
        let at = Instant::now();
        let moment = |seconds, rows, cpu_ms| {
            Some(Moment {
                at: at + Duration::from_secs(seconds),
                rows,
                times: vec![("x".to_owned(), time(cpu_ms))],
            })
        };
        (meter.begun, meter.ended) = (moment(0, 1_000_000, 500), moment(2, 3_000_000, 1500));
        let usages = meter.usages();
        assert_eq!(usages.len(), 1);
        assert!((usages[0].busy_share - 0.5).abs() < 1e-9, "{usages:?}");
        assert!((usages[0].wait_share - 0.05).abs() < 1e-9, "{usages:?}");
        assert!(
            (usages[0].cpu_s_per_million_rows - 0.5).abs() < 1e-9,
            "{usages:?}"
        );
        assert!((usages[0].rows_per_cpu_s - 2e6).abs() < 1e-3, "{usages:?}");
    }
}
