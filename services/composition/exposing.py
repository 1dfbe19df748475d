"""The metrics of this server, whichever of its processes is asked."""

from __future__ import annotations

from functools import partial

from services.composition.container import Services
from services.processes.exposition import families


async def expose(services: Services) -> bytes:
    """The metrics in Prometheus' text format: of this process alone, or of all on the port."""
    worker, metrics = services.infrastructure.worker, services.metrics
    if worker is None:
        return metrics.expose()
    return await worker.expose(partial(families, metrics.registry))
