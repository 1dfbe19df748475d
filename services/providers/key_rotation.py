"""Re-encrypts what is stored encrypted with the newest key while the server runs.

Rows are re-encrypted in small batches, without a lock in between: a row that was refreshed
meanwhile is encrypted with the newest key already and is skipped. The canary is re-encrypted last,
so an old key that is removed too early is still detected.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import peewee

from models.app_key import AppKey
from models.mail import OutgoingMail
from models.oauth_token import OAuthToken
from models.totp_secret import TotpSecret
from models.webhook import Webhook
from services.storage.database import Database
from services.storage.encryption import DecryptionFailed, Encryption, check_canary, rotate_canary

BATCH = 100
COLUMNS = ("access_token", "refresh_token", "id_token")


@dataclass
class Rotated:
    """The result of a rotation. `unreadable`: unchanged rows that no key fits."""

    rotated: int = 0
    unreadable: int = 0


async def rotate_keys(database: Database, encryption: Encryption) -> Rotated:
    """Re-encrypt every provider token, the secrets of authenticator apps and of webhooks, the key
    pairs of app tokens and the mails that wait with the newest key, and the canary when all are
    done.

    Raises:
        DecryptionFailed: the keys are not this installation's; nothing was changed.
        DatabaseUnavailable, Busy: as `Database.run`. Completed work stays; run it again.
    """
    if not await check_canary(database, encryption):
        raise DecryptionFailed("USHER_ENCRYPTION_KEYS do not fit what is stored")
    done, after = Rotated(), ""
    while True:
        page = await database.run(_page, after)
        if not page:
            break
        rotated, unreadable = await database.run(_rotate, encryption, page)
        done.rotated += rotated
        done.unreadable += unreadable
        after = page[-1]
    done.unreadable += await _rotate_totp(database, encryption)
    done.unreadable += await database.run(_rotate_app_keys, encryption)
    done.unreadable += await database.run(_rotate_webhooks, encryption)
    await database.run(_rotate_mails, encryption)
    if not done.unreadable:
        await rotate_canary(database, encryption)
    return done


def _page(db: peewee.Database, after: str) -> list[str]:
    query = OAuthToken.select(OAuthToken.id).where(OAuthToken.id > after)
    return [row.id for row in query.order_by(OAuthToken.id).limit(BATCH).execute(db)]


async def _rotate_totp(database: Database, encryption: Encryption) -> int:
    """Re-encrypt the secrets of authenticator apps. Returns how many no key fits."""
    unreadable, after = 0, ""
    while page := await database.run(_page_of_totp, after):
        unreadable += await database.run(_rotate_page_of_totp, encryption, page)
        after = page[-1]
    return unreadable


def _page_of_totp(db: peewee.Database, after: str) -> list[str]:
    query = TotpSecret.select(TotpSecret.user).where(TotpSecret.user > after)
    return [row.user_id for row in query.order_by(TotpSecret.user).limit(BATCH).execute(db)]


def _rotate_page_of_totp(db: peewee.Database, encryption: Encryption, ids: list[str]) -> int:
    unreadable = 0
    for row in TotpSecret.select().where(TotpSecret.user.in_(ids)).execute(db):
        try:
            new = encryption.rotate(row.secret)
        except DecryptionFailed:
            unreadable += 1
            continue
        same = (TotpSecret.user == row.user_id) & (TotpSecret.secret == row.secret)
        TotpSecret.update({TotpSecret.secret: new}).where(same).execute(db)
    return unreadable


def _rotate_app_keys(db: peewee.Database, encryption: Encryption) -> int:
    """Re-encrypt the few key pairs of app tokens. Returns how many no key fits."""
    unreadable = 0
    for row in AppKey.select().execute(db):
        try:
            new = encryption.rotate(row.private_key)
        except DecryptionFailed:
            unreadable += 1
            continue
        AppKey.update({AppKey.private_key: new}).where(AppKey.number == row.number).execute(db)
    return unreadable


def _rotate_webhooks(db: peewee.Database, encryption: Encryption) -> int:
    """Re-encrypt the few secrets of webhooks. Returns how many no key fits."""
    unreadable = 0
    for row in Webhook.select().where(Webhook.deleted_at.is_null()).execute(db):
        try:
            new = encryption.rotate(row.secret)
        except DecryptionFailed:
            unreadable += 1
            continue
        Webhook.update({Webhook.secret: new}).where(Webhook.id == row.id).execute(db)
    return unreadable


def _rotate_mails(db: peewee.Database, encryption: Encryption) -> None:
    """Re-encrypt the mails that wait. One that no key fits is of no use for longer than a day."""
    for row in OutgoingMail.select().execute(db):
        with suppress(DecryptionFailed):
            same = (OutgoingMail.id == row.id) & (OutgoingMail.sealed == row.sealed)
            OutgoingMail.update(sealed=encryption.rotate(row.sealed)).where(same).execute(db)


def _rotate(db: peewee.Database, encryption: Encryption, ids: list[str]) -> tuple[int, int]:
    """Re-encrypt a batch. Returns how many were re-encrypted, and how many no key fits."""
    rotated = unreadable = 0
    for row in OAuthToken.select().where(OAuthToken.id.in_(ids)).execute(db):
        old = {name: getattr(row, name) for name in COLUMNS}
        try:
            new = {name: text and encryption.rotate(text) for name, text in old.items()}
        except DecryptionFailed:
            unreadable += 1
            continue
        same = (
            (OAuthToken.id == row.id)
            & (OAuthToken.version == row.version)
            & (OAuthToken.access_token == row.access_token)
        )
        rotated += int(OAuthToken.update(new).where(same).execute(db))
    return rotated, unreadable
