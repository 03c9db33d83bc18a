"""The settings, read from the environment when the program is put together, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from assent.config.logging import LogFormat
from assent.core.access import Role, role_of
from assent.core.addresses import egress_from_texts
from assent.core.errors import ConfigurationError
from assent.core.json import read_strictly
from assent.core.key_files import LINKS, PEPPER
from assent.core.keys import Pepper
from assent.core.policy import not_a_duration, read_duration
from assent.core.sealing import parse_keys
from assent.runs.recursion import MOST
from assent.runs.sync_threads import MAX_THREADS

SQLITE = "sqlite:///"

DIALECTS = ("human-input", "progress", "tasks", "query", "langgraph", "vercel", "agui")
"""The dialects that other people's clients speak."""

SHORTEST_SECRET = 8
"""The fewest characters of a key of `api_keys`."""


def _readable_by(parse: Callable[[str], object]) -> AfterValidator:
    """Refuse a secret that `parse` raises `ConfigurationError` for."""

    def check(value: SecretStr) -> SecretStr:
        try:
            parse(value.get_secret_value())
        except ConfigurationError as error:
            raise ValueError(error.message) from None
        return value

    return AfterValidator(check)


def _is_long(part: str) -> bool:
    return len(part) >= SHORTEST_SECRET


def _parts(value: str) -> list[str]:
    """The parts between commas that are not empty."""
    stripped = map(str.strip, value.split(","))
    return [part for part in stripped if part]


def _roles_by_name(value: str) -> dict[str, tuple[str, ...]]:
    """The roles in `alice:operator approver,bob:auditor`."""
    found: dict[str, tuple[str, ...]] = {}
    for part in _parts(value):
        name, _, roles = (each.strip() for each in part.partition(":"))
        if not name or not roles:
            raise ValueError(
                "write the roles of each person as name:role, separated by commas, and several as "
                "name:role role"
            )
        if name in found:
            raise ValueError(f"it names '{name}' twice: write all of their roles in one place")
        found[name] = tuple(roles.split())
        _check_roles(found[name])
    return found


def _check_roles(roles: object) -> None:
    """Raise `ValueError` for a text that names no role of the program: a slip of the pen would give
    nobody any right."""
    for each in roles if isinstance(roles, list | tuple) else ():
        if role_of(str(each)) is None:
            raise ValueError(
                f"'{each}' is no role: the roles are {', '.join(Role)}, approver:tool:<tool> and "
                "approver:role:<role of policies>"
            )


def _duration(value: str | timedelta, read: ValidatorFunctionWrapHandler) -> timedelta:
    try:
        duration: timedelta = read(read_duration(value))
    except ValidationError:
        raise ValueError(not_a_duration(str(value))) from None
    return duration


Duration = Annotated[timedelta, WrapValidator(_duration), Field(gt=timedelta(0))]


def _from_to(least: float, most: float) -> AfterValidator:
    """Refuse a duration of fewer seconds than `least`, or of more than `most`."""

    def check(value: timedelta) -> timedelta:
        if not least <= value.total_seconds() <= most:
            raise ValueError(f"write a duration from {least:g}s to {most:g}s")
        return value

    return AfterValidator(check)


def _rate(value: str) -> str:
    """The text of a rate, "" for none."""
    # Takes a tenth of a second to import.
    from limits import parse_many

    if value.strip() == "none":
        return ""
    try:
        parse_many(value)
    except ValueError:
        raise ValueError("write it as 1200/minute, several separated by commas, or none") from None
    return value


Rate = Annotated[str, AfterValidator(_rate)]


class StoreIndex(BaseModel, frozen=True, extra="forbid"):
    """The embeddings by which a query finds what agents have stored."""

    embed: str = Field(min_length=1)
    """`provider:model`, or `path/to/file.py:function`."""

    dims: int = Field(ge=1)
    """The number of numbers in one of their vectors."""

    fields: tuple[str, ...] | None = None
    """The paths to the texts in an item. Without it, all of an item is one text."""


