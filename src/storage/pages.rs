//! What `storage inspect` prints.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::list::SegmentLine;
use super::show;
use crate::model::counts::Counts;

/// What was found.
#[derive(Serialize)]
pub(super) struct Inspection {
    pub(super) in_use: bool,
    pub(super) segments: Vec<SegmentPage>,
    pub(super) records: Vec<RecordPage>,
}

/// What a segment says of itself.
#[derive(Serialize)]
pub(super) struct SegmentPage {
    #[serde(flatten)]
    pub(super) line: SegmentLine,
    #[serde(serialize_with = "show::counts")]
    pub(super) totals_before: Counts,
    #[serde(serialize_with = "show::counts")]
    pub(super) totals: Counts,
    /// Records of older segments are void from here on.
    pub(super) void_from: u64,
    /// Copies of the header that hold, of two.
    pub(super) headers: usize,
    pub(super) sealed: bool,
}

/// What a record says of itself.
#[derive(Serialize)]
pub(super) struct RecordPage {
    pub(super) sequence: u64,
    pub(super) segment: String,
    pub(super) offset: u64,
    pub(super) head_bytes: u32,
    pub(super) body_bytes: u32,
    pub(super) arrival: String,
    #[serde(serialize_with = "show::counts")]
    pub(super) counts: Counts,
    #[serde(serialize_with = "show::counts")]
    pub(super) admitted: Counts,
    #[serde(serialize_with = "show::counts")]
    pub(super) totals: Counts,
    /// `whole` or `damaged`.
    pub(super) header: &'static str,
    /// `whole`, `damaged`, or `unknown` where the header is damaged.
    pub(super) body: &'static str,
    #[serde(flatten)]
    pub(super) told: Option<ToldPage>,
    /// By queue, elements not settled.
    pub(super) pending: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) series: Option<Vec<SeriesLine>>,
    /// Why the body could not be decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) undecodable: Option<String>,
}

#[derive(Serialize)]
pub(super) struct ToldPage {
    pub(super) protocol: &'static str,
    pub(super) encoding: &'static str,
    pub(super) tenant: Vec<(String, String)>,
    /// Ordinals of series that were refused by themselves: from, one past the last.
    pub(super) skipped: Vec<(u32, u32)>,
    pub(super) body_crc: u32,
}

#[derive(Serialize)]
pub(super) struct SeriesLine {
    pub(super) labels: Vec<(String, String)>,
    pub(super) samples: u32,
    pub(super) histograms: u32,
    pub(super) exemplars: u32,
    /// Why it was refused by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.in_use {
            writeln!(f, "in use by a running process")?;
        }
        for page in &self.segments {
            writeln!(f, "{page}")?;
        }
        for page in &self.records {
            writeln!(f, "{page}")?;
        }
        if self.records.is_empty() {
            writeln!(f, "no such record here")?;
        }
        Ok(())
    }
}

impl fmt::Display for SegmentPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = &self.line;
        writeln!(f, "segment {}", show::escaped(&line.file))?;
        writeln!(f, "  state          {}", line.state)?;
        writeln!(f, "  bytes          {}", line.bytes)?;
        if let Some(held) = &line.held {
            writeln!(f, "  records        {}", held.records)?;
            writeln!(f, "  sequences      {}..{}", held.first, held.last)?;
            writeln!(
                f,
                "  arrivals       {} .. {}",
                held.first_arrival, held.last_arrival
            )?;
            writeln!(f, "  missing        {} records", held.missing)?;
            writeln!(f, "  behind them    {} bytes of no record", held.torn_bytes)?;
        }
        writeln!(f, "  totals before  {}", show::words(self.totals_before))?;
        writeln!(f, "  totals         {}", show::words(self.totals))?;
        writeln!(f, "  makes void     from {} on", self.void_from)?;
        writeln!(f, "  header         {} of 2 copies hold", self.headers)?;
        let footer = if self.sealed { "holds" } else { "none" };
        write!(f, "  footer         {footer}")
    }
}

impl fmt::Display for RecordPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "record {}", self.sequence)?;
        let (file, at) = (show::escaped(&self.segment), self.offset);
        writeln!(f, "  segment   {file} at byte {at}")?;
        writeln!(f, "  arrival   {}", self.arrival)?;
        let (head, body) = (self.head_bytes, self.body_bytes);
        writeln!(f, "  header    {}, {head} bytes", self.header)?;
        match &self.told {
            Some(told) => {
                let crc = told.body_crc;
                writeln!(f, "  body      {}, {body} bytes, CRC {crc:08x}", self.body)?;
                writeln!(f, "  message   {}, {}", told.protocol, told.encoding)?;
                for (name, value) in &told.tenant {
                    let (name, value) = (show::escaped(name), show::escaped(value));
                    writeln!(f, "  tenant    {name}: {value}")?;
                }
                let runs: Vec<_> = told.skipped.iter().copied().map(run).collect();
                if !runs.is_empty() {
                    writeln!(f, "  skipped   ordinals {}", runs.join(", "))?;
                }
            }
            None => writeln!(f, "  body      {}, {body} bytes", self.body)?,
        }
        writeln!(f, "  holds     {}", show::words(self.counts))?;
        writeln!(f, "  admitted  {}", show::words(self.admitted))?;
        writeln!(f, "  totals    {}", show::words(self.totals))?;
        let pending = self.pending.iter();
        let pending: Vec<_> = pending
            .map(|(queue, n)| format!("{} ({n})", show::escaped(queue)))
            .collect();
        let pending = if pending.is_empty() {
            "settled by all".to_owned()
        } else {
            pending.join(", ")
        };
        write!(f, "  pending   {pending}")?;
        for series in self.series.iter().flatten() {
            write!(f, "\n  series    {series}")?;
        }
        if let Some(error) = &self.undecodable {
            write!(
                f,
                "\n  series    cannot be decoded: {}",
                show::escaped(error)
            )?;
        }
        Ok(())
    }
}

/// Both ends included, for people.
fn run((from, to): (u32, u32)) -> String {
    match to - from {
        1 => from.to_string(),
        _ => format!("{from}..{}", to - 1),
    }
}

impl fmt::Display for SeriesLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.labels.iter();
        let labels = labels.map(|(name, value)| format!("{}={value:?}", show::escaped(name)));
        let labels = labels.collect::<Vec<_>>().join(",");
        let counts = Counts {
            samples: self.samples.into(),
            histograms: self.histograms.into(),
            exemplars: self.exemplars.into(),
        };
        write!(f, "{{{labels}}} {}", show::words(counts))?;
        if let Some(why) = &self.refused {
            write!(f, ", refused: {}", show::escaped(why))?;
        }
        Ok(())
    }
}
