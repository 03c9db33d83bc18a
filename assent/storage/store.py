"""The rules of LangGraph's store, apart from any database: what may be put into it, what a search
finds, and how texts become vectors.

A namespace is stored as one text, `prefix`: each of its labels with a separator behind it. So the
namespaces below one are those whose prefix begins with its own.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from operator import eq, ge, gt, le, lt, mul, ne
from typing import Any, TypeAlias

from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import ensure_config, var_child_runnable_config
from langgraph.store.base import (
    GetOp,
    IndexConfig,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    SearchOp,
    TTLConfig,
    ensure_embeddings,
    get_text_at_path,
    tokenize_path,
    validate_op_namespace,
)
from langgraph.store.base.embed import EmbeddingsLambda

from assent.core.errors import ConfigurationError
from assent.core.rows import LEASE_KEY, TENANT_KEY, Lease

MAX_LABELS = 16
MAX_LABEL = 256
MAX_KEY = 512
MAX_VALUE_BYTES = 1 << 20
MAX_OPERATIONS = 1000
"""Operations in one batch."""

MAX_READ = 10_000
"""Items that one search looks at, those that were written last. It gives at most as many."""

LONGEST_TTL = timedelta(days=365_000)

SEPARATOR = "\x1f"
"""Stands behind each label of a namespace. No label has a character that sorts before it."""

TENANT_MARK = "\x1e"
"""Begins the label of a tenant. It sorts before whatever another label may begin with."""

FIRST = " "
"""Sorts before every prefix that is of no tenant, and behind those of tenants."""

Namespace = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """How a store embeds texts, so that `query` finds them (without an `index`, it does nothing),
    and how long items are kept that are put without a `ttl`."""

    index: IndexConfig | None = None
    ttl: TTLConfig | None = None


def current_lease() -> Lease | None:
    """The lease of the run whose node or tool is calling; None outside of a server's runs."""
    lease: Lease | None = ensure_config().get("configurable", {}).get(LEASE_KEY)
    return lease


def current_root() -> str:
    """What the prefixes of the run begin with whose node or tool is calling: those of a tenant have
    a label of their own in front, which no graph can name."""
    tenant: str | None = ensure_config().get("configurable", {}).get(TENANT_KEY)
    return "" if tenant is None else f"{TENANT_MARK}{tenant}{SEPARATOR}"


@contextmanager
def as_tenant(tenant: str | None) -> Iterator[None]:
    """While the context is entered, the store is asked for the tenant's items, outside of runs."""
    configurable = {} if tenant is None else {TENANT_KEY: tenant}
    asked = var_child_runnable_config.set({"configurable": configurable})
    try:
        yield
    finally:
        var_child_runnable_config.reset(asked)


# ── what may be put ──


def checked(ops: Iterable[Op]) -> list[Op]:
    """The operations, if the store takes all of them. Raises `ValueError` if it does not."""
    listed = list(ops)
    if len(listed) > MAX_OPERATIONS:
        raise ValueError(f"A batch has at most {MAX_OPERATIONS} operations, not {len(listed)}.")
    for op in listed:
        validate_op_namespace(op)
        match op:
            case GetOp() | PutOp():
                _check_namespace(op.namespace)
                _check_key(op)
            case SearchOp():
                _check_namespace(op.namespace_prefix)
                _check_page(op)
                for wanted in (op.filter or {}).values():
                    _check_filter(wanted)
            case ListNamespacesOp():
                for condition in op.match_conditions or ():
                    _check_namespace(condition.path)
                _check_page(op)
            case _:
                raise ValueError(f"The store knows no operation {type(op).__name__}.")
        if isinstance(op, PutOp) and op.ttl is not None:
            _check_ttl(op.ttl)
    return listed


def _check_namespace(namespace: Sequence[str]) -> None:
    if len(namespace) > MAX_LABELS:
        raise InvalidNamespaceError(
            f"A namespace has at most {MAX_LABELS} labels, not {len(namespace)}."
        )
    for label in namespace:
        if len(label) > MAX_LABEL:
            raise InvalidNamespaceError(
                f"A label of a namespace has at most {MAX_LABEL} characters, not {len(label)}."
            )
        if any(character < " " for character in label):
            raise InvalidNamespaceError(
                f"The label {label!r} of a namespace has a control character."
            )


