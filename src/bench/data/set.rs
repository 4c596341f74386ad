//! All slots of a profile, ready to be scraped.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::DataOptions;
use super::catalogue::{Dim, Family};
use super::histogram::Flavour;
use super::profiles::{self, put};
use super::values::{END_LABEL, RawLabel, SeriesModel, ValueOptions, splitmix64};

/// A label: name and value.
pub type Label = (String, String);

/// What one element of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// The sample (or histogram) of a slot at a scrape.
    Sample,
    /// The stale marker of the generation that ended just before this scrape.
    Marker,
    /// The exemplar that goes with the sample.
    Exemplar,
}

/// One element to send: which slot, at which of its target's scrapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    /// Index of the slot.
    pub slot: u32,
    /// Number of the scrape, from 0.
    pub scrape: u32,
    /// Which element of that scrape.
    pub what: What,
}

struct Slot {
    labels: Range<u32>,
    target: u32,
    model: SeriesModel,
    histogram: Option<Flavour>,
    exemplars: bool,
    /// Scrapes by which its generations are out of step; `None` without churn.
    phase: Option<u32>,
}

struct Target {
    slots: Range<u32>,
    offset_ms: i64,
}

/// Every series that a set of options gives, with ids instead of strings.
pub struct DataSet {
    symbols: Vec<Box<str>>,
    pairs: Vec<(u32, u32)>,
    slots: Vec<Slot>,
    targets: Vec<Target>,
    order: Vec<u32>,
    start_ms: i64,
    interval_ms: i64,
    lifetime: u32,
    options: DataOptions,
}

impl DataSet {
    /// Builds the set; its scrapes begin at `start_ms`, whatever the options say.
    pub fn new(options: &DataOptions, start_ms: i64) -> Self {
        Builder::new(options, start_ms).build()
    }

    /// The options it was made of.
    pub fn options(&self) -> &DataOptions {
        &self.options
    }

    /// Number of slots: series that exist at any one time.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Number of targets.
    pub fn targets(&self) -> usize {
        self.targets.len()
    }

    /// Timestamp of the first scrape round.
    pub fn start_ms(&self) -> i64 {
        self.start_ms
    }

    /// Time between two scrapes of a target.
    pub fn interval_ms(&self) -> i64 {
        self.interval_ms
    }

    /// All strings of labels; pairs refer to them by index.
    pub fn symbols(&self) -> &[Box<str>] {
        &self.symbols
    }

    /// Targets in the order of their scrapes within a round: offset (ms) and slots.
    pub fn round(&self) -> impl Iterator<Item = (i64, Range<u32>)> + '_ {
        let target = |index: &u32| {
            let target = &self.targets[*index as usize];
            (target.offset_ms, target.slots.clone())
        };
        self.order.iter().map(target)
    }

    /// Timestamp of a slot's scrape.
    pub fn timestamp_ms(&self, slot: u32, scrape: u32) -> i64 {
        let target = &self.targets[self.slots[slot as usize].target as usize];
        self.start_ms + target.offset_ms + i64::from(scrape) * self.interval_ms
    }

    /// The scrape at which a slot has this timestamp, if any.
    pub fn scrape_at(&self, slot: u32, timestamp_ms: i64) -> Option<u32> {
        let since = timestamp_ms - self.timestamp_ms(slot, 0);
        let whole = since >= 0 && since % self.interval_ms == 0;
        whole.then_some((since / self.interval_ms).cast_unsigned() as u32)
    }

    /// Which generation of its series a slot shows at a scrape; 0 without churn.
    pub fn generation(&self, slot: u32, scrape: u32) -> u32 {
        let phase = self.slots[slot as usize].phase;
        phase.map_or(0, |phase| (scrape + phase) / self.lifetime)
    }

    /// Whether a stale marker of the generation before comes with this scrape.
    pub fn marker_at(&self, slot: u32, scrape: u32) -> bool {
        let phase = self.slots[slot as usize].phase;
        phase.is_some_and(|phase| scrape > 0 && (scrape + phase).is_multiple_of(self.lifetime))
    }

    /// Whether the slot's sample at this scrape has an exemplar.
    pub fn exemplar_at(&self, slot: u32, scrape: u32) -> bool {
        let marked = self.slots[slot as usize].exemplars;
        marked && splitmix64(u64::from(slot) << 32 | u64::from(scrape)).is_multiple_of(16)
    }

    /// Form of the slot's histogram; `None` for a float series.
    pub fn histogram(&self, slot: u32) -> Option<Flavour> {
        self.slots[slot as usize].histogram
    }

    /// Labels of the series that an item belongs to, as symbol indices sorted by name, without the
    /// label that tells its end.
    pub fn pairs(&self, slot: u32) -> &[(u32, u32)] {
        let range = &self.slots[slot as usize].labels;
        &self.pairs[range.start as usize..range.end as usize]
    }

    /// Value of the label that tells a generation's end; `None` for series without end.
    pub fn end_label(&self, item: Item) -> Option<String> {
        let phase = self.slots[item.slot as usize].phase?;
        let generation = self.item_generation(item);
        let end = (generation + 1) * self.lifetime - phase;
        Some(format!("{:x}", self.timestamp_ms(item.slot, end)))
    }

    fn item_generation(&self, item: Item) -> u32 {
        let shown = self.generation(item.slot, item.scrape);
        if item.what == What::Marker {
            shown - 1
        } else {
            shown
        }
    }

    /// A number that stays with one series, as Prometheus' series reference does.
    pub fn series_ref(&self, item: Item) -> u64 {
        u64::from(item.slot) + u64::from(self.item_generation(item))
    }

    /// All labels of an item's series, sorted by name.
    pub fn labels(&self, item: Item) -> Vec<(&str, Cow<'_, str>)> {
        let text = |id: u32| &*self.symbols[id as usize];
        let mut labels: Vec<(&str, Cow<'_, str>)> = self
            .pairs(item.slot)
            .iter()
            .map(|(name, value)| (text(*name), Cow::Borrowed(text(*value))))
            .collect();
        if let Some(end) = self.end_label(item) {
            let place = labels.partition_point(|(name, _)| *name < END_LABEL);
            labels.insert(place, (END_LABEL, Cow::Owned(end)));
        }
        labels
    }

    /// The rule for the values of an item's series.
    pub fn model(&self, item: Item) -> SeriesModel {
        let slot = &self.slots[item.slot as usize];
        if slot.phase.is_none() {
            return slot.model;
        }
        let labels = self.labels(item);
        let raw: Vec<RawLabel<'_>> = labels
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        SeriesModel::new(&raw, &mut Vec::new())
    }

    /// What values depend on besides labels and time.
    pub fn values(&self) -> ValueOptions {
        ValueOptions::from(&self.options)
    }

    /// Bits of the float that an item holds.
    pub fn bits(&self, item: Item) -> u64 {
        let at = self.timestamp_ms(item.slot, item.scrape);
        self.model(item).bits(self.values(), at)
    }
}

