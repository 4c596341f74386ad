//! A record at its place: what of it is what was written.

use bytes::Bytes;

use super::fs::File;
use super::mutants::{self, Mutant};
use super::record::{self, Head, PREFIX};
use super::scan;
use super::segment::{Entry, Header};
use crate::log::Tenant;
use crate::model::runs::RunSet;

/// A record's bytes, as far as they are what was written.
pub(super) struct Examined {
    /// `None`: its header is damaged.
    pub(super) told: Option<(Head, Tenant, RunSet)>,
    /// `None`: its body is damaged, or nobody knows whether it is.
    pub(super) body: Option<Bytes>,
}

/// Reads a record whole. What cannot be read counts as damaged.
pub(super) fn examine(file: &dyn File, header: &Header, entry: &Entry) -> Examined {
    let mut bytes = vec![0; entry.bytes() as usize];
    let whole = scan::read(file, &mut bytes, entry.at).is_ok();
    let head = entry.head as usize;
    if !whole && scan::read(file, &mut bytes[..head], entry.at).is_err() {
        bytes[..head].fill(0);
    }
    let seed = record::seed(header.salt);
    let (prefix, rest) = bytes[..head].split_at(PREFIX.min(head));
    let told = record::header_len(prefix, seed).and_then(|_| record::decode(prefix, rest, seed));
    let told = told.filter(|(told, ..)| told.seq == entry.seq && told.body_len == entry.body);
    let intact = told.as_ref().is_some_and(|(told, ..)| {
        let crc = crc32c::crc32c(&bytes[head..]);
        whole && crc == told.body_crc || mutants::present(Mutant::NoBodyCheck)
    });
    let body = intact.then(|| Bytes::from(bytes).slice(head..));
    Examined { told, body }
}
