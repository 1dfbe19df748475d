"""The errors, in one hierarchy.

UsherError
├── Misuse              a mistake of the app, which no retry can fix
├── Unreachable         no response, or one that is not from Usher (a proxy's page)
├── TimedOut            no reply in time; the request may have been processed
├── NotConnected        there is no joined socket
├── Busy                too many requests are waiting for their replies
├── TooBig              above 64 KiB
├── ConnectionEnded     the socket was closed; `end` says how
├── SignInRefused       a sign-in in the browser ended with an error
└── Refused             Usher refused the request
    ├── BadRequest      `message` names the invalid member
    ├── SignInNeeded    no credential, or one that is no longer valid
    │   └── SecondFactorNeeded
    ├── StepUpNeeded    a recent authentication is required
    ├── Forbidden       no right, or it does not exist
    ├── IdentityMismatch  the token belongs to another user or login session
    ├── NotFound
    ├── RateLimited     retry after `retry_after`
    └── Unavailable     a dependency is down; this says nothing about the credential
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Retry = Literal["never", "login", "refresh", "backoff"]


@dataclass(frozen=True)
class End:
    """How a connection, or an attempt to connect, ended.

    Args:
        code: a WebSocket close code.
        reason: a fixed word.
        retry: the retry class, if the server sent one.
        after: the pause that the server requests, in seconds.
    """

    code: int
    reason: str
    retry: Retry | None = None
    after: float = 0.0


class UsherError(Exception):
    """The base class of all errors.

    Attributes:
        code: a fixed word.
        status: the HTTP status, if there was one.
        retry_after: seconds, if the server sent it.
        end: how the connection ended, if that is the cause.
    """

    code = "error"

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        end: End | None = None,
    ) -> None:
        self.code = code or type(self).code
        super().__init__(message or self.code)
        self.status = status
        self.retry_after = retry_after
        self.end = end


class Misuse(UsherError):
    code = "misuse"


class Unreachable(UsherError):
    code = "unreachable"


class TimedOut(UsherError):
    code = "timeout"


class NotConnected(UsherError):
    code = "not_joined"


class Busy(UsherError):
    code = "busy"


class TooBig(UsherError):
    code = "too_big"


class ConnectionEnded(UsherError):
    code = "closed"


class SignInRefused(UsherError):
    code = "sign_in_refused"


class Refused(UsherError):
    code = "refused"


class BadRequest(Refused):
    code = "bad_request"


class SignInNeeded(Refused):
    code = "unauthenticated"


class SecondFactorNeeded(SignInNeeded):
    """The password was right. Continue with `Usher.second_factor(error, code)`.

    Attributes:
        methods: the accepted factors: `totp`, `recovery_code`, `passkey`.
    """

    code = "second_factor_needed"

    def __init__(self, message: str = "", **more: Any) -> None:
        super().__init__(message, **more)
        self.challenge = ""
        self.methods: tuple[str, ...] = ()


class StepUpNeeded(Refused):
    """A call or a room requires a recent authentication: see `Usher.step_up`.

    Attributes:
        methods: what is accepted: `password`, or `totp`, `recovery_code`, `passkey`; empty on the
            socket, and if only a new sign-in is accepted.
    """

    code = "step_up_needed"

    def __init__(self, message: str = "", **more: Any) -> None:
        super().__init__(message, **more)
        self.methods: tuple[str, ...] = ()


class Forbidden(Refused):
    code = "forbidden"


class IdentityMismatch(Refused):
    code = "identity_mismatch"


class NotFound(Refused):
    code = "not_found"


class RateLimited(Refused):
    code = "rate_limited"


class Unavailable(Refused):
    code = "unavailable"


BY_CODE: Mapping[str, type[Refused]] = {
    "bad_request": BadRequest,
    "unknown_event": BadRequest,
    "unauthenticated": SignInNeeded,
    "token_expired": SignInNeeded,
    "second_factor_needed": SecondFactorNeeded,
    "step_up_needed": StepUpNeeded,
    "forbidden": Forbidden,
    "origin_refused": Forbidden,
    "identity_mismatch": IdentityMismatch,
    "not_found": NotFound,
    "rate_limited": RateLimited,
    "unavailable": Unavailable,
}
"""The class of each error code of Usher; others are `Refused`."""
