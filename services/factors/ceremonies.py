"""Verifies the responses of browsers and authenticators in the two ceremonies of WebAuthn.

`webauthn` verifies signatures, origins and flags. It leaves some steps of WebAuthn Level 2 section
7 to its user, which are here: frames of other sites, the user handle, and the backup flag.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, options_to_json_dict
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    CredentialDeviceType,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from services.errors import PasskeyRefused

TIMEOUT_MS = 300_000
MAX_CREDENTIAL_ID = 1023
"""Bytes (WebAuthn Level 2 section 4, "Credential ID")."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,1364}")
"""Base64 (URL) of as many bytes."""
Json = dict[str, Any]
T = TypeVar("T")


class RelyingParty(msgspec.Struct, frozen=True):
    """The relying party: its domain, its display name, and the origins that may use it."""

    id: str
    name: str
    origins: tuple[str, ...]


class Registered(msgspec.Struct, frozen=True):
    """A new credential, verified. Ids and keys are Base64 (URL)."""

    credential_id: str
    public_key: str
    sign_count: int
    backup_eligible: bool


class Asserted(msgspec.Struct, frozen=True):
    """A signature of a known credential, verified."""

    sign_count: int
    user_verified: bool


def creation_options(
    party: RelyingParty, challenge: bytes, user_id: str, email: str, name: str, known: list[str]
) -> Json:
    """Options of `navigator.credentials.create()`: a passkey that signs in without a user name.

    Args:
        known: ids of the user's credentials; their authenticators do not create a second one.
    """
    options = generate_registration_options(
        rp_id=party.id,
        rp_name=party.name,
        user_id=user_id.encode(),
        user_name=email,
        user_display_name=name,
        challenge=challenge,
        timeout=TIMEOUT_MS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.PREFERRED,
        ),
        exclude_credentials=[
            PublicKeyCredentialDescriptor(id=base64url_to_bytes(one)) for one in known
        ],
    )
    return dict(options_to_json_dict(options))


def request_options(party: RelyingParty, challenge: bytes) -> Json:
    """Options of `navigator.credentials.get()`. They name no credentials, so they reveal nothing
    about accounts."""
    options = generate_authentication_options(
        rp_id=party.id,
        challenge=challenge,
        timeout=TIMEOUT_MS,
        user_verification=UserVerificationRequirement.PREFERRED,
    )
    return dict(options_to_json_dict(options))


def challenge_of(credential: Json) -> bytes:
    """The challenge in a response, not verified.

    Raises:
        PasskeyRefused: there is none.
    """
    return base64url_to_bytes(str(_client_data(credential).get("challenge", "")))


def verify_registration(party: RelyingParty, credential: Json, challenge: bytes) -> Registered:
    """Verify a new credential.

    Raises:
        PasskeyRefused: it is for another challenge, page or domain, or not well-formed.
    """
    _check_frame(credential)
    found = _verified(
        lambda: verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            require_user_verification=False,
        )
    )
    if len(found.credential_id) > MAX_CREDENTIAL_ID:
        raise PasskeyRefused("passkey: its id is too long")
    return Registered(
        bytes_to_base64url(found.credential_id),
        bytes_to_base64url(found.credential_public_key),
        found.sign_count,
        found.credential_device_type == CredentialDeviceType.MULTI_DEVICE,
    )


def verify_assertion(
    party: RelyingParty, credential: Json, challenge: bytes, public_key: str, was_eligible: bool
) -> Asserted:
    """Verify a signature of a known credential. The counter is compared later, in the transaction
    that stores it.

    Raises:
        PasskeyRefused: it is for another challenge, page or domain, or by another credential.
    """
    _check_frame(credential)
    found = _verified(
        lambda: verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            credential_public_key=base64url_to_bytes(public_key),
            credential_current_sign_count=0,
            require_user_verification=False,
        )
    )
    if (found.credential_device_type == CredentialDeviceType.MULTI_DEVICE) != was_eligible:
        raise PasskeyRefused("passkey: its backup eligibility has changed")
    return Asserted(found.new_sign_count, found.user_verified)


def user_handle_of(credential: Json) -> str | None:
    """The user handle of a signature: the user's id as it was registered; None if left out."""
    text = _response(credential).get("userHandle")
    if text is None or text == "":
        return None
    return _decoded(text).decode("utf-8", "replace")


def id_of(credential: Json) -> str:
    """The id in a response, Base64 (URL), not verified."""
    text = credential.get("id")
    if not isinstance(text, str) or not _ID.fullmatch(text):
        raise PasskeyRefused("passkey: no id")
    return text


def _check_frame(credential: Json) -> None:
    data = _client_data(credential)
    if data.get("crossOrigin") is True or "topOrigin" in data:
        raise PasskeyRefused("passkey: used in a frame of another site")


def _client_data(credential: Json) -> Json:
    text = _response(credential).get("clientDataJSON")
    try:
        data = json.loads(_decoded(text))
    except (ValueError, RecursionError) as error:
        raise PasskeyRefused("passkey: clientDataJSON is not JSON") from error
    if not isinstance(data, dict):
        raise PasskeyRefused("passkey: clientDataJSON is not an object")
    return data


def _response(credential: Json) -> Json:
    response = credential.get("response")
    if not isinstance(response, dict):
        raise PasskeyRefused("passkey: no response")
    return response


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise PasskeyRefused("passkey: a member is not a string")
    return _verified(lambda: base64url_to_bytes(text))


def _verified(verify: Callable[[], T]) -> T:
    try:
        return verify()
    except WebAuthnException as error:
        raise PasskeyRefused(f"passkey: {type(error).__name__}: {error}") from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        # What is not a WebAuthnException comes of members of another type than the browser's.
        raise PasskeyRefused(f"passkey: malformed ({type(error).__name__})") from error
