//! Items to request bodies, the way Prometheus builds them: one `TimeSeries` for each element.
//!
//! Labels of a series are encoded once and copied into each message, because the generator must
//! cost less than the program under test; tests hold the result against the generated types.
//! A float whose bits are zero is left out as proto3 does; −0 is written.

mod proto;
mod symbols;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use self::proto::{put_bytes, put_label, put_sample, put_sample_fields, put_varint};
use self::symbols::SymbolTable;
use super::Protocol;
use super::data::{
    DataSet, END_LABEL, Flavour, Item, SeriesModel, What, expected_exemplar, expected_histogram,
    to_v1,
};
use crate::wire::pb::{rw1, rw2};

/// Label of an exemplar that names the trace.
pub const TRACE_LABEL: &str = "trace_id";

/// Labels of every slot as fields of a 1.0 `TimeSeries`, shared by all encoders of a run.
///
/// Only 1.0 bodies with series need it; for anything else the empty default will do.
#[derive(Default)]
pub struct EncodedLabels {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Where in a slot's labels the one that tells its end belongs.
    splits: Vec<usize>,
}

impl EncodedLabels {
    /// Encodes them all; about 400 bytes a slot.
    pub fn new(data: &DataSet) -> Self {
        let mut made = Self {
            bytes: Vec::new(),
            ends: Vec::with_capacity(data.slots()),
            splits: Vec::with_capacity(data.slots()),
        };
        for slot in 0..data.slots() as u32 {
            let mut split = None;
            for (name, value) in data.pairs(slot) {
                let name = &data.symbols()[*name as usize];
                if **name > *END_LABEL {
                    split.get_or_insert(made.bytes.len());
                }
                let value = &data.symbols()[*value as usize];
                put_label(&mut made.bytes, name, value);
            }
            made.splits.push(split.unwrap_or(made.bytes.len()));
            made.ends.push(made.bytes.len());
        }
        made
    }

    /// A slot's labels before and after the one that tells its end.
    fn of(&self, slot: u32) -> (&[u8], &[u8]) {
        let slot = slot as usize;
        let first = slot.checked_sub(1).map_or(0, |before| self.ends[before]);
        let split = self.splits[slot];
        (
            &self.bytes[first..split],
            &self.bytes[split..self.ends[slot]],
        )
    }
}

/// Builds bodies; one for each sender, since it keeps its buffers.
pub struct Encoder {
    data: Arc<DataSet>,
    labels: Arc<EncodedLabels>,
    protocol: Protocol,
    snappy: snap::raw::Encoder,
    message: Vec<u8>,
    series: Vec<u8>,
    part: Vec<u8>,
    symbols: SymbolTable,
}

impl Encoder {
    /// An encoder for one protocol version.
    pub fn new(data: Arc<DataSet>, labels: Arc<EncodedLabels>, protocol: Protocol) -> Self {
        let symbols = SymbolTable::new(data.symbols().len());
        Self {
            data,
            labels,
            protocol,
            snappy: snap::raw::Encoder::new(),
            message: Vec::new(),
            series: Vec::new(),
            part: Vec::new(),
            symbols,
        }
    }

    /// The compressed body of a request with these items, in this order.
    pub fn encode(&mut self, items: &[Item]) -> Bytes {
        self.message.clear();
        match self.protocol {
            Protocol::V1 => {
                for item in items {
                    self.put_v1(*item);
                }
            }
            Protocol::V2 => self.put_v2(items),
        }
        self.compress()
    }

    /// The compressed body of a 1.0 request that has nothing but metadata.
    pub fn encode_metadata(&mut self, families: &[rw1::MetricMetadata]) -> Bytes {
        let request = rw1::WriteRequest {
            timeseries: Vec::new(),
            metadata: families.to_vec(),
        };
        self.message.clear();
        self.message.extend_from_slice(&request.encode_to_vec());
        self.compress()
    }

    fn compress(&mut self) -> Bytes {
        let compressed = self.snappy.compress_vec(&self.message);
        Bytes::from(compressed.expect("a batch is far below snappy's limit of 4 GiB"))
    }

    fn put_v1(&mut self, item: Item) {
        let (before, after) = self.labels.of(item.slot);
        self.series.clear();
        self.series.extend_from_slice(before);
        if let Some(end) = self.data.end_label(item) {
            put_label(&mut self.series, END_LABEL, &end);
        }
        self.series.extend_from_slice(after);
        let at = self.data.timestamp_ms(item.slot, item.scrape);
        let model = self.data.model(item);
        self.part.clear();
        let field = match element(&self.data, item) {
            Form::Float => {
                put_sample(&mut self.part, model.bits(self.data.values(), at), at, 0);
                2
            }
            Form::Histogram(flavour) => {
                let made = expected_histogram(&model, self.data.values(), flavour, at);
                self.part.extend_from_slice(&to_v1(made).encode_to_vec());
                4
            }
            Form::Exemplar => {
                let (value, trace) = expected_exemplar(&model, self.data.values(), at);
                put_label(&mut self.part, TRACE_LABEL, &trace);
                put_sample_fields(&mut self.part, value, at, 2);
                3
            }
        };
        put_bytes(&mut self.series, field, &self.part);
        put_bytes(&mut self.message, 1, &self.series);
    }

