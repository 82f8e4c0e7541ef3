"""Log lines of long-lived processes: one event a line, as JSON or for people to read."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

Entry = Mapping[str, Any]
"""One line: at (ISO instant), part, level, event, message, and what else there is to the event."""
Style = Literal["pretty", "json"]

_PART_WIDTH = 10
_COLOURS = {"conductor": "36", "service": "35", "dashboard": "34"}
_LEVELS = {"warning": "33", "error": "31", "critical": "31"}


def tell(logger: logging.Logger, level: int, event: str, message: str, **fields: Any) -> None:
    """Log an event with its fields, which only JSON shows."""
    logger.log(level, "%s", message, extra={"envol_event": event, "envol_fields": fields})


def entry(part: str, event: str, message: str, *, level: str = "info", **fields: Any) -> Entry:
    """A line that happens now."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"at": at, "part": part, "level": level, "event": event, "message": message, **fields}


def as_json(line: Entry) -> str:
    """The line as one JSON object."""
    return json.dumps(line, ensure_ascii=False, default=str)


def as_text(line: Entry, *, colours: bool) -> str:
    """The line for people: local time, part, and the message; what follows in a message is set in."""
    at = datetime.fromisoformat(line["at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    part, level, message = f"{line['part']:<{_PART_WIDTH}}", line["level"], str(line["message"])
    if level in _LEVELS:
        message = f"{level}: {message}"
    message = message.replace("\n", "\n" + " " * (len(at) + len(part) + 4))
    if colours:
        part = f"\x1b[{_COLOURS.get(line['part'], '32')}m{part}\x1b[0m"
        message = f"\x1b[{_LEVELS[level]}m{message}\x1b[0m" if level in _LEVELS else message
    return f"{at}  {part}  {message}"


class Lines(logging.Formatter):
    """Formats log records as entries of one part."""

    def __init__(self, part: str, style: Style, *, colours: bool = False) -> None:
        super().__init__()
        self._part, self._as, self._colours = part, style, colours

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, an exception below its message."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        line = {
            "at": at,
            "part": self._part,
            "level": record.levelname.lower(),
            "event": getattr(record, "envol_event", "log"),
            "message": message,
            **getattr(record, "envol_fields", {}),
        }
        return as_json(line) if self._as == "json" else as_text(line, colours=self._colours)


def log_lines(part: str, style: Style, stream: TextIO | None = None) -> None:
    """Let this process log to a stream (stdout when left out): of Envol all, of libraries only warnings."""
    file = sys.stdout if stream is None else stream
    handler = logging.StreamHandler(file)
    handler.setFormatter(Lines(part, style, colours=has_colours(file)))
    logging.raiseExceptions = False  # nobody may be left to read
    logging.basicConfig(handlers=[handler], force=True)
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("envol").setLevel(logging.INFO)


def has_colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal that wants colours."""
    from os import environ

    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
