"""Reads a Prometheus' write-ahead log, for what none of its interfaces tells: the metadata that came by
remote write (/api/v1/metadata knows only of targets it scrapes itself) and start timestamps.

Needs --no-storage.tsdb.wal-compression. A whole record is readable as soon as it is committed.
"""

import os

from wire import read_varint, unzigzag

PAGE = 32 * 1024
SERIES, METADATA = 1, 6
SAMPLES_WITH_START, HISTOGRAMS_WITH_START, FLOAT_HISTOGRAMS_WITH_START = 11, 12, 13
CUSTOM_BUCKETS_SCHEMA = -53
TYPES = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")


def read_metadata(data_folder):
    """{series labels: (type, unit, help)}, the latest of each, of the series that have any: a receiver logs
    an empty entry for the others."""
    labels_of, metadata = {}, {}
    for record in records(data_folder):
        if record[0] == SERIES:
            labels_of.update(series_in(record))
        elif record[0] == METADATA:
            metadata.update(metadata_in(record))
    nothing = (TYPES[0], "", "")
    return {labels_of[ref]: entry for ref, entry in metadata.items() if entry != nothing}


def read_starts(data_folder):
    """{series labels: {timestamp: start timestamp}}, of the samples that have one."""
    labels_of, starts = {}, {}
    for record in records(data_folder):
        if record[0] == SERIES:
            labels_of.update(series_in(record))
        elif record[0] in (SAMPLES_WITH_START, HISTOGRAMS_WITH_START, FLOAT_HISTOGRAMS_WITH_START):
            for ref, timestamp, start in starts_in(record):
                if start:
                    starts.setdefault(labels_of[ref], {})[timestamp] = start
    return starts


def records(data_folder):
    folder = os.path.join(data_folder, "wal")
    for name in sorted(n for n in os.listdir(folder) if n.isdigit()):
        with open(os.path.join(folder, name), "rb") as file:
            yield from records_of_segment(file.read())


def records_of_segment(segment):
    """A record is one fragment (type 1) or a first (2), middle (3) and last (4) ones, over pages."""
    record = b""
    for page_start in range(0, len(segment), PAGE):
        page = segment[page_start : page_start + PAGE]
        at = 0
        while at + 7 <= len(page) and page[at] & 7:
            header, size = page[at], int.from_bytes(page[at + 1 : at + 3], "big")
            if header & 0x18:
                raise ValueError("the write-ahead log is compressed")
            record += page[at + 7 : at + 7 + size]
            at += 7 + size
            if header & 7 in (1, 4):
                if record:
                    yield record
                record = b""


class Reader:
    def __init__(self, record):
        self.record, self.at = record, 1

    def more(self):
        return self.at < len(self.record)

    def byte(self):
        self.at += 1
        return self.record[self.at - 1]

    def uvarint(self):
        value, self.at = read_varint(self.record, self.at)
        return value

    def varint(self):
        return unzigzag(self.uvarint())

    def fixed64(self):
        self.at += 8
        return int.from_bytes(self.record[self.at - 8 : self.at], "big")

    def text(self):
        size = self.uvarint()
        self.at += size
        return self.record[self.at - size : self.at].decode()


def series_in(record):
    reader = Reader(record)
    while reader.more():
        ref = reader.fixed64()
        yield ref, tuple(sorted((reader.text(), reader.text()) for _ in range(reader.uvarint())))


def metadata_in(record):
    reader = Reader(record)
    while reader.more():
        ref, kind = reader.uvarint(), reader.byte()
        named = {}
        for _ in range(reader.uvarint()):
            name = reader.text()
            named[name] = reader.text()
        yield ref, (TYPES[kind], named.get("UNIT", ""), named.get("HELP", ""))


def starts_in(record):
    """Yields (ref, timestamp, start). References are written as the difference to the one before,
    timestamps to the first; a start is none (0), the one before (1), or a difference to the first (2)."""
    reader = Reader(record)
    skip_value = {
        SAMPLES_WITH_START: Reader.fixed64,
        HISTOGRAMS_WITH_START: skip_histogram,
        FLOAT_HISTOGRAMS_WITH_START: skip_float_histogram,
    }[record[0]]
    ref = start = first_timestamp = first_start = None
    while reader.more():
        if ref is None:
            ref, timestamp, start = reader.varint(), reader.varint(), reader.varint()
            first_timestamp, first_start = timestamp, start
        else:
            ref += reader.varint()
            timestamp = first_timestamp + reader.varint()
            marker = reader.byte()
            if marker == 0:
                start = 0
            elif marker == 2:
                start = first_start + reader.varint()
        skip_value(reader)
        yield ref, timestamp, start


def skip_histogram(reader):
    reader.byte()  # counter reset hint
    schema = reader.varint()
    reader.fixed64()  # zero threshold
    reader.uvarint()  # zero count
    reader.uvarint()  # count
    reader.fixed64()  # sum
    skip_buckets(reader, schema, Reader.varint)


def skip_float_histogram(reader):
    reader.byte()
    schema = reader.varint()
    for _ in range(4):
        reader.fixed64()
    skip_buckets(reader, schema, Reader.fixed64)


def skip_buckets(reader, schema, bucket):
    for _ in ("positive spans", "negative spans"):
        for _ in range(reader.uvarint()):
            reader.varint()
            reader.uvarint()
    for _ in ("positive", "negative"):
        for _ in range(reader.uvarint()):
            bucket(reader)
    if schema == CUSTOM_BUCKETS_SCHEMA:
        for _ in range(reader.uvarint()):
            reader.fixed64()