def _check_key(op: GetOp | PutOp) -> None:
    if not isinstance(op.key, str) or len(op.key) > MAX_KEY:
        raise ValueError(f"A key is a text of at most {MAX_KEY} characters.")
    if isinstance(op, PutOp) and not op.namespace:
        raise InvalidNamespaceError("Namespace cannot be empty.")


def _check_page(op: SearchOp | ListNamespacesOp) -> None:
    if op.limit < 0 or op.offset < 0:
        raise ValueError("The limit and the offset must not be below 0.")


def _check_ttl(ttl: float) -> None:
    if not 0 < ttl <= LONGEST_TTL / timedelta(minutes=1):
        raise ValueError(f"The ttl {ttl} must be a number of minutes above 0, or None for ever.")


def encoded(op: PutOp) -> bytes:
    """The value to put, as JSON. Raises `ValueError` if it is none, or too large."""
    value = op.value
    try:
        if not isinstance(value, Mapping):
            raise TypeError(f"it is a {type(value).__name__}, and not a mapping")
        text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        data = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"The value of '{op.key}' cannot be stored as JSON: {error}. Put a mapping of texts, "
            "numbers, booleans, None, lists and mappings."
        ) from error
    if len(data) > MAX_VALUE_BYTES:
        raise ValueError(
            f"The value of '{op.key}' has {len(data):,} bytes as JSON, and an item has at most "
            f"{MAX_VALUE_BYTES:,}. Put the large part elsewhere, and its place here."
        )
    return data


# ── namespaces ──


def prefix_of(namespace: Sequence[str]) -> str:
    """The namespace as it is stored."""
    return "".join(f"{label}{SEPARATOR}" for label in namespace)


def namespace_of(prefix: str) -> Namespace:
    """The namespace that is stored as this text, as its graph knows it."""
    labels = prefix.split(SEPARATOR)[:-1]
    return tuple(labels[1:] if prefix.startswith(TENANT_MARK) else labels)


def end_of(prefix: str) -> str | bytes:
    """What sorts behind every prefix that begins with this one, and before all others."""
    # SQLite sorts bytes behind every text.
    return prefix[:-1] + chr(ord(SEPARATOR) + 1) if prefix else b""


def common_prefix(conditions: Sequence[MatchCondition]) -> str:
    """What the prefix of every namespace begins with that meets the conditions."""
    longest: Sequence[str] = ()
    for condition in conditions:
        if condition.match_type == "prefix":
            path = list(condition.path)
            fixed = path[: path.index("*")] if "*" in path else path
            longest = max(longest, fixed, key=len)
    return prefix_of(longest)


def meets(namespace: Namespace, condition: MatchCondition) -> bool:
    """True if the namespace begins, or ends, as the condition says; `*` is any label."""
    path = condition.path
    if len(namespace) < len(path):
        return False
    start = 0 if condition.match_type == "prefix" else len(namespace) - len(path)
    labels = namespace[start : start + len(path)]
    return all(wanted in ("*", label) for label, wanted in zip(labels, path, strict=True))


# ── filters ──

_COMPARISONS = {"$eq": eq, "$ne": ne, "$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}


def passes(value: Mapping[str, Any], filter: Mapping[str, Any] | None) -> bool:
    """True if each field that the filter names is what it says."""
    return all(_fits(value.get(name), wanted) for name, wanted in (filter or {}).items())


def _fits(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        if any(name.startswith("$") for name in wanted):
            return all(_compares(found, name, operand) for name, operand in wanted.items())
        return isinstance(found, Mapping) and all(
            _fits(found.get(name), each) for name, each in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(found, list) and len(found) == len(wanted) and all(map(_fits, found, wanted))
        )
    return bool(found == wanted)


def _check_filter(wanted: Any) -> None:
    """Raise `ValueError` for an operator that does not exist, whatever there is to compare."""
    if isinstance(wanted, Mapping):
        operators = [name for name in wanted if name.startswith("$")]
        # One operator makes operators of the other names.
        unknown = [name for name in wanted if operators and name not in _COMPARISONS]
        if unknown:
            raise ValueError(
                f"A filter has no operator '{unknown[0]}'. There are: {', '.join(_COMPARISONS)}."
            )
        if not operators:
            for each in wanted.values():
                _check_filter(each)
    elif isinstance(wanted, list | tuple):
        for each in wanted:
            _check_filter(each)


def _compares(found: Any, operator: str, operand: Any) -> bool:
    if operator in ("$eq", "$ne"):
        return bool(_COMPARISONS[operator](found, operand))
    try:
        return bool(_COMPARISONS[operator](float(found), float(operand)))
    except (TypeError, ValueError):
        # What is no number is neither more nor less than one.
        return False


# ── vectors ──

Vector: TypeAlias = "array[float]"
"""A vector of length 1, so that the likeness of two is the sum of their products; or of zeros, if
its texts mean nothing to the model."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of the texts that were asked for, by text."""

    queries: Mapping[str, Vector] = field(default_factory=dict)
    texts: Mapping[str, Vector] = field(default_factory=dict)


class Index:
    """Makes vectors of the texts in items, and of queries. `model` names what makes them: vectors
    of another model say nothing to a query."""

    def __init__(self, config: IndexConfig) -> None:
        embed = config.get("embed")
        self._embeddings = _embeddings(embed)
        self._dims = config.get("dims", 0)
        if not isinstance(self._dims, int) or self._dims < 1:
            raise ConfigurationError(
                "The store's index needs 'dims', the number of numbers in a vector of its model."
            )
        self._fields = tuple(config.get("fields") or ("$",))
        # With their size, which some models let one choose.
        named = embed if isinstance(embed, str) else _name_of(embed)
        self.model = f"{named}:{self._dims}"
        own = type(self._embeddings)
        self.waits_in_thread = not hasattr(self._embeddings, "afunc") and (
            own is EmbeddingsLambda or own.aembed_documents is Embeddings.aembed_documents
        )
        """True if it knows no async calls, and so takes up a thread for each."""

    def texts_of(self, op: PutOp) -> list[str]:
        """The texts of the item that a query can find."""
        if op.value is None or op.index is False:
            return []
        found: list[str] = []
        for path in self._fields if op.index is None else op.index:
            found += get_text_at_path(op.value, path if path == "$" else tokenize_path(path))
        return list(dict.fromkeys(found))

    def embedded(self, ops: Sequence[Op]) -> Embedded:
        """Embed what the operations ask for and put."""
        queries, texts = self._asked(ops)
        asked = {query: self._embeddings.embed_query(query) for query in queries}
        put = self._embeddings.embed_documents(texts) if texts else []
        return self._vectors(asked, texts, put)

    async def aembedded(self, ops: Sequence[Op]) -> Embedded:
        """Embed what the operations ask for and put."""
        queries, texts = self._asked(ops)
        asked = {query: await self._embeddings.aembed_query(query) for query in queries}
        put = await self._embeddings.aembed_documents(texts) if texts else []
        return self._vectors(asked, texts, put)

    def _asked(self, ops: Sequence[Op]) -> tuple[list[str], list[str]]:
        queries = {op.query for op in ops if isinstance(op, SearchOp) and op.query}
        texts = {text for op in ops if isinstance(op, PutOp) for text in self.texts_of(op)}
        return sorted(queries), sorted(texts)

    def _vectors(
        self,
        asked: Mapping[str, Sequence[float]],
        texts: Sequence[str],
        put: Sequence[Sequence[float]],
    ) -> Embedded:
        if len(put) != len(texts):
            raise ValueError(
                f"The store's embeddings made {len(put)} vectors of {len(texts)} texts."
            )
        return Embedded(
            {query: self._normal(vector) for query, vector in asked.items()},
            {text: self._normal(vector) for text, vector in zip(texts, put, strict=True)},
        )

    def _normal(self, vector: Sequence[float]) -> Vector:
        if len(vector) != self._dims:
            raise ValueError(
                f"The store's embeddings made a vector of {len(vector)} numbers, and its index has "
                f"dims {self._dims}."
            )
        length = math.hypot(*vector)
        if not math.isfinite(length):
            raise ValueError("The store's embeddings made a vector with numbers that are none.")
        return array("f", (number / length if length else 0.0 for number in vector))


def likeness(one: Vector, other: Vector) -> float:
    """The cosine of the angle between two vectors."""
    cosine: float = sum(map(mul, one, other))
    return cosine


def _embeddings(embed: Any) -> Embeddings:
    try:
        return ensure_embeddings(embed)
    except Exception as error:
        raise ConfigurationError(
            f"The embeddings {embed!r} of the store cannot be opened: {error}"
        ) from error


def _name_of(embed: Any) -> str:
    named = embed if hasattr(embed, "__qualname__") else type(embed)
    return f"{named.__module__}.{named.__qualname__}"
