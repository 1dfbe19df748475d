"""For the backend of an app on top of Usher.

- `Introspection`: ask Usher who a token stands for; a logout is seen at once, or after the cache.
- `AppTokens`: check an app token offline.
- `Backend`: publish events to users, and other calls by API key.
- `verify_webhook`: whether a webhook is Usher's.
- `usher_client.backend.asgi`, `.wsgi`, `.tornado`: middleware.

`check` gives a Caller, or None for a token that is good for nothing. Where nobody can say now it
raises Unavailable or Unreachable: answer 503, and not 401.
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
