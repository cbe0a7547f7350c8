"""Hostile inputs: valid files with changes that know a little of formats, and texts by grammar."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib

from hypothesis import strategies as st

# What lengths and numbers are set to: nothing, signs, limits of words, and a little beyond.
WORDS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
WORDS += [2**33, 2**40, 2**63 - 1, 2**63, 2**64 - 1]
PLAIN_NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([*WORDS, -1, 10**400, -(10**25)]),
    st.floats(),
    st.sampled_from([1e308, -1e308, 5e-324, float("inf"), float("nan")]),
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "\0", "\x1b[2J", "\ud800", "../../x", "/", "a" * 5000, "1" * 400, "\u202e"]
    ),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), PLAIN_NUMBERS, TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def mutated(draw, seeds):
    """Return one of some valid files with up to six changes; one in eight is any bytes."""
    data = bytearray(draw(st.sampled_from(seeds)))
    if draw(st.integers(0, 7)) == 0:
        return draw(st.binary(max_size=400))
    for _ in range(draw(st.integers(1, 6))):
        size = len(data)
        # Headers and indices are at both ends.
        near = st.integers(0, min(size, 300))
        at = draw(
            st.one_of(st.integers(0, size), near, near.map(lambda back, size=size: size - back))
        )
        kind = draw(st.sampled_from(["set", "bits", "word", "cut", "drop", "repeat", "splice"]))
        if kind == "set":
            new = draw(st.binary(min_size=1, max_size=8))
            data[at : at + len(new)] = new
        elif kind == "bits" and at < size:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "word":
            form = draw(st.sampled_from(["<H", ">H", "<I", ">I", "<Q", ">Q"]))
            word = draw(st.sampled_from(WORDS)) % 2 ** (8 * struct.calcsize(form))
            data[at : at + struct.calcsize(form)] = struct.pack(form, word)
        elif kind == "cut":
            del data[at:]
        else:
            length = draw(st.one_of(st.integers(1, 64), st.integers(1, max(1, size))))
            part = data[at : at + length]
            if kind == "drop":
                del data[at : at + length]
            elif kind == "repeat":
                data[at:at] = bytes(part) * min(
                    draw(st.integers(1, 1000)), 100_000 // (len(part) + 1)
                )
            else:
                other = draw(st.sampled_from(seeds))
                start = draw(st.integers(0, len(other)))
                data[at:at] = other[start : start + length]
    return bytes(data)


@st.composite
def changed(draw, value):
    """Return a JSON value with some of its parts replaced, left out or doubled."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 4))):
        place = value
        while isinstance(place, (dict, list)) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            if not isinstance(place[key], (dict, list)) or draw(st.integers(0, 3)) == 0:
                if draw(st.integers(0, 5)) == 0:
                    del place[key]
                else:
                    place[key] = draw(VALUES)
                break
            place = place[key]
    return value


def json_texts(value):
    """Return texts that are, or nearly are, JSON like this value."""
    deep = st.integers(1, 3000).map(lambda n: b"[" * n + b"]" * n)
    open_ended = st.tuples(st.sampled_from([b"[", b'{"a":', b"[1,"]), st.integers(1, 20_000)).map(
        lambda pair: pair[0] * pair[1]
    )
    digits = st.integers(1, 6000).map(lambda n: b"1" * n)
    whole = changed(value).map(lambda found: json.dumps(found).encode())
    return st.one_of(
        whole,
        whole,
        mutated([json.dumps(value).encode()]),
        VALUES.map(lambda found: json.dumps(found).encode()),
        deep,
        open_ended,
        digits,
        st.tuples(whole, deep).map(lambda pair: pair[0].replace(b"1", pair[1], 1)),
    )


YAML_PARTS = st.sampled_from(
    ["a: &a [1, 2]\n", "b: *a\n", "&x {x: *x}\n", "<<: *a\n", "- ", "[", "]", "{", "}", "? ", ": ",
     "!!int ", "!!binary x\n", "!!timestamp 2020-99-99\n", "!!set {a, b}\n", "!!omap [a: 1]\n",
     "!!python/object:os.system ls\n", "|\n  text\n", ">\n", "%YAML 9.9\n", "---\n", "...\n", "\t",
     "a: 1\n", "a: 2\n", "1: 1\n", "'", '"', "\\x", "0x" + "f" * 60, "1:1:1:1", ".nan", ".inf",
     "1e999", "~", "\x00", "\ufeff", "2001-01-01", "=", "- - - - - - - - - - - - - - - - - "]
)  # fmt: skip


