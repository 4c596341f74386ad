//! What a receiver has at its end, in memory and as a file.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use super::table::{Run, Table};
use super::{tenant_key, tenant_of};
use crate::bench::compare::{Faults, Holdings};
use crate::bench::ledger::{LedgerReader, LedgerWriter};

/// What the file's first line calls it.
const KIND: &str = "sluicegate bench sink";

/// Every sample that a receiver accepted, without its bits: those were checked when it came.
pub struct SinkLedger {
    tenant_headers: Vec<String>,
    faults: Faults,
    table: Table,
}

#[derive(Serialize, Deserialize)]
struct Head {
    tenant_headers: Vec<String>,
    faults: Faults,
}

/// A series: its key in hex, and first, last and step of each run of timestamps, milliseconds.
#[derive(Serialize, Deserialize)]
struct Line {
    series: String,
    runs: Vec<[i64; 3]>,
}

impl SinkLedger {
    pub(super) fn new(tenant_headers: Vec<String>, faults: Faults, table: Table) -> Self {
        Self {
            tenant_headers,
            faults,
            table,
        }
    }

    /// Writes it as [`crate::bench::ledger`] says; about 100 bytes a series.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let head = Head {
            tenant_headers: self.tenant_headers.clone(),
            faults: self.faults,
        };
        let mut writer = LedgerWriter::begin(out, KIND, &head)?;
        for (key, runs) in self.table.series_runs() {
            writer.line(&Line {
                series: format!("{key:032x}"),
                runs: runs
                    .iter()
                    .map(|run| [run.first, run.last, run.step])
                    .collect(),
            })?;
        }
        writer.end()
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// What the system says, or why it is not such a file.
    pub fn read(input: impl BufRead) -> io::Result<Self> {
        let (mut reader, head) = LedgerReader::begin::<Head>(input, KIND)?;
        let mut table = Table::new(true);
        while let Some(line) = reader.line::<Line>()? {
            let key =
                u128::from_str_radix(&line.series, 16).map_err(|error| reader.refuse(&error))?;
            let run = |[first, last, step]: &[i64; 3]| Run {
                first: *first,
                last: *last,
                step: *step,
            };
            let runs: Vec<Run> = line.runs.iter().map(run).collect();
            if !runs.iter().all(Run::is_sound) {
                return Err(reader.refuse(&"a run does not lead from its first to its last"));
            }
            table.restore(key, runs);
        }
        Ok(Self::new(head.tenant_headers, head.faults, table))
    }
}

impl Holdings for SinkLedger {
    fn has(&self, headers: &[(String, String)], key: u128, timestamp_ms: i64) -> bool {
        let tenant = tenant_of(headers, &self.tenant_headers);
        self.table.has(tenant_key(key, &tenant), timestamp_ms)
    }

    fn distinct(&self) -> u64 {
        self.table.distinct()
    }

    fn faults(&self) -> Faults {
        self.faults
    }
}
