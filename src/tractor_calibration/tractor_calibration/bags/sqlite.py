"""SQLite recordings, also damaged ones, and those of a recorder that was killed.

Only rows of plain tables are read, never a view, and in two steps: which rows there are, then their
data in the order of recording. SQLite itself works under limits.
"""

from __future__ import annotations

import contextlib
import os
from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from tractor_core import outside

from .storage import MAX_MESSAGE_BYTES, Allowance, Message, Note, TooMuchError, one_line

MAGIC = b"SQLite format 3\x00"
# How far behind the last readable row of the table others are looked for, in growing steps.
PROBED_ROWS = 1_000_000
MAX_TOPICS = 10_000
# Steps of SQLite's virtual machine; a row takes about fifteen.
FREE_STEPS, STEPS_PER_BYTE, STEPS_AT_ONCE = 5_000_000, 4, 10_000
_COLUMNS = {
    "topics": ("id", "name", "type"),
    "messages": ("topic_id", "timestamp", "data"),
}
_ROWS = """
    SELECT rowid, topic_id, timestamp, typeof(data) = 'blob', length(data)
    FROM messages NOT INDEXED WHERE rowid > ? ORDER BY rowid
"""


class SqliteFile:
    """One .db3 file.

    Attributes:
        counts: {(topic, type): messages}.

    Raises:
        OSError, ValueError: it cannot be opened.
    """

    def __init__(self, path: Path, note: Note) -> None:
        import apsw

        self._path, self._note = path, note
        self._topics: dict[int, tuple[str, str]] = {}
        self._rows: tuple[Any, ...] = (np.empty(0, np.int64),) * 3
        self.counts: Counter[tuple[str, str]] = Counter()
        with outside.open_regular(path) as file:
            self._size = file.seek(0, 2)
        if _has_log(path):
            self._size += _log_of(path).stat().st_size
            note(f"{path.name}: the recorder was killed; its last messages are in a file beside it")
        try:
            with self._open() as database:
                self._topics = self._read_topics(database)
                _require_table(database, "messages")
                database.execute("SELECT rowid FROM messages LIMIT 0")
                self._rows = self._find_rows(database)
                self.counts.update(dict.fromkeys(self._topics.values(), 0))
        except (apsw.Error, ValueError, TooMuchError) as error:
            note(f"{path.name}: cannot be read ({one_line(error)})")
        keys, counts = np.unique(self._rows[1], return_counts=True)
        for key, count in zip(keys.tolist(), counts.tolist()):
            self.counts[self._topics[key]] += count

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """Yield the messages of these topics in the order of recording."""
        import apsw

        rows, keys, times_ns = self._rows
        wanted = [key for key, (name, _) in self._topics.items() if name in topics]
        chosen = np.flatnonzero(np.isin(keys, wanted))
        chosen = chosen[np.argsort(times_ns[chosen], kind="stable")]
        lost, problem = 0, ""
        try:
            with self._open() as database:
                for row, key, recorded_ns in zip(rows[chosen], keys[chosen], times_ns[chosen]):
                    try:
                        data = database.execute(
                            "SELECT data FROM messages WHERE rowid = ?", (int(row),)
                        ).fetchone()[0]
                    except apsw.InterruptError:
                        raise TooMuchError("it takes far longer than a recording does") from None
                    except (apsw.Error, TypeError) as error:
                        lost, problem = lost + 1, one_line(error)
                        continue
                    if type(data) is bytes:
                        yield Message(*self._topics[int(key)], int(recorded_ns), data)
                    else:
                        lost, problem = lost + 1, "no data in them"
        except (apsw.Error, TooMuchError) as error:
            self._note(f"{self._path.name}: cannot be read to the end ({one_line(error)})")
        if lost:
            self._note(f"{self._path.name}: the data of {lost} rows are lost ({problem})")

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        import apsw

        mode = "mode=ro" if _has_log(self._path) else "immutable=1"
        # SQLite makes an index of the log beside it, which is not the recording's.
        index = self._path.with_name(self._path.name + "-shm")
        indexed = index.exists()
        database = apsw.Connection(
            f"file:{quote(os.path.realpath(self._path))}?{mode}",
            flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
        )
        left = (FREE_STEPS + STEPS_PER_BYTE * self._size) // STEPS_AT_ONCE

        def stop() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        try:
            database.set_progress_handler(stop, STEPS_AT_ONCE)
            database.limit(apsw.SQLITE_LIMIT_LENGTH, MAX_MESSAGE_BYTES)
            # What the file itself brings is not run; damage is looked for in every page.
            for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0",
                           # Lets SQLite read a file that is shorter than its header says.
                           "writable_schema=ON"):  # fmt: skip
                database.execute(f"PRAGMA {pragma}")
            yield database
        finally:
            database.close()
            if not indexed:
                index.unlink(missing_ok=True)

    def _read_topics(self, database: Any) -> dict[int, tuple[str, str]]:
        _require_table(database, "topics")
        query = "SELECT id, name, type FROM topics NOT INDEXED LIMIT ?"
        rows = database.execute(query, (MAX_TOPICS,))
        return {
            key: (name, kind)
            for key, name, kind in rows
            if type(key) is int and type(name) is str and type(kind) is str
        }

    def _find_rows(self, database: Any) -> tuple[Any, ...]:
        """Return row, topic and time of every row that can be read, (n,) int64 each."""
        import apsw

        allowance = Allowance(self._size)
        rows, keys, times_ns = array("q"), array("q"), array("q")
        last, failed, lost, problem = 0, 0, 0, "a damaged row"
        while failed < PROBED_ROWS:
            try:
                for row, key, recorded_ns, is_data, size in database.execute(
                    _ROWS, (last + failed,)
                ):
                    if row <= last:
                        raise apsw.CorruptError("rows lead in a circle")
                    allowance.take(0, 1)
                    lost += row - last - 1 if failed else 0
                    last, failed = row, 0
                    # A damaged row may hold values of any type.
                    fits = key in self._topics and type(recorded_ns) is int
                    if fits and is_data and size <= min(MAX_MESSAGE_BYTES, self._size):
                        rows.append(row)
                        keys.append(key)
                        times_ns.append(recorded_ns)
                    else:
                        lost += 1
                break
            except (apsw.InterruptError, TooMuchError) as error:
                self._note(f"{self._path.name}: {one_line(error)}: the rest is not read")
                failed = 0
                break
            except apsw.Error as error:
                problem = one_line(error)
                failed += 1 + failed // 100
        since_s = (times_ns[-1] - times_ns[0]) * 1e-9 if times_ns else 0.0
        name = self._path.name
        if lost:
            self._note(f"{name}: {lost} rows before row {last} are lost ({problem})")
        if failed:
            self._note(f"{name}: the rows after row {last}, {since_s:.1f} s in, are lost "
                       f"({problem})")  # fmt: skip
        return tuple(np.array(values, np.int64) for values in (rows, keys, times_ns))


def _has_log(path: Path) -> bool:
    """Return whether a recorder that was killed left messages in a log beside a database."""
    log = _log_of(path)
    return log.is_file() and log.stat().st_size > 0


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _require_table(database: Any, name: str) -> None:
    """Refuse all but an ordinary table with columns that hold what was stored; ValueError."""
    found = database.execute(
        "SELECT type, rootpage FROM sqlite_master WHERE name = ? LIMIT 2", (name,)
    ).fetchall()
    if len(found) != 1 or found[0][0] != "table" or not found[0][1]:
        kinds = " and ".join(f"a {kind}" for kind, _ in found) or "none"
        raise ValueError(f"expected one plain table {name}, found {kinds}")
    columns = {
        column: hidden
        for _, column, _, _, _, _, hidden in database.execute(f"PRAGMA table_xinfo({name})")
    }
    usable = [column for column in _COLUMNS[name] if columns.get(column) == 0]
    if len(usable) != len(_COLUMNS[name]) or {"rowid", "_rowid_", "oid"} & columns.keys():
        raise ValueError(
            f"expected the stored columns {', '.join(_COLUMNS[name])} of {name}, found "
            f"{', '.join(map(str, columns))}"[:300]
        )
