"""The live overview, for administrators."""

from __future__ import annotations

from handlers.api import ApiHandler
from handlers.operations import operation
from services.overview.overview import InstallationOverview


class OverviewHandler(ApiHandler):
    @operation(
        "What all nodes do now, and in steps over the last 15 minutes: sockets, joins, messages, "
        "and how fast revocations close sockets.",
        access="admin",
        answer=InstallationOverview,
    )
    async def get(self) -> InstallationOverview:
        return await self.services.overview.read()