/// Collects symbols and slots while the targets' pages are unfolded.
struct Builder {
    set: DataSet,
    ids: HashMap<Box<str>, u32>,
    churn_share: f64,
}

impl Builder {
    fn new(options: &DataOptions, start_ms: i64) -> Self {
        let churn = options.churn();
        let set = DataSet {
            symbols: Vec::new(),
            pairs: Vec::new(),
            slots: Vec::new(),
            targets: Vec::new(),
            order: Vec::new(),
            start_ms,
            interval_ms: (options.interval.as_millis() as u64).max(1).cast_signed(),
            lifetime: churn.map_or(1, |churn| churn.every_scrapes.max(1)),
            options: options.clone(),
        };
        let share = churn.map_or(0.0, |churn| churn.share.clamp(0.0, 1.0));
        Self {
            set,
            ids: HashMap::new(),
            churn_share: share,
        }
    }

    fn build(mut self) -> DataSet {
        for target in profiles::targets(&self.set.options) {
            self.add(&target);
        }
        let mut order: Vec<u32> = (0..self.set.targets.len() as u32).collect();
        order.sort_by_key(|index| self.set.targets[*index as usize].offset_ms);
        self.set.order = order;
        self.set
    }

    fn add(&mut self, target: &profiles::Target) {
        let index = self.set.targets.len() as u64;
        let first = self.set.slots.len() as u32;
        let offset = splitmix64(self.set.options.seed ^ (index << 20));
        for (families, things) in &target.page {
            for family in *families {
                for thing in things {
                    self.unfold(family, &target.labels, thing);
                }
            }
        }
        self.set.targets.push(Target {
            slots: first..self.set.slots.len() as u32,
            offset_ms: (offset % self.set.interval_ms.cast_unsigned()).cast_signed(),
        });
    }

    /// Adds one slot for each combination of a family's label values.
    fn unfold(&mut self, family: &Family, target: &[Label], thing: &[Label]) {
        let mut base = target.to_vec();
        put(&mut base, "__name__", family.name.to_owned());
        for (name, value) in thing {
            put(&mut base, name, value.clone());
        }
        let mut rows = vec![base];
        for dim in family.dims {
            rows = rows.iter().flat_map(|row| multiply(row, dim)).collect();
        }
        for mut row in rows {
            row.sort();
            self.slot(&row);
        }
    }

    fn slot(&mut self, labels: &[Label]) {
        let raw: Vec<RawLabel<'_>> = labels
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let model = SeriesModel::new(&raw, &mut Vec::new());
        let metric = labels.iter().find(|(name, _)| name == "__name__");
        let metric = metric.map_or("", |(_, value)| value.as_str());
        let first = self.set.pairs.len() as u32;
        for (name, value) in labels {
            let pair = (self.intern(name), self.intern(value));
            self.set.pairs.push(pair);
        }
        let dice = splitmix64(model.key() as u64 ^ self.set.options.seed);
        let churns = ((dice % 1_000_000) as f64) < self.churn_share * 1e6;
        self.set.slots.push(Slot {
            labels: first..self.set.pairs.len() as u32,
            target: self.set.targets.len() as u32,
            model,
            histogram: metric
                .starts_with("rpc_")
                .then(|| Flavour::of(metric.as_bytes())),
            exemplars: self.set.options.exemplars && metric.ends_with("_bucket"),
            phase: churns.then(|| (dice >> 32) as u32 % self.set.lifetime),
        });
    }

    fn intern(&mut self, text: &str) -> u32 {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = self.set.symbols.len() as u32;
        self.set.symbols.push(text.into());
        self.ids.insert(text.into(), id);
        id
    }
}

fn multiply(row: &[Label], dim: &Dim) -> Vec<Vec<Label>> {
    let with = |name: &str, value: String| {
        let mut row = row.to_vec();
        put(&mut row, name, value);
        row
    };
    match dim {
        Dim::Of(name, values) => values
            .iter()
            .map(|value| with(name, (*value).to_owned()))
            .collect(),
        Dim::Each(name, prefix, count) => (0..*count)
            .map(|n| with(name, format!("{prefix}{n}")))
            .collect(),
    }
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
