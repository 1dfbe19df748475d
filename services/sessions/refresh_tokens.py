"""Decides whether a refresh token of a login session may be used, within the caller's transaction.

The tokens of a session are numbered in steps. The first has step 1, and each use issues one of the
next step. The session records the newest step that was used. These tokens are accepted:

- A token of the next step: the newest.
- A token of the current step, the one before the newest. The response with the newest may
  have been lost, and nothing shows yet that it arrived. Issuing another response invalidates the
  unused tokens of the first one.
- Any token for a short grace period after its first use: the tabs of one browser race.

Any other token was copied (RFC 9700 section 4.14.2). A thief and the owner cannot both go on: one
of them presents a token that the other's use has passed or invalidated, and the session ends.
"""

from __future__ import annotations

import peewee

from models.login_session import LoginSession, RefreshToken

REFRESH_GRACE_SECONDS = 10.0
"""Parallel tabs send the same cookie; each of them gets 200 this long."""
CLOCK_SKEW_SECONDS = 2.0
"""How far the clocks of nodes may be apart. A first use that lies further ahead was written before
a clock was set back: nothing is known of how long ago it was, so there is no grace."""


def step_of_next(
    db: peewee.Database, session: LoginSession, token: RefreshToken, at: float
) -> int | None:
    """Use a token. Gives the step of the token that takes its place; None for a copied one.

    Args:
        session: the token's, locked and alive.
        token: as it is behind that lock, not expired.
        at: epoch seconds, of a clock that is not set back.
    """
    racing = _is_lately(token.rotated_at, at)
    if not (racing or _is_newest(session, token) or _is_before_newest(session, token)):
        return None
    if token.rotated_at is None:
        _change(db, token, {RefreshToken.rotated_at: at})
    if token.step > session.step:
        changed = {LoginSession.step: token.step, LoginSession.step_at: at}
        LoginSession.update(changed).where(LoginSession.id == session.id).execute(db)
        return token.step + 1
    if not racing and not _is_lately(session.step_at, at):
        _replace(db, session)
    return session.step + 1


def _is_newest(session: LoginSession, token: RefreshToken) -> bool:
    # Also one of the session's own step: of two answers, the one that nobody came with yet.
    return token.rotated_at is None and token.step >= session.step and not token.replaced


def _is_before_newest(session: LoginSession, token: RefreshToken) -> bool:
    return token.rotated_at is not None and token.step == session.step


def _is_lately(then: float | None, at: float) -> bool:
    return then is not None and -CLOCK_SKEW_SECONDS <= at - then <= REFRESH_GRACE_SECONDS


def _replace(db: peewee.Database, session: LoginSession) -> None:
    """Make the tokens of an answer worthless that was lost, or went to somebody else."""
    unused = (
        (RefreshToken.session == session.id)
        & (RefreshToken.step == session.step + 1)
        & RefreshToken.rotated_at.is_null()
    )
    RefreshToken.update({RefreshToken.replaced: True}).where(unused).execute(db)


def _change(db: peewee.Database, token: RefreshToken, change: dict[object, object]) -> None:
    RefreshToken.update(change).where(RefreshToken.hash == token.hash).execute(db)