class Settings(BaseSettings):
    """The settings. The environment has each as `ASSENT_` and its name in capitals.

    docs/reference/settings.md lists them.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASSENT_", extra="ignore", hide_input_in_errors=True
    )

    database: str = "sqlite:///./assent.db"
    """The database of everything durable. Checkpoints are kept in a file beside it."""

    records: Path = Path("records.db")
    """The demo's sample records. The file is made if it is missing."""

    model: str | None = None
    """The demo's model, as `init_chat_model` takes it ("openai:gpt-4o-mini"). Without one, a
    rule-based stand-in answers."""

    api_keys: Annotated[dict[str, SecretStr], NoDecode] = Field(default_factory=dict)
    """The keys of the people who may use the server: `alice:secret1,bob:secret2`. Without any,
    everybody who reaches the port may use it, so it stays on loopback."""

    roles: Annotated[dict[str, tuple[str, ...]], NoDecode] = Field(default_factory=dict)
    """The roles of people, by the names that they are known by: `alice:operator approver,bob:
    auditor`. They have those of the configuration file besides."""

    default_roles: Annotated[tuple[str, ...], NoDecode] = (Role.OPERATOR, Role.APPROVER)
    """The roles of people who are known and were given none, separated by commas; `none` for
    none."""

    recursion_limit: int | None = Field(default=None, ge=1)
    """The turns of the model, or in other graphs the supersteps, that a run may take if neither its
    graph nor its request says otherwise. Without it, LangGraph's default."""

    max_recursion_limit: int = Field(default=MOST, ge=1)
    """The highest such limit of any run."""

    drain_seconds: float = Field(default=5.0, ge=0)
    """The time that a stopping server waits for its active runs before it leaves them to the next
    start."""

    max_runs: int = Field(default=500, ge=1)
    """The most runs that are active at once. More wait their turn."""

    sync_threads: int = Field(default=MAX_THREADS, ge=1, le=1000)
    """The most sync nodes and tools that run at once, each in a thread. More wait their turn."""

    max_pending: int = Field(default=100_000, ge=1)
    """The most runs that wait for their turn, or their time, on all threads together. Another one
    is refused."""

    max_pending_per_thread: int = Field(default=100, ge=1)
    """The most runs that wait on one thread. Another one is refused."""

    events_ttl: Duration | None = None
    """The time that events are kept: `30d`, `12h`, `45m`, `90s`, a number of seconds, or ISO 8601
    (`P30D`). Without it, for ever."""

    threads_ttl: Duration | None = None
    """The time that a thread is kept after its last run has ended, and an older run of a thread
    after its end, in the same form. Without it, for ever."""

    stateless_ttl: Duration = timedelta(minutes=1)
    """The time that the thread of a run of LangGraph's clients that named none is kept after its
    end, if the run was not to keep it."""

    checkpoints_keep: int | None = Field(default=None, ge=1)
    """The number of its latest checkpoints that a thread keeps once its run has ended. Without it,
    all."""

    encryption_key: Annotated[SecretStr, _readable_by(parse_keys)] | None = None
    """The keys that encrypt what is stored: `2026:<base64 of 32 bytes>`, and behind commas older
    keys, which only decrypt."""

    audit_key: Annotated[SecretStr, _readable_by(lambda text: parse_keys(text, "audit"))] | None = (
        None
    )
    """The keys that sign the audit chain: `2026:<base64 of 32 bytes>`, and behind commas older
    keys, which only verify. Without any, a key is made and kept beside the database."""

    audit_head_file: Path | None = None
    """The file of the audit chain's newest head, as a line of JSON."""

    audit_head_every: Duration = timedelta(minutes=1)
    """The time between two sends of the audit chain's head, if it has moved."""

    config: Path | None = None
    """A TOML or JSON file with the roles of people, the policies of calls, budgets, and endpoints
    for notifications."""

    public_url: str | None = None
    """The address at which people reach this server, `https://assent.example.com`. With it,
    approvals can be decided by links."""

    link_key: Annotated[SecretStr, _readable_by(LINKS.parse)] | None = None
    """The key that links are made with: base64 of 32 bytes or more. Without it, a key is made and
    kept beside the database."""

    key_pepper: Annotated[SecretStr, _readable_by(PEPPER.parse)] | None = None
    """The secret by which stored API keys and sessions are known: base64 of 32 bytes or more.
    Without it, one is made and kept beside the database."""

    session_lifetime: Annotated[Duration, _from_to(60, 30 * 86_400)] = timedelta(hours=12)
    """The time after which whoever has signed in in a browser has to sign in again."""

    session_idle: Annotated[Duration, _from_to(10, 30 * 86_400)] = timedelta(hours=2)
    """The time after which they have to if they have asked nothing meanwhile."""

    link_issuers: Annotated[tuple[str, ...], NoDecode] = ()
    """The names of keys that may make links for others, separated by commas."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """The origins whose pages may use the server from a browser: `https://app.example.com,…`.
    Without keys, pages of loopback may anyway."""

    egress: Annotated[tuple[str, ...] | None, NoDecode] = None
    """The connections that the server itself may open, separated by commas: hosts, networks, and
    channels of Apprise; `none` for none. Without it, all that the rules of addresses permit."""

    synchronous: Literal["full", "normal"] = "full"
    """With `full`, each commit waits for the disk. With `normal`, a power cut may lose the last
    commits; a kill of the server loses none."""

    state_types: Annotated[tuple[tuple[str, str], ...], NoDecode] = ()
    """Types that agents keep in their state without declaring them: `package.module:Name,…`."""

    max_upload_bytes: int = Field(default=25 << 20, ge=1024, le=1 << 30)
    """The most bytes of a file that is uploaded."""

    max_uploads_bytes: int = Field(default=10 << 30, ge=1)
    """The most bytes of all uploads together. Another one is refused."""

    store_index: Annotated[StoreIndex | None, NoDecode] = None
    """The embeddings by which agents search what they have stored, as JSON:
    `{"embed": "openai:text-embedding-3-small", "dims": 1536, "fields": ["text"]}`."""

    heartbeat: Annotated[Duration, _from_to(0.1, 60)] = timedelta(seconds=5)
    """The time after which a stream on which nothing was sent shows that it is alive."""

    stalled: Annotated[Duration, _from_to(1, 600)] = timedelta(seconds=30)
    """The time after which a reader that takes nothing is cut off."""

    max_streams: int = Field(default=20_000, ge=1)
    """The most streams that are open at once, of all transports. Another one is refused."""

    max_streams_per_client: int = Field(default=1_000, ge=1)
    """The most streams that one client may have open: one name of `api_keys`, or without keys one
    address."""

    dialects: Annotated[tuple[str, ...], NoDecode] = DIALECTS
    """The dialects whose routes are served, separated by commas; `none` for none."""

    allow_query_token: bool = False
    """Take a key in the URL (`?token=`) from clients that read, where a route says so. Proxies and
    browsers keep URLs."""

    idle_sockets: Annotated[Duration, _from_to(1, 86_400)] = timedelta(minutes=10)
    """The time after which a query socket on which nothing is asked, and nothing runs, is
    closed."""

    docs: bool = True
    """Serve `/docs`, the page with all routes, and `/openapi.json`."""

    ui: bool = True
    """Serve the web page under `/ui/`, and lead browsers there from `/`."""

    # ── limits ────────────────────────────────────────────────────────────────────────────────────

    rate_limit: Rate = "1200/minute"
    """The requests that one person may send, by all their keys together: `1200/minute`, several
    behind commas (`50/second,1200/minute`), or `none`."""

    rate_limit_address: Rate = "3000/minute"
    """The requests that may come from one address, in the same form. Those of this machine are not
    counted unless there are `trusted_proxies`."""

    failed_keys: Rate = "10/minute"
    """The keys that are none which may come from one address, in the same form. Beyond, only those
    that were good lately are looked at."""

    max_threads_per_user: int = Field(default=10_000, ge=1)
    """The most threads that one person may have. Another one is refused."""

    max_pending_per_user: int = Field(default=1_000, ge=1)
    """The most runs of one person that wait for their turn, or their time."""

    max_uploads_bytes_per_user: int = Field(default=1 << 30, ge=1)
    """The most bytes of one person's uploads."""

    max_assistants_per_user: int = Field(default=1_000, ge=1)
    """The most versions that all assistants of one person may have together."""

    max_threads_per_tenant: int | None = Field(default=None, ge=1)
    """The most threads that all people of one tenant may have."""

    max_pending_per_tenant: int | None = Field(default=None, ge=1)
    """The most runs of one tenant's people that wait for their turn, or their time."""

    max_uploads_bytes_per_tenant: int | None = Field(default=None, ge=1)
    """The most bytes of the uploads of one tenant's people."""

    max_assistants_per_tenant: int | None = Field(default=None, ge=1)
    """The most versions that the assistants of one tenant's people may have."""

    max_streams_per_tenant: int | None = Field(default=None, ge=1)
    """The most streams that one tenant's people may have open."""

    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """The addresses or networks of proxies, separated by commas, whose `X-Forwarded-For` and
    `X-Forwarded-Proto` say whose request it is."""

    # ── watching ──────────────────────────────────────────────────────────────────────────────────

    traces: bool = False
    """Send traces to OpenTelemetry, as the variables `OTEL_…` say. It needs the extra `otel`."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    log_format: LogFormat = "console"
    """Lines for people, or `json`: one JSON object a line."""

    @field_validator("dialects", mode="before")
    @classmethod
    def _known_dialects(cls, value: object) -> object:
        if isinstance(value, str):
            value = () if value.strip() == "none" else tuple(_parts(value))
        for name in value if isinstance(value, list | tuple) else ():
            if name not in DIALECTS:
                raise ValueError(
                    f"'{name}' is no dialect: write some of {', '.join(DIALECTS)}, separated by "
                    "commas, or none"
                )
        return value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        origins = _parts(value) if isinstance(value, str) else value
        for origin in origins if isinstance(origins, list | tuple) else ():
            if not re.fullmatch(r"https?://[^/?#\s*@,]+", str(origin)):
                raise ValueError(
                    f"'{origin}' is no origin: write each as https://app.example.com or "
                    "http://localhost:5173, separated by commas, without a path; '*' is not taken"
                )
        return origins

    @field_validator("egress", mode="before")
    @classmethod
    def _connections(cls, value: object) -> object:
        if isinstance(value, str):
            value = () if value.strip() == "none" else tuple(_parts(value) or [value])
        if isinstance(value, list | tuple):
            try:
                egress_from_texts(map(str, value))
            except ConfigurationError as error:
                raise ValueError(error.message) from None
        return value

    @field_validator("database")
    @classmethod
    def _a_sqlite_url(cls, value: str) -> str:
        if not value.startswith(SQLITE) or value == SQLITE:
            raise ValueError(
                f"'{value}' is not a database that Assent knows. "
                "Write sqlite:///./assent.db, or sqlite:////absolute/path.db"
            )
        return value

    @field_validator("public_url")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError("write it as https://assent.example.com, without a query")
        return value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        try:
            return [ip_network(part) for part in _parts(value)] if isinstance(value, str) else value
        except ValueError:
            raise ValueError(
                "write each as an address or a network, 10.0.0.0/8, separated by commas"
            ) from None

    @field_validator("link_issuers", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return _parts(value) if isinstance(value, str) else value

    @field_validator("api_keys", mode="before")
    @classmethod
    def _named_keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        keys: dict[str, str] = {}
        for part in _parts(value):
            name, _, secret = part.partition(":")
            if not name or len(secret) < SHORTEST_SECRET:
                raise ValueError(
                    "write each key as name:secret, separated by commas, "
                    f"with secrets of at least {SHORTEST_SECRET} characters"
                )
            if not (secret.isascii() and secret.isprintable() and secret == secret.strip()):
                raise ValueError(
                    f"the secret of '{name}' is none that a request can carry: write it in ASCII, "
                    "without line breaks or spaces around it"
                )
            if name in keys:
                raise ValueError(f"it has two secrets for '{name}': leave one")
            for other, theirs in keys.items():
                if secret == theirs:
                    raise ValueError(
                        f"'{other}' and '{name}' have the same secret, so nobody could tell which "
                        "of them decides: give each a secret of their own"
                    )
            keys[name] = secret
        return keys

    @field_validator("roles", mode="before")
    @classmethod
    def _named_roles(cls, value: object) -> object:
        if isinstance(value, str):
            return _roles_by_name(value)
        for roles in value.values() if isinstance(value, Mapping) else ():
            _check_roles(roles)
        return value

    @field_validator("default_roles", mode="before")
    @classmethod
    def _known_roles(cls, value: object) -> object:
        if isinstance(value, str):
            value = () if value.strip() == "none" else tuple(_parts(value))
        _check_roles(value)
        return value

    @field_validator("store_index", mode="before")
    @classmethod
    def _an_object(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return StoreIndex.model_validate(read_strictly(value))
        except (ValueError, RecursionError):
            raise ValueError(
                'write it as JSON: {"embed": "openai:text-embedding-3-small", "dims": 1536}, with '
                '"fields" if only some of an item is searched'
            ) from None

    @field_validator("state_types", mode="before")
    @classmethod
    def _types(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        types: list[tuple[str, ...]] = []
        for part in _parts(value):
            names = tuple(part.split(":"))
            if len(names) != 2 or not all(names):
                raise ValueError(
                    f"'{part}' names no type: write package.module:Name, separated by commas"
                )
            types.append(names)
        return types

    @classmethod
    def given(cls, values: Mapping[str, Any]) -> Settings:
        """These settings, and otherwise the defaults, whatever the environment has. Raises
        `ConfigurationError`."""
        try:
            return _Given(**values)
        except ValidationError as error:
            problems = error.errors()
        # The value is not repeated: it may hold secrets.
        sentences = [
            f"The setting {each['loc'][0]} is wrong: {_reason(each['msg'])}." for each in problems
        ]
        raise ConfigurationError(" ".join(sentences))

    @property
    def secrets(self) -> list[str]:
        """Every secret in these settings in the clear, so that the log can leave it out."""
        hidden = [each.get_secret_value() for _, each in self if isinstance(each, SecretStr)]
        # A setting of several keys has each behind its id.
        parts = [part for text in hidden for part in re.split("[,:]", text)]
        return [*hidden, *filter(_is_long, parts), *self.secrets_of_people.values()]

    @property
    def secrets_of_people(self) -> dict[str, str]:
        """`api_keys` in the clear, for whoever compares them."""
        return {name: key.get_secret_value() for name, key in self.api_keys.items()}

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
        """The key of links: `link_key`, or the key beside the database, which is made if missing.

        Raises `ConfigurationError`.
        """
        if self.link_key is None:
            return LINKS.beside(self.database_path)
        return LINKS.parse(self.link_key.get_secret_value())

    @property
    def pepper(self) -> Pepper:
        """The pepper of API keys: `key_pepper`, or the one beside the database, which is made if
        missing.

        Raises `ConfigurationError`.
        """
        if self.key_pepper is None:
            return Pepper(PEPPER.beside(self.database_path))
        return Pepper(PEPPER.parse(self.key_pepper.get_secret_value()))

    @property
    def database_path(self) -> Path:
        """The SQLite file that `database` names."""
        return Path(self.database.removeprefix(SQLITE))


class _Given(Settings):
    """Settings that are not read from the environment."""

    model_config = SettingsConfigDict(extra="forbid", hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _reason(message: str) -> str:
    if message == "Extra inputs are not permitted":
        return "there is no such setting"
    return message.removeprefix("Value error, ").rstrip(".")
