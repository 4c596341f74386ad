//! Reads both messages without copying: labels point into the unpacked body.
//!
//! Unknown fields are skipped, scalars may be packed or not, symbols may follow the series; text
//! that is not UTF-8 is refused. What it accepts and finds is what prost accepts and finds.

use super::decode::{DecodeError, Element, Visit, check_symbols, read_histogram, resolve};
use crate::bench::Protocol;
use crate::bench::data::RawLabel;

/// One field of a message.
#[derive(Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// Fields of a message, one after the other.
struct Fields<'a>(&'a [u8]);

fn bad(what: &str) -> DecodeError {
    DecodeError(format!("protobuf: {what}"))
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let (number, kind) = (key >> 3, key & 7);
        if number == 0 || key > u64::from(u32::MAX) {
            return Err(bad("field number"));
        }
        let value = match kind {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                let _: [u8; 4] = self.array()?;
                Value::Fixed32
            }
            _ => return Err(bad("wire type")),
        };
        Ok(Some((number, value)))
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        if let Some((byte, rest)) = self.0.split_first()
            && *byte < 0x80
        {
            self.0 = rest;
            return Ok(u64::from(*byte));
        }
        let mut value = 0;
        for (place, byte) in self.0.iter().take(10).enumerate() {
            if place == 9 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (place * 7);
            if *byte < 0x80 {
                self.0 = &self.0[place + 1..];
                return Ok(value);
            }
        }
        Err(bad("varint"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or_else(|| bad("cut short"))?;
        self.0 = rest;
        Ok(*array)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(length).map_err(|_| bad("length"))?;
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| bad("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Value<'a> {
    fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(bad("wire type")),
        }
    }

    fn text(self) -> Result<&'a [u8], DecodeError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| bad("text is not UTF-8"))?;
        Ok(bytes)
    }

    fn varint(self) -> Result<u64, DecodeError> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(bad("wire type")),
        }
    }

    fn fixed64(self) -> Result<u64, DecodeError> {
        match self {
            Self::Fixed64(value) => Ok(value),
            _ => Err(bad("wire type")),
        }
    }
}

pub(super) fn v1(message: &[u8], visit: &mut impl Visit) -> Result<(), DecodeError> {
    let mut fields = Fields(message);
    let (mut labels, mut elements) = (Vec::new(), Vec::new());
    let mut metadata = 0;
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => {
                labels.clear();
                elements.clear();
                v1_series(value.bytes()?, &mut labels, &mut elements)?;
                visit.series(&mut labels, &elements);
            }
            3 => {
                value.bytes()?;
                metadata += 1;
            }
            _ => {}
        }
    }
    visit.metadata(metadata);
    Ok(())
}

fn v1_series<'a>(
    message: &'a [u8],
    labels: &mut Vec<RawLabel<'a>>,
    elements: &mut Vec<Element<'a>>,
) -> Result<(), DecodeError> {
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => labels.push(label(value.bytes()?)?),
            2 => elements.push(sample(value.bytes()?, Protocol::V1)?),
            3 => elements.push(v1_exemplar(value.bytes()?)?),
            4 => elements.push(read_histogram(value.bytes()?, Protocol::V1)?),
            _ => {}
        }
    }
    Ok(())
}

fn label(message: &[u8]) -> Result<RawLabel<'_>, DecodeError> {
    let mut fields = Fields(message);
    let mut label: RawLabel<'_> = (b"", b"");
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => label.0 = value.text()?,
            2 => label.1 = value.text()?,
            _ => {}
        }
    }
    Ok(label)
}

/// A start timestamp is a field of 2.0; in 1.0 its number is unknown.
fn sample(message: &[u8], protocol: Protocol) -> Result<Element<'_>, DecodeError> {
    let mut fields = Fields(message);
    let (mut bits, mut timestamp_ms, mut start_ms) = (0, 0, 0);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => bits = value.fixed64()?,
            2 => timestamp_ms = value.varint()?.cast_signed(),
            3 if protocol == Protocol::V2 => start_ms = value.varint()?.cast_signed(),
            _ => {}
        }
    }
    Ok(Element::Sample {
        bits,
        timestamp_ms,
        start_ms,
    })
}

fn v1_exemplar(message: &[u8]) -> Result<Element<'_>, DecodeError> {
    let mut fields = Fields(message);
    let (mut bits, mut timestamp_ms, mut labels) = (0, 0, Vec::new());
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => labels.push(label(value.bytes()?)?),
            2 => bits = value.fixed64()?,
            3 => timestamp_ms = value.varint()?.cast_signed(),
            _ => {}
        }
    }
    Ok(Element::Exemplar {
        bits,
        timestamp_ms,
        labels,
    })
}

pub(super) fn v2(message: &[u8], visit: &mut impl Visit) -> Result<(), DecodeError> {
    let mut fields = Fields(message);
    let (mut symbols, mut all) = (Vec::new(), Vec::new());
    while let Some((number, value)) = fields.next()? {
        match number {
            4 => symbols.push(value.text()?),
            5 => all.push(value.bytes()?),
            _ => {}
        }
    }
    check_symbols(&symbols, visit);
    let mut series = V2Series::default();
    let mut metadata = 0;
    for message in all {
        series.clear();
        metadata += u64::from(series.read(message, &symbols)?);
        visit.series(&mut series.labels, &series.elements);
    }
    visit.metadata(metadata);
    Ok(())
}

/// Buffers for one series after the other.
#[derive(Default)]
struct V2Series<'a> {
    refs: Vec<u32>,
    labels: Vec<RawLabel<'a>>,
    elements: Vec<Element<'a>>,
}

impl<'a> V2Series<'a> {
    fn clear(&mut self) {
        self.refs.clear();
        self.labels.clear();
        self.elements.clear();
    }

    /// Returns whether the series has metadata.
    fn read(&mut self, message: &'a [u8], symbols: &[&'a [u8]]) -> Result<bool, DecodeError> {
        let mut fields = Fields(message);
        let mut metadata = false;
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => put_refs(value, &mut self.refs)?,
                2 => self.elements.push(sample(value.bytes()?, Protocol::V2)?),
                3 => self
                    .elements
                    .push(read_histogram(value.bytes()?, Protocol::V2)?),
                4 => self.elements.push(v2_exemplar(value.bytes()?, symbols)?),
                5 => {
                    value.bytes()?;
                    metadata = true;
                }
                _ => {}
            }
        }
        resolve(&self.refs, symbols, &mut self.labels)?;
        Ok(metadata)
    }
}

fn put_refs(value: Value<'_>, refs: &mut Vec<u32>) -> Result<(), DecodeError> {
    match value {
        Value::Varint(one) => refs.push(one as u32),
        Value::Bytes(packed) => {
            let mut packed = Fields(packed);
            while !packed.0.is_empty() {
                refs.push(packed.varint()? as u32);
            }
        }
        Value::Fixed64(_) | Value::Fixed32 => return Err(bad("wire type")),
    }
    Ok(())
}

fn v2_exemplar<'a>(message: &[u8], symbols: &[&'a [u8]]) -> Result<Element<'a>, DecodeError> {
    let mut fields = Fields(message);
    let (mut bits, mut timestamp_ms, mut refs) = (0, 0, Vec::new());
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => put_refs(value, &mut refs)?,
            2 => bits = value.fixed64()?,
            3 => timestamp_ms = value.varint()?.cast_signed(),
            _ => {}
        }
    }
    let mut labels = Vec::new();
    resolve(&refs, symbols, &mut labels)?;
    Ok(Element::Exemplar {
        bits,
        timestamp_ms,
        labels,
    })
}
