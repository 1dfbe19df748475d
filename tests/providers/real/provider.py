"""The interface of a real provider for the flows: its URL, and how a user signs in and out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from tests.providers.real.form_browser import FormBrowser, Page
from tests.providers.real.workplace import Workplace

NAME = "real"
"""What Usher calls it."""
EMAIL, PASSWORD = "ada@example.org", "a quiet heron at dusk 7"
TOKEN_SECONDS = 20
"""How long its access tokens live, where that can be set: Usher refreshes at half of it."""


class RealProvider(ABC):
    """A provider, as its makers publish it.

    Attributes:
        title: as its makers write it.
        package: with the version, as in its registry.
        client: what was registered, for the table.
        settings: Usher's settings in addition to issuer, client and secret.
        email: of the person there.
        has_backchannel: whether it sends logout tokens, here.
        no_backchannel: why not.
        tries: sign-ins before one has to succeed.
    """

    title: ClassVar[str]
    package: ClassVar[str]
    client: ClassVar[str]
    settings: ClassVar[dict[str, str]] = {}
    email: ClassVar[str] = EMAIL
    has_backchannel: ClassVar[bool] = False
    no_backchannel: ClassVar[str] = "has none"
    tries: ClassVar[int] = 1
    client_id, client_secret = "usher", "a-secret-of-the-tests-32-bytes-long"

    def __init__(self, place: Workplace, port: int, usher: str) -> None:
        self.place, self.port, self.usher = place, port, usher
        self.origin = f"http://127.0.0.1:{port}"
        self.issuer = self.origin
        self.redirect_uri = f"{usher}/oauth/{NAME}/callback"
        self.backchannel_uri = f"{usher}/oauth/{NAME}/backchannel-logout"
        self.after_logout = f"{usher}/"

    @abstractmethod
    def start(self) -> None:
        """Install it and run it, with one person and one client."""

    @abstractmethod
    def sign_in(self, browser: FormBrowser, page: Page) -> Page:
        """Answer whatever it asks of the person, up to the page of Usher's."""

    def confirm_logout(self, browser: FormBrowser, page: Page) -> Page:
        """Answer what it asks of who signs out."""
        return page

    def sign_out(self, browser: FormBrowser) -> None:
        """Sign out there, without a word to Usher."""
        raise NotImplementedError
