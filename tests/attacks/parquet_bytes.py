"""Where things lie in a Parquet file: page headers and footers, read with a small parser of Thrift's compact protocol."""
import struct
import zlib

BOOLEANS = (1, 2)


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def zigzag(value):
    return (value >> 1) ^ -(value & 1)


def put_zigzag(value):
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def value_of(data, at, kind):
    if kind in BOOLEANS:
        return kind == 1, at
    if kind == 3:
        return data[at], at + 1
    if kind in (4, 5, 6):
        value, at = varint(data, at)
        return zigzag(value), at
    if kind == 7:
        return struct.unpack_from("<d", data, at)[0], at + 8
    if kind == 8:
        length, at = varint(data, at)
        return bytes(data[at:at + length]), at + length
    if kind in (9, 10):
        head = data[at]
        at += 1
        count = head >> 4
        if count == 15:
            count, at = varint(data, at)
        values = []
        for _ in range(count):
            element = head & 15
            if element in BOOLEANS:
                values.append(data[at] == 1)
                at += 1
            else:
                value, at = value_of(data, at, element)
                values.append(value)
        return values, at
    if kind == 12:
        return struct_at(data, at)
    raise ValueError(f"thrift type {kind}")


def struct_at(data, at):
    """The struct at `at` as {field: (value, start of the value, end of the value)}, and where it ends."""
    fields, last = {}, 0
    while data[at] != 0:
        head = data[at]
        at += 1
        if head >> 4:
            last += head >> 4
        else:
            value, at = varint(data, at)
            last = zigzag(value)
        start = at
        value, at = value_of(data, at, head & 15)
        fields[last] = (value, start, at)
    return fields, at + 1


class Page:
    """A page: where its header and its data lie."""

    def __init__(self, data, at):
        self.header = at
        self.fields, self.data = struct_at(data, at)
        self.end = self.data + self.fields[3][0]

    def crc_place(self):
        return self.fields[4][1:] if 4 in self.fields else None


def pages(data, chunk):
    """The pages of a column chunk, given its PyArrow metadata."""
    starts = [p for p in (chunk.dictionary_page_offset, chunk.data_page_offset) if p]
    at = min(starts)
    end = at + chunk.total_compressed_size
    while at < end:
        page = Page(data, at)
        yield page
        at = page.end


def footer_start(data):
    return len(data) - 8 - struct.unpack_from("<I", data, len(data) - 8)[0]


def signed_crc(data):
    return struct.unpack("<i", struct.pack("<I", zlib.crc32(data)))[0]


def replace_between(data, start, end, old, new):
    """Replaces every `old` by `new`, of the same length, in a part of `data`; returns how many."""
    assert len(old) == len(new)
    count, at = 0, data.find(old, start, end)
    while at >= 0:
        data[at:at + len(old)] = new
        count += 1
        at = data.find(old, at + len(old), end)
    return count
