"""A store over a real Redis, and calls that it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.errors import StoreUnavailable
from services.redis.store_redis import RedisStore
from services.secret import Secret
from tests.support.redis import within

PASSWORD = "p@ss/wörd%"
QUOTED = "p%40ss%2Fw%C3%B6rd%25"
FROZEN = 0.3


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def connected(url: Secret | str, **options: Any) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, **{"timeout": 10.0, **options})
    await store.connect()
    try:
        yield store
    finally:
        await store.close()


async def fails(awaitable: Any) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await within(awaitable)
    return caught.value.evidence
