"""Which URLs and addresses webhooks are delivered to."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from services.webhooks.addresses import AddressRefused, GuardedResolver, is_public, why_not
from tests.support.server import PATIENCE


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::1",
        "feff:ffff::1",
        "::ffff:0:7f00:1",
        "100::1",
        "5f00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2001:db8::1",
    ],
)
def test_an_address_that_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"],
)
def test_an_address_that_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://",
        "https:///x",
        "https://user:word@example.com/",
        "https://@example.com/",
        "https://example.com/#x",
        "https://example.com\\@10.0.0.1/",
        "https://exa mple.com/",
        "https://example.com/ä",
        "https://example.com:99999/",
        "https://[::1/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://localhost/",
        "https://a.localhost./",
        "https://example.com/" + "x" * 2048,
        "x",
        "",
    ],
)
def test_a_url_that_is_not_accepted(url: str) -> None:
    assert why_not(url, private=False)


def test_urls_that_are_accepted() -> None:
    assert why_not("https://example.com:8443/a?b=c", private=False) is None
    for url in ("http://127.0.0.1:9/x", "https://localhost/", "http://receiver/"):
        assert why_not(url, private=True) is None
    assert why_not("ftp://127.0.0.1/", private=True)
    assert why_not("http://user@127.0.0.1/", private=True)


@pytest.mark.gen_test
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "2130706433", "0x7f.1"])
async def test_what_a_name_leads_to_is_what_counts(host: str) -> None:
    guarded, open_ = (
        GuardedResolver(private=False, threads=1),
        GuardedResolver(private=True, threads=1),
    )
    try:
        with pytest.raises(AddressRefused):
            await guarded.resolve(host, 80)
        found = await open_.resolve(host, 80)
        assert {address[0] for _, address in found} <= {"127.0.0.1", "::1"}
    finally:
        guarded.close()
        open_.close()


@pytest.mark.gen_test
async def test_a_name_server_that_does_not_answer_blocks_no_other_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent, look_up = threading.Event(), socket.getaddrinfo

    def some_hang(host: str, *args: Any) -> Any:
        if host == "silent.example":
            silent.wait(PATIENCE * 3)
            raise socket.gaierror("no answer")
        return look_up(host, *args)

    monkeypatch.setattr(socket, "getaddrinfo", some_hang)
    resolver = GuardedResolver(private=True, threads=2)
    try:
        for _ in range(3):  # attempts that end, whose look-ups cannot be
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(resolver.resolve("silent.example", 443), 0.05)
        waiting = asyncio.ensure_future(resolver.resolve("silent.example", 443))
        found = await asyncio.wait_for(resolver.resolve("127.0.0.1", 80), PATIENCE / 4)
        assert [address[0] for _, address in found] == ["127.0.0.1"]
        silent.set()
        with pytest.raises(socket.gaierror):
            await waiting
        with pytest.raises(socket.gaierror):  # it is asked again
            await resolver.resolve("silent.example", 443)
    finally:
        silent.set()
        resolver.close()
