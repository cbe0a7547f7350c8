"""Whatever a recording says of itself, reading it ends soon, and the others are still read."""

import sqlite3
import struct

import pytest

from tractor_calibration.bags import mcap, storage
from tractor_calibration.bags.reader import Bag, BagError
from tractor_core import outside

zstd = pytest.importorskip("backports.zstd", reason="backports.zstd is not installed")
pytest.importorskip("rosbags", reason="rosbags is not installed")

KIND = "sensor_msgs/msg/LaserScan"
CDR = b"\x00\x01\x00\x00"


def text(value):
    return struct.pack("<I", len(value)) + value.encode()


def record(operation, body):
    return struct.pack("<BQ", operation, len(body)) + body


def message(at_ns, data=CDR, channel=1):
    return record(mcap.MESSAGE, struct.pack("<HIQQ", channel, 0, at_ns, at_ns) + data)


DESCRIBED = record(mcap.SCHEMA, struct.pack("<H", 1) + text(KIND) + text("ros2msg") + text(""))
DESCRIBED += record(mcap.CHANNEL, struct.pack("<HH", 1, 1) + text("/scan") + text("cdr") + text(""))


def chunk(start_ns, end_ns, plain, declared=None, compress=zstd.compress):
    packed = compress(plain)
    size = len(plain) if declared is None else declared
    return record(
        mcap.CHUNK,
        struct.pack("<QQQI", start_ns, end_ns, size, 0)
        + text("zstd")
        + struct.pack("<Q", len(packed))
        + packed,
    )


def write_mcap(path, *records):
    header = record(1, text("ros2") + text("test"))
    end = record(mcap.DATA_END, bytes(4)) + record(mcap.FOOTER, bytes(20))
    path.write_bytes(mcap.MAGIC + header + DESCRIBED + b"".join(records) + end + mcap.MAGIC)
    return path


def times(bag):
    return [message.recorded_ns for message in bag.messages({"/scan"})]


def write_db3(path, script, rows=()):
    database = sqlite3.connect(path)
    database.executescript(script)
    database.executemany("INSERT INTO messages(topic_id, timestamp, data) VALUES (1, ?, ?)", rows)
    database.commit()
    database.close()
    return path


TOPICS = (
    "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT);"
    f"INSERT INTO topics VALUES (1, '/scan', '{KIND}');"
)
MESSAGES = (
    "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB);"
)
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"


# MCAP


def test_chunks_that_overlap_in_time_are_read_in_the_order_of_recording(tmp_path):
    """As a converter writes them that goes topic by topic."""
    file = write_mcap(
        tmp_path / "a.mcap",
        chunk(30, 60, message(30) + message(60)),
        message(50),
        chunk(10, 40, message(40) + message(10)),
        chunk(20, 70, message(20) + message(70)),
    )
    assert times(Bag(file)) == [10, 20, 30, 40, 50, 60, 70]


def test_a_chunk_that_unpacks_to_half_a_gigabyte_costs_only_itself(tmp_path):
    bomb = chunk(1, 2, bytes(500 << 20))
    bag = Bag(write_mcap(tmp_path / "bomb.mcap", bomb, chunk(3, 3, message(3))))
    assert times(bag) == [3]
    assert any("declares 524288000 bytes" in loss for loss in bag.losses)


def test_a_chunk_that_says_too_little_is_not_unpacked_further(tmp_path):
    liar = chunk(1, 2, message(1) + bytes(100 << 20), declared=1000)
    bag = Bag(write_mcap(tmp_path / "liar.mcap", liar, chunk(3, 3, message(3))))
    assert times(bag)[-1] == 3
    assert any("unpacks to more than it says" in loss for loss in bag.losses)


@pytest.mark.parametrize("filling", [bytes(40 << 20), message(1) * 500_000], ids=["zeros", "tiny"])
def test_many_chunks_that_unpack_to_much_end_the_reading(tmp_path, filling):
    one = chunk(1, 2, filling)
    bag = Bag(write_mcap(tmp_path / "many.mcap", chunk(1, 1, message(1)), *[one] * 40))
    assert len(times(bag)) <= storage.FREE_RECORDS * 2
    assert any("far more than a recording of its size" in loss for loss in bag.losses)


