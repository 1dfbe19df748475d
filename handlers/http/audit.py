"""The audit trail, for administrators."""

from __future__ import annotations

import re

import msgspec

from handlers.api import ApiHandler
from handlers.operations import operation
from services.audit.trail import MAX_PAGE, AuditRow
from services.errors import BadRequest

_WORD = re.compile(r"[A-Za-z0-9_.:*-]{1,100}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")


class AuditPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Newest first. `next`: give it as `after` for older ones; absent on the last page."""

    items: list[AuditRow]
    next: str | None = None


class AuditHandler(ApiHandler):
    @operation(
        "The audit events, newest first.",
        access="admin",
        answer=AuditPage,
        query={
            "after": "`next` of the previous page",
            "actor": "a user's id, `key:` and an API key's, or `command-line`",
            "subject": "a user's id",
            "kind": "as in an entry; with a dot at its end, all kinds with that prefix",
            "limit": "1 to 200, 50 by default",
        },
    )
    async def get(self) -> AuditPage:
        limit, after = self.page_limit(50, MAX_PAGE), self.get_query_argument("after", "")
        if after and not _NUMBER.fullmatch(after):
            raise BadRequest("after", detail="after: `next` of the page before")
        words = {name: self.get_query_argument(name, "") for name in ("actor", "subject", "kind")}
        for name, word in words.items():
            if word and not _WORD.fullmatch(word):
                raise BadRequest(name, detail=f"{name}: 1 to 100 letters, digits, or . _ - : *")
        before = int(after) if after else None
        # One more than requested shows whether this is the last page.
        rows = await self.services.audit.page(before, limit + 1, **words)
        items = rows[:limit]
        return AuditPage(items, str(items[-1].id) if len(rows) > limit else None)
