//! `storage inspect`: what the header of a record says, and on demand the series in its body.

use super::Folder;
use super::list::SegmentLine;
use super::pages::{Inspection, RecordPage, SegmentPage, SeriesLine, ToldPage};
use super::range::Range;
use super::show;
use super::wanted::wanted_by;
use crate::log::disk::look::{Place, SeenRecord, SeenSegment};
use crate::wire::compression::Encoding;
use crate::wire::decoded::{Decoded, IdentityKey, RowCounts, SeriesRow, WalkLimits};
use crate::wire::{self, decoded};

/// Largest decoded message: what a length in snappy can say.
const NO_SIZE_LIMIT: u64 = 1 << 32;

/// What is to be looked at.
pub(super) struct Wish<'a> {
    pub(super) range: Range,
    /// Only in this segment.
    pub(super) segment: Option<&'a str>,
    /// Bodies are decoded.
    pub(super) labels: bool,
}

impl Inspection {
    pub(super) fn of(folder: &Folder, wish: &Wish<'_>) -> Self {
        let mut found = Self {
            in_use: folder.in_use,
            segments: Vec::new(),
            records: Vec::new(),
        };
        for segment in &folder.segments {
            let named = wish.segment.is_none_or(|name| name == segment.name);
            if !named || !(wish.range.meets(segment) || wish.segment.is_some()) {
                continue;
            }
            let Ok(file) = segment.open(&folder.fs) else {
                continue;
            };
            if wish.segment.is_some() {
                let headers = segment.damaged_headers(&*file);
                found.segments.push(SegmentPage {
                    line: SegmentLine::of(folder, segment),
                    totals_before: segment.before,
                    totals: segment.totals,
                    void_from: segment.void_from.0,
                    headers: headers.iter().filter(|damaged| !**damaged).count(),
                    sealed: segment.sealed,
                });
            }
            let places = segment.index(&*file).places;
            for place in places.iter().filter(|place| wish.range.holds(place.seq)) {
                let record = segment.read(&*file, place);
                let page = RecordPage::of(folder, segment, place, &record, wish.labels);
                found.records.push(page);
            }
        }
        found
    }

    /// Something was found, and all of it is whole.
    pub(super) fn is_whole(&self) -> bool {
        let whole = |page: &RecordPage| page.header == "whole" && page.body == "whole";
        (!self.records.is_empty() || !self.segments.is_empty()) && self.records.iter().all(whole)
    }
}

impl RecordPage {
    fn of(
        folder: &Folder,
        segment: &SeenSegment,
        place: &Place,
        record: &SeenRecord,
        labels: bool,
    ) -> Self {
        let word = |whole: bool| if whole { "whole" } else { "damaged" };
        let series = record.told.as_ref().zip(record.body.as_ref());
        let series = series.filter(|_| labels).map(|(told, body)| {
            let key = IdentityKey::fixed(0);
            let (encoding, protocol) = (told.encoding, told.protocol);
            let decoded = wire::decode(body, encoding, protocol, NO_SIZE_LIMIT, &LIMITS, &key);
            decoded
                .map(|decoded| lines(&decoded))
                .map_err(|e| e.to_string())
        });
        let (series, undecodable) = match series {
            None => (None, None),
            Some(Ok(series)) => (Some(series), None),
            Some(Err(error)) => (None, Some(error)),
        };
        Self {
            sequence: place.seq.0,
            segment: segment.name.clone(),
            offset: place.at,
            head_bytes: place.head_bytes,
            body_bytes: place.body_bytes,
            arrival: show::utc(place.arrival_ms),
            counts: place.counts,
            admitted: place.admitted,
            totals: place.totals,
            header: word(record.told.as_ref().is_some_and(|told| told.agrees)),
            body: match record.told {
                Some(_) => word(record.body.is_some()),
                None => "unknown",
            },
            told: record.told.as_ref().map(|told| ToldPage {
                protocol: told.protocol.as_str(),
                encoding: encoding_name(told.encoding),
                tenant: told.tenant.0.clone(),
                skipped: told.skipped.iter().collect(),
                body_crc: told.body_crc,
            }),
            pending: wanted_by(folder, |queue| queue.unsettled(place)),
            series,
            undecodable,
        }
    }
}

/// What the log holds was let in under the limits of its time.
const LIMITS: WalkLimits = WalkLimits {
    series: u32::MAX as usize,
    elements: u32::MAX as usize,
    labels: u32::MAX as usize,
    label_bytes: 0,
    expanded_bytes: usize::MAX,
};

/// The word of `Content-Encoding`.
pub(super) fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Snappy => "snappy",
        Encoding::Zstd => "zstd",
    }
}

fn lines(decoded: &Decoded) -> Vec<SeriesLine> {
    let rows = decoded.series.iter();
    rows.map(|row| line(decoded, row)).collect()
}

fn line(decoded: &Decoded, row: &SeriesRow) -> SeriesLine {
    let RowCounts {
        samples,
        histograms,
        exemplars,
    } = row.counts;
    let mut labels = Vec::new();
    // The labels of a series that was refused may make no sense.
    if row.invalid.is_none() {
        decoded.labels(row, &mut labels);
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    SeriesLine {
        labels: labels.iter().map(|(n, v)| (text(n), text(v))).collect(),
        samples,
        histograms,
        exemplars,
        refused: row.invalid.map(decoded::InvalidSeries::explain),
    }
}