def test_chunks_that_are_all_of_the_same_time_do_not_fill_the_memory(tmp_path):
    big = [chunk(1, 10**9, message(10**9, bytes(40 << 20))) for _ in range(4)]
    padding = [record(0x0C, bytes(1 << 20))]
    bag = Bag(write_mcap(tmp_path / "same.mcap", *padding, *big))
    assert 1 <= len(times(bag)) < 4
    assert any("of the same time" in loss for loss in bag.losses)


def test_a_tail_of_zeros_is_named_and_not_searched(tmp_path):
    """As a file system leaves it after a power failure."""
    file = tmp_path / "zeros.mcap"
    write_mcap(file, chunk(1, 1, message(1)))
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.rindex(record(mcap.DATA_END, bytes(4)))] + bytes(1 << 20))
    bag = Bag(file)
    assert times(bag) == [1]
    assert any("no record is there" in loss for loss in bag.losses)


# SQLite


@pytest.mark.parametrize(
    "script",
    [
        f"CREATE VIEW topics AS {ENDLESS} "
        f"SELECT x AS id, '/scan' AS name, '{KIND}' AS type FROM c; {MESSAGES}",
        f"{TOPICS} CREATE VIEW messages AS {ENDLESS} "
        "SELECT x AS id, 1 AS topic_id, x AS timestamp, zeroblob(100) AS data FROM c;",
        f"{TOPICS} CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp "
        "INTEGER, data BLOB AS (zeroblob(900000000)) VIRTUAL);",
        f"{TOPICS} CREATE TABLE messages(id INTEGER PRIMARY KEY, rowid INTEGER, topic_id INTEGER, "
        "timestamp INTEGER, data BLOB);",
        f"{TOPICS} CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp "
        "INTEGER, data BLOB) WITHOUT ROWID;",
        f"{TOPICS} CREATE VIRTUAL TABLE messages USING fts5(topic_id, timestamp, data);",
    ],
    ids=["topics is a view", "messages is a view", "generated", "no row id", "without rows", "fts"],
)  # fmt: skip
def test_only_plain_tables_are_read(tmp_path, script):
    database = sqlite3.connect(tmp_path / "a.db3")
    try:
        database.executescript(script)
    except sqlite3.OperationalError as error:
        pytest.skip(f"this SQLite cannot make it: {error}")
    database.close()
    if "generated" in script or "VIRTUAL);" in script:
        with sqlite3.connect(tmp_path / "a.db3") as again:
            again.execute("INSERT INTO messages(topic_id, timestamp) VALUES (1, 1)")
    with pytest.raises(BagError, match="expected recorded messages, found none"):
        Bag(tmp_path / "a.db3")


def test_rows_are_read_in_the_order_of_recording(tmp_path):
    rows = [(at_ns, CDR) for at_ns in (30, 10, 20, 10)]
    assert times(Bag(write_db3(tmp_path / "a.db3", TOPICS + MESSAGES, rows))) == [10, 10, 20, 30]


def test_a_row_that_is_too_large_costs_only_itself(tmp_path):
    rows = [(1, CDR), (2, bytes(storage.MAX_MESSAGE_BYTES + 1)), (3, CDR)]
    bag = Bag(write_db3(tmp_path / "a.db3", TOPICS + MESSAGES, rows))
    assert times(bag) == [1, 3]
    assert any("1 rows before row 3 are lost" in loss for loss in bag.losses)


def test_an_index_and_triggers_of_the_file_are_not_run(tmp_path):
    script = (
        TOPICS
        + MESSAGES
        + "CREATE INDEX slow ON messages(abs(randomblob(10)) + length(hex(data)));"
        "CREATE TRIGGER t AFTER INSERT ON messages BEGIN SELECT 1; END;"
    ).replace("abs(randomblob(10)) + ", "")
    assert times(Bag(write_db3(tmp_path / "a.db3", script, [(1, CDR)]))) == [1]


