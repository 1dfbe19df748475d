"""A program that uses clients/python as it is installed: its arguments are URL, user and room."""

from __future__ import annotations

PROGRAM = """
import asyncio, sys
from usher_client import Usher, __version__
from usher_client.backend import AppTokens

async def main(url, email, password, name):
    async with Usher(url) as usher, AppTokens(url, "board") as apps:
        user = await usher.sign_in(email, password)
        await usher.connect()
        room = usher.room(name)
        await room.send("hello")
        message = await anext(room)
        caller = await apps.check(await usher.app_token("board"))
        print(__version__, message.data, message.sender.id == caller.id == user.id)

asyncio.run(main(*sys.argv[1:]))
"""
