"""Where rows come from: helpers for the functions of sources.

Each returns the rows of one window in batches (`Batches`), which a source may return as they are.
"""

from __future__ import annotations

from envol.sources.batches import Batches
from envol.sources.csv_files import Csv
from envol.sources.databases import sql
from envol.sources.filesets import files
from envol.sources.paging import Cursor, Link, NextUrl, Offset, PageNumber
from envol.sources.web import http

__all__ = [
    "Batches",
    "Csv",
    "Cursor",
    "Link",
    "NextUrl",
    "Offset",
    "PageNumber",
    "files",
    "http",
    "sql",
]
