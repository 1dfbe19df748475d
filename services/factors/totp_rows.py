"""Secrets of authenticator apps (RFC 6238), within the caller's transaction.

A code is accepted one time step early or late (section 5.2), and once: the step of the newest
accepted code is stored, and codes of that step or earlier ones are refused. One UPDATE compares and
stores it, so of any number of parallel attempts on any number of nodes one succeeds.
"""

from __future__ import annotations

import re

import peewee
import pyotp
from pyotp.exceptions import OTPVerificationError

from models.totp_secret import RecoveryCode, TotpSecret
from services.errors import Unavailable
from services.factors import recovery_rows
from services.storage.encryption import DecryptionFailed, Encryption

SKEW_STEPS = 1
_CODE = re.compile(r"[0-9]{6}")


def spoken(code: str) -> str:
    """Remove the spaces that apps show and users type."""
    return re.sub(r"[\s-]", "", code)


def is_totp(code: str) -> bool:
    """Whether a text has the form of a code of an authenticator app, not of a recovery code."""
    return _CODE.fullmatch(spoken(code)) is not None


def begin(db: peewee.Database, user_id: str, ciphertext: str, now: float) -> bool:
    """Store a secret that is not active yet. It replaces an earlier one that is not active.

    Returns:
        False if the user has an active one.
    """
    TotpSecret.delete().where(
        (TotpSecret.user == user_id) & TotpSecret.confirmed_at.is_null()
    ).execute(db)
    row = {"user": user_id, "secret": ciphertext, "created_at": now}
    made = TotpSecret.insert(row).on_conflict_ignore().returning(TotpSecret.user).execute(db)
    return bool(list(made))


def confirm(
    db: peewee.Database, encryption: Encryption, user_id: str, code: str, now: float
) -> tuple[str, ...] | None:
    """Activate a secret with its first code.

    Returns:
        New recovery codes; None if the code is wrong, or no secret is waiting for one.

    Raises:
        Unavailable: no encryption key can decrypt the secret.
    """
    waiting = (TotpSecret.user == user_id) & TotpSecret.confirmed_at.is_null()
    row = TotpSecret.select().where(waiting).get_or_none(db)
    step = None if row is None else _step_of(_opened(encryption, row), code, now)
    if row is None or step is None:
        return None
    same = waiting & (TotpSecret.secret == row.secret)
    change = {TotpSecret.confirmed_at: now, TotpSecret.last_step: step}
    if not TotpSecret.update(change).where(same).execute(db):
        return None  # another was faster
    return recovery_rows.replace(db, user_id)


def use(db: peewee.Database, encryption: Encryption, user_id: str, code: str, now: float) -> bool:
    """Use a code up. Returns False if it is wrong or was used, or the user has no active secret.

    Raises:
        Unavailable: no encryption key can decrypt the secret.
    """
    row = in_use(db, user_id)
    step = None if row is None else _step_of(_opened(encryption, row), code, now)
    if row is None or step is None:
        return False
    unused = (TotpSecret.user == user_id) & (TotpSecret.last_step < step)
    same = unused & (TotpSecret.created_at == row.created_at)
    return bool(TotpSecret.update({TotpSecret.last_step: step}).where(same).execute(db))


def in_use(db: peewee.Database, user_id: str) -> TotpSecret | None:
    """The user's secret, if it is active."""
    confirmed = (TotpSecret.user == user_id) & TotpSecret.confirmed_at.is_null(False)
    return TotpSecret.select().where(confirmed).get_or_none(db)


def remove(db: peewee.Database, user_id: str) -> bool:
    """Delete the secret and the recovery codes. Returns whether a secret was active."""
    was = in_use(db, user_id) is not None
    TotpSecret.delete().where(TotpSecret.user == user_id).execute(db)
    RecoveryCode.delete().where(RecoveryCode.user == user_id).execute(db)
    return was


def _opened(encryption: Encryption, row: TotpSecret) -> pyotp.TOTP:
    try:
        return pyotp.TOTP(encryption.decrypt(row.secret).decode("ascii"))
    except DecryptionFailed as error:
        raise Unavailable("totp: no encryption key can decrypt a secret") from error


def _step_of(totp: pyotp.TOTP, code: str, now: float) -> int | None:
    if not is_totp(code):
        return None
    try:
        # Never before 1970, whatever the clock says: pyotp refuses negative steps.
        at = max(now, float(totp.interval * SKEW_STEPS))
        return totp.verify_and_get_timecode(spoken(code), for_time=at, valid_window=SKEW_STEPS)
    except OTPVerificationError:
        return None
