//! The bytes of a journal. Pure.
//!
//! # Format, version 1
//! Numbers are little-endian; `crc` is CRC32C.
//!
//! ```text
//! file   = header frame*            the first frame is a checkpoint, no other is
//! header = "SLGJ" version:u16 length:u16 salt:u32 name crc:u32
//!          length counts all of the header; crc covers all before it. Every version begins with magic,
//!          version and length and ends with crc, so that an unknown version is told from damage.
//! frame  = magic:u32 crc:u32 tag:u8 length:u32 payload
//!          crc covers tag, length and payload; it starts from the file's salt, a random number, so that
//!          a frame of another file, or one inside a payload, is no frame here.
//! ```
//!
//! Payloads are described in `payload.rs`. A frame that is not whole is passed over: reading goes on at the
//! next place where a whole frame stands. What is left after the last one is the torn tail.

use super::entry::Entry;
use super::payload;

/// Format that is written.
pub const VERSION: u16 = 1;

const FILE_MAGIC: [u8; 4] = *b"SLGJ";
const FRAME_MAGIC: [u8; 4] = [0xf7, b'J', 0xa5, b'E'];
/// Magic, version, length, salt, checksum: the bytes of a header beside the queue's name.
pub(super) const HEADER_LEAST: usize = 16;
/// A header is never longer: a queue's name has at most 64 bytes, and a next version may add to it.
const HEADER_MOST: usize = 4096;
/// Magic, checksum, tag, length.
const FRAME_HEAD: usize = 13;
/// A payload is never longer, bytes.
const PAYLOAD_MOST: usize = 256 << 20;

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where the checksums of its frames start.
    pub salt: u32,
    /// The queue's name.
    pub queue: String,
}

/// Why a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Its header is not whole.
    Damaged,
    /// A version that this program does not know wrote it.
    UnknownVersion(u16),
}

/// A checkpoint that no frame can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// What is wrong with a file's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Places in the middle that were passed over.
    pub places: u64,
    /// Their bytes.
    pub skipped: u64,
    /// Bytes after the last whole frame: torn by a crash, or damaged.
    pub tail: u64,
}

/// Appends a file's header. A name too long for it is cut.
pub fn put_header(out: &mut Vec<u8>, header: &Header) {
    let start = out.len();
    let name = header.queue.as_bytes();
    let name = &name[..name.len().min(HEADER_MOST - HEADER_LEAST)];
    out.extend_from_slice(&FILE_MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&((HEADER_LEAST + name.len()) as u16).to_le_bytes());
    out.extend_from_slice(&header.salt.to_le_bytes());
    out.extend_from_slice(name);
    let crc = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Reads the header at the beginning of a file; with it its length, bytes.
pub fn read_header(bytes: &[u8]) -> Result<(Header, usize), HeaderError> {
    let damaged = || HeaderError::Damaged;
    let fixed = bytes.first_chunk::<8>().ok_or_else(damaged)?;
    let version = u16::from_le_bytes([fixed[4], fixed[5]]);
    let length = usize::from(u16::from_le_bytes([fixed[6], fixed[7]]));
    if fixed[..4] != FILE_MAGIC || !(HEADER_LEAST..=HEADER_MOST).contains(&length) {
        return Err(HeaderError::Damaged);
    }
    let header = bytes.get(..length).ok_or_else(damaged)?;
    let (covered, crc) = header.split_last_chunk::<4>().ok_or_else(damaged)?;
    if crc32c::crc32c(covered) != u32::from_le_bytes(*crc) {
        return Err(HeaderError::Damaged);
    }
    if version != VERSION {
        return Err(HeaderError::UnknownVersion(version));
    }
    let (salt, name) = covered[8..].split_first_chunk::<4>().ok_or_else(damaged)?;
    let header = Header {
        salt: u32::from_le_bytes(*salt),
        queue: String::from_utf8_lossy(name).into_owned(),
    };
    Ok((header, length))
}

/// Appends an entry's frame, or nothing when it is too large.
pub fn put_frame(out: &mut Vec<u8>, salt: u32, entry: &Entry) -> Result<(), TooLarge> {
    let start = out.len();
    out.extend_from_slice(&FRAME_MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.push(payload::tag(entry));
    out.extend_from_slice(&[0; 4]);
    payload::put(out, entry);
    let length = out.len() - start - FRAME_HEAD;
    if length > PAYLOAD_MOST {
        out.truncate(start);
        return Err(TooLarge);
    }
    out[start + 9..start + FRAME_HEAD].copy_from_slice(&(length as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(salt, &out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// The entries of a file, in order; what is not whole is passed over.
pub struct Frames<'b> {
    bytes: &'b [u8],
    salt: u32,
    damage: Damage,
}

impl<'b> Frames<'b> {
    /// Reads from where a frame begins.
    pub fn new(bytes: &'b [u8], salt: u32) -> Self {
        Self {
            bytes,
            salt,
            damage: Damage::default(),
        }
    }

    /// What was wrong with the bytes so far.
    pub fn damage(&self) -> Damage {
        self.damage
    }
}

impl Iterator for Frames<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            let Some((at, frame)) = first_whole(self.bytes, self.salt) else {
                self.damage.tail += self.bytes.len() as u64;
                self.bytes = &[];
                return None;
            };
            self.bytes = &self.bytes[at + frame.length..];
            let entry = payload::read(frame.tag, frame.payload);
            let skipped = if entry.is_none() { frame.length } else { 0 } + at;
            self.damage.skipped += skipped as u64;
            self.damage.places += u64::from(skipped > 0);
            if entry.is_some() {
                return entry;
            }
        }
    }
}

struct Frame<'b> {
    tag: u8,
    payload: &'b [u8],
    /// Of all of it, bytes.
    length: usize,
}

/// The first place where a whole frame stands.
fn first_whole(bytes: &[u8], salt: u32) -> Option<(usize, Frame<'_>)> {
    let last = (bytes.len() + 1).saturating_sub(FRAME_HEAD);
    (0..last).find_map(|at| Some((at, whole_frame(&bytes[at..], salt)?)))
}

/// The frame at the beginning of these bytes, if it is whole.
fn whole_frame(bytes: &[u8], salt: u32) -> Option<Frame<'_>> {
    let rest = bytes.strip_prefix(&FRAME_MAGIC)?;
    let (crc, covered) = rest.split_first_chunk::<4>()?;
    let (tag, rest) = covered.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > PAYLOAD_MOST {
        return None;
    }
    let payload = rest.get(..length)?;
    let covered = &covered[..5 + length];
    let whole = crc32c::crc32c_append(salt, covered) == u32::from_le_bytes(*crc);
    whole.then_some(Frame {
        tag: *tag,
        payload,
        length: FRAME_HEAD + length,
    })
}

#[cfg(test)]
#[path = "codec_tests.rs"]
pub(super) mod tests;
