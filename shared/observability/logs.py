"""JSON logs on standard output, one object a line, with trace and decision ids where there are any.

Anything passed as `extra={"knudge": {...}}` becomes members of the object.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

import msgspec

from shared.observability.tracing import current_trace


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object."""

    def __init__(self, function: str) -> None:
        """Name the function that every line carries."""
        super().__init__()
        self._function = function

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "function": self._function,
            "logger": record.name,
            "message": record.getMessage(),
        }
        trace = current_trace.get()
        if trace is not None:
            line["trace_id"] = trace.trace_id
            line["span_id"] = trace.span_id
        line.update(getattr(record, "knudge", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.encode(line, enc_hook=str).decode()
        except UnicodeEncodeError:  # a lone surrogate somewhere; this encoder escapes it
            return json.dumps(line, default=str)


def configure_logs(function: str, level: str) -> None:
    """Send every log of this process to standard output as JSON, from `level` up."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(function))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
