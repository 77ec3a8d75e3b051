"""Attacks on the bytes of data files."""
import io
import json
import struct

import pyarrow as pa
import pyarrow.parquet as pq

import parquet_bytes as pb
import tables

SUM = "SELECT CAST(SUM(value) * 1000 AS BIGINT) FROM t"


def metadata_of(data):
    return pq.ParquetFile(io.BytesIO(bytes(data))).metadata


def chunk(data, group, column):
    groups = metadata_of(data).row_group(group)
    for i in range(groups.num_columns):
        if groups.column(i).path_in_schema == column:
            return groups.column(i)
    raise KeyError(column)


def page_with(data, group, column, value):
    """The page of a chunk that holds a value of 8 bytes, and where it stands."""
    for page in pb.pages(data, chunk(data, group, column)):
        at = bytes(data[page.data:page.end]).find(value)
        if at >= 0:
            return page, page.data + at
    raise ValueError("the value is not there")


def double(value):
    return struct.pack("<d", value)


def flip_value(data, group, i, new):
    page, at = page_with(data, group, "value", double(tables.value_of(i)))
    data[at:at + 8] = double(new)
    return page


def recompute_crc(data, page):
    start, end = page.crc_place()
    crc = pb.put_zigzag(pb.signed_crc(bytes(data[page.data:page.end])))
    if len(crc) != end - start:
        return False
    data[start:end] = crc
    return True


def rewritten(base, path, value, **options):
    """The file of `path` encoded anew with other values, as large as need be."""
    table = pq.read_table(base.folder / path)
    changed = table.set_column(table.column_names.index("value"), "value", pa.array([value(i) for i in table["id"].to_pylist()]))
    return changed, tables.parquet(changed, **options)


def register(corpus):
    pages_in_place(corpus)
    footers(corpus)
    whole_files(corpus)
    hostile(corpus)


def pages_in_place(corpus):
    @corpus.attack("1", "edit bytes of a PLAIN page in place", base="folder", query=SUM,
                   place=["label=1/part-1.parquet", "row group 1", "column value"])
    def _(a):
        def edit(data):
            flip_value(data, 1, 160, 1e6)
        # Without page checksums, as most writers write.
        plain = tables.parquet(tables.rows(100, 100, columns=("id", "value")), write_page_checksum=False)
        assert len(plain) <= len(a.read("label=1/part-1.parquet"))
        a.edit_bytes("label=1/part-1.parquet", edit)

    @corpus.attack("2", "edit a page, keep the stale page CRC", query=SUM, place=["part-1.parquet", "row group 1", "column value"])
    def _(a):
        a.edit_bytes("part-1.parquet", lambda data: flip_value(data, 1, 350, 1e6))

    @corpus.attack("3", "edit a page and recompute its CRC", query=SUM, place=["part-1.parquet", "row group 1", "column value"])
    def _(a):
        def edit(data):
            honest = bytes(data)
            for attempt in range(1000):
                data[:] = honest
                page = flip_value(data, 1, 350, 1e6 + attempt)
                if recompute_crc(data, page):
                    return
            raise ValueError("no value fits")
        a.edit_bytes("part-1.parquet", edit)

    @corpus.attack("23", "swap a file during a session", moment="during", query=SUM, place=["part-1.parquet", "column value"])
    def _(a):
        a.edit_bytes("part-1.parquet", lambda data: flip_value(data, 0, 210, 5e5))

    @corpus.attack("N", "swap the contents of two sealed files of one size", base="checkpointed", query=SUM)
    def _(a):
        by_size = {}
        for path in sorted(a.base.live):
            by_size.setdefault(len(a.read(path)), []).append(path)
        one, other = next(paths for paths in by_size.values() if len(paths) > 1 and paths[0] < "part-05")[-2:]
        a.place = [one, other]
        contents = a.read(one), a.read(other)
        a.put(one, contents[1])
        a.put(other, contents[0])


def footer_bound(data, old, new):
    """Changes a bound in the footer alone, not in the page index."""
    return pb.replace_between(data, pb.footer_start(data), len(data) - 8, old, new)


