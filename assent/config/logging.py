"""The log: one format for our own records (structlog) and those of libraries (`logging`)."""

from __future__ import annotations

import io
import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.processors import JSONRenderer
from structlog.stdlib import ProcessorFormatter

from assent.core.text import visible

LogFormat = Literal["console", "json"]

TALKATIVE = ("aiosqlite", "anthropic", "httpcore", "httpx", "openai", "uvicorn.websockets")
"""Libraries that log what they carry: URLs with secrets, SQL parameters, messages, events. Only
their warnings are logged, whatever the level."""


def configure_logging(log_format: LogFormat, level: str = "info") -> None:
    """Log to standard error from this level on: as lines for people, or as one JSON object a line.

    Each record has a timestamp (UTC, ISO 8601), its level, its logger's name, the event, and the
    keys that are bound. A traceback never shows the values of local variables, which hold secrets
    and what people wrote.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*processors, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[ProcessorFormatter.remove_processors_meta, *_renderers(log_format)],
        )
    )
    root = logging.getLogger()
    root.setLevel(number)
    for earlier in [each for each in root.handlers if each.name == __name__]:
        root.removeHandler(earlier)
    handler.name = __name__
    root.addHandler(handler)

    logging.captureWarnings(True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _renderers(log_format: LogFormat) -> list[structlog.typing.Processor]:
    if log_format == "json":
        return [structlog.processors.format_exc_info, JSONRenderer()]

    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=_visible_traceback
    )
    return [_make_visible, console]


def _make_visible(
    logger: object, method: str, record: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Escape what could command the reader's terminal, such as in the name of a tool."""
    return {
        name: visible(value) if isinstance(value, str) else value for name, value in record.items()
    }


def _visible_traceback(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, exc_info)
    out.write(visible(plain.getvalue()))
