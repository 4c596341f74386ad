//! Bytes to series and samples, and back. Pure: no clock, no I/O, no metrics.
//!
//! [`decode`] is the one way in: it checks limits before it allocates and walks the message once, over
//! borrowed bytes. [`encode`] is the one way out.

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
mod symbols;

use compression::Encoding;
use decoded::{Decoded, IdentityKey, Protocol, WalkLimits};
use error::DecodeError;

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
    let shape = |prefix: &[u8]| decoded::shape(protocol, prefix, limits);
    let message = compression::decode(body, encoding, size_limit, shape)?;
    walk(message, protocol, limits, key)
}

/// Walks a decompressed message once.
pub fn walk(
    message: Vec<u8>,
    protocol: Protocol,
    limits: &WalkLimits,
    key: &IdentityKey,
) -> Result<Decoded, DecodeError> {
    match protocol {
        Protocol::V1 => rw1::walk(message, limits, key),
        Protocol::V2 => rw2::walk(message, limits, key),
    }
}
