//! Protobuf fields, written by hand.

pub(super) fn put_sample(out: &mut Vec<u8>, bits: u64, timestamp_ms: i64, start_ms: i64) {
    put_sample_fields(out, bits, timestamp_ms, 1);
    if start_ms != 0 {
        put_varint(out, 3 << 3);
        put_varint(out, start_ms.cast_unsigned());
    }
}

/// Value and timestamp in two fields that follow each other.
pub(super) fn put_sample_fields(out: &mut Vec<u8>, bits: u64, timestamp_ms: i64, first: u64) {
    if bits != 0 {
        put_varint(out, first << 3 | 1);
        out.extend_from_slice(&bits.to_le_bytes());
    }
    if timestamp_ms != 0 {
        put_varint(out, (first + 1) << 3);
        put_varint(out, timestamp_ms.cast_unsigned());
    }
}

pub(super) fn put_label(out: &mut Vec<u8>, name: &str, value: &str) {
    let length = |text: &str| 1 + varint_length(text.len() as u64) + text.len();
    put_varint(out, 1 << 3 | 2);
    put_varint(out, (length(name) + length(value)) as u64);
    put_bytes(out, 1, name.as_bytes());
    put_bytes(out, 2, value.as_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn varint_length(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
