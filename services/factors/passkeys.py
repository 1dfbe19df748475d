"""Passkeys (WebAuthn): registering, listing, and using them for sign-in, second factor and step-up.

A passkey with user verification (a fingerprint, a PIN) counts as two factors. Without it, it counts
as one, and an account with an authenticator app requires the second factor.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import msgspec
import peewee

from models.passkey import Passkey
from models.user import User
from services.accounts.display_names import checked_text
from services.claims import Acr
from services.errors import NotFound, PasskeyCopied, PasskeyRefused, TooManyPasskeys
from services.factors import ceremonies
from services.factors.ceremonies import Json, RelyingParty
from services.factors.webauthn_challenges import WebAuthnChallenges
from services.mail_outbox import NO_MAILS, LetterKind, Mails
from services.sessions import session_rows
from services.storage.database import Database

MAX_PASSKEYS = 20
"""Of one account."""
MAX_NAME_LENGTH = 60
DEFAULT_NAME = "Passkey"
SIGN_IN = "sign in"


class PasskeyRow(msgspec.Struct, frozen=True):
    """A passkey, as shown to its user. Times are epoch seconds. `synced`: whether its provider may
    copy it to other devices of the user."""

    id: str
    name: str
    created_at: float
    last_used_at: float | None
    synced: bool


class Assertion(msgspec.Struct, frozen=True):
    """A signature of a passkey, verified and not used yet.

    Attributes:
        acr: "2" with user verification.
    """

    passkey_id: str
    user_id: str
    challenge: bytes
    sign_count: int
    acr: Acr


class Passkeys:
    """Registers passkeys, and verifies their signatures.

    Args:
        clock: epoch seconds.
    """

    def __init__(
        self,
        database: Database,
        challenges: WebAuthnChallenges,
        mails: Mails = NO_MAILS,
        clock: Callable[[], float] = time.time,
        on_copied: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._database, self._challenges = database, challenges
        self._mails, self._clock, self._on_copied = mails, clock, on_copied

    # ---- the user's own --------------------------------------------------------------------

    async def of(self, user_id: str) -> list[PasskeyRow]:
        """The passkeys of a user, oldest first."""

        def work(db: peewee.Database) -> list[PasskeyRow]:
            query = Passkey.select().where(Passkey.user == user_id)
            return [_shown(row) for row in query.order_by(Passkey.created_at).execute(db)]

        return await self._database.run(work)

    async def creation_options(self, party: RelyingParty, user_id: str, sid: str) -> Json:
        """Options for a new passkey.

        Args:
            sid: the login session; the response has to come from the same one.

        Raises:
            NotFound: the account is deleted.
            TooManyPasskeys: the user has reached the limit.
        """

        def work(db: peewee.Database) -> tuple[User, list[str]]:
            user = User.select().where(User.id == user_id).get_or_none(db)
            if user is None:
                raise NotFound("account gone")
            query = Passkey.select(Passkey.credential_id).where(Passkey.user == user_id)
            return user, [row.credential_id for row in query.execute(db)]

        user, known = await self._database.run(work)
        if len(known) >= MAX_PASSKEYS:
            raise TooManyPasskeys("passkeys: the limit is reached")
        challenge = self._challenges.make(_registering(user_id, sid))
        return ceremonies.creation_options(
            party, challenge, user_id, str(user.email), str(user.name), known
        )

    async def register(
        self, party: RelyingParty, user_id: str, sid: str, credential: Json, name: str
    ) -> PasskeyRow:
        """Store a new passkey.

        Raises:
            BadRequest: the name is too long, or has invisible characters.
            PasskeyRefused: the credential is not for options of this login session, or is already
                registered.
            TooManyPasskeys: the user has reached the limit.
            Unauthenticated: the login session ended meanwhile.
        """
        shown = checked_text(name, "name", MAX_NAME_LENGTH) if name.strip() else DEFAULT_NAME
        challenge = ceremonies.challenge_of(credential)
        if not self._challenges.is_valid(challenge, _registering(user_id, sid)):
            raise PasskeyRefused("passkey: a challenge that is not one of ours, or too old")
        made = ceremonies.verify_registration(party, credential, challenge)
        row = {
            "id": secrets.token_urlsafe(12),
            "user": user_id,
            "name": shown,
            "created_at": self._clock(),
            **msgspec.structs.asdict(made),
        }

        def work(db: peewee.Database) -> Passkey:
            user = session_rows.acting_user(db, user_id, sid, self._clock())
            if not self._challenges.use(db, challenge):
                raise PasskeyRefused("passkey: the challenge was used")
            if Passkey.select().where(Passkey.user == user_id).count(db) >= MAX_PASSKEYS:
                raise TooManyPasskeys("passkeys: the limit is reached")
            added = Passkey.insert(row).on_conflict_ignore().returning(Passkey.id).execute(db)
            if not list(added):
                raise PasskeyRefused("passkey: registered already")
            self._mails.enqueue(db, "passkey_added", user.email, {})
            return Passkey.select().where(Passkey.id == row["id"]).get(db)

        return _shown(await self._database.run(work))

    async def rename(self, user_id: str, passkey_id: str, name: str) -> PasskeyRow:
        """Rename a passkey.

        Raises:
            BadRequest: the name is empty, too long, or has invisible characters.
            NotFound: the user has no such passkey.
        """
        shown = checked_text(name, "name", MAX_NAME_LENGTH)

        def work(db: peewee.Database) -> Passkey:
            mine = (Passkey.id == passkey_id) & (Passkey.user == user_id)
            Passkey.update({Passkey.name: shown}).where(mine).execute(db)
            row = Passkey.select().where(mine).get_or_none(db)
            if row is None:
                raise NotFound("no such passkey")
            return row

        return _shown(await self._database.run(work))

    async def remove(self, user_id: str, passkey_id: str) -> None:
        """Remove a passkey.

        Raises:
            NotFound: the user has no such passkey.
        """

        def work(db: peewee.Database) -> None:
            mine = (Passkey.id == passkey_id) & (Passkey.user == user_id)
            if not Passkey.delete().where(mine).execute(db):
                raise NotFound("no such passkey")
            write_mail(db, self._mails, user_id, "passkey_removed")

        await self._database.run(work)

    # ---- authenticating --------------------------------------------------------------------

    def request_options(self, party: RelyingParty) -> Json:
        """Options for signing in, as second factor, and for step-up. Nothing is stored."""
        return ceremonies.request_options(party, self._challenges.make(SIGN_IN))

    async def verify(self, party: RelyingParty, credential: Json) -> Assertion:
        """Verify a signature. It counts once `use` has succeeded.

        Raises:
            PasskeyRefused: whatever is wrong with it.
        """
        challenge = ceremonies.challenge_of(credential)
        if not self._challenges.is_valid(challenge, SIGN_IN):
            raise PasskeyRefused("passkey: a challenge that is not one of ours, or too old")
        same = Passkey.credential_id == ceremonies.id_of(credential)
        row = await self._database.run(Passkey.select().where(same).get_or_none)
        if row is None:
            raise PasskeyRefused("passkey: unknown")
        handle = ceremonies.user_handle_of(credential)
        if handle not in (None, row.user_id):
            raise PasskeyRefused("passkey: of another user handle")
        found = ceremonies.verify_assertion(
            party, credential, challenge, row.public_key, row.backup_eligible
        )
        acr: Acr = "2" if found.user_verified else "1"
        return Assertion(row.id, row.user_id, challenge, found.sign_count, acr)

    def use(self, db: peewee.Database, asserted: Assertion) -> None:
        """Use a signature up within the caller's transaction.

        Raises:
            PasskeyRefused: its challenge was used, or the passkey was removed.
            PasskeyCopied: its counter decreased, so there may be a copy of it (WebAuthn Level 2
                section 6.1.1). The passkey is not deleted.
        """
        if not self._challenges.use(db, asserted.challenge):
            raise PasskeyRefused("passkey: the challenge was used")
        same = (Passkey.id == asserted.passkey_id) & (Passkey.user == asserted.user_id)
        later = Passkey.sign_count < asserted.sign_count
        if asserted.sign_count == 0:
            later = Passkey.sign_count == 0
        change = {
            Passkey.sign_count: asserted.sign_count,
            Passkey.last_used_at: self._clock(),
        }
        if Passkey.update(change).where(same & later).execute(db):
            return
        if not Passkey.select().where(same).exists(db):
            raise PasskeyRefused("passkey: removed meanwhile")
        refused = PasskeyCopied("passkey: its counter went back")
        refused.about = asserted.user_id
        self._on_copied(asserted.user_id, asserted.passkey_id)
        raise refused


def write_mail(db: peewee.Database, mails: Mails, user_id: str, kind: LetterKind) -> None:
    """Write a mail to a user, within the caller's transaction."""
    email = User.select(User.email).where(User.id == user_id).scalar(db)
    if email is not None:
        mails.enqueue(db, kind, email, {})


def _registering(user_id: str, sid: str) -> str:
    return f"register {user_id} {sid}"


def _shown(row: Passkey) -> PasskeyRow:
    return PasskeyRow(row.id, row.name, row.created_at, row.last_used_at, row.backup_eligible)
