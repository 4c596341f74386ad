//! Each way of sending, tried on a stretch: encoded, compressed, weighed. Pure: what time it is, and how long to
//! rest, the caller says.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use super::recut::{Base, Stretch};
use super::{Cut, Form, Tallies, Tally};
use crate::log::Tenant;
use crate::model::content::Content;
use crate::queue::batch::Batch;
use crate::queue::handle::WalkOptions;
use crate::queue::metadata::TenantMetadata;
use crate::queue::sender::ZSTD_LEVEL;
use crate::wire::compression::{Encoding, encode_snappy, encode_zstd};
use crate::wire::encode::{Encoder, Lost};
use crate::wire::error::DecodeError;

/// What the measuring asks of the world.
pub trait Meter {
    /// Time of a core that this thread has taken.
    fn cpu(&mut self) -> Duration;

    /// Rests as long as it must after what was worked, while so many bytes are held; `false`: it is over.
    fn rest(&mut self, bytes: usize) -> bool;
}

/// Encodes and compresses, as a sender does.
pub struct Scratch {
    encoder: Encoder,
    snappy: snap::raw::Encoder,
    message: Vec<u8>,
    compressed: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            encoder: Encoder::default(),
            snappy: snap::raw::Encoder::new(),
            message: Vec::new(),
            compressed: Vec::new(),
        }
    }
}

impl Scratch {
    /// The bytes of a request, and what it could not carry.
    pub fn weigh(
        &mut self,
        form: Form,
        content: &Content,
        metadata: &TenantMetadata,
    ) -> (u64, Lost) {
        let (message, compressed) = (&mut self.message, &mut self.compressed);
        message.clear();
        let lost = self
            .encoder
            .encode(form.protocol, content, metadata, message);
        let body = match form.encoding {
            Encoding::Snappy => encode_snappy(&mut self.snappy, message, compressed),
            Encoding::Zstd => encode_zstd(message, ZSTD_LEVEL, compressed),
        };
        (body.len() as u64, lost)
    }
}

/// Tries every way that the stretch is good for. `None` when it was told to stop before it was through: half a
/// comparison is none.
///
/// # Errors
/// When a body cannot be decoded again, which only a bug can bring about.
pub fn measure(
    stretch: &Stretch,
    cuts: &[Cut],
    base: &Base,
    walk: &WalkOptions,
    metadata: &dyn Fn(&Arc<Tenant>) -> TenantMetadata,
    meter: &mut dyn Meter,
) -> Result<Option<Tallies>, DecodeError> {
    let mut scratch = Scratch::default();
    let mut tallies = Tallies::new();
    for cut in cuts {
        let first = tallies.len();
        let tally = Tally {
            stretches: 1,
            came: stretch.came(),
            ..Tally::default()
        };
        tallies.extend(cut.forms().iter().map(|form| (*cut, *form, tally)));
        let rows = &mut tallies[first..];
        let (meter, going, beside) = (RefCell::new(&mut *meter), Cell::new(true), Cell::new(0));
        let rest = |bytes: usize| {
            beside.set(bytes);
            going.set(going.get() && meter.borrow_mut().rest(bytes + stretch.bytes()));
            going.get()
        };
        let mut each = |batch: &Batch| {
            // A cut at the end of a stretch has many batches, and no pause between them but this.
            if !rest(beside.get()) {
                return;
            }
            let metadata = metadata(&batch.tenant);
            for (_, form, tally) in rows.iter_mut() {
                let before = meter.borrow_mut().cpu();
                let (bytes, lost) = scratch.weigh(*form, &batch.content, &metadata);
                tally.cpu += meter.borrow_mut().cpu().saturating_sub(before);
                let left_out = lost.unrepresentable.total();
                tally.left_out += left_out;
                tally.elements += batch.counts.total() - left_out;
                // What cannot be carried at all makes no request.
                if batch.counts.total() > left_out {
                    tally.requests += 1;
                    tally.bytes += bytes;
                }
            }
        };
        stretch.recut(*cut, base, walk, &mut |bytes| rest(bytes), &mut each)?;
        if !going.get() {
            return Ok(None);
        }
    }
    Ok(Some(tallies))
}
