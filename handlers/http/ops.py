"""Monitoring: liveness, readiness and metrics."""

from __future__ import annotations

from typing import Literal

import msgspec

from handlers.api import ApiHandler
from handlers.operations import operation
from services.composition.exposing import expose
from services.composition.health import Readiness
from services.metrics import CONTENT_TYPE


class Alive(msgspec.Struct, frozen=True):
    status: Literal["ok"]


class HealthHandler(ApiHandler):
    @operation("Whether the event loop of the process is running.", access="anyone", answer=Alive)
    async def get(self) -> Alive:
        return Alive("ok")


class ReadyHandler(ApiHandler):
    @operation(
        "Whether this node is ready for requests, and the state of its dependencies. 503 if not.",
        access="anyone",
        answer=Readiness,
        unready=Readiness,
    )
    async def get(self) -> Readiness:
        readiness = self.services.health.readiness()
        self.unready = readiness.status != "ready"
        return readiness

    def answer(self, status: int, body: object) -> None:
        super().answer(503 if self.unready else status, body)


class MetricsHandler(ApiHandler):
    @operation(
        "Counters in Prometheus' text format. With PROCESSES, those of all processes, each series "
        "with the label `process`.",
        access="anyone",
        answer=str,
        media_type="text/plain",
    )
    async def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE)
        self.write(await expose(self.services))
