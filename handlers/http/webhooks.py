"""Webhooks, for administrators."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from handlers.api import ApiHandler
from handlers.operations import operation
from services.errors import BadRequest, Conflict, NotFound, Unavailable
from services.outbox import EventType
from services.webhooks.addresses import MAX_URL_LENGTH
from services.webhooks.records import DeliveryRow
from services.webhooks.webhooks import MAX_PAGE, TooManyWebhooks, WebhookRow

_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
Url = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_URL_LENGTH)]
Events = Annotated[list[EventType], msgspec.Meta(min_length=1, max_length=100)]
STATES = ("pending", "delivered", "failed")


class NewWebhook(msgspec.Struct):
    """`url`: https; http and private addresses only if WEBHOOK_PRIVATE is on."""

    url: Url
    events: Events


class WebhookShown(msgspec.Struct, frozen=True):
    """`secret`: `whsec_` and the signing key in Base64; shown only once."""

    id: str
    url: str
    events: list[EventType]
    created_at: float
    created_by: str
    secret: str


class WebhookList(msgspec.Struct, frozen=True):
    items: list[WebhookRow]


class DeliveryPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Newest first. `next`: the value of `after` for the next page; absent on the last page."""

    items: list[DeliveryRow]
    next: str | None = None


class WebhooksHandler(ApiHandler):
    @operation("The webhooks, oldest first.", access="admin", answer=WebhookList)
    async def get(self) -> WebhookList:
        return WebhookList(await self.services.webhooks.webhooks.all())

    @operation(
        "Create a webhook. Its secret is shown only once.",
        access="admin",
        body=NewWebhook,
        status=201,
        answer=WebhookShown,
        errors=(TooManyWebhooks, Unavailable),
        audit="webhook.created",
    )
    async def post(self, body: NewWebhook) -> WebhookShown:
        made = self.services.webhooks.webhooks.create
        row, secret = await made(body.url, body.events, self.identity.user_id)
        return WebhookShown(
            row.id, row.url, row.events, row.created_at, row.created_by, secret.reveal()
        )


class WebhookHandler(ApiHandler):
    @operation(
        "Delete a webhook. Its pending events are not delivered any more.",
        access="admin",
        status=204,
        errors=(NotFound,),
        audit="webhook.deleted",
    )
    async def delete(self, webhook_id: str) -> None:
        await self.services.webhooks.webhooks.delete(webhook_id)


class DeliveriesHandler(ApiHandler):
    @operation(
        "The deliveries of a webhook, newest first.",
        access="admin",
        answer=DeliveryPage,
        errors=(NotFound,),
        query={
            "after": "`next` of the previous page",
            "state": "only `pending`, `delivered` or `failed` ones",
            "limit": "1 to 100, 50 by default",
        },
    )
    async def get(self, webhook_id: str) -> DeliveryPage:
        limit, after = self.page_limit(50, MAX_PAGE), self.get_query_argument("after", "")
        state = self.get_query_argument("state", "")
        if after and not _NUMBER.fullmatch(after):
            raise BadRequest("after", detail="after: `next` of the page before")
        if state and state not in STATES:
            raise BadRequest("state", detail=f"state: {', '.join(STATES)}")
        before = int(after) if after else None
        # One more than requested shows whether this is the last page.
        page = self.services.webhooks.webhooks.page
        rows = await page(webhook_id, before, limit + 1, state)
        items = rows[:limit]
        return DeliveryPage(items, items[-1].id if len(rows) > limit else None)


class WebhookTestHandler(ApiHandler):
    @operation(
        "Send an event `webhook.test`. It is attempted once; `deliveries` has the result.",
        access="admin",
        status=202,
        answer=DeliveryRow,
        errors=(NotFound,),
        audit="webhook.tested",
    )
    async def post(self, webhook_id: str) -> DeliveryRow:
        return await self.services.webhooks.webhooks.test(webhook_id)


class ReplayHandler(ApiHandler):
    @operation(
        "Deliver an event again that was delivered or has failed. It is a new delivery with the "
        "same `webhook-id`, queued after the pending events of its subject.",
        access="admin",
        status=202,
        answer=DeliveryRow,
        errors=(NotFound, Conflict),
        audit="webhook.replayed",
    )
    async def post(self, webhook_id: str, delivery_id: str) -> DeliveryRow:
        if not _NUMBER.fullmatch(delivery_id):
            raise NotFound("no such delivery")
        return await self.services.webhooks.webhooks.replay(webhook_id, int(delivery_id))
