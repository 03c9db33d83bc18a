"""The log: one format for our own records (structlog) and those of libraries (`logging`)."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any, Literal, TextIO

import structlog
from structlog.processors import JSONRenderer
from structlog.stdlib import ProcessorFormatter

from assent.core.redaction import redacting
from assent.core.text import visible

LogFormat = Literal["console", "json"]

TALKATIVE = ("aiosqlite", "anthropic", "httpcore", "httpx", "openai", "uvicorn.websockets")
"""Libraries that log what they carry: URLs with secrets, SQL parameters, messages, events. Only
their warnings are logged, whatever the level."""


def configure_logging(
    log_format: LogFormat, level: str = "info", *, secrets: Iterable[str] = ()
) -> None:
    """Log to standard error from this level on: as lines for people, or as one JSON object a line.

    Each record has a timestamp (UTC, ISO 8601), its level, its logger's name, the event, and the
    keys that are bound. A traceback never shows the values of local variables, which hold secrets
    and what people wrote. The `secrets`, and what looks like one, are left out.
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
            processors=[
                ProcessorFormatter.remove_processors_meta,
                *_renderers(log_format, redacting(secrets)),
            ],
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


Redact = Callable[[str], str]


def _renderers(log_format: LogFormat, redact: Redact) -> list[structlog.typing.Processor]:
    if log_format == "json":
        return [structlog.processors.format_exc_info, _without_secrets(redact), JSONRenderer()]

    def show(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
        plain = io.StringIO()
        structlog.dev.plain_traceback(plain, exc_info)
        out.write(visible(redact(plain.getvalue())))

    console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=show)
    return [_without_secrets(redact), _make_visible, console]


def _without_secrets(redact: Redact) -> structlog.typing.Processor:
    """A processor that leaves secrets out of every text of a record, at any depth."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return redact(value)
        if isinstance(value, dict):
            return {redact(str(name)): clean(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [*map(clean, value)]
        if value is None or isinstance(value, bool | int | float):
            return value
        # Shown as its `repr`.
        text = repr(value)
        safe = redact(text)
        return value if safe == text else safe

    def process(
        logger: object, method: str, record: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        return {
            name: value if name == "exc_info" else clean(value) for name, value in record.items()
        }

    return process


def _make_visible(
    logger: object, method: str, record: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Escape what could command the reader's terminal, such as in the name of a tool."""
    return {
        name: visible(value) if isinstance(value, str) else value for name, value in record.items()
    }
