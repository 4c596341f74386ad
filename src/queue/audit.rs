//! Everything that is counted or listed, against what it is made of. For tests and debug builds.

use std::collections::HashMap;

use super::lanes::Lanes;
use super::nodes::Nodes;
use super::state::QueueState;
use super::table::SeriesTable;
use crate::model::runs::RunSet;

impl QueueState {
    /// Compares all of it; the first difference found.
    pub fn audit(&self) -> Result<(), String> {
        self.lanes.audit(&self.table, &self.nodes)?;
        self.journal.audit(
            self.flights.values().map(|flight| &*flight.batch),
            &self.records,
        )?;
        let mut held: HashMap<u32, RunSet> = HashMap::new();
        for (_, series) in self.table.iter() {
            let (mut at, mut left) = (series.head, series.queued);
            while left > 0 {
                let node = self.nodes.get(at);
                held.entry(node.record)
                    .or_default()
                    .insert(node.ordinal(), node.ordinal() + 1);
                (at, left) = (node.next, left - 1);
            }
        }
        for run in self.flights.values().flat_map(|flight| &flight.batch.runs) {
            held.entry(run.record).or_default().insert(run.from, run.to);
        }
        for (slot, tracked) in self.records.iter() {
            let mut taken = held.remove(&slot).unwrap_or_default();
            tracked
                .settled
                .iter()
                .for_each(|(from, to)| taken.insert(from, to));
            if taken != tracked.taken {
                let seq = tracked.record.seq.0;
                return Err(format!(
                    "record {seq}: taken is not queued, in flight or settled"
                ));
            }
        }
        Ok(())
    }
}

impl Lanes {
    /// Every list against what it is made of. For tests and debug builds.
    pub fn audit(&self, table: &SeriesTable, nodes: &Nodes) -> Result<(), String> {
        let mut total = 0;
        for (at, lane) in self.lanes.iter().enumerate() {
            let Some(lane) = lane else { continue };
            let mut queued = 0;
            for waiting in &lane.line {
                let series = table.get(waiting.series);
                let (mut node, mut linked) = (series.head, 0);
                while linked < series.queued {
                    linked += 1;
                    let last = node;
                    node = nodes.get(node).next;
                    if linked == series.queued && last != series.tail {
                        return Err(format!("lane {at}: the tail is not the last element"));
                    }
                }
                queued += series.queued;
                if (series.key, series.lane) != (lane.key, lane.number) {
                    return Err(format!("lane {at}: holds a series of another lane"));
                }
            }
            if queued != lane.queued {
                return Err(format!(
                    "lane {at}: counts {} but holds {queued}",
                    lane.queued
                ));
            }
            if !lane
                .line
                .iter()
                .zip(lane.line.iter().skip(1))
                .all(|(a, b)| a.seq <= b.seq)
            {
                return Err(format!("lane {at}: its line is not in order of age"));
            }
            let free = lane.locks == 0 && queued > 0;
            if free != lane.standing.is_some() {
                return Err(format!(
                    "lane {at}: free is {free}, but its key believes otherwise"
                ));
            }
            total += u64::from(queued);
        }
        if total != self.queued || total != nodes.counts().total() {
            let held = nodes.counts().total();
            return Err(format!(
                "lanes count {}, hold {total}, nodes {held}",
                self.queued
            ));
        }
        Ok(())
    }
}
