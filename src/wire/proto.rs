//! The protobuf wire format, read over borrowed bytes and written into one buffer.
//!
//! Rules kept here: a length never reaches past its message, a varint has at most ten bytes, unknown
//! fields are skipped, groups at most [`GROUP_DEPTH_MAX`] deep and without recursion.

use super::error::DecodeError;

/// Deprecated groups (wire types 3 and 4) nested deeper than this are refused.
const GROUP_DEPTH_MAX: u32 = 32;

/// A value as it stands on the wire, before anyone knows its meaning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
    /// A group that was skipped whole.
    Group,
}

/// A field of which only the head was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skim {
    Varint,
    /// Content of this length follows.
    Bytes(usize),
    /// Fixed size, or a group, skipped whole.
    Other,
}

/// Reads the fields of one message, front to back.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The fields of `bytes` from `at` on.
    pub(crate) fn starting(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where the next field begins, from the start of this message.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The next field's number and value; `None` at the end of the message.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, DecodeError> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let (number, wire_type) = self.key()?;
        let value = match wire_type {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => Value::Bytes(self.length_delimited()?),
            3 => self.skip_group(number)?,
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(DecodeError::Protobuf("unknown wire type")),
        };
        Ok(Some((number, value)))
    }

    /// As [`next`](Self::next), but stops before the content of a length-delimited field, which need
    /// not be there. There must be a field.
    #[inline]
    pub(crate) fn skim(&mut self) -> Result<(u32, Skim), DecodeError> {
        let (number, wire_type) = self.key()?;
        let skim = match wire_type {
            0 => {
                self.varint()?;
                Skim::Varint
            }
            2 => {
                let len = usize::try_from(self.varint()?);
                Skim::Bytes(len.map_err(|_| PAST_THE_END)?)
            }
            1 => self.array::<8>().map(|_| Skim::Other)?,
            3 => self.skip_group(number).map(|_| Skim::Other)?,
            5 => self.array::<4>().map(|_| Skim::Other)?,
            _ => return Err(DecodeError::Protobuf("unknown wire type")),
        };
        Ok((number, skim))
    }

    #[inline]
    pub(crate) fn key(&mut self) -> Result<(u32, u8), DecodeError> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3)
            .ok()
            .filter(|n| (1..1 << 29).contains(n));
        Ok((
            number.ok_or(DecodeError::Protobuf("bad field number"))?,
            (key & 7) as u8,
        ))
    }

    /// A varint; more than ten bytes, or bits past the 64th, are refused.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let first = *self
            .bytes
            .get(self.at)
            .ok_or(DecodeError::Protobuf("truncated varint"))?;
        if first < 0x80 {
            self.at += 1;
            return Ok(u64::from(first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (index, byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            if index == 9 && *byte > 1 {
                return Err(DecodeError::Protobuf("varint over 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(DecodeError::Protobuf("truncated varint"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let taken = self.bytes.get(self.at..self.at + N);
        let array = taken.and_then(|b| b.try_into().ok());
        self.at += N;
        array.ok_or(DecodeError::Protobuf("truncated fixed-size value"))
    }

    #[inline]
    fn length_delimited(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.varint()?;
        let end = usize::try_from(length)
            .ok()
            .and_then(|n| self.at.checked_add(n));
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(PAST_THE_END)?;
        self.at += taken.len();
        Ok(taken)
    }

    fn skip_group(&mut self, number: u32) -> Result<Value<'a>, DecodeError> {
        let mut open = [0u32; GROUP_DEPTH_MAX as usize];
        open[0] = number;
        let mut depth = 1;
        while depth > 0 {
            let (number, wire_type) = self.key()?;
            match wire_type {
                0 => drop(self.varint()?),
                1 => drop(self.array::<8>()?),
                2 => drop(self.length_delimited()?),
                5 => drop(self.array::<4>()?),
                3 if depth == open.len() => return Err(DecodeError::ProtobufDepth),
                3 => {
                    open[depth] = number;
                    depth += 1;
                }
                4 if open[depth - 1] == number => depth -= 1,
                _ => return Err(DecodeError::Protobuf("group that does not close")),
            }
        }
        Ok(Value::Group)
    }
}

/// The values of a repeated varint field, packed or not.
pub(crate) fn repeated_varints(
    value: Value<'_>,
    mut each: impl FnMut(u64) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    match value {
        Value::Varint(single) => each(single),
        Value::Bytes(packed) => {
            let mut fields = Fields::new(packed);
            while fields.at < packed.len() {
                each(fields.varint()?)?;
            }
            Ok(())
        }
        _ => Err(WRONG_TYPE),
    }
}

/// The bit patterns of a repeated double field, packed or not.
pub(crate) fn repeated_doubles(
    value: Value<'_>,
    mut each: impl FnMut(u64) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    match value {
        Value::Fixed64(single) => each(single),
        Value::Bytes(packed) if packed.len().is_multiple_of(8) => {
            for chunk in packed.chunks_exact(8) {
                each(u64::from_le_bytes(chunk.try_into().expect("eight bytes")))?;
            }
            Ok(())
        }
        _ => Err(WRONG_TYPE),
    }
}

/// A length that reaches past the message it stands in.
pub(crate) const PAST_THE_END: DecodeError =
    DecodeError::Protobuf("length past the end of its message");

/// A known field with another wire type than its own.
pub(crate) const WRONG_TYPE: DecodeError = DecodeError::Protobuf("field of the wrong type");

impl<'a> Value<'a> {
    #[inline]
    pub(crate) fn bytes(self) -> Result<&'a [u8], DecodeError> {
        if let Self::Bytes(bytes) = self {
            Ok(bytes)
        } else {
            Err(WRONG_TYPE)
        }
    }

    #[inline]
    pub(crate) fn varint(self) -> Result<u64, DecodeError> {
        if let Self::Varint(value) = self {
            Ok(value)
        } else {
            Err(WRONG_TYPE)
        }
    }

    #[inline]
    pub(crate) fn double_bits(self) -> Result<u64, DecodeError> {
        if let Self::Fixed64(bits) = self {
            Ok(bits)
        } else {
            Err(WRONG_TYPE)
        }
    }
}

/// `sint` decoding (zigzag).
pub(crate) fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Appends a varint.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`put_varint`] would append.
#[inline]
pub(crate) fn varint_len(value: u64) -> usize {
    ((64 - (value | 1).leading_zeros() as usize) * 9 + 64) / 64
}

/// Appends a length-delimited field. `number` must be below 16: one byte of key.
#[inline]
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends the label field of a 1.0 series in its one canonical form (an empty string is left out).
pub(crate) fn put_label(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let part = |s: &[u8]| {
        if s.is_empty() {
            0
        } else {
            1 + varint_len(s.len() as u64) + s.len()
        }
    };
    out.push(0x0a);
    put_varint(out, (part(name) + part(value)) as u64);
    if !name.is_empty() {
        put_bytes(out, 1, name);
    }
    if !value.is_empty() {
        put_bytes(out, 2, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, DecodeError> {
        let mut fields = Fields::new(bytes);
        let mut seen = Vec::new();
        while let Some(field) = fields.next()? {
            seen.push(field);
        }
        Ok(seen)
    }

    #[test]
    fn every_wire_type_is_read_and_groups_are_skipped() {
        let bytes = [
            0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1b, 0x08, 1, 0x1c, 0x25, 1, 0, 0, 0,
        ];
        let seen = all(&bytes).unwrap();
        let hi: &[u8] = b"hi";
        let expected = [
            (1, Value::Varint(150)),
            (2, Value::Bytes(hi)),
            (3, Value::Group),
            (4, Value::Fixed32(1)),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn lies_about_lengths_and_varints_are_refused() {
        for (bytes, why) in [
            (&[0x0a, 5, 1][..], "length past the end"),
            (
                &[
                    0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
                ],
                "length 2^64-1",
            ),
            (
                &[
                    0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,
                ],
                "65 bits",
            ),
            (
                &[
                    0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1,
                ],
                "11 bytes",
            ),
            (&[0x08], "no value"),
            (&[0x00, 1], "field number 0"),
            (&[0x0e, 1], "wire type 6"),
            (&[0x09, 1, 2], "short double"),
            (&[0x0b, 0x14], "group closed by another number"),
            (&[0x0b], "group that never closes"),
        ] {
            assert!(all(bytes).is_err(), "{why}");
        }
        let deep = [0x0b].repeat(100_000);
        assert!(matches!(all(&deep), Err(DecodeError::ProtobufDepth)));
    }

    #[test]
    fn varint_lengths_match_what_is_written() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(varint_len(value), out.len(), "{value}");
                assert_eq!(Fields::new(&out).varint().unwrap(), value);
            }
        }
    }
}