    /// Series first, into a buffer of their own: only they tell which symbols there are.
    fn put_v2(&mut self, items: &[Item]) {
        self.symbols.begin();
        let mut all = Vec::with_capacity(items.len() * 64);
        for item in items {
            self.put_v2_series(*item, &mut all);
        }
        self.symbols.write(&self.data, &mut self.message);
        self.message.extend_from_slice(&all);
    }

    fn put_v2_series(&mut self, item: Item, all: &mut Vec<u8>) {
        let data = Arc::clone(&self.data);
        self.series.clear();
        self.put_refs(&data, item);
        let at = data.timestamp_ms(item.slot, item.scrape);
        let model = data.model(item);
        let start = if data.options().start_timestamps {
            model.start_ms()
        } else {
            0
        };
        self.part.clear();
        let field = match element(&data, item) {
            Form::Float => {
                let start = if model.is_counter() { start } else { 0 };
                put_sample(&mut self.part, model.bits(data.values(), at), at, start);
                2
            }
            Form::Histogram(flavour) => {
                let mut made = expected_histogram(&model, data.values(), flavour, at);
                made.start_timestamp = start;
                self.part.extend_from_slice(&made.encode_to_vec());
                3
            }
            Form::Exemplar => {
                let (value, trace) = expected_exemplar(&model, data.values(), at);
                let mut refs = Vec::new();
                put_varint(&mut refs, self.symbols.extra(TRACE_LABEL).into());
                put_varint(&mut refs, self.symbols.extra(&trace).into());
                put_bytes(&mut self.part, 1, &refs);
                put_sample_fields(&mut self.part, value, at, 2);
                4
            }
        };
        put_bytes(&mut self.series, field, &self.part);
        if data.options().metadata {
            self.put_v2_metadata(&data, item, &model);
        }
        put_bytes(all, 5, &self.series);
    }

    fn put_refs(&mut self, data: &DataSet, item: Item) {
        self.part.clear();
        let mut end = data.end_label(item);
        for (name, value) in data.pairs(item.slot) {
            if end.is_some() && *data.symbols()[*name as usize] > *END_LABEL {
                self.put_end(end.take());
            }
            put_varint(&mut self.part, self.symbols.shared(*name).into());
            put_varint(&mut self.part, self.symbols.shared(*value).into());
        }
        self.put_end(end);
        put_bytes(&mut self.series, 1, &self.part);
    }

    fn put_end(&mut self, end: Option<String>) {
        if let Some(end) = end {
            put_varint(&mut self.part, self.symbols.extra(END_LABEL).into());
            put_varint(&mut self.part, self.symbols.extra(&end).into());
        }
    }

    fn put_v2_metadata(&mut self, data: &DataSet, item: Item, model: &SeriesModel) {
        let histogram = data.histogram(item.slot).is_some();
        let metadata = rw2::Metadata {
            r#type: metric_type(histogram, model.is_counter()),
            help_ref: self.symbols.extra(&help(metric_name(data, item.slot))),
            unit_ref: 0,
        };
        put_bytes(&mut self.series, 5, &metadata.encode_to_vec());
    }
}

/// All metric families of a data set, as Prometheus sends them to 1.0 receivers each minute.
pub fn metadata(data: &DataSet) -> Vec<rw1::MetricMetadata> {
    let mut seen = HashSet::new();
    let mut families = Vec::new();
    for slot in 0..data.slots() as u32 {
        let name = metric_name(data, slot);
        if seen.insert(name) {
            let item = Item {
                slot,
                scrape: 0,
                what: What::Sample,
            };
            let histogram = data.histogram(slot).is_some();
            families.push(rw1::MetricMetadata {
                r#type: metric_type(histogram, data.model(item).is_counter()),
                metric_family_name: name.to_owned(),
                help: help(name),
                unit: String::new(),
            });
        }
    }
    families
}

/// The number of a metric's type, which is the same in both versions.
fn metric_type(histogram: bool, counter: bool) -> i32 {
    use rw2::metadata::MetricType;
    let kind = match (histogram, counter) {
        (true, _) => MetricType::Histogram,
        (false, true) => MetricType::Counter,
        (false, false) => MetricType::Gauge,
    };
    kind as i32
}

fn metric_name(data: &DataSet, slot: u32) -> &str {
    let text = |id: u32| &*data.symbols()[id as usize];
    let name = data
        .pairs(slot)
        .iter()
        .find(|(name, _)| text(*name) == "__name__");
    name.map_or("", |(_, value)| text(*value))
}

fn help(name: &str) -> String {
    format!(
        "Value of {}, as the exporter sees it.",
        name.replace('_', " ")
    )
}

enum Form {
    Float,
    Histogram(Flavour),
    Exemplar,
}

fn element(data: &DataSet, item: Item) -> Form {
    match (item.what, data.histogram(item.slot)) {
        (What::Exemplar, _) => Form::Exemplar,
        (What::Sample, Some(flavour)) => Form::Histogram(flavour),
        (What::Sample | What::Marker, _) => Form::Float,
    }
}

#[cfg(test)]
mod tests;
