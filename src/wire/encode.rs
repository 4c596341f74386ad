//! Writers of both messages, straight from a batch's content into one buffer.
//!
//! Float bits are copied. A zero is left out only if all its bits are zero: −0 is a value of its own.

use super::decoded::Protocol;
use super::histogram::put_without_start;
use super::proto::{put_bytes, put_varint, varint_len};
use super::symbols::{MetadataRefs, SymbolTable};
use crate::model::content::{Content, Entry, Exemplar, Histogram, Sample};
use crate::model::counts::Counts;

/// What a message could not carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Elements that went out without their start timestamp.
    pub degraded: u64,
    /// Elements that were left out: histograms with custom buckets, and their exemplars, in 1.0.
    pub unrepresentable: Counts,
}

/// Type, help and unit of a metric; what 2.0 attaches to each series.
pub trait MetadataSource {
    /// What is known of the metric with this name: the protocol's type number, help and unit.
    fn lookup(&self, metric: &[u8]) -> Option<(u8, &str, &str)>;
}

/// No metadata.
pub struct NoMetadata;

impl MetadataSource for NoMetadata {
    fn lookup(&self, _: &[u8]) -> Option<(u8, &str, &str)> {
        None
    }
}

/// Writes messages; keeps its tables between them.
#[derive(Default)]
pub struct Encoder {
    symbols: SymbolTable,
    refs: Vec<u32>,
    sizes: Vec<u32>,
}

impl Encoder {
    /// Appends the message for `content` to `out`.
    pub fn encode(
        &mut self,
        protocol: Protocol,
        content: &Content,
        metadata: &dyn MetadataSource,
        out: &mut Vec<u8>,
    ) -> Lost {
        match protocol {
            Protocol::V1 => encode_v1(content, out),
            Protocol::V2 => self.encode_v2(content, metadata, out),
        }
    }

    fn encode_v2(
        &mut self,
        content: &Content,
        metadata: &dyn MetadataSource,
        out: &mut Vec<u8>,
    ) -> Lost {
        // Symbols stand before the series, so all references are made first.
        let (refs, sizes) = (&mut self.refs, &mut self.sizes);
        refs.clear();
        sizes.clear();
        let mut symbols = self.symbols.begin();
        let (mut exemplar_refs, mut metadata_refs) = (Vec::new(), Vec::new());
        for entry in &content.entries {
            let from = refs.len();
            for pair in entry.labels.pairs() {
                refs.extend(symbols.pair(pair));
            }
            sizes.push((refs.len() - from) as u32);
            for exemplar in content.exemplars_of(entry) {
                exemplar_refs.push(symbols.exemplar(exemplar));
            }
            metadata_refs.push(symbols.metadata(entry.labels.metric(), metadata));
        }
        symbols.write(out);
        let (mut refs_at, mut exemplars) = (0, exemplar_refs.into_iter());
        for ((entry, size), meta) in content.entries.iter().zip(sizes.iter()).zip(metadata_refs) {
            let labels = &refs[refs_at..][..*size as usize];
            refs_at += *size as usize;
            put_entry_v2(out, content, entry, labels, meta, &mut exemplars);
        }
        Lost::default()
    }
}

fn encode_v1(content: &Content, out: &mut Vec<u8>) -> Lost {
    let mut lost = Lost::default();
    for entry in &content.entries {
        let custom = content
            .histograms_of(entry)
            .iter()
            .filter(|h| h.custom)
            .count();
        if custom > 0 && custom == entry.histograms.len() {
            lost.unrepresentable.histograms += custom as u64;
            lost.unrepresentable.exemplars += entry.exemplars.len() as u64;
            continue;
        }
        lost.unrepresentable.histograms += custom as u64;
        put_entry_v1(out, content, entry, &mut lost);
    }
    lost
}

fn put_entry_v1(out: &mut Vec<u8>, content: &Content, entry: &Entry, lost: &mut Lost) {
    let samples = content.samples_of(entry);
    let exemplars = content.exemplars_of(entry);
    let histograms: Vec<_> = content
        .histograms_of(entry)
        .iter()
        .filter(|h| !h.custom)
        .collect();
    let stripped: Vec<_> = histograms.iter().map(|h| stripped_len(h)).collect();
    let size = entry.labels.encoded_len()
        + samples
            .iter()
            .map(|s| framed(sample_len(s, false)))
            .sum::<usize>()
        + exemplars
            .iter()
            .map(|e| framed(exemplar_v1_len(e)))
            .sum::<usize>()
        + stripped.iter().map(|len| framed(*len)).sum::<usize>();
    out.push(0x0a);
    put_varint(out, size as u64);
    for pair in entry.labels.pairs() {
        out.extend_from_slice(pair.encoded());
    }
    for sample in samples {
        put_sample(out, sample, false);
        lost.degraded += u64::from(sample.start != 0);
    }
    for exemplar in exemplars {
        out.push(0x1a);
        put_varint(out, exemplar_v1_len(exemplar) as u64);
        out.extend_from_slice(&exemplar.labels);
        put_value(out, 2, exemplar.bits);
        put_time(out, 3, exemplar.timestamp);
    }
    for (histogram, len) in histograms.iter().zip(stripped) {
        out.push(0x22);
        put_varint(out, len as u64);
        if histogram.start {
            put_without_start(out, &histogram.message);
            lost.degraded += 1;
        } else {
            out.extend_from_slice(&histogram.message);
        }
    }
}

