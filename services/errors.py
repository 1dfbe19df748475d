"""All errors of Usher, as one tree.

    UsherError
    ├── SettingError            stops the start: one line on stderr, exit status 2
    ├── BadRequest         400  bad_request
    │   ├── UnknownEvent   400  unknown_event, on a socket
    │   └── WeakPassword   400  weak_password, with suggestions
    ├── Unauthenticated    401  unauthenticated
    │   ├── SecondFactorNeeded 401 second_factor_needed, with challenge and methods
    │   ├── WrongFactor    401  wrong_code: of a sign-in, which can be tried again
    │   └── TokenExpired   401  token_expired: genuine, but expired
    ├── StepUpNeeded       401  step_up_needed: signed in, but not lately or by one factor
    ├── Forbidden          403  forbidden
    │   ├── WrongPassword  403  wrong_password
    │   ├── WrongCode      403  wrong_code: a second factor
    │   ├── PasskeyRefused 403  passkey_refused
    │   │   └── PasskeyCopied
    │   ├── ReauthenticationNeeded 403 reauthentication_needed
    │   ├── OriginRefused  403  origin_refused
    │   ├── LinkRefused    403  link_refused
    │   ├── EmailUnverified 403 email_unverified
    │   ├── SignupClosed   403  signup_closed
    │   ├── InvitationNeeded 403 invitation_needed
    │   ├── InvitationRefused 403 invitation_refused
    │   ├── EmailDomainRefused 403 email_domain_refused
    │   └── IdentityMismatch 403 identity_mismatch: another user's or session's token
    ├── NotFound           404  not_found
    ├── Conflict           409  conflict
    │   ├── SignupRefused  409  signup_refused
    │   ├── EmailTaken     409  email_taken: for callers who may look up addresses
    │   ├── AccountDisabled 409 account_disabled
    │   ├── LastAdmin      409  last_admin
    │   ├── FactorInUse    409  factor_in_use
    │   ├── TooManyPasskeys 409 too_many
    │   ├── NoRelyingParty 409  no_rp_id: passkeys do not work at this address
    │   ├── TooManyChannels 409 too_many: channels owned, or memberships given
    │   └── OwnerStays     409  owner_stays
    ├── TooLarge           413  too_large
    ├── HeadersTooLarge    431  headers_too_large
    ├── RateLimited        429  rate_limited
    └── Unavailable        503  unavailable
        ├── DatabaseUnavailable
        ├── StoreUnavailable
        └── Busy

`code` and `title` are for the client and never say which part of a credential
was wrong (ASVS 2.2.x, RFC 9457). `evidence` is for the log: it names the part,
and must hold no secret and no e-mail address.
"""

from __future__ import annotations

from math import ceil

from services.claims import Acr, Claims


class UsherError(Exception):
    """Base class of all errors.

    Args:
        evidence: what happened, for the log only; no secrets, no e-mail addresses.
        **public: extra members of the problem document that the client may see.
    """

    status = 500
    code = "internal"
    title = "Something went wrong on our side."
    about = ""
    """The id of the user whose account it was about, for the audit trail only."""

    def __init__(self, evidence: str = "", **public: object) -> None:
        super().__init__(evidence or self.code)
        self.evidence = evidence
        self.public = public


class SettingError(UsherError):
    """A setting cannot be used.

    Args:
        name: the setting, with its prefix, as the user wrote it.
        got: its value, already masked if it is secret.
        takes: the values that are accepted.
    """

    code = "bad_setting"
    title = "A setting cannot be used."

    def __init__(self, name: str, got: str, takes: str) -> None:
        super().__init__(f"{name}: got {got}, takes {takes}")
        self.name, self.got, self.takes = name, got, takes


class BadRequest(UsherError):
    status, code, title = 400, "bad_request", "The request is not one that this call takes."

    @classmethod
    def of(cls, field: str, said: str) -> BadRequest:
        """One that names the member that is wrong, for programs and for people.

        Args:
            said: what it has to be, or what it is instead; without the value itself.
        """
        return cls(f"{field}: {said}", field=field, detail=f"{field}: {said}")


