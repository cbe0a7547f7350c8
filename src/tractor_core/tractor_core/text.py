"""Texts of unknown origin on their way to a terminal, a log, a page or a ROS message.

File names, topics, frame ids, names of tensors, manifests and what libraries say may hold bytes
that are no text, escape codes that move the cursor, overrides of the writing direction, newlines
that look like another line of the log, or megabytes. Ordinary text of any language stays.
JSON needs none of this: json.dumps escapes to ASCII, from which a name comes back as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# Longer than any sensible name or reason, shorter than what floods a log.
MOST = 1000
MOST_OF_LINE, MOST_LINES = 4000, 200


def printable(text: object, most: int = MOST) -> str:
    """Return a text as one line that a terminal, UTF-8, HTML and a ROS message take.

    What str.isprintable refuses (controls, newlines, bidirectional and invisible marks, surrogates
    of undecodable bytes, private and unassigned characters) is written as Python escapes it. Of a
    long text the middle is left out, and how much is said.

    Args:
        text: a string, or what has one: a path, an exception.
        most: characters that are kept, about.
    """
    found = str(text)
    if len(found) > most:
        head, tail = found[: most * 2 // 3], found[len(found) - most // 3 :]
        left_out = len(found) - len(head) - len(tail)
        return f"{_escaped(head)}...({left_out} characters)...{_escaped(tail)}"
    return _escaped(found)


def printable_message(text: object) -> str:
    """Return an error or log message, each of its lines as `printable` makes it.

    Later lines that start at the margin are indented: they cannot pass for a message of their own.
    Of a long message the end is left out, and how much is said.
    """
    first, *rest = str(text).split("\n")
    shown = [printable(first, MOST_OF_LINE)]
    for line in rest[:MOST_LINES]:
        line = printable(line, MOST_OF_LINE)
        shown.append(line if not line or line.startswith("  ") else f"  {line}")
    if len(rest) > MOST_LINES:
        shown.append(f"  ...({len(rest) - MOST_LINES} lines more)")
    return "\n".join(shown)


def printable_rows(rows: Iterable[str]) -> str:
    """Return lines for a terminal, each as `printable` makes it, whatever is quoted in it."""
    return "\n".join(printable(row, MOST_OF_LINE) for row in rows)


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return rows of equal length as lines of a table; the first `left` columns begin alike."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def printable_page(text: str) -> str:
    """Return a text of our own layout, whose lines may quote names, without what they smuggle in.

    Newlines stay: a name that may hold one goes through `printable` before it is put into a line.
    """
    return "\n".join(map(_escaped, text.split("\n")))


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
