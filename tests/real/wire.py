"""Protobuf and snappy by hand: just enough to talk remote read, remote write and the
protobuf exposition format with nothing but the standard library.

Floats are carried as their 64 bits (an int) from end to end. A Python float would do for
most of them, but a signalling NaN, such as the stale marker, may lose its payload on the way.
"""

import struct

STALE_BITS = 0x7FF0000000000002

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def bits_of(value):
    """The 64 bits of a Python float (not for NaNs with a payload: write those as ints)."""
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def float_of(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


# --- protobuf, reading ---------------------------------------------------------------


def read_varint(buf, pos):
    result = shift = 0
    while True:
        byte = buf[pos]
        pos += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, pos
        shift += 7


def fields(buf):
    """Yields (field number, value) of one message; fixed64 comes as bits, a varint unsigned."""
    pos, end = 0, len(buf)
    while pos < end:
        tag, pos = read_varint(buf, pos)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, pos = read_varint(buf, pos)
        elif kind == FIXED64:
            value, pos = int.from_bytes(buf[pos : pos + 8], "little"), pos + 8
        elif kind == BYTES:
            size, pos = read_varint(buf, pos)
            value, pos = buf[pos : pos + size], pos + size
        elif kind == FIXED32:
            value, pos = int.from_bytes(buf[pos : pos + 4], "little"), pos + 4
        else:
            raise ValueError(f"wire type {kind} in field {number}")
        if pos > end:
            raise ValueError(f"field {number} is longer than its message")
        yield number, value


def signed(varint):
    """An int64 as protobuf writes it: two's complement in a 64 bit varint."""
    return varint - (1 << 64) if varint >= 1 << 63 else varint


def unzigzag(varint):
    return (varint >> 1) ^ -(varint & 1)


def unpack_varints(value):
    """A repeated varint field: packed (bytes) or one element (int)."""
    if isinstance(value, int):
        return [value]
    out, pos = [], 0
    while pos < len(value):
        element, pos = read_varint(value, pos)
        out.append(element)
    return out


def unpack_fixed64(value):
    """A repeated double field, packed or one element, as bits."""
    if isinstance(value, int):
        return [value]
    return [bits for (bits,) in struct.iter_unpack("<Q", value)]


# --- protobuf, writing ---------------------------------------------------------------


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def put_varint(number, value):
    return varint(number << 3 | VARINT) + varint(value)


def put_zigzag(number, value):
    return put_varint(number, value << 1 if value >= 0 else (-value << 1) - 1)


def put_bits(number, bits):
    return varint(number << 3 | FIXED64) + bits.to_bytes(8, "little")


def put_double(number, value):
    return put_bits(number, bits_of(value))


def put_bytes(number, value):
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | BYTES) + varint(len(value)) + value


def delimited(message):
    """A message in a stream: its length goes before it."""
    return varint(len(message)) + message


# --- snappy, block format ------------------------------------------------------------


def snappy_decompress(data):
    size, pos = read_varint(data, 0)
    out = bytearray()
    end = len(data)
    while pos < end:
        tag = data[pos]
        pos += 1
        kind = tag & 3
        if kind == 0:
            length = (tag >> 2) + 1
            if length > 60:
                extra = length - 60
                length = int.from_bytes(data[pos : pos + extra], "little") + 1
                pos += extra
            out += data[pos : pos + length]
            pos += length
            continue
        if kind == 1:
            length = (tag >> 2 & 7) + 4
            offset = (tag >> 5) << 8 | data[pos]
            pos += 1
        else:
            width = 2 if kind == 2 else 4
            length = (tag >> 2) + 1
            offset = int.from_bytes(data[pos : pos + width], "little")
            pos += width
        start = len(out) - offset
        if offset == 0 or start < 0:
            raise ValueError("snappy copy from before the beginning")
        if offset >= length:
            out += out[start : start + length]
        else:  # the copy runs into what it writes: a repeating pattern
            pattern = bytes(out[start:])
            out += (pattern * (length // offset + 1))[:length]
    if len(out) != size:
        raise ValueError(f"snappy block says {size} bytes and holds {len(out)}")
    return bytes(out)


def snappy_compress(data):
    """A valid block of literals only; nothing here needs it smaller."""
    out = bytearray(varint(len(data)))
    for at in range(0, len(data), 65536):
        piece = data[at : at + 65536]
        out += bytes([61 << 2]) + (len(piece) - 1).to_bytes(2, "little") + piece
    return bytes(out)


# --- remote write 1.0, by hand -------------------------------------------------------


def write_request(series):
    """A prometheus.WriteRequest of [(labels dict, [(timestamp, bits)])], snappy-compressed."""
    message = b""
    for labels, samples in series:
        body = b"".join(
            put_bytes(1, put_bytes(1, name) + put_bytes(2, value))
            for name, value in sorted(labels.items())
        )
        body += b"".join(
            put_bytes(2, put_bits(1, bits) + put_varint(2, timestamp)) for timestamp, bits in samples
        )
        message += put_bytes(1, body)
    return snappy_compress(message)


def write_request_2(series):
    """An io.prometheus.write.v2.Request of [(labels dict, [(timestamp, bits)], (type, help, unit))]."""
    symbols = {"": 0}

    def ref(text):
        return symbols.setdefault(text, len(symbols))

    body = b""
    for labels, samples, (kind, help_text, unit) in series:
        refs = b"".join(varint(ref(name)) + varint(ref(value)) for name, value in sorted(labels.items()))
        metadata = put_varint(1, kind) + put_varint(3, ref(help_text)) + put_varint(4, ref(unit))
        written = b"".join(put_bytes(2, put_bits(1, bits) + put_varint(2, at)) for at, bits in samples)
        body += put_bytes(5, put_bytes(1, refs) + written + put_bytes(5, metadata))
    return snappy_compress(b"".join(put_bytes(4, symbol) for symbol in symbols) + body)


WRITE_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
    "User-Agent": "sluicegate-tests/1",
}

WRITE_HEADERS_2 = {
    **WRITE_HEADERS,
    "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "X-Prometheus-Remote-Write-Version": "2.0.0",
}