class UnknownEvent(BadRequest):
    code, title = "unknown_event", "There is no such event."


class WeakPassword(BadRequest):
    """The password is too short, too long or easily guessed; has `suggestions` (ASVS 2.1.7)."""

    code, title = "weak_password", "That password is too easy to guess."


class Unauthenticated(UsherError):
    status, code, title = 401, "unauthenticated", "Sign in to continue."


class TokenExpired(Unauthenticated):
    """Genuine but past its `exp` (RFC 7519 section 4.1.4): the client should refresh.

    Args:
        evidence: as in UsherError.
        claims: the token's claims; never shown to the client.
    """

    code, title = "token_expired", "The access token has expired."

    def __init__(self, evidence: str = "", *, claims: Claims) -> None:
        super().__init__(evidence)
        self.claims = claims


class SecondFactorNeeded(Unauthenticated):
    """The first factor of a sign-in was verified, and the account has a second factor.

    Args:
        challenge: identifies this sign-in; presented with the second factor.
        methods: accepted second factors: "totp", "recovery_code", "passkey".
    """

    code, title = "second_factor_needed", "Enter your second factor to continue."

    def __init__(self, challenge: str, methods: tuple[str, ...]) -> None:
        super().__init__("sign-in: second factor required", challenge=challenge, methods=methods)


class WrongFactor(Unauthenticated):
    """A wrong second factor. The sign-in can be continued with the right one."""

    code, title = "wrong_code", "That code is wrong or was already used."


class StepUpNeeded(UsherError):
    """The user is signed in, and must prove again who they are (RFC 9470). No refresh helps.

    Args:
        max_age: seconds that a proof counts; for HTTP.
        acr: the number of factors that is needed.
        methods: by which this user can prove it; empty where only a new sign-in does.
    """

    status, code = 401, "step_up_needed"
    title = "Confirm your identity to continue."

    def __init__(self, max_age: float = 0.0, acr: Acr = "1", methods: tuple[str, ...] = ()) -> None:
        super().__init__("the user's authentication is too old, or has too few factors")
        self.max_age, self.acr, self.methods = max_age, acr, methods
        self.public = {"methods": methods} if methods else {}


class Forbidden(UsherError):
    status, code, title = 403, "forbidden", "You are not allowed to do this."


class WrongPassword(Forbidden):
    """A wrong password of a signed-in user. Not 401, which would make clients refresh the token."""

    code, title = "wrong_password", "The current password is wrong."


class WrongCode(Forbidden):
    """A wrong second factor of a signed-in user. Not 401, for the same reason."""

    code, title = "wrong_code", "That code is wrong or was already used."


class PasskeyRefused(Forbidden):
    """A passkey of a signed-in user is invalid, for any reason. Not 401, for the same reason."""

    code, title = "passkey_refused", "This passkey does not work here. Try again, or another one."


class PasskeyCopied(PasskeyRefused):
    """The counter of a passkey went back: there may be a copy of it."""


class ReauthenticationNeeded(Forbidden):
    """The request changes a credential, which needs the password (ASVS 2.2.4, 3.7.1)."""

    code = "reauthentication_needed"
    title = "Sign in again or enter your password to continue."


class OriginRefused(Forbidden):
    """The Origin is foreign or missing, and the credential is a cookie (RFC 6455 10.2)."""

    code = "origin_refused"
    title = "Requests from this origin are not allowed. The server's log says how to allow it."


class EmailUnverified(Forbidden):
    """A sign-in that is right, where EMAIL_VERIFICATION is `required`."""

    code, title = (
        "email_unverified",
        "Confirm your e-mail address first: follow the link in our mail.",
    )


class LinkRefused(Forbidden):
    """A one-time link is invalid, for any reason. Not 401, because no sign-in or refresh helps."""

    code, title = "link_refused", "This link is not valid or has expired. Ask for a new one."


