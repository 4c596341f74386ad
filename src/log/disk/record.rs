//! A record's bytes. Pure; the form is described in [`super`].

use crate::log::Tenant;
use crate::model::counts::Counts;
use crate::model::runs::RunSet;
use crate::wire::compression::Encoding;
use crate::wire::decoded::Protocol;

use super::mutants::{self, Mutant};

/// First bytes of a record.
pub(super) const MAGIC: [u8; 4] = [0xd5, b'S', b'g', 0xb2];
/// Bytes before the header.
pub(super) const PREFIX: usize = 16;

/// A record's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) arrival_ms: i64,
    pub(super) protocol: Protocol,
    pub(super) encoding: Encoding,
    pub(super) body_len: u32,
    pub(super) body_crc: u32,
    pub(super) counts: Counts,
    pub(super) admitted: Counts,
    pub(super) totals: Counts,
}

/// What CRCs begin with in a segment of this salt.
pub(super) fn seed(salt: u64) -> u32 {
    crc32c::crc32c(&salt.to_le_bytes())
}

/// The CRC of `bytes` in a segment with this seed.
pub(super) fn salted(seed: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(seed, bytes)
}

/// Appends prefix and header to `out`; says how many bytes they are.
pub(super) fn encode(
    out: &mut Vec<u8>,
    seed: u32,
    head: &Head,
    tenant: &Tenant,
    skipped: &RunSet,
) -> u32 {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    out.extend_from_slice(&head.seq.to_le_bytes());
    out.extend_from_slice(&head.arrival_ms.to_le_bytes());
    out.push(match head.protocol {
        Protocol::V1 => 1,
        Protocol::V2 => 2,
    });
    out.push(match head.encoding {
        Encoding::Snappy => 1,
        Encoding::Zstd => 2,
    });
    out.extend_from_slice(&[0; 2]);
    put_u32(out, head.body_len);
    put_u32(out, head.body_crc);
    small(head.counts)
        .into_iter()
        .for_each(|count| put_u32(out, count));
    small(head.admitted)
        .into_iter()
        .for_each(|count| put_u32(out, count));
    put_counts(out, head.totals);
    put_u32(out, tenant.0.len() as u32);
    for (name, value) in &tenant.0 {
        for text in [name, value] {
            put_u32(out, text.len() as u32);
            out.extend_from_slice(text.as_bytes());
        }
    }
    put_u32(out, skipped.iter().count() as u32);
    for (from, to) in skipped.iter() {
        put_u32(out, from);
        put_u32(out, to);
    }
    let length = (out.len() - start - PREFIX) as u32;
    let header_crc = salted(seed, &out[start + PREFIX..]);
    let prefix = &mut out[start..start + PREFIX];
    prefix[..4].copy_from_slice(&MAGIC);
    prefix[4..8].copy_from_slice(&length.to_le_bytes());
    let prefix_crc = salted(seed, &prefix[..8]);
    prefix[8..12].copy_from_slice(&prefix_crc.to_le_bytes());
    prefix[12..16].copy_from_slice(&header_crc.to_le_bytes());
    PREFIX as u32 + length
}

/// The header's length, if these bytes are a record's prefix in a segment with this seed.
pub(super) fn header_len(prefix: &[u8], seed: u32) -> Option<usize> {
    let prefix = prefix.get(..PREFIX)?;
    let crc = u32_at(prefix, 8)?;
    let holds = mutants::present(Mutant::NoHeaderCheck) || salted(seed, &prefix[..8]) == crc;
    (prefix.starts_with(&MAGIC) && holds)
        .then(|| u32_at(prefix, 4).map(|length| length as usize))?
}

/// The header behind this prefix, if both are what was written.
pub(super) fn decode(prefix: &[u8], header: &[u8], seed: u32) -> Option<(Head, Tenant, RunSet)> {
    let crc = u32_at(prefix, 12)?;
    if salted(seed, header) != crc && !mutants::present(Mutant::NoHeaderCheck) {
        return None;
    }
    let mut at = Fields { rest: header };
    let (seq, arrival_ms) = (at.u64()?, at.u64()?.cast_signed());
    let [protocol, encoding, 0, 0] = at.take(4)? else {
        return None;
    };
    let head = Head {
        seq,
        arrival_ms,
        protocol: match protocol {
            1 => Protocol::V1,
            2 => Protocol::V2,
            _ => return None,
        },
        encoding: match encoding {
            1 => Encoding::Snappy,
            2 => Encoding::Zstd,
            _ => return None,
        },
        body_len: at.u32()?,
        body_crc: at.u32()?,
        counts: at.small()?,
        admitted: at.small()?,
        totals: at.counts()?,
    };
    let mut tenant = Tenant::default();
    for _ in 0..at.u32()? {
        let pair = (at.text()?, at.text()?);
        tenant.0.push(pair);
    }
    let mut skipped = RunSet::default();
    for _ in 0..at.u32()? {
        let (from, to) = (at.u32()?, at.u32()?);
        skipped.insert(from, to);
    }
    at.rest.is_empty().then_some((head, tenant, skipped))
}

/// A record's counts, as their sum fits its ordinals.
pub(super) fn small(counts: Counts) -> [u32; 3] {
    [counts.samples, counts.histograms, counts.exemplars].map(|count| count as u32)
}

pub(super) fn wide(small: [u32; 3]) -> Counts {
    Counts {
        samples: small[0].into(),
        histograms: small[1].into(),
        exemplars: small[2].into(),
    }
}

pub(super) fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub(super) fn put_counts(out: &mut Vec<u8>, counts: Counts) {
    for count in [counts.samples, counts.histograms, counts.exemplars] {
        out.extend_from_slice(&count.to_le_bytes());
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Fields one after the other; `None` where the bytes end.
pub(super) struct Fields<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub(super) fn counts(&mut self) -> Option<Counts> {
        Some(Counts {
            samples: self.u64()?,
            histograms: self.u64()?,
            exemplars: self.u64()?,
        })
    }

    fn small(&mut self) -> Option<Counts> {
        Some(wide([self.u32()?, self.u32()?, self.u32()?]))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    /// A LEB128 number.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