def yaml_texts(seed: str):
    """Return texts that are, or nearly are, YAML like this one."""
    pieces = st.lists(YAML_PARTS, max_size=30).map(lambda parts: "".join(parts).encode())

    @st.composite
    def with_pieces(draw):
        lines = seed.splitlines(keepends=True)
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, len(lines) - 1))
            start = lines[at].split(":")[0]
            change = draw(st.sampled_from(["value", "double", "drop", "insert", "repeat"]))
            if change == "value":
                lines[at] = f"{start}: {draw(st.one_of(YAML_PARTS, VALUES.map(_flow)))}\n"
            elif change == "double":
                lines.insert(at, lines[at])
            elif change == "drop" and len(lines) > 1:
                del lines[at]
            elif change == "repeat":
                lines[at] = lines[at] * draw(st.integers(2, 300))
            else:
                lines.insert(at, draw(YAML_PARTS))
        return "".join(lines).encode("utf-8", "surrogatepass")

    nested = st.tuples(st.sampled_from(["[", "{a: ", "- ", "? "]), st.integers(1, 5000)).map(
        lambda pair: (pair[0] * pair[1]).encode()
    )
    laughs = st.integers(2, 30).map(_laughs)
    return st.one_of(with_pieces(), with_pieces(), pieces, nested, laughs, mutated([seed.encode()]))


def _flow(value) -> str:
    return json.dumps(value)