class SignupClosed(Forbidden):
    """SIGNUP is closed: only administrators create accounts."""

    code, title = "signup_closed", "New accounts cannot be created here."


class InvitationNeeded(Forbidden):
    """SIGNUP is invite, and there is no invitation."""

    code = "invitation_needed"
    title = "An invitation is needed to create an account here."


class InvitationRefused(Forbidden):
    """An invitation is invalid, for any reason."""

    code = "invitation_refused"
    title = "This invitation is not valid: it was used, has expired, or is for another address."


class EmailDomainRefused(Forbidden):
    """EMAIL_DOMAINS does not have the domain of an address. It depends on the address alone, and
    not on whether there is an account."""

    code = "email_domain_refused"
    title = "E-mail addresses of that domain are not accepted here."


class IdentityMismatch(Forbidden):
    """A token of another user or login session on a socket that has already joined."""

    code, title = "identity_mismatch", "The token belongs to another sign-in."


class NotFound(UsherError):
    status, code, title = 404, "not_found", "There is nothing here."


class Conflict(UsherError):
    status, code, title = 409, "conflict", "This cannot be done as things stand."


class SignupRefused(Conflict):
    """The e-mail address is taken; the text does not confirm that (ASVS 2.2.2)."""

    code = "signup_refused"
    title = "This account cannot be created. If you already have one, sign in."


class EmailTaken(Conflict):
    """The e-mail address is taken; for administrators and API keys, who may look up addresses."""

    code, title = "email_taken", "There is an account with that address already."


class AccountDisabled(Conflict):
    code, title = "account_disabled", "The account is disabled."


class LastAdmin(Conflict):
    code, title = "last_admin", "The last administrator has to stay."


class FactorInUse(Conflict):
    code, title = "factor_in_use", "There is one already. Remove it before you set up another."


class TooManyPasskeys(Conflict):
    code, title = "too_many", "You have as many of these as one may have."


class NoRelyingParty(Conflict):
    """Authenticators take no address made of numbers as the id of a site (WebAuthn)."""

    code, title = "no_rp_id", "Passkeys do not work at this address."


class TooManyChannels(Conflict):
    """A user has reached the limit of owned channels, or of memberships given."""

    code, title = "too_many", "You have as many of these as one may have."


class OwnerStays(Conflict):
    """The owner always manages the channel, and has no membership to change or remove."""

    code, title = "owner_stays", "The owner of a channel stays its manager."


class TooLarge(UsherError):
    status, code, title = 413, "too_large", "That is more than is taken here."


class HeadersTooLarge(UsherError):
    """RFC 6585 section 5."""

    status, code = 431, "headers_too_large"
    title = "The headers of the request are larger than is taken here."


class RateLimited(UsherError):
    """A rate limit is exceeded.

    Args:
        evidence: as in UsherError.
        retry_after: seconds until a retry is allowed. `Retry-After` has them rounded up
            (RFC 9110 section 10.2.3), a socket's error has them unrounded.
    """

    status, code, title = 429, "rate_limited", "Too many at once. Wait a little."

    def __init__(self, evidence: str = "", *, retry_after: float = 1.0) -> None:
        super().__init__(evidence)
        self.seconds = retry_after
        self.retry_after = max(1, ceil(retry_after))


class Unavailable(UsherError):
    """Attributes:
    retry_after: whole seconds until another attempt makes sense, as `Retry-After` says.
    """

    status, code, title = 503, "unavailable", "Not available just now. Try again shortly."
    retry_after = 1


class DatabaseUnavailable(Unavailable):
    """The database did not answer, or not in time."""


class StoreUnavailable(Unavailable):
    """Redis did not answer, not in time, or refused a command."""


class Busy(Unavailable):
    """A bounded queue is full."""


class Overdue(Unavailable):
    """It waited so long for its turn that its client will have left before it is answered.

    Args:
        evidence: as in UsherError.
        retry_after: whole seconds.
    """

    def __init__(self, evidence: str = "", *, retry_after: int = 1) -> None:
        super().__init__(evidence)
        self.retry_after = retry_after
