"""Signed webhooks (https://www.standardwebhooks.com), sent only to addresses that are allowed."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import datetime

from standardwebhooks.webhooks import Webhook

from assent.core.errors import ConfigurationError
from assent.notify.notifier import NotDelivered
from assent.notify.reaching import Destination, NotReached, Reach

MAX_ANSWER_BYTES = 64 * 1024
"""The bytes of an answer that are read, so that the receiver can finish, but no endless one."""

MIN_SECRET_BYTES = 24
"""The minimum of Standard Webhooks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target(Destination):
    """The receiver of webhooks. Each of `secrets` signs, the newest first, so that a receiver needs
    to know only one of them."""

    secrets: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        Destination.__post_init__(self)
        if not self.secrets:
            raise ConfigurationError(
                "A webhook has no secret, so nobody could tell who sent it. "
                "Give it one: 'whsec_' and base64."
            )
        for secret in self.secrets:
            _signer(secret)


class WebhookSender:
    """Sends webhooks to one target."""

    def __init__(self, target: Target, reach: Reach) -> None:
        self._target = target
        self._reach = reach
        self._signers = [_signer(secret) for secret in target.secrets]

    async def send(self, id: str, body: bytes, now: datetime) -> None:
        """Send the body. By the `id` a receiver recognises a repetition. Raises `NotDelivered`."""
        text = body.decode()
        signatures = [signer.sign(msg_id=id, timestamp=now, data=text) for signer in self._signers]
        headers = {
            "Content-Type": "application/json",
            "webhook-id": id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        try:
            answer = await self._reach.request(
                "POST", self._target, headers=headers, body=body, most=MAX_ANSWER_BYTES
            )
        except NotReached as error:
            raise NotDelivered(str(error)) from None
        if not answer.is_success:
            raise NotDelivered(f"It answered with status {answer.status}.")


def _signer(secret: str) -> Webhook:
    # The messages do not quote the decoder's error, which might repeat the secret.
    try:
        key = base64.b64decode(secret.removeprefix("whsec_") + "==")
    except ValueError:
        raise ConfigurationError(
            "A webhook's secret is not base64. Write 'whsec_' and base64."
        ) from None
    if len(key) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"A webhook's secret has less than {MIN_SECRET_BYTES} bytes. "
            "Make one: whsec_$(openssl rand -base64 32)"
        )
    return Webhook(key)