fn put_entry_v2(
    out: &mut Vec<u8>,
    content: &Content,
    entry: &Entry,
    labels: &[u32],
    metadata: Option<MetadataRefs>,
    exemplars: &mut impl Iterator<Item = Vec<u32>>,
) {
    let refs_len: usize = labels.iter().map(|r| varint_len(u64::from(*r))).sum();
    let exemplars: Vec<_> = content
        .exemplars_of(entry)
        .iter()
        .zip(exemplars.by_ref().take(entry.exemplars.len()))
        .collect();
    let size = framed(refs_len)
        + content
            .samples_of(entry)
            .iter()
            .map(|s| framed(sample_len(s, true)))
            .sum::<usize>()
        + content
            .histograms_of(entry)
            .iter()
            .map(|h| framed(h.message.len()))
            .sum::<usize>()
        + exemplars
            .iter()
            .map(|(e, refs)| framed(exemplar_v2_len(e, refs)))
            .sum::<usize>()
        + metadata.map_or(0, |m| framed(m.len()));
    out.push(0x2a);
    put_varint(out, size as u64);
    put_refs(out, labels, refs_len);
    for sample in content.samples_of(entry) {
        put_sample(out, sample, true);
    }
    for histogram in content.histograms_of(entry) {
        put_bytes(out, 3, &histogram.message);
    }
    for (exemplar, refs) in exemplars {
        out.push(0x22);
        put_varint(out, exemplar_v2_len(exemplar, &refs) as u64);
        if !refs.is_empty() {
            put_refs(
                out,
                &refs,
                refs.iter().map(|r| varint_len(u64::from(*r))).sum(),
            );
        }
        put_value(out, 2, exemplar.bits);
        put_time(out, 3, exemplar.timestamp);
    }
    if let Some(metadata) = metadata {
        metadata.write(out);
    }
}

/// Bytes of a length-delimited field with a one-byte key.
fn framed(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

fn time_len(timestamp: i64) -> usize {
    if timestamp == 0 {
        0
    } else {
        1 + varint_len(timestamp.cast_unsigned())
    }
}

fn value_len(bits: u64) -> usize {
    if bits == 0 { 0 } else { 9 }
}

fn put_time(out: &mut Vec<u8>, number: u8, timestamp: i64) {
    if timestamp != 0 {
        out.push(number << 3);
        put_varint(out, timestamp.cast_unsigned());
    }
}

fn put_value(out: &mut Vec<u8>, number: u8, bits: u64) {
    if bits != 0 {
        out.push(number << 3 | 1);
        out.extend_from_slice(&bits.to_le_bytes());
    }
}

fn sample_len(sample: &Sample, start: bool) -> usize {
    value_len(sample.bits)
        + time_len(sample.timestamp)
        + if start { time_len(sample.start) } else { 0 }
}

/// Field 2 in both versions.
fn put_sample(out: &mut Vec<u8>, sample: &Sample, start: bool) {
    out.push(0x12);
    put_varint(out, sample_len(sample, start) as u64);
    put_value(out, 1, sample.bits);
    put_time(out, 2, sample.timestamp);
    if start {
        put_time(out, 3, sample.start);
    }
}

fn exemplar_v1_len(exemplar: &Exemplar) -> usize {
    exemplar.labels.len() + value_len(exemplar.bits) + time_len(exemplar.timestamp)
}

fn exemplar_v2_len(exemplar: &Exemplar, refs: &[u32]) -> usize {
    let refs: usize = refs.iter().map(|r| varint_len(u64::from(*r))).sum();
    let refs = if refs == 0 { 0 } else { framed(refs) };
    refs + value_len(exemplar.bits) + time_len(exemplar.timestamp)
}

fn stripped_len(histogram: &Histogram) -> usize {
    if !histogram.start {
        return histogram.message.len();
    }
    let mut stripped = Vec::with_capacity(histogram.message.len());
    put_without_start(&mut stripped, &histogram.message);
    stripped.len()
}

fn put_refs(out: &mut Vec<u8>, refs: &[u32], len: usize) {
    out.push(0x0a);
    put_varint(out, len as u64);
    for reference in refs {
        put_varint(out, u64::from(*reference));
    }
}

/// Appends one 1.0 metadata entry (field 3 of a request).
pub fn put_metadata_v1(out: &mut Vec<u8>, family: &str, kind: u8, help: &str, unit: &str) {
    let text = |s: &str| if s.is_empty() { 0 } else { framed(s.len()) };
    let kind = u64::from(kind);
    let kind_len = if kind == 0 { 0 } else { 1 + varint_len(kind) };
    out.push(0x1a);
    put_varint(
        out,
        (kind_len + text(family) + text(help) + text(unit)) as u64,
    );
    if kind != 0 {
        out.push(0x08);
        put_varint(out, kind);
    }
    for (number, s) in [(2, family), (4, help), (5, unit)] {
        if !s.is_empty() {
            put_bytes(out, number, s.as_bytes());
        }
    }
}