def footers(corpus):
    long = lambda i: struct.pack("<q", i)

    @corpus.attack("4", "forge min/max in the Parquet footer", query="SELECT COUNT(*) FROM t WHERE id = 350",
                   place=["part-1.parquet", "footer"])
    def _(a):
        def edit(data):
            assert footer_bound(data, long(399), long(340)) > 0
        a.edit_bytes("part-1.parquet", edit)

    @corpus.attack("26", "forge footer statistics used by TopK", query="SELECT id FROM t ORDER BY id DESC LIMIT 3",
                   place=["part-3.parquet", "footer"])
    def _(a):
        def edit(data):
            assert footer_bound(data, long(599), long(-5)) > 0
            footer_bound(data, long(500), long(-9))
        a.edit_bytes("part-3.parquet", edit)

    @corpus.attack("25", "edit the page index", query="SELECT COUNT(*) FROM t WHERE id = 355", place=["part-1.parquet", "footer"])
    def _(a):
        def edit(data):
            ends = max(chunk(data, g, c).data_page_offset + chunk(data, g, c).total_compressed_size
                       for g in (0, 1) for c in ("id", "note"))
            assert pb.replace_between(data, ends, pb.footer_start(data), long(359), long(341)) > 0
        a.edit_bytes("part-1.parquet", edit)

    @corpus.attack("24", "forged footer of the same size and time, session with caches", moment="during",
                   query="SELECT COUNT(*) FROM t WHERE id = 350", place=["part-1.parquet"])
    def _(a):
        a.edit_bytes("part-1.parquet", lambda data: footer_bound(data, long(399), long(340)))


def whole_files(corpus):
    @corpus.attack("A", "encode a file anew, with statistics and a log that fit", query=SUM,
                   place=["part-3.parquet", "row group 1", "column value"])
    def _(a):
        table, data = rewritten(a.base, "part-3.parquet", lambda i: 9e5 if i == 570 else tables.value_of(i))
        a.put("part-3.parquet", data)

        def fit(add):
            add.update(size=len(data), stats=json.dumps(tables.stats(table)))
        a.edit_add(3, fit)

    @corpus.attack("38", "overwrite every data file with noise", query=SUM, place=["part-1.parquet"])
    def _(a):
        for path in ("part-1.parquet", "part-2.parquet", "part-3.parquet"):
            size = len(a.read(path))
            a.put(path, bytes((i * 37 + 11) % 256 for i in range(size)))

    @corpus.attack("38", "delete every object of the table", query=SUM, owed="detected")
    def _(a):
        for path in sorted(p.relative_to(a.base.folder) for p in a.base.folder.rglob("*") if p.is_file()):
            a.delete(str(path))

    @corpus.attack("47", "folder: move a file from label=0/ to label=1/", base="folder",
                   query="SELECT COUNT(*) FROM t WHERE label = '1'", place=["label=0/part-2.parquet"])
    def _(a):
        a.put("label=1/part-2.parquet", a.read("label=0/part-2.parquet"))
        a.delete("label=0/part-2.parquet")

    @corpus.attack("47", "folder: copy a file of label=0/ into label=1/", base="folder",
                   query="SELECT COUNT(*) FROM t WHERE label = '1'", place=["label=1/copy.parquet"])
    def _(a):
        a.put("label=1/copy.parquet", a.read("label=0/part-2.parquet"))

    @corpus.attack("47", "folder: drop a strange file in", base="folder", owed="exposed",
                   query="SELECT COUNT(*) FROM t WHERE label = '1'", place=["label=1/new.parquet"])
    def _(a):
        a.put("label=1/new.parquet", tables.parquet(tables.rows(9000, 40, columns=("id", "value"))))


def hostile(corpus):
    @corpus.attack("27", "a footer that claims four gigabytes", query=SUM, place=["part-1.parquet"])
    def _(a):
        def edit(data):
            data[-8:-4] = b"\xf0\xff\xff\xff"
        a.edit_bytes("part-1.parquet", edit)

    @corpus.attack("27", "a footer with huge lists", query=SUM, place=["part-1.parquet"])
    def _(a):
        def edit(data):
            start = pb.footer_start(data)
            # A list of 2^31 schema elements.
            data[start:start + 8] = b"\x15\x02\x19\xfc\xff\xff\xff\x7f"
        a.edit_bytes("part-1.parquet", edit)

    @corpus.attack("27", "a page whose header claims 2 GB", query=SUM, place=["part-1.parquet"])
    def _(a):
        def edit(data):
            page = next(iter(pb.pages(data, chunk(data, 0, "value"))))
            # The sizes take more bytes now: what follows is torn, as a careless decoder finds out late.
            data[page.header:page.header + 12] = b"\x15\x00\x15\xfe\xff\xff\xff\x0f\x15\xfe\xff\xff"
        a.edit_bytes("part-1.parquet", edit)

    @corpus.attack("27", "truncate a file", query=SUM, place=["part-1.parquet"])
    def _(a):
        a.put("part-1.parquet", a.read("part-1.parquet")[:-100])

    @corpus.attack("27", "extend a file behind its footer", query=SUM, place=["part-1.parquet"])
    def _(a):
        data = a.read("part-1.parquet")
        a.put("part-1.parquet", data + data[-8:])
