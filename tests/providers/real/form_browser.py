"""A browser without scripts: it follows redirects, keeps cookies and fills in forms."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode, urljoin

import requests

SECONDS = 20.0
MOST_REDIRECTS = 30
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
    """One browser, with cookies of its own. All its sites are on this machine, and browsers do not
    tell ports apart; a Domain that is an address is that address alone."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}

    def open(self, url: str) -> Page:
        return self._followed("GET", url)

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
        if form.method == "get":
            return self._followed("GET", f"{url.partition('?')[0]}?{urlencode(sent)}")
        return self._followed("POST", url, data=sent, headers={"Referer": page.url})

    def call(self, method: str, url: str, origin: str, body: Any = None) -> requests.Response:
        """What a script on a page of this origin sends, with the cookies."""
        return self._sent(method, url, json=body, headers={"Origin": origin})

    def _followed(self, method: str, url: str, **more: Any) -> Page:
        answer = self._sent(method, url, **more)
        for _ in range(MOST_REDIRECTS):
            if not answer.is_redirect:
                break
            answer = self._sent("GET", urljoin(answer.url, answer.headers["Location"]))
        reader = _Reader()
        reader.feed(answer.text)
        return Page(answer.url, answer.status_code, answer.text, reader.forms)

    def _sent(self, method: str, url: str, **more: Any) -> requests.Response:
        headers = {"User-Agent": "usher-tests", **more.pop("headers", {})}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        answer = requests.request(
            method, url, headers=headers, allow_redirects=False, timeout=SECONDS, **more
        )
        for line in answer.raw.headers.getlist("Set-Cookie"):
            self._keep(line)
        return answer

    def _keep(self, line: str) -> None:
        pair, *attributes = (part.strip() for part in line.split(";"))
        name, _, value = pair.partition("=")
        reported = dict(each.lower().partition("=")[::2] for each in attributes)
        ended = reported.get("max-age", "1").lstrip("-") == "0" or "1970" in reported.get(
            "expires", ""
        )
        if ended or not value:
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = value


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
