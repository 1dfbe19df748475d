"""For the backend of an app on top of Usher.

- `Introspection`: ask Usher for the user of a token. A logout takes effect once the cache expires.
- `AppTokens`: verify an app token offline.
- `Backend`: publish events to users, and other calls with an API key.
- `verify_webhook`: verify that a webhook was sent by Usher.
- `usher_client.backend.asgi`, `.wsgi`, `.tornado`: middleware.

`check` returns a Caller, or None for an invalid token. If this cannot be determined now, it raises
Unavailable or Unreachable: respond with 503, not 401.
"""

from __future__ import annotations

from usher_client.backend.app_tokens import AppTokens
from usher_client.backend.caller import Caller, Checks
from usher_client.backend.introspection import Introspection
from usher_client.backend.publishing import Backend
from usher_client.backend.webhooks import Webhook, WebhookRefused, verify_webhook

__all__ = [
    "AppTokens",
    "Backend",
    "Caller",
    "Checks",
    "Introspection",
    "Webhook",
    "WebhookRefused",
    "verify_webhook",
]
