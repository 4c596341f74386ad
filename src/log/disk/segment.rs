//! A segment's own bytes: name, header, footer. Pure; the form is described in [`super`].

use crate::log::Seq;
use crate::model::counts::Counts;

use super::record::{Fields, put_counts, put_u32, put_varint, salted, seed, wide};

/// Most records of a segment.
pub const RECORDS_MAX: u32 = 16_384;
/// Bytes of the header.
pub const HEADER_LEN: u64 = 256;
/// Where its second copy stands.
const COPY: usize = 128;
/// Bytes that end a sealed segment.
pub(super) const TRAILER_LEN: u64 = 128;
const MAGIC: [u8; 8] = *b"\xe7SgHead\x01";
const TRAILER_MAGIC: [u8; 8] = *b"\xe7SgTail\x02";
const VERSION: u32 = 1;
const SUFFIX: &str = ".segment";

/// Bytes at which the segments of a log of `max_bytes` are sealed.
pub(super) fn size_for(max_bytes: u64) -> u64 {
    (max_bytes / 16).clamp(256 << 10, 32 << 20)
}

/// Name of the segment that begins with this record.
pub fn name_of(first: Seq) -> String {
    format!("{:020}{SUFFIX}", first.0)
}

/// The sequence in a segment's name; `None` if it is none.
pub fn first_in_name(name: &str) -> Option<Seq> {
    let digits = name.strip_suffix(SUFFIX)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(Seq))?
}

/// What stands at the beginning of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) salt: u64,
    pub(super) first: Seq,
    /// Records of older segments are void from here on.
    pub(super) void_from: Seq,
    pub(super) before: Counts,
    pub(super) created_ms: i64,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut copy = MAGIC.to_vec();
        put_u32(&mut copy, VERSION);
        copy.extend_from_slice(&self.salt.to_le_bytes());
        copy.extend_from_slice(&self.first.0.to_le_bytes());
        copy.extend_from_slice(&self.void_from.0.to_le_bytes());
        put_counts(&mut copy, self.before);
        copy.extend_from_slice(&self.created_ms.to_le_bytes());
        let crc = crc32c::crc32c(&copy);
        put_u32(&mut copy, crc);
        copy.resize(COPY, 0);
        copy.extend_from_within(..);
        copy
    }

    /// The first copy that holds.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let copies = [bytes.get(..COPY), bytes.get(COPY..)];
        copies.into_iter().flatten().find_map(Self::decode_copy)
    }

    /// Which of the two copies do not hold.
    pub(super) fn damaged_copies(bytes: &[u8]) -> [bool; 2] {
        let copies = [bytes.get(..COPY), bytes.get(COPY..)];
        copies.map(|copy| copy.and_then(Self::decode_copy).is_none())
    }

    fn decode_copy(copy: &[u8]) -> Option<Self> {
        let mut at = Fields { rest: copy };
        if at.take(8)? != MAGIC || at.u32()? != VERSION {
            return None;
        }
        let header = Self {
            salt: at.u64()?,
            first: Seq(at.u64()?),
            void_from: Seq(at.u64()?),
            before: at.counts()?,
            created_ms: at.u64()?.cast_signed(),
        };
        let read = copy.len() - at.rest.len();
        (crc32c::crc32c(&copy[..read]) == at.u32()?).then_some(header)
    }
}

/// Where a record stands, and what is known of it without its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) at: u64,
    /// Bytes of prefix and header.
    pub(super) head: u32,
    pub(super) body: u32,
    pub(super) arrival_ms: i64,
    pub(super) counts: [u32; 3],
    pub(super) admitted: [u32; 3],
    /// Up to and including this one.
    pub(super) totals: Counts,
}

impl Entry {
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.head) + u64::from(self.body)
    }

    pub(super) fn end(&self) -> u64 {
        self.at + self.bytes()
    }
}

/// What ends a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) salt: u64,
    pub(super) first: Seq,
    pub(super) records: u32,
    pub(super) entries_at: u64,
    pub(super) entries_crc: u32,
    pub(super) totals: Counts,
    pub(super) first_arrival_ms: i64,
    pub(super) last_arrival_ms: i64,
}

