//! From a sender's body to the content of a request of ours, for a receiver that does not take it as it came.
//! Pure.

use std::sync::Arc;

use super::cut::{empty_entry, put};
use super::take::{Ordinals, element_of};
use crate::model::content::Content;
use crate::model::counts::{Counts, Kind};
use crate::model::labels::Interner;
use crate::wire::decoded::Decoded;

/// All valid series of a body, in their order, and how many elements the others hold.
pub fn content_of(decoded: &Decoded) -> (Content, Counts) {
    let (mut content, mut left_out) = (Content::default(), Counts::default());
    let mut interner = Interner::default();
    let mut at = Ordinals::new(decoded);
    let mut labels = Vec::new();
    for row in &decoded.series {
        let ranges = at.advance(row).ranges();
        if row.invalid.is_some() {
            for (kind, range) in Kind::ALL.into_iter().zip(ranges) {
                *left_out.slot(kind) += u64::from(range.end - range.start);
            }
            continue;
        }
        decoded.labels(row, &mut labels);
        let labels = Arc::new(interner.intern(&labels));
        let mut entry = empty_entry(&content, &labels);
        for (kind, range) in Kind::ALL.into_iter().zip(ranges) {
            for ordinal in range {
                // Samples and histograms of one series make two entries.
                if kind == Kind::Histogram && !entry.samples.is_empty() {
                    let next = empty_entry(&content, &labels);
                    content.entries.push(std::mem::replace(&mut entry, next));
                }
                let element = element_of(decoded, decoded.counts(), kind, ordinal);
                put(element, &mut entry, &mut content);
            }
        }
        content.entries.push(entry);
    }
    (content, left_out)
}
