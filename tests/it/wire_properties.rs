//! Every way through the readers and the encoders, against prost, bit by bit.

use proptest::prelude::*;
use prost::Message;
use sluicegate::model::labels::Interner;
use sluicegate::wire::decoded::{Metadata, Protocol};
use sluicegate::wire::encode::{Encoder, MetadataSource, NoMetadata, put_metadata_v1};
use sluicegate::wire::pb::rw1;

use crate::fuzz::content;
use crate::fuzz::targets::{self, walk};
use crate::wire_generate::{Series, canonical_request, message_v1, message_v2, request};

proptest! {
    #[test]
    fn a_1_0_request_is_read_as_prost_reads_it_and_goes_out_in_both_versions(
        request in request(),
    ) {
        let message = message_v1(&request);
        let decoded = walk(&message, Protocol::V1);
        targets::rw1(&message);
        targets::reencode_decoded(&decoded.expect("no limit is near"));
    }

    #[test]
    fn a_2_0_request_is_read_as_prost_reads_it_and_goes_out_in_both_versions(
        request in request(),
    ) {
        let message = message_v2(&request);
        let decoded = walk(&message, Protocol::V2);
        targets::rw2(&message);
        targets::reencode_decoded(&decoded.expect("no limit is near"));
    }

    #[test]
    fn a_request_has_the_same_identities_in_both_versions(request in request()) {
        let v1 = walk(&message_v1(&request), Protocol::V1).expect("readable");
        let v2 = walk(&message_v2(&request), Protocol::V2).expect("readable");
        let ids = |decoded: &sluicegate::wire::decoded::Decoded| -> Vec<_> {
            decoded.series.iter().map(|row| (row.id, row.invalid)).collect()
        };
        prop_assert_eq!(ids(&v1), ids(&v2));
    }

    #[test]
    fn canonical_bytes_come_out_as_they_came_in(request in canonical_request()) {
        let request = valid(request);
        let v1 = message_v1(&request);
        prop_assert_eq!(through(&v1, Protocol::V1, &NoMetadata), v1);
        // 2.0 attaches metadata by name, so here it is the same for each name.
        let known = OfRequest(&request);
        let attached: Vec<Series> = request.iter().map(|series| known.attached(series)).collect();
        let v2 = message_v2(&attached);
        prop_assert_eq!(through(&v2, Protocol::V2, &known), v2);
    }

    #[test]
    fn every_prefix_of_a_message_is_read_or_refused(request in request()) {
        for (message, protocol) in [
            (message_v1(&request), Protocol::V1),
            (message_v2(&request), Protocol::V2),
        ] {
            // Long values make long messages: all cuts at both ends, and some between.
            let ends = (0..message.len().min(300)).chain(message.len().saturating_sub(300)..message.len());
            for cut in ends.chain((300..message.len()).step_by(1 + message.len() / 200)) {
                drop(walk(&message[..cut.min(message.len())], protocol));
            }
        }
    }

    #[test]
    fn metadata_of_1_0_is_read_as_it_was_written(
        entries in prop::collection::vec(("\\PC{0,9}", 0..=9u8, "\\PC{0,200}", "[a-z]{0,4}"), 0..6),
    ) {
        let mut message = Vec::new();
        for (family, kind, help, unit) in &entries {
            put_metadata_v1(&mut message, family, *kind, help, unit);
        }
        let theirs = rw1::WriteRequest::decode(&message[..]).expect("prost reads it");
        prop_assert_eq!(theirs.metadata.len(), entries.len());
        for (entry, theirs) in entries.iter().zip(&theirs.metadata) {
            prop_assert_eq!(&entry.0, &theirs.metric_family_name);
            prop_assert_eq!(i32::from(entry.1), theirs.r#type);
            prop_assert_eq!((&entry.2, &entry.3), (&theirs.help, &theirs.unit));
        }
        let decoded = walk(&message, Protocol::V1).expect("readable");
        prop_assert_eq!(decoded.counts(), sluicegate::model::counts::Counts::default());
        let mut seen = Vec::new();
        decoded.each_metadata(|m: Metadata<'_>| {
            seen.push((m.name.to_owned(), m.kind, m.help.to_owned(), m.unit.to_owned()));
        });
        let known = |kind: u8| if kind <= 7 { kind } else { 0 };
        let expected: Vec<_> = entries
            .into_iter()
            .filter(|entry| !entry.0.is_empty())
            .map(|(name, kind, help, unit)| (name, known(kind), help, unit))
            .collect();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn metadata_of_2_0_comes_with_the_name_of_its_series(request in request()) {
        let decoded = walk(&message_v2(&request), Protocol::V2).expect("readable");
        let mut seen = Vec::new();
        decoded.each_metadata(|m: Metadata<'_>| {
            seen.push((m.name.to_owned(), (i32::from(m.kind), m.help.to_owned(), m.unit.to_owned())));
        });
        let rows = request.iter().zip(&decoded.series);
        let expected: Vec<_> = rows
            .filter(|(_, row)| row.invalid.is_none())
            // An entry with nothing in it is as good as none.
            .filter_map(|(series, _)| {
                let metadata = series.metadata.clone()?;
                (metadata != (0, String::new(), String::new())).then(|| (name_of(series), metadata))
            })
            .collect();
        prop_assert_eq!(seen, expected);
    }
}

fn name_of(series: &Series) -> String {
    let name = series.labels.iter().find(|label| label.0 == "__name__");
    name.map(|label| label.1.clone()).unwrap_or_default()
}

/// The series that are valid by themselves.
fn valid(request: Vec<Series>) -> Vec<Series> {
    let decoded = walk(&message_v1(&request), Protocol::V1).expect("readable");
    let rows = request.into_iter().zip(decoded.series);
    rows.filter(|(_, row)| row.invalid.is_none())
        .map(|(series, _)| series)
        .collect()
}

fn through(message: &[u8], protocol: Protocol, metadata: &dyn MetadataSource) -> Vec<u8> {
    let decoded = walk(message, protocol).expect("readable");
    let content = content::content(&decoded, &mut Interner::default());
    let mut out = Vec::new();
    let lost = Encoder::default().encode(protocol, &content, metadata, &mut out);
    assert_eq!(lost, sluicegate::wire::encode::Lost::default());
    out
}

/// The metadata of a name: that of the first series that has it.
struct OfRequest<'r>(&'r [Series]);

impl OfRequest<'_> {
    fn first(&self, metric: &str) -> Option<&Series> {
        self.0.iter().find(|series| name_of(series) == metric)
    }

    fn attached(&self, series: &Series) -> Series {
        let first = self.first(&name_of(series));
        Series {
            metadata: first.and_then(|first| first.metadata.clone()),
            ..series.clone()
        }
    }
}

impl MetadataSource for OfRequest<'_> {
    fn lookup(&self, metric: &[u8]) -> Option<(u8, &str, &str)> {
        let metric = std::str::from_utf8(metric).expect("names are text");
        let (kind, help, unit) = self.first(metric)?.metadata.as_ref()?;
        Some((u8::try_from(*kind).expect("0 to 7"), help, unit))
    }
}