# Folders


def make_folder(folder, metadata, **files):
    folder.mkdir()
    (folder / "metadata.yaml").write_text(metadata)
    for name, records in files.items():
        write_mcap(folder / f"{name}.mcap", *records)
    return folder


def test_metadata_without_counts_still_name_the_files(tmp_path):
    folder = make_folder(
        tmp_path / "bag",
        "rosbag2_bagfile_information:\n  relative_file_paths: [b.mcap, a.mcap]\n"
        "  topics_with_message_count:\n  - topic_metadata: {name: /scan}\n",
        a=[message(2)],
        b=[message(1)],
    )
    bag = Bag(folder)
    assert times(bag) == [1, 2]
    assert bag.losses == [
        "metadata.yaml: does not tell how many messages there were (it has no 'message_count')"
    ]


@pytest.mark.parametrize(
    "metadata",
    [
        "[" * 100_000,
        "a: &a [1, 1]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
        "rosbag2_bagfile_information: &x {relative_file_paths: *x}",
        "rosbag2_bagfile_information: {relative_file_paths: [[1]]}",
        "rosbag2_bagfile_information: {relative_file_paths: 7}",
        f"rosbag2_bagfile_information: {{relative_file_paths: [{'1' * 5000}]}}",
        "- " * (outside.MAX_TEXT_BYTES // 2 + 1),
    ],
    ids=["deep", "laughs", "itself", "lists", "number", "digits", "large"],
)
def test_metadata_that_nest_repeat_or_lie_are_like_none(tmp_path, metadata):
    bag = Bag(make_folder(tmp_path / "bag", metadata, a=[message(1)]))
    assert times(bag) == [1]
    assert "metadata.yaml: cannot be used" in bag.losses[0]


def test_a_folder_with_nothing_but_bad_metadata_says_what_is_wrong_with_them(tmp_path):
    folder = make_folder(tmp_path / "bag", "rosbag2_bagfile_information: {}")
    with pytest.raises(BagError, match=r"found none\n.*has no 'relative_file_paths'"):
        Bag(folder)


def test_losses_are_listed_up_to_a_number(tmp_path):
    bad = [chunk(n, n, b"\x05" + bytes(8)) for n in range(1, 1000)]
    bag = Bag(write_mcap(tmp_path / "bad.mcap", message(1), *bad))
    assert times(bag) == [1]
    assert len(bag.losses) == 200
    assert bag.losses[-1] == "and more, which is not listed"


# Compressed by the recorder


def test_a_killed_recorders_compressed_files_are_read_as_far_as_they_go(tmp_path):
    folder = tmp_path / "bag"
    folder.mkdir()
    first = write_mcap(tmp_path / "a", message(1)).read_bytes()
    second = write_mcap(tmp_path / "b", *[message(n) for n in range(2, 5000)]).read_bytes()
    (folder / "bag_0.mcap.zstd").write_bytes(zstd.compress(first))
    packed = zstd.compress(second)
    (folder / "bag_1.mcap.zstd").write_bytes(packed[: len(packed) // 2])
    # It was compressing this one: the whole file is still there.
    (folder / "bag_2.mcap.zstd").write_bytes(b"")
    write_mcap(folder / "bag_2.mcap", message(9000))
    bag = Bag(folder)
    found = times(bag)
    assert found[0] == 1 and found[-1] == 9000
    assert any("bag_1.mcap.zstd: damaged, read as far as it goes" in loss for loss in bag.losses)
    assert not any("bag_2" in loss for loss in bag.losses)


def test_compressed_messages_are_known_without_metadata(tmp_path):
    rows = [(1, zstd.compress(CDR)), (2, zstd.compress(bytes(100 << 20))), (3, CDR)]
    rows.append((4, zstd.compress(CDR * 1000)[:-3]))
    bag = Bag(write_db3(tmp_path / "a.db3", TOPICS + MESSAGES, rows))
    assert [bytes(m.data) for m in bag.messages({"/scan"})] == [CDR, CDR]
    assert any("2 compressed messages are lost" in loss for loss in bag.losses)
