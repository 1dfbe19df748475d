"""Creates, lists, tests and deletes webhooks, and lists their deliveries."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import peewee

from models.webhook import Webhook, WebhookSubscription
from services.errors import BadRequest, Conflict, NotFound, Unavailable
from services.outbox import EventType
from services.secret import Secret
from services.storage.database import Database
from services.storage.encryption import DecryptionFailed, Encryption
from services.webhooks import records
from services.webhooks.addresses import why_not
from services.webhooks.deliveries import TEST_EVENT
from services.webhooks.outbox import body_of
from services.webhooks.records import DeliveryRow
from services.webhooks.sender import new_secret

MAX_WEBHOOKS = 50
MAX_PAGE = 100


class TooManyWebhooks(Conflict):
    code, title = "too_many", f"There are {MAX_WEBHOOKS} webhooks already."


class WebhookRow(msgspec.Struct, frozen=True):
    """A webhook as an administrator sees it. `created_at`: epoch seconds."""

    id: str
    url: str
    events: list[EventType]
    created_at: float
    created_by: str


class Receiver(msgspec.Struct, frozen=True):
    """A webhook, for deliveries. `secret`: None if no encryption key fits."""

    url: str
    events: tuple[str, ...]
    secret: Secret | None


class Webhooks:
    """Manages webhooks.

    Args:
        private: whether private addresses, and plain http, are allowed.
        keys_are_wrong: whether ENCRYPTION_KEYS are known not to be this installation's.
    """

    def __init__(
        self,
        database: Database,
        encryption: Encryption,
        private: bool,
        keys_are_wrong: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._encryption, self._private = database, encryption, private
        self._keys_are_wrong, self._clock = keys_are_wrong, clock
        self._on_changed: Callable[[], None] = lambda: None

    def on_changed(self, act: Callable[[], None]) -> None:
        """Call `act` when a webhook was added or removed, or a delivery was added."""
        self._on_changed = act

    # ---- for administrators ----------------------------------------------------------------

    async def create(
        self, url: str, events: Sequence[EventType], maker: str
    ) -> tuple[WebhookRow, Secret]:
        """Create a webhook. Returns its secret, which is shown only once.

        Raises:
            BadRequest: the URL is not allowed, or there is no event.
            TooManyWebhooks: the limit is reached.
            Unavailable: the encryption keys are wrong, so nothing may be encrypted now.
        """
        if (reason := why_not(url, self._private)) is not None:
            raise BadRequest("webhook: url", detail=f"url: {reason}")
        wanted: list[EventType] = sorted(set(events))
        if not wanted:
            raise BadRequest("webhook: events", detail="events: at least one is needed")
        if self._keys_are_wrong():
            raise Unavailable("webhook: ENCRYPTION_KEYS are not this installation's")
        secret, now = new_secret(), self._clock()
        row = WebhookRow(secrets.token_urlsafe(12), url, wanted, now, maker)
        await self._database.run(_insert, row, self._encryption.encrypt(secret.reveal()))
        self._on_changed()
        return row, secret

    async def all(self) -> list[WebhookRow]:
        """All webhooks, oldest first."""
        return await self._database.run(_all)

    async def delete(self, webhook_id: str) -> None:
        """Delete a webhook. Its pending deliveries are not sent any more.

        Raises:
            NotFound: there is no such webhook.
        """
        await self._database.run(_delete, webhook_id, self._clock())
        self._on_changed()

    async def page(
        self, webhook_id: str, before: int | None, limit: int, state: str = ""
    ) -> list[DeliveryRow]:
        """Deliveries of a webhook, newest first; see `records.page`.

        Raises:
            NotFound: there is no such webhook.
        """

        def read(db: peewee.Database) -> list[DeliveryRow]:
            _existing(db, webhook_id)
            return records.page(db, webhook_id, before, limit, state)

        return await self._database.run(read)

    async def test(self, webhook_id: str) -> DeliveryRow:
        """Deliver a test event, with a single attempt.

        Raises:
            NotFound: there is no such webhook.
        """
        now = self._clock()

        def write(db: peewee.Database) -> DeliveryRow:
            _existing(db, webhook_id)
            body = body_of(TEST_EVENT, now, {"webhook_id": webhook_id})
            # A unique subject, so that it waits for no other event.
            subject = f"test:{secrets.token_urlsafe(6)}"
            return records.enqueue(db, webhook_id, TEST_EVENT, subject, body, now)

        row = await self._database.run(write)
        self._on_changed()
        return row

    async def replay(self, webhook_id: str, delivery_id: int) -> DeliveryRow:
        """Repeat a finished or failed delivery: a new delivery with the same `webhook-id`.

        Raises:
            NotFound: there is no such delivery of this webhook.
            Conflict: the delivery is still pending.
        """

        def write(db: peewee.Database) -> DeliveryRow:
            _existing(db, webhook_id)
            row = records.get(db, webhook_id, delivery_id)
            if row is None:
                raise NotFound("no such delivery")
            if row.state == "pending":
                raise Conflict("replay: pending", detail="it is pending: it will be delivered")
            return records.again(db, row, self._clock())

        row = await self._database.run(write)
        self._on_changed()
        return row

    # ---- for the dispatcher ----------------------------------------------------------------

    async def receivers(self) -> dict[str, Receiver]:
        """All webhooks by id, for deliveries."""
        rows = await self._database.read(_with_secrets)
        return {
            id_: Receiver(url, events, self._decrypted(text)) for id_, url, text, events in rows
        }

    def _decrypted(self, text: str) -> Secret | None:
        try:
            return Secret(self._encryption.decrypt(text).decode())
        except DecryptionFailed:
            return None


def _insert(db: peewee.Database, row: WebhookRow, ciphertext: str) -> None:
    if Webhook.select().where(Webhook.deleted_at.is_null()).count(db) >= MAX_WEBHOOKS:
        raise TooManyWebhooks("webhooks: as many as there may be")
    Webhook.insert(
        id=row.id,
        url=row.url,
        secret=ciphertext,
        created_at=row.created_at,
        created_by=row.created_by,
    ).execute(db)
    wanted: list[dict[str, Any]] = [{"type": type_, "webhook_id": row.id} for type_ in row.events]
    WebhookSubscription.insert_many(wanted).execute(db)


def _events(db: peewee.Database) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in WebhookSubscription.select().order_by(WebhookSubscription.type).execute(db):
        found.setdefault(row.webhook_id, []).append(row.type)
    return found


def _active(db: peewee.Database) -> list[Webhook]:
    query = Webhook.select().where(Webhook.deleted_at.is_null())
    return list(query.order_by(Webhook.created_at, Webhook.id).execute(db))


def _all(db: peewee.Database) -> list[WebhookRow]:
    events = _events(db)
    return [
        WebhookRow(w.id, w.url, events.get(w.id, []), w.created_at, w.created_by)
        for w in _active(db)
    ]


def _with_secrets(db: peewee.Database) -> list[tuple[str, str, str, tuple[str, ...]]]:
    active = _active(db)
    events = _events(db) if active else {}
    return [(w.id, w.url, w.secret, tuple(events.get(w.id, ()))) for w in active]


def _existing(db: peewee.Database, webhook_id: str) -> None:
    this = (Webhook.id == webhook_id) & Webhook.deleted_at.is_null()
    if not Webhook.select().where(this).exists(db):
        raise NotFound("no such webhook")


def _delete(db: peewee.Database, webhook_id: str, now: float) -> None:
    this = (Webhook.id == webhook_id) & Webhook.deleted_at.is_null()
    # The secret is not needed any more, so it is deleted, too.
    if not Webhook.update({Webhook.deleted_at: now, Webhook.secret: ""}).where(this).execute(db):
        raise NotFound("no such webhook")
    WebhookSubscription.delete().where(WebhookSubscription.webhook_id == webhook_id).execute(db)