impl Trailer {
    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&TRAILER_MAGIC);
        put_u32(out, VERSION);
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.first.0.to_le_bytes());
        put_u32(out, self.records);
        out.extend_from_slice(&self.entries_at.to_le_bytes());
        put_u32(out, self.entries_crc);
        put_counts(out, self.totals);
        out.extend_from_slice(&self.first_arrival_ms.to_le_bytes());
        out.extend_from_slice(&self.last_arrival_ms.to_le_bytes());
        out.resize(start + TRAILER_LEN as usize - 4, 0);
        let crc = salted(seed(self.salt), &out[start..]);
        put_u32(out, crc);
    }

    /// The trailer of the segment with this header, if these bytes are one.
    pub(super) fn decode(bytes: &[u8], header: &Header) -> Option<Self> {
        let (told, crc) = bytes.split_at_checked(TRAILER_LEN as usize - 4)?;
        let crc = u32::from_le_bytes(crc.try_into().ok()?);
        let mut at = Fields { rest: told };
        let magic = at.take(8)? == TRAILER_MAGIC && at.u32()? == VERSION;
        let trailer = Self {
            salt: at.u64()?,
            first: Seq(at.u64()?),
            records: at.u32()?,
            entries_at: at.u64()?,
            entries_crc: at.u32()?,
            totals: at.counts()?,
            first_arrival_ms: at.u64()?.cast_signed(),
            last_arrival_ms: at.u64()?.cast_signed(),
        };
        let same = trailer.salt == header.salt && trailer.first == header.first;
        (magic && same && salted(seed(header.salt), told) == crc).then_some(trailer)
    }
}

/// The footer that seals a segment whose records are these, one right behind the other.
pub(super) fn footer(header: &Header, entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * 16 + TRAILER_LEN as usize);
    let mut arrival = header.created_ms;
    for entry in entries {
        put_varint(&mut out, entry.head.into());
        put_varint(&mut out, entry.body.into());
        let after = entry.arrival_ms.wrapping_sub(arrival);
        put_varint(&mut out, ((after << 1) ^ (after >> 63)).cast_unsigned());
        arrival = entry.arrival_ms;
        for count in entry.counts {
            put_varint(&mut out, count.into());
        }
        for (count, admitted) in entry.counts.iter().zip(entry.admitted) {
            put_varint(&mut out, u64::from(count - admitted));
        }
    }
    let (first, last) = (entries.first(), entries.last());
    let trailer = Trailer {
        salt: header.salt,
        first: header.first,
        records: entries.len() as u32,
        entries_at: last.map_or(HEADER_LEN, Entry::end),
        entries_crc: salted(seed(header.salt), &out),
        totals: last.map_or(header.before, |last| last.totals),
        first_arrival_ms: first.map_or(header.created_ms, |first| first.arrival_ms),
        last_arrival_ms: last.map_or(header.created_ms, |last| last.arrival_ms),
    };
    trailer.encode(&mut out);
    out
}

/// The entries of a sealed segment, if these bytes are what its trailer tells of.
pub(super) fn entries(bytes: &[u8], header: &Header, trailer: &Trailer) -> Option<Vec<Entry>> {
    if salted(seed(header.salt), bytes) != trailer.entries_crc {
        return None;
    }
    let mut fields = Fields { rest: bytes };
    // A row is nine bytes at least: the number is never believed beyond the bytes that are there.
    let mut entries = Vec::with_capacity((trailer.records as usize).min(bytes.len() / 9));
    let (mut at, mut arrival, mut totals) = (HEADER_LEN, header.created_ms, header.before);
    for index in 0..u64::from(trailer.records) {
        let (head, body) = (number(&mut fields)?, number(&mut fields)?);
        let after = fields.varint()?;
        let after = (after >> 1).cast_signed() ^ -((after & 1).cast_signed());
        arrival = arrival.wrapping_add(after);
        let counts = [
            number(&mut fields)?,
            number(&mut fields)?,
            number(&mut fields)?,
        ];
        let mut admitted = counts;
        for count in &mut admitted {
            *count = count.checked_sub(number(&mut fields)?)?;
        }
        totals += wide(admitted);
        let entry = Entry {
            seq: header.first.0 + index,
            at,
            head,
            body,
            arrival_ms: arrival,
            counts,
            admitted,
            totals,
        };
        at = entry.end();
        entries.push(entry);
    }
    (fields.rest.is_empty() && at == trailer.entries_at).then_some(entries)
}

fn number(fields: &mut Fields<'_>) -> Option<u32> {
    u32::try_from(fields.varint()?).ok()
}

/// These bytes are, or nearly are, the first of a trailer.
pub(super) fn has_footer(bytes: &[u8]) -> bool {
    let same = bytes.iter().zip(TRAILER_MAGIC).filter(|(a, b)| **a == *b);
    same.count() + 2 > TRAILER_MAGIC.len()
}
