//! Bytes to series and samples, and back. Pure: no clock, no I/O, no metrics.
//!
//! [`decode`] is the one way in: it checks limits before it allocates and walks the message once, over
//! borrowed bytes. [`encode`] is the one way out.

mod canonical;
pub mod compression;
pub mod decoded;
pub mod encode;
pub mod error;
mod histogram;
pub mod negotiate;
pub mod pb;
pub(crate) mod proto;
mod rw1;
mod rw2;
mod shape;
mod snappy;
mod symbols;

use compression::Encoding;
use decoded::{Decoded, IdentityKey, Protocol, WalkLimits};
use error::DecodeError;
use shape::Shape;

/// Decodes a request as it came and walks it once.
///
/// # Errors
/// When the bytes are wrong or over a limit: the whole request is refused. Series that are invalid by
/// themselves are marked in the rows instead.
pub fn decode(
    body: &[u8],
    encoding: Encoding,
    protocol: Protocol,
    size_limit: u64,
    limits: &WalkLimits,
    key: &IdentityKey,
) -> Result<Decoded, DecodeError> {
    let mut shape = Shape::new(protocol, limits);
    let message = compression::decode(body, encoding, size_limit, |prefix| shape.look(prefix))?;
    rows(message, shape, limits, key)
}

/// Walks a decompressed message once.
pub fn walk(
    message: Vec<u8>,
    protocol: Protocol,
    limits: &WalkLimits,
    key: &IdentityKey,
) -> Result<Decoded, DecodeError> {
    rows(message, Shape::new(protocol, limits), limits, key)
}

/// Makes the rows of a message that `shape` has seen a part of.
fn rows(
    message: Vec<u8>,
    mut shape: Shape<'_>,
    limits: &WalkLimits,
    key: &IdentityKey,
) -> Result<Decoded, DecodeError> {
    let (declared, limit) = (message.len() as u64, u64::from(u32::MAX));
    if declared > limit {
        // Places in a message are 32-bit numbers.
        return Err(DecodeError::DecodedSize { declared, limit });
    }
    if shape.concerns(message.len()) {
        shape.look(&message)?;
    }
    let out = Decoded::new(shape.protocol, message, &shape.held);
    match out.protocol {
        Protocol::V1 => rw1::walk(out, limits, key),
        Protocol::V2 => rw2::walk(out, limits, key),
    }
}
