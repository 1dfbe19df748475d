"""Creates the services of webhooks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from services.metrics import Metrics
from services.storage.database import Database
from services.storage.encryption import Encryption
from services.webhooks.dispatcher import Dispatcher
from services.webhooks.outbox import WebhookOutbox
from services.webhooks.sender import Sender
from services.webhooks.socket_events import SocketEvents
from services.webhooks.webhooks import Webhooks


@dataclass(frozen=True)
class WebhookParts:
    """The services of webhooks that handlers and other services may call."""

    outbox: WebhookOutbox
    webhooks: Webhooks
    dispatcher: Dispatcher
    socket_events: SocketEvents


def join(
    outbox: WebhookOutbox,
    database: Database,
    encryption: Encryption,
    keys_are_wrong: Callable[[], bool],
    metrics: Metrics,
    private: bool,
    clock: Callable[[], float] = time.time,
) -> WebhookParts:
    """Create and connect the services. Nothing is started.

    Args:
        private: whether webhooks may be at private addresses.
    """
    webhooks = Webhooks(database, encryption, private, keys_are_wrong, clock)
    dispatcher = Dispatcher(database, webhooks, lambda places: Sender(private, places), metrics)
    socket_events = SocketEvents(database, outbox, metrics, lambda: dispatcher.full)
    outbox.on_written(dispatcher.wake)
    webhooks.on_changed(dispatcher.look_again)
    dispatcher.on_receivers(socket_events.want)
    return WebhookParts(outbox, webhooks, dispatcher, socket_events)
