"""What can go wrong, as one tree.

UsherError
├── Misuse              cannot work however often it is tried
├── Unreachable         no answer, or one that is not Usher's own (a proxy's page)
├── TimedOut            no reply in time; what was asked may have happened
├── NotConnected        there is no joined socket
├── Busy                too many requests wait for their replies
├── TooBig              above 64 KiB
├── ConnectionEnded     the socket was closed; `end` says how
├── SignInRefused       a sign-in in the browser came back with an error
└── Refused             Usher's own answer
    ├── BadRequest      `message` names the member that is wrong
    ├── SignInNeeded    no credential, or one that is good no more
    │   └── SecondFactorNeeded
    ├── StepUpNeeded    a proof of who one is, made lately, is asked for
    ├── Forbidden       no right; it may also not exist
    ├── IdentityMismatch  the token is another user's or login session's
    ├── NotFound
    ├── RateLimited     `retry_after` says when to come back
    └── Unavailable     nobody can say now; it says nothing of the credential
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Retry = Literal["never", "login", "refresh", "backoff"]


@dataclass(frozen=True)
class End:
    """How a connection, or the attempt at one, ended.

    Args:
        code: a WebSocket close code.
        reason: a machine word.
        retry: the server's own word for what may follow, where it gave one.
        after: seconds that the server asks to wait.
    """

    code: int
    reason: str
    retry: Retry | None = None
    after: float = 0.0


class UsherError(Exception):
    """Something went wrong.

    Attributes:
        code: a machine word.
        status: the HTTP status, where there was one.
        retry_after: seconds, where the server said so.
        end: how the connection ended, where that is what happened.
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
    """The password was right. Answer with `Usher.second_factor(error, code)`.

    Attributes:
        methods: what may answer: `totp`, `recovery_code`, `passkey`.
    """

    code = "second_factor_needed"

    def __init__(self, message: str = "", **more: Any) -> None:
        super().__init__(message, **more)
        self.challenge = ""
        self.methods: tuple[str, ...] = ()


class StepUpNeeded(Refused):
    """An act or a room asks for a fresh proof of who the user is: see `Usher.step_up`.

    Attributes:
        methods: what proves it: `password`, or `totp`, `recovery_code`, `passkey`; empty where only
            another sign-in does, and on the socket.
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
"""The error of each code that Usher answers with; of any other: Refused."""
