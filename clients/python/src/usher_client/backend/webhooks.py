"""Verifies webhooks (the format of standardwebhooks.com)."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TOLERANCE_SECONDS = 300.0
MIN_SECRET_BYTES = 16
PREFIX = "whsec_"
MAX_SIGNATURES = 16


class WebhookRefused(ValueError):
    """The signature is wrong, or the webhook is too old. Respond with 401, and do nothing."""


@dataclass(frozen=True)
class Webhook:
    """A verified event.

    Args:
        id: the same for each delivery of an event. Store the ids of the last minutes, and ignore
            those that you have seen.
        type: such as `session.ended`.
        timestamp: the time of the event, as in the body.
        data: the details of the event.
    """

    id: str
    type: str
    timestamp: Any
    data: Mapping[str, Any]


def verify_webhook(
    secret: str,
    headers: Mapping[str, str],
    body: bytes | str,
    *,
    tolerance: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> Webhook:
    """Verify a delivery, and parse it.

    Args:
        secret: as it was shown when the webhook was created: `whsec_…`.
        headers: the request's headers, in any case.
        body: the request's body, unchanged.
        tolerance: the accepted difference to this machine's clock, in seconds.
        now: epoch seconds; this machine's clock by default.

    Raises:
        WebhookRefused: the signature is wrong, or the webhook is too old.
        ValueError: `secret` is not a webhook secret.
    """
    key = _key(secret)
    given = {name.lower(): value for name, value in headers.items()}
    try:
        name, stamp, signatures = (
            given[f"webhook-{part}"] for part in ("id", "timestamp", "signature")
        )
    except KeyError as error:
        raise WebhookRefused(f"no header {error.args[0]}") from None
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise WebhookRefused("webhook-timestamp is not a number")
    content = body.encode() if isinstance(body, str) else bytes(body)
    wanted = hmac.digest(key, f"{name}.{stamp}.".encode() + content, hashlib.sha256)
    if not any(_fits(one, wanted) for one in signatures.split(" ")[:MAX_SIGNATURES]):
        raise WebhookRefused("no signature fits")
    if abs((time.time() if now is None else now) - int(stamp)) > tolerance:
        raise WebhookRefused("webhook-timestamp is outside the tolerance")
    return _read(name, content)


def _key(secret: str) -> bytes:
    try:
        key = b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        raise ValueError("the secret is not as Usher showed it: whsec_ and base64") from None
    if len(key) < MIN_SECRET_BYTES:
        raise ValueError("the secret is too short")
    return key


def _fits(signature: str, wanted: bytes) -> bool:
    version, _, text = signature.partition(",")
    try:
        found = b64decode(text, validate=True)
    except ValueError:
        return False
    return version == "v1" and hmac.compare_digest(found, wanted)


def _read(name: str, content: bytes) -> Webhook:
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        raise WebhookRefused("the body is not JSON") from None
    if not isinstance(said, dict) or not isinstance(said.get("type"), str):
        raise WebhookRefused("the body is not an event")
    data = said.get("data")
    return Webhook(
        name, said["type"], said.get("timestamp"), data if isinstance(data, dict) else {}
    )
