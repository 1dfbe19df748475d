"""The Python client of Usher.

`Usher` is for apps and command-line programs: signing in, connecting, and using rooms.
`usher_client.backend` is for backends: identifying callers, and publishing to users.
"""

from __future__ import annotations

from usher_client.client import Options, Usher
from usher_client.errors import (
    BadRequest,
    Busy,
    ConnectionEnded,
    End,
    Forbidden,
    IdentityMismatch,
    Misuse,
    NotConnected,
    NotFound,
    RateLimited,
    Refused,
    SecondFactorNeeded,
    SignInNeeded,
    SignInRefused,
    StepUpNeeded,
    TimedOut,
    TooBig,
    Unavailable,
    Unreachable,
    UsherError,
)
from usher_client.events import (
    Event,
    Gap,
    History,
    Message,
    People,
    Presence,
    Session,
    Typing,
    User,
)
from usher_client.http import Answer
from usher_client.life import State
from usher_client.rooms import Room
from usher_client.version import __version__

__all__ = [
    "Answer",
    "BadRequest",
    "Busy",
    "ConnectionEnded",
    "End",
    "Event",
    "Forbidden",
    "Gap",
    "History",
    "IdentityMismatch",
    "Message",
    "Misuse",
    "NotConnected",
    "NotFound",
    "Options",
    "People",
    "Presence",
    "RateLimited",
    "Refused",
    "Room",
    "SecondFactorNeeded",
    "Session",
    "SignInNeeded",
    "SignInRefused",
    "State",
    "StepUpNeeded",
    "TimedOut",
    "TooBig",
    "Typing",
    "Unavailable",
    "Unreachable",
    "User",
    "Usher",
    "UsherError",
    "__version__",
]
