"""`Introspection.follow`: a user's own socket drops that user from the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.client_python.conftest import Place, Run
from tests.support.server import Client, sign_up
from usher_client import State, Usher
from usher_client.backend import Introspection


def socket_of(place: Place, client: Client, **more: Any) -> Usher:
    """A backend's own client, with the token of a user of its."""

    async def get_token(renew: bool) -> str:
        return str(client.token)

    return Usher(place.server.url, get_token=get_token, **more)


async def ended(usher: Usher) -> State:
    """How the connection was given up."""
    over: asyncio.Future[State] = asyncio.get_running_loop().create_future()

    def watcher(state: State) -> None:
        if state.name == "closed" and not over.done():
            over.set_result(state)

    watcher(usher.state)
    usher.watch(watcher)
    return await over


def log_out(place: Place, ada: Client) -> None:
    assert ada.post("/api/auth/logout").status == 204


def disable(place: Place, ada: Client) -> None:
    path = f"/api/admin/users/{ada.user['id']}"
    assert place.admin.call("PATCH", path, {"disabled": True}).status == 200


@pytest.mark.parametrize("end", [log_out, disable])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_end_of_a_users_socket_empties_the_memory_of_the_user(
    place: Place, run: Run[Any], end: Callable[[Place, Client], None], when: str
) -> None:
    ada, ben = sign_up(place.server), sign_up(place.server)

    async def work() -> None:
        checks = Introspection(place.server.url, place.key, cache_seconds=600.0)
        async with checks, socket_of(place, ada) as usher:
            if when == "before":
                checks.follow(usher)
            await usher.connect()
            if when == "after":
                checks.follow(usher)
            tokens = str(ada.token), place.app_token(ada), str(ben.token)
            first, second, other = [await checks.check(token) for token in tokens]
            assert first is not None
            assert second is not None
            over = asyncio.ensure_future(ended(usher))
            await asyncio.to_thread(end, place, ada)
            assert (await over).code == 4410
            assert await checks.check(tokens[0]) is None
            assert await checks.check(tokens[1]) is None
            assert await checks.check(tokens[2]) is other, "of others nothing is forgotten"

    run(work())


def test_a_line_that_is_lost_empties_it_too(place: Place, run: Run[Any]) -> None:
    ada = sign_up(place.server)

    async def work() -> None:
        checks = Introspection(place.server.url, place.key, cache_seconds=600.0)
        async with checks, socket_of(place, ada) as usher:
            checks.follow(usher)
            await usher.connect()
            known = await checks.check(str(ada.token))
            await usher.disconnect()
            again = await checks.check(str(ada.token))
            assert again is not known
            assert again == known

    run(work())


def test_it_can_be_ended(place: Place, run: Run[Any]) -> None:
    ada = sign_up(place.server)

    async def work() -> None:
        checks = Introspection(place.server.url, place.key, cache_seconds=600.0)
        async with checks, socket_of(place, ada) as usher:
            unfollow = checks.follow(usher)
            await usher.connect()
            known = await checks.check(str(ada.token))
            unfollow()
            unfollow()
            await usher.disconnect()
            assert await checks.check(str(ada.token)) is known

    run(work())


def test_a_watcher_that_fails_keeps_nothing_from_the_others(place: Place, run: Run[Any]) -> None:
    ada = sign_up(place.server)
    reported: list[str] = []

    def fail(_: State) -> None:
        raise RuntimeError("a mistake of the app's")

    async def work() -> None:
        async with socket_of(place, ada, on_state=fail) as usher:
            usher.watch(lambda state: reported.append(state.name))
            await usher.connect()
        assert reported == ["connecting", "joined", "closed"]

    run(work())
