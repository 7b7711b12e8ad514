"""Tables as CSV text that is safe to open: a cell that a spreadsheet would run as a formula gets a leading quote."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from tlapp.errors import one_line

_FORMULA = ("=", "+", "-", "@")


def to_csv(rows: Iterable[Iterable[object]]) -> str:
    """The rows, the heading first; numbers as they are, text on one line each."""
    out = io.StringIO()
    writer = csv.writer(out)
    for row in rows:
        writer.writerow([_cell(cell) if isinstance(cell, str) else cell for cell in row])
    return out.getvalue()


def plain(cell: str) -> str:
    """What a cell of `to_csv` said before it got its leading quote."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(_FORMULA) else cell


def read_back(text: str) -> str:
    """What is read where `to_csv` wrote this text; spaces around it are not kept."""
    return plain(_cell(text).strip())


def _cell(text: str) -> str:
    shown = one_line(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown
