"""Limits on how often somebody may ask: a person, an address, and whoever guesses at keys.

Windows are counted in memory, by a monotonic clock: a clock on the wall that steps would lock
people out, or let them in, for a day.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from ipaddress import IPv6Address, IPv6Network
from weakref import WeakValueDictionary

from fastapi import Request
from limits import RateLimitItem, parse_many
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter
from starlette.exceptions import HTTPException
from starlette.types import Scope

from assent.api.loopback import comes_from_loopback
from assent.core.access import Owner
from assent.core.addresses import address_in
from assent.core.errors import AssentError, TooManyRequests
from assent.core.remembered import Remembered

MOST_WINDOWS = 100_000
"""The windows that are counted at once. Beyond, those that began first are forgotten."""

MOST_KNOWN = 10_000
KNOWN_SECONDS = 24 * 3600.0
"""The secrets that were good lately, of which a neighbour's guesses do not lock out the owner, and
the time for which each is remembered."""


class Windows(Storage):
    """The windows of fixed lengths in which `limits` counts."""

    STORAGE_SCHEME = None

    def __init__(self, now: Callable[[], float], most: int = MOST_WINDOWS) -> None:
        super().__init__()
        self._now = now
        self._most = most
        self._windows: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """By its key, what was counted in a window, and the time at which it ends."""

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: int, amount: int = 1, elastic_expiry: bool = False) -> int:
        now = self._now()
        count, ends = self._windows.get(key, (0, now))
        if ends <= now:
            # It begins anew, behind those that began before.
            self._windows.pop(key, None)
            count, ends = 0, now + expiry
        self._windows[key] = (count + amount, ends)
        while len(self._windows) > self._most:
            self._windows.popitem(last=False)
        return count + amount

    def get(self, key: str) -> int:
        count, ends = self._windows.get(key, (0, 0.0))
        return count if ends > self._now() else 0

    def get_expiry(self, key: str) -> float:
        _, ends = self._windows.get(key, (0, 0.0))
        return max(ends, self._now())

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)


class _Tries:
    """The attempts of one address to be known that are `under_way`; `one_ends` is set as one
    does."""

    __slots__ = ("__weakref__", "one_ends", "under_way")

    def __init__(self) -> None:
        self.under_way = 0
        self.one_ends = asyncio.Event()

    def end(self) -> None:
        """One has ended: whoever waits looks again."""
        self.under_way -= 1
        self.one_ends.set()
        self.one_ends = asyncio.Event()


class Limiting:
    """Counts requests of a `person` and of an `address`, and `failures` to be known, each by texts
    such as `1200/minute`; an empty one is no limit. Addresses of this machine are not counted,
    unless proxies are trusted, which tell others there. `failed` is told the address of each
    failure. `now` is a monotonic clock."""

    def __init__(
        self,
        *,
        person: str = "",
        address: str = "",
        failures: str = "",
        has_proxies: bool = False,
        failed: Callable[[str], None] = lambda address: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._person, self._address, self._failures = map(_items, (person, address, failures))
        self._has_proxies = has_proxies
        self._failed = failed
        self._now = now
        self._limiter = FixedWindowRateLimiter(Windows(now))
        self._known: Remembered[float] = Remembered(MOST_KNOWN)
        self._wrong: Remembered[str] = Remembered(MOST_KNOWN)
        self._tries: WeakValueDictionary[str, _Tries] = WeakValueDictionary()
        """Those of each address, as long as one is under way or waits."""

    def count_address(self, scope: Scope) -> None:
        """Count a request. Raises `TooManyRequests`."""
        if self._address and (self._has_proxies or not comes_from_loopback(scope)):
            self._count(self._address, "address", address_of(scope))

    def count_person(self, owner: Owner) -> None:
        """Count a request of somebody who is known. Raises `TooManyRequests`."""
        # As one text, since either may have what stands between two.
        self._count(self._person, "person", repr((owner.tenant, owner.name)))

    @asynccontextmanager
    async def attempt(
        self,
        scope: Scope,
        secret: str,
        wrong: type[AssentError] | None = None,
        *,
        by_browser: bool = False,
    ) -> AsyncIterator[None]:
        """An attempt to be known by the secret, which has failed if it raises 401, or what is
        `wrong`. Raises `TooManyRequests` for another attempt from an address that has failed too
        often, before anything is compared; but not for a secret that was good lately. One that
        would be too many if those under way failed waits for them.

        What is sent `by_browser`, such as the cookie of a session that is over, comes with each
        request: it is one guess, however often it comes."""
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).digest()
        address = address_of(scope)
        known_at = self._known.get(digest)
        is_known = known_at is not None and self._now() - known_at <= KNOWN_SECONDS
        is_counted = by_browser and self._wrong.get(digest) == address
        tries = None
        if not is_known and not is_counted:
            tries = await self._begin(address)
        try:
            yield
        except (HTTPException, AssentError) as error:
            is_401 = isinstance(error, HTTPException) and error.status_code == 401
            if is_401 or (wrong is not None and isinstance(error, wrong)):
                self._known.drop(digest)
                if not is_counted:
                    self._failed(address)
                    for item in self._failures:
                        self._limiter.hit(item, "failures", address)
                if by_browser:
                    self._wrong.put(digest, address)
            raise
        finally:
            if tries is not None:
                tries.end()
        self._known.put(digest, self._now())

    async def _begin(self, address: str) -> _Tries:
        """Begin an attempt, once it is not too many from the address. Raises `TooManyRequests`."""
        tries = self._tries.get(address)
        if tries is None:
            tries = self._tries[address] = _Tries()
        while not self._fit(tries.under_way + 1, address):
            self._check(self._failures, "failures", address)
            await tries.one_ends.wait()
        tries.under_way += 1
        return tries

    def _fit(self, failures: int, address: str) -> bool:
        """True if so many more may come from the address."""
        return all(
            self._limiter.test(item, "failures", address, cost=failures) for item in self._failures
        )

    def _count(self, items: Sequence[RateLimitItem], *key: str) -> None:
        # Each of them counts, also where another one refuses.
        full = [item for item in items if not self._limiter.hit(item, *key)]
        if full:
            raise self._too_many(full, *key)

    def _check(self, items: Sequence[RateLimitItem], *key: str) -> None:
        full = [item for item in items if not self._limiter.test(item, *key)]
        if full:
            raise self._too_many(full, *key)

    def _too_many(self, full: Sequence[RateLimitItem], *key: str) -> TooManyRequests:
        ends = max(self._limiter.get_window_stats(item, *key).reset_time for item in full)
        seconds = max(1, math.ceil(ends - self._now()))
        return TooManyRequests(_SENTENCES[key[0]].format(seconds=seconds), retry_after=seconds)


_SENTENCES = {
    "address": "Too many requests come from this address. Ask again in {seconds} s.",
    "person": "You have sent too many requests. Ask again in {seconds} s.",
    "failures": (
        "Too many keys, or the like, that are none came from this address. None is looked at for "
        "{seconds} s."
    ),
}


def attempting(
    limiting: Limiting | None,
    request: Request,
    secret: str,
    wrong: type[AssentError] | None = None,
    *,
    by_browser: bool = False,
) -> AbstractAsyncContextManager[None]:
    """An attempt to be known by the secret, on a server that limits those."""
    if limiting is None:
        return nullcontext()
    return limiting.attempt(request.scope, secret, wrong, by_browser=by_browser)


def address_of(scope: Scope) -> str:
    """The address of whoever sends the request; of IPv6 the network, since one has a whole one."""
    client = scope.get("client")
    host: str = client[0] if client else ""
    if ":" not in host:
        return host
    address = address_in(host)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address.packed, 64), strict=False))
    return host if address is None else str(address)


def _items(text: str) -> Sequence[RateLimitItem]:
    return parse_many(text) if text else ()
