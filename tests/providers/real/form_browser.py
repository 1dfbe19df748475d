"""A browser without scripts: it follows redirects, keeps cookies and fills in forms."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import requests

SECONDS = 20.0
_BUTTONS = ("submit", "image", "button")


@dataclass
class Form:
    """A form of a page. `buttons`: names and values of what submits it."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Page:
    """Where the browser is."""

    url: str
    status: int
    text: str
    forms: list[Form]

    def form(self, *names: str) -> Form | None:
        """The first form that has all of these fields, or buttons called so."""
        for form in self.forms:
            if set(names) <= {*form.fields, *(name for name, _ in form.buttons)}:
                return form
        return None


class FormBrowser:
    """One browser, with cookies of its own."""

    def __init__(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["User-Agent"] = "usher-tests"

    def open(self, url: str) -> Page:
        return self._page(self._session.get(url, timeout=SECONDS))

    def submit(
        self, page: Page, form: Form, values: dict[str, str], button: str | None = None
    ) -> Page:
        """Fill a form in and send it off.

        Args:
            button: the name, or the value, of the button to press; None for the first one.
        """
        pressed = next((each for each in form.buttons if button in (None, *each)), None)
        sent = {**form.fields, **values, **(dict([pressed]) if pressed and pressed[0] else {})}
        url = urljoin(page.url, form.action or page.url)
        headers = {"Referer": page.url}
        if form.method == "get":
            return self._page(self._session.get(url, params=sent, timeout=SECONDS))
        return self._page(self._session.post(url, data=sent, headers=headers, timeout=SECONDS))

    def call(self, method: str, url: str, origin: str, body: Any = None) -> requests.Response:
        """What a script on a page of this origin sends, with the cookies."""
        return self._session.request(
            method, url, json=body, headers={"Origin": origin}, timeout=SECONDS
        )

    def _page(self, answer: requests.Response) -> Page:
        reader = _Reader()
        reader.feed(answer.text)
        return Page(answer.url, answer.status_code, answer.text, reader.forms)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._button: tuple[str, str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(found.get("action", ""), found.get("method", "get").lower()))
        elif not self.forms:
            return
        elif tag == "button" or (tag == "input" and found.get("type") in _BUTTONS):
            self.forms[-1].buttons.append((found.get("name", ""), found.get("value", "")))
        elif tag in ("input", "textarea", "select") and found.get("name"):
            self._field(found)

    def _field(self, found: dict[str, str]) -> None:
        box = found.get("type") in ("checkbox", "radio")
        if not box or "checked" in found:
            self.forms[-1].fields[found["name"]] = found.get("value", "on" if box else "")
