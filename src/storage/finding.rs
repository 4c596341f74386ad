//! What `storage verify` finds.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::wanted::wanted_by;
use super::{Folder, show};
use crate::log::Seq;
use crate::log::disk::look::Place;
use crate::model::counts::Counts;

/// What is wrong, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Which file; none where it is about what is in no file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    /// Where in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u64>,
    pub(super) kind: Kind,
    /// The first record that it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sequence: Option<u64>,
    /// What it costs: admitted elements whose bytes are gone.
    #[serde(serialize_with = "show::counts")]
    pub(super) costs: Counts,
    /// Of these, by queue, elements that it has not settled.
    pub(super) pending: BTreeMap<String, u64>,
    pub(super) text: String,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A whole segment.
    Segment,
    /// One of the two copies of a segment's header.
    SegmentHeader,
    Footer,
    /// A record's header.
    Header,
    Body,
    /// Records that are not there.
    Missing,
    /// Numbers that do not go on from those before.
    Totals,
    Journal,
    /// No damage: what a crash leaves, as a rule.
    Note,
}

/// What was checked, and what came of it.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) path: String,
    pub(super) in_use: bool,
    /// Nothing is damaged, and nothing is missing that a queue still wants.
    pub(super) whole: bool,
    pub(super) segments: u64,
    pub(super) records: u64,
    pub(super) journals: u64,
    pub(super) bytes: u64,
    pub(super) damage: Vec<Finding>,
    pub(super) notes: Vec<Finding>,
}

impl Finding {
    pub(super) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            file: None,
            offset: None,
            kind,
            sequence: None,
            costs: Counts::default(),
            pending: BTreeMap::new(),
            text: text.into(),
        }
    }

    pub(super) fn within(self, file: &str, offset: u64) -> Self {
        Self {
            file: Some(file.to_owned()),
            offset: Some(offset),
            ..self
        }
    }

    pub(super) fn of_record(self, folder: &Folder, place: &Place) -> Self {
        Self {
            sequence: Some(place.seq.0),
            costs: place.admitted,
            pending: wanted_by(folder, |queue| queue.unsettled(place)),
            ..self
        }
    }
}

impl Report {
    /// What all damage costs.
    fn costs(&self) -> Counts {
        self.damage.iter().map(|finding| finding.costs).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.in_use {
            writeln!(f, "{}: in use by a running process", self.path)?;
        }
        for finding in &self.damage {
            writeln!(f, "damage  {finding}")?;
        }
        for finding in &self.notes {
            writeln!(f, "note    {finding}")?;
        }
        let state = if self.whole {
            "whole".to_owned()
        } else {
            let (places, costs) = (self.damage.len(), show::words(self.costs()));
            format!("{places} places damaged or missing, which cost {costs}")
        };
        write!(
            f,
            "{}: {state}; read {} segments, {} records, {} journals, {}",
            self.path,
            self.segments,
            self.records,
            self.journals,
            show::bytes(self.bytes)
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", show::escaped(file))?;
            if let Some(offset) = self.offset.filter(|at| *at > 0) {
                write!(f, " at byte {offset}")?;
            }
            write!(f, ": ")?;
        }
        if let Some(sequence) = self.sequence.filter(|_| self.file.is_some()) {
            write!(f, "record {}: ", Seq(sequence).0)?;
        }
        write!(f, "{}", show::escaped(&self.text))?;
        if !self.costs.is_zero() {
            write!(f, "; costs {}", show::words(self.costs))?;
            let each = |(queue, n): (&String, &u64)| format!("{} {n}", show::escaped(queue));
            let pending: Vec<_> = self.pending.iter().map(each).collect();
            if pending.is_empty() {
                write!(f, ", settled by all queues")?;
            } else {
                write!(f, ", not settled: {}", pending.join(", "))?;
            }
        }
        Ok(())
    }
}