def _laughs(levels: int) -> bytes:
    lines = ["l0: &l0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    for level in range(1, levels):
        lines.append(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]")
    return "\n".join(lines).encode()


DESCR = st.sampled_from(
    ["'<f4'", "'<f8'", "'<i8'", "'|O'", "'<U1'", "'<U64'", "'|S9'", "'|V8'", "'>f4'", "'<f3'",
     "'|b1'", "[('a', '<f4')]", "'<M8[ns]'", "'<U999999999'", "'f4, f4'", "'<c8'",
     "('<f4', (2, 2))", "7", "'?'"]
)  # fmt: skip
SHAPE = st.sampled_from(
    ["()", "(2, 128, 128)", "(6,)", "(-1,)", "(0,)", "(1 << 40,)", "(99999999999,)", "[2]",
     "(2,) * 9", "(" * 200 + ")" * 200, "(1, " * 90 + ")" * 90, "(True,)", "(2.0,)",
     "(1, 1, 1, 1, 1, 1, 1, 1, 1)", "(0, 99999999999999)", "-" * 900 + "1"]
)  # fmt: skip


@st.composite
def npz_files(draw, members):
    """Return an archive whose members have names of these, and headers and data that may lie."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in draw(st.permutations(sorted(members.items()))):
            if draw(st.integers(0, 9)) == 0:
                continue
            method = draw(st.sampled_from([0, 0, 8, 8, 12, 14]))
            content = data
            if draw(st.integers(0, 2)) == 0:
                order = draw(st.sampled_from(["True", "False", "1"]))
                fields = f"'descr': {draw(DESCR)}, 'fortran_order': {order}"
                header = f"{{{fields}, 'shape': {draw(SHAPE)}, }}\n".encode()
                version = draw(st.sampled_from([1, 2, 3, 9]))
                width = 2 if version == 1 else 4
                size = draw(st.sampled_from([len(header)] * 5 + [0, 2**16 - 1]))
                body = draw(
                    st.sampled_from([b"", b"\xff\xff\xff\xff", bytes(131072), bytes(24), data[80:]])
                )
                content = b"\x93NUMPY" + bytes([version, 0]) + size.to_bytes(width, "little")
                content += header + body
            archive.writestr(name, content, method)
            if draw(st.integers(0, 9)) == 0:
                archive.writestr(name + ".npy", content, method)
    data = file.getvalue()
    return draw(mutated([data])) if draw(st.booleans()) else data


# MCAP and SQLite


def record(operation: int, body: bytes, length: int | None = None) -> bytes:
    """Return an MCAP record, which may say another length."""
    return struct.pack("<BQ", operation, len(body) if length is None else length) + body


def text(value: str) -> bytes:
    """Return a text of MCAP."""
    return struct.pack("<I", len(value)) + value.encode()


@st.composite
def mcap_files(draw, body, kind):
    """Return an MCAP file of drawn records, which may lie about lengths, times and channels."""
    from backports import zstd

    lengths = st.one_of(st.none(), st.none(), st.none(), st.sampled_from(WORDS))
    times = st.one_of(st.integers(0, 2**40), st.sampled_from(WORDS))

    def lone() -> bytes:
        operation = draw(st.sampled_from([0x05, 0x05, 0x05, 0x03, 0x04, 0x00, 0x07, 0x0C, 0x0B]))
        if operation == 0x05:
            at_ns = draw(times) % 2**64
            content = struct.pack("<HIQQ", draw(st.sampled_from([1, 1, 1, 2])), 0, at_ns, at_ns)
            content += draw(st.one_of(st.just(body), st.binary(max_size=30)))
        elif operation == 0x03:
            content = struct.pack("<H", 1) + text(kind) + text("ros2msg") + text("")
        elif operation == 0x04:
            content = struct.pack("<HH", 1, 1) + text("/scan") + text("cdr") + text("")
        else:
            content = draw(st.binary(max_size=60))
        return record(
            operation, content, (lambda n: None if n is None else n % 2**64)(draw(lengths))
        )

    def chunk() -> bytes:
        times_of = draw(st.integers(1, 4))
        plain = b"".join(lone() for _ in range(times_of))
        if draw(st.integers(0, 9)) == 0:
            plain = draw(st.sampled_from([bytes(3_000_000), plain * 5000]))
        packed = draw(st.sampled_from(["zstd", "zstd", "lz4", "", "xz"]))
        pack = zstd.compress if packed == "zstd" else _lz4 if packed == "lz4" else bytes
        declared = draw(lengths)
        declared = len(plain) if declared is None else declared
        checksum = draw(st.sampled_from([0, 0, zlib.crc32(plain), 7]))
        content = struct.pack("<QQQI", draw(times), draw(times), declared, checksum)
        inner = pack(plain)
        size = draw(lengths)
        content += text(packed) + struct.pack("<Q", len(inner) if size is None else size) + inner
        return record(0x06, content, draw(lengths))

    described = record(0x03, struct.pack("<H", 1) + text(kind) + text("ros2msg") + text(""))
    described += record(0x04, struct.pack("<HH", 1, 1) + text("/scan") + text("cdr") + text(""))
    parts = [chunk() if draw(st.booleans()) else lone() for _ in range(draw(st.integers(0, 6)))]
    data = b"\x89MCAP0\r\n" + record(1, text("ros2") + text("x")) + described + b"".join(parts)
    if draw(st.booleans()):
        start = len(data)
        statistics = struct.pack("<QHIIIIQQ", *(draw(st.sampled_from([0, 1, 3])) for _ in range(8)))
        counts = struct.pack(
            "<IHQ", 10, draw(st.sampled_from([1, 9])), draw(st.sampled_from(WORDS))
        )
        data += described + record(0x0B, statistics + counts)
        start = draw(st.sampled_from([start, start, 0, 8, len(data), 2**63]))
        data += record(0x02, struct.pack("<QQI", start, 0, 0)) + b"\x89MCAP0\r\n"
    return data


def _lz4(data: bytes) -> bytes:
    import lz4.frame

    return lz4.frame.compress(data)


def db3_files():
    """Return SQLite files with schemas that are no recorder's."""
    import apsw

    topics = "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT);"
    topics += "INSERT INTO topics VALUES (1, '/scan', 'sensor_msgs/msg/LaserScan');"
    messages = "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data BLOB);"
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS id"
    schemas = [
        topics + messages,
        f"CREATE VIEW topics AS {endless}, '/scan' AS name, '' AS type FROM c; {messages}",
        f"{topics} CREATE VIEW messages AS {endless}, 1 topic_id, x timestamp, 0 data FROM c;",
        f"{topics} CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp AS (1), d);",
        f"{topics} CREATE TABLE messages(topic_id, timestamp, data, i PRIMARY KEY) WITHOUT ROWID;",
        f"{topics} CREATE TABLE messages(id, rowid, topic_id, timestamp, data);",
        topics + messages + "CREATE INDEX i ON messages(length(hex(data)));",
    ]
    values = [
        "1, {n}, x'0001'",
        "1, {n}, zeroblob(9000)",
        "'x', 'y', 'z'",
        "1, 1e300, 1",
        "9, {n}, ''",
    ]
    values += ["NULL, NULL, NULL", "1, -{n}, x'28b52ffd'", "1, 9223372036854775807, x'00'"]

    def make(schema: str, rows: list[str]) -> bytes:
        database = apsw.Connection(":memory:")
        database.execute("PRAGMA page_size=512")
        database.execute(schema)
        for number, row in enumerate(rows, 1):
            try:
                given = row.format(n=number)
                database.execute(
                    f"INSERT INTO messages(topic_id, timestamp, data) VALUES ({given})"
                )
            except apsw.Error:
                break
        return database.serialize("main")

    made = st.builds(make, st.sampled_from(schemas), st.lists(st.sampled_from(values), max_size=60))
    return st.one_of(made, made.flatmap(lambda data: mutated([data])))
