"""A client that holds every answer against OpenAPI."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from tests.docs.documents import Json, fits
from tests.support.server import PASSWORD, Answer, Client


@dataclass
class Witness(Client):
    """A client that holds every answer against the document."""

    document: Json = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)
    refused: set[tuple[str, str]] = field(default_factory=set)
    """Good answers, and refusals, by path and method."""

    def call(self, method: str, path: str, *rest: Any, **more: Any) -> Answer:
        answer = super().call(method, path, *rest, **more)
        where = path.partition("?")[0]
        template = next(t for t in self.document["paths"] if self._is(t, where))
        described = self.document["paths"][template][method.lower()]
        self._check(described["responses"][str(answer.status)], answer)
        (self.seen if answer.status < 400 else self.refused).add((template, method.lower()))
        return answer

    def _is(self, template: str, path: str) -> bool:
        return re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path) is not None

    def _check(self, response: Json, answer: Answer) -> None:
        if "content" not in response:
            assert answer.text == b""
            return
        kind = answer.headers["Content-Type"].partition(";")[0]
        schema = response["content"][kind]["schema"]
        body = answer.body if "json" in kind else answer.text.decode()
        fits(body, schema, self.document)

    def again(self, **changes: Any) -> Witness:
        """Another client that notes in the same place."""
        return Witness(self.server, document=self.document, seen=self.seen, refused=self.refused)

    def sign(self, way: str, email: str, client: str = "native", status: int = 200) -> Witness:
        """Sign up or log in; returns the client who is that now."""
        new = self.again()
        new.browser = client == "browser"
        body = {"email": email, "password": PASSWORD, "name": "Ada", "client": client}
        answer = new.post(f"/api/auth/{way}", body)
        assert answer.status == status
        new.user = answer.body["user"]
        new.token = answer.body.get("access_token")
        new.refresh_token = answer.body.get("refresh_token")
        return new
