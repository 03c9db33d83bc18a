"""Everything that can be set, read from the environment only where the program is put together."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from assent.config.logging import LogFormat
from assent.core.errors import ConfigurationError
from assent.core.sealing import parse_keys
from assent.notify.links import key_beside, parse_key

SQLITE = "sqlite:///"

UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def _with_unit(value: object) -> object:
    """A duration like `30d`, or a number of seconds; whatever else there is, pydantic reads."""
    match = (
        re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([dhms]?)\s*", value)
        if isinstance(value, str)
        else None
    )
    return timedelta(**{UNITS[match[2] or "s"]: float(match[1])}) if match else value


class Settings(BaseSettings):
    """The settings. Each is read from the environment as `ASSENT_` and its name in capitals;
    docs/reference/settings.md lists them."""

    model_config = SettingsConfigDict(
        env_prefix="ASSENT_", extra="ignore", hide_input_in_errors=True
    )

    database: str = "sqlite:///./assent.db"
    """Where everything durable goes. Checkpoints are kept in a file beside it."""

    records: Path = Path("records.db")
    """The demo's sample records; made when there is no such file."""

    model: str | None = None
    """The demo's model, as `init_chat_model` takes it ("openai:gpt-4o-mini"). Without one, a
    rule-based stand-in answers."""

    api_keys: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    """Who may use the server: `alice:secret1,bob:secret2`. Without any, everybody who reaches the
    port may, so it stays on loopback."""

    recursion_limit: int = Field(default=25, ge=1)
    """How many supersteps a run may take, whichever limit its graph comes with."""

    drain_seconds: float = Field(default=5.0, ge=0)
    """How long a stopping server waits for its active runs before it leaves them to the next
    start."""

    max_runs: int = Field(default=500, ge=1)
    """How many runs may be active at once; more wait their turn."""

    events_ttl: Annotated[timedelta | None, BeforeValidator(_with_unit)] = Field(
        default=None, gt=timedelta(0)
    )
    """How long events are kept: `30d`, `12h`, `45m`, `90s`, a number of seconds, or ISO 8601
    (`P30D`). Without it, for ever."""

    checkpoints_keep: int | None = Field(default=None, ge=1)
    """How many of its latest checkpoints a thread keeps once its run has ended. Without it, all."""

    encryption_key: SecretStr | None = None
    """What is stored is encrypted with this: `2026:<base64 of 32 bytes>`, and behind commas older
    keys, which only open."""

    audit_key: SecretStr | None = None
    """The audit chain is signed with this: `2026:<base64 of 32 bytes>`, and behind commas older
    keys, which only verify. Without it, a key is made and kept beside the database."""

    audit_head_file: Path | None = None
    """Where the audit chain's newest head is kept, as a line of JSON."""

    audit_head_every: Annotated[timedelta, BeforeValidator(_with_unit)] = Field(
        default=timedelta(minutes=1), gt=timedelta(0)
    )
    """How often the audit chain's head is sent, if it has moved."""

    config: Path | None = None
    """A TOML or JSON file with more to say: who has which roles, how calls are approved, and whom
    approvals are told of."""

    public_url: str | None = None
    """Where people reach this server, `https://assent.example.com`. With it, approvals can be
    decided by links."""

    link_key: SecretStr | None = None
    """What links are made with: base64 of 32 bytes or more. Without it, a key is made and kept
    beside the database."""

    link_issuers: Annotated[tuple[str, ...], NoDecode] = ()
    """Who may make links for others: names of keys, separated by commas."""

    synchronous: Literal["full", "normal"] = "full"
    """Whether each commit waits for the disk. With `normal`, a power cut may lose the last ones; a
    kill of the server loses none."""

    state_types: Annotated[tuple[tuple[str, str], ...], NoDecode] = ()
    """Types that agents keep in their state without declaring them: `package.module:Name,…`.
    Declared ones need not be named."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    log_format: LogFormat = "console"
    """Lines for people, or `json`: one JSON object a line."""

    @field_validator("database")
    @classmethod
    def _a_sqlite_url(cls, value: str) -> str:
        if not value.startswith(SQLITE) or value == SQLITE:
            raise ValueError(
                f"'{value}' is no database that Assent knows. Write sqlite:///./assent.db, or sqlite:////absolute/path.db"
            )
        return value

    @field_validator("encryption_key")
    @classmethod
    def _sound_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                parse_keys(value.get_secret_value())
            except ConfigurationError as error:
                raise ValueError(error.message) from None
        return value

    @field_validator("audit_key")
    @classmethod
    def _sound_audit_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                parse_keys(value.get_secret_value(), "audit")
            except ConfigurationError as error:
                raise ValueError(error.message) from None
        return value

    @field_validator("public_url")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError("write it as https://assent.example.com, without a query")
        return value

    @field_validator("link_key")
    @classmethod
    def _a_sound_link_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                parse_key(value.get_secret_value())
            except ConfigurationError as error:
                raise ValueError(error.message) from None
        return value

    @field_validator("link_issuers", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return (
            tuple(filter(None, map(str.strip, value.split(","))))
            if isinstance(value, str)
            else value
        )

    @field_validator("api_keys", mode="before")
    @classmethod
    def _named_keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        keys: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in value.split(","))):
            name, separator, secret = part.partition(":")
            if not separator or not name or len(secret) < 8:
                raise ValueError(
                    "write each key as name:secret, separated by commas, with secrets of at least 8 characters"
                )
            keys[name] = secret
        return keys

    @field_validator("state_types", mode="before")
    @classmethod
    def _types(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        named = [tuple(part.strip().split(":")) for part in value.split(",") if part.strip()]
        if wrong := next((parts for parts in named if len(parts) != 2 or not all(parts)), None):
            raise ValueError(
                f"'{':'.join(wrong)}' names no type: write package.module:Name, separated by commas"
            )
        return named

    @property
    def encryption_secret(self) -> str | None:
        """`encryption_key` in the clear, for whoever opens the database."""
        return None if self.encryption_key is None else self.encryption_key.get_secret_value()

    @property
    def audit_secret(self) -> str | None:
        """`audit_key` in the clear, for whoever opens the database."""
        return None if self.audit_key is None else self.audit_key.get_secret_value()

    @property
    def link_secret(self) -> bytes:
        """What links are made with; the key beside the database, made if there is none. Raises
        `ConfigurationError`."""
        return (
            key_beside(self.database_path)
            if self.link_key is None
            else parse_key(self.link_key.get_secret_value())
        )

    @property
    def database_path(self) -> Path:
        """The SQLite file that `database` names."""
        return Path(self.database.removeprefix(SQLITE))
