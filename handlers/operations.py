"""Describes the parameters and responses of a call, to check requests and for OpenAPI."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from services.accounts.api_key_rows import Scope
from services.errors import RateLimited, StepUpNeeded, UsherError

Access = Literal[
    "anyone",
    "user",
    "admin",
    "publish",
    "disconnect",
    "read",
    "introspect",
    "channels",
    "users",
    "directory",
]
"""From `publish` on an API key may call too; see KEY_SCOPES."""
KEY_SCOPES: dict[Access, tuple[Scope, ...]] = {
    "publish": ("publish",),
    "disconnect": ("disconnect",),
    "read": ("read",),
    "introspect": ("introspect",),
    "channels": ("channels",),
    "users": ("users",),
    "directory": ("read", "users"),
}
"""The scopes of which an API key needs one."""
USERS_MAY: frozenset[Access] = frozenset(("user", "channels"))
"""Without being an administrator."""
ADMIN_CHANGES: frozenset[Access] = frozenset(("admin", "users", "disconnect"))
"""Changes under these need a step-up of the administrator, unless they say otherwise."""
Shows = Literal["access", "refresh"]

PATH_SEGMENT = "[A-Za-z0-9_-]{1,64}"
"""What a name in braces stands for in a path."""
OPEN_SEGMENTS = {"model_id": "[^/?#]{1,128}"}
"""Names that are not ours to give: percent-encoded where they need it."""


def segment(name: str) -> str:
    """The regular expression of a path parameter."""
    return OPEN_SEGMENTS.get(name, PATH_SEGMENT)


class Accepted(msgspec.Struct, frozen=True):
    """The response `{}` to a call that is processed in the background."""


ACCEPTED = Accepted()


class Operation(msgspec.Struct, frozen=True):
    """One method of one route.

    Attributes:
        summary: one sentence.
        access: who may call it.
        body: the type of the JSON body, if any.
        status: the status of the successful response.
        answer: the type of the successful response, if it has a body.
        errors: errors of this call, in addition to those of every call.
        query: query parameters and what they mean.
        media_type: of the successful response.
        unready: the type of a 503 response that is not a problem document, if any.
        shows: the token that the call reads, if `access` does not imply it.
        ok_answer: the type of a 200 response that is sent instead of `status` if returned.
        form: fields of a form that is sent instead of JSON, and what they mean.
        headers: header parameters and what they mean.
        audit: the kind of its entry in the audit trail. Administrators' calls always have one.
        accepts: whether it may be answered with 202 and `{}`, if `ACCEPTED` is returned.
        step_up: whether the user must have proved lately who they are. API keys need not.
    """

    summary: str
    access: Access
    body: Any
    status: int
    answer: Any
    errors: tuple[type[UsherError], ...]
    query: dict[str, str]
    media_type: str
    unready: Any
    shows: Shows | None
    ok_answer: Any
    form: dict[str, str]
    audit: str = ""
    headers: dict[str, str] = {}
    step_up: bool = False
    accepts: bool = False


def operation(
    summary: str,
    *,
    access: Access = "user",
    body: Any = None,
    status: int = 200,
    answer: Any = None,
    errors: tuple[type[UsherError], ...] = (),
    query: dict[str, str] | None = None,
    media_type: str = "application/json",
    unready: Any = None,
    shows: Shows | None = None,
    ok_answer: Any = None,
    form: dict[str, str] | None = None,
    audit: str = "",
    headers: dict[str, str] | None = None,
    step_up: bool | None = None,
    accepts: bool = False,
) -> Callable[[Callable[..., Awaitable[object]]], Callable[..., Awaitable[None]]]:
    """Turn a handler's method into an operation: the caller is checked first, then the body.

    The method receives the path's arguments, then the decoded body, and returns the response.
    `self.identity` is the caller, if the operation needs one. Changes by administrators need a
    step-up by themselves, other acts where `step_up` says so; a method that needs one in some cases
    only calls `await self.require_step_up()`, and has `StepUpNeeded` among its errors.
    """
    decoder = None if body is None else msgspec.json.Decoder(body)

    def decorate(method: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(method)
        async def run(handler: Any, *path: str) -> None:
            try:
                await answered(handler, *path)
            except RateLimited:
                await handler.hold_back()
                raise

        changes_as_admin = access in ADMIN_CHANGES and method.__name__ != "get"
        needs_step_up = changes_as_admin if step_up is None else step_up
        described = Operation(
            summary,
            access,
            body,
            status,
            answer,
            (*errors, StepUpNeeded) if needs_step_up else errors,
            query or {},
            media_type,
            unready,
            shows or (None if access == "anyone" else "access"),
            ok_answer,
            form or {},
            audit,
            headers or {},
            needs_step_up,
            accepts,
        )

        async def answered(handler: Any, *path: str) -> None:
            handler.acting()
            await handler.admit(access)
            if needs_step_up:
                await handler.require_step_up()
            arguments = path if decoder is None else (*path, handler.decoded_body(decoder))
            result = await method(handler, *arguments)
            if isinstance(result, Accepted):
                handler.answer(202, result)
                return
            handler.audit_operation(described, result)
            handler.answer(200 if ok_answer is not None and result is not None else status, result)

        run.operation = described  # type: ignore[attr-defined]  # read by handlers/reference/openapi.py
        return run

    return decorate
