"""verify_webhook: the format of standardwebhooks.com."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from usher_client.backend import WebhookRefused, verify_webhook

KEY = bytes(range(24))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
NOW = 1_700_000_000.0
BODY = json.dumps({"type": "session.ended", "timestamp": "t", "data": {"session_id": "s1"}})


def signed(body: str = BODY, key: bytes = KEY, name: str = "m1", at: float = NOW) -> dict[str, str]:
    """The headers of a delivery, made here from the words of the specification."""
    text = f"{name}.{int(at)}.{body}".encode()
    signature = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    return {
        "Webhook-Id": name,
        "Webhook-Timestamp": str(int(at)),
        "Webhook-Signature": f"v1,{signature}",
    }


def test_a_delivery_is_read() -> None:
    for body in (BODY, BODY.encode()):
        hook = verify_webhook(SECRET, signed(), body, now=NOW)
        assert (hook.id, hook.type, hook.data) == ("m1", "session.ended", {"session_id": "s1"})


def test_the_vector_of_the_specification_fits() -> None:
    """From standardwebhooks.com and its libraries' own tests."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    with pytest.raises(
        WebhookRefused, match="not an event"
    ):  # the signature is good, the body a test
        verify_webhook(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            headers,
            '{"test": 2432232314}',
            now=1614265330,
        )


def test_after_a_rotation_one_of_several_signatures_is_enough() -> None:
    headers = signed()
    headers["Webhook-Signature"] = "v1,AAAA v1a,xyz " + headers["Webhook-Signature"]
    assert verify_webhook(SECRET, headers, BODY, now=NOW).id == "m1"


@pytest.mark.parametrize(
    "change",
    [
        {"Webhook-Id": "m2"},
        {"Webhook-Timestamp": str(int(NOW) + 1)},
        {"Webhook-Timestamp": "soon"},
        {"Webhook-Timestamp": "9" * 5000},
        {"Webhook-Signature": ""},
        {"Webhook-Signature": "v1,é"},
        {"Webhook-Signature": "v1," + "A" * 44},
    ],
)
def test_what_was_changed_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(WebhookRefused):
        verify_webhook(SECRET, signed() | change, BODY, now=NOW)


@pytest.mark.parametrize("missing", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
def test_a_header_that_is_missing_is_refused(missing: str) -> None:
    headers = {name: value for name, value in signed().items() if name != missing}
    with pytest.raises(WebhookRefused, match="no header"):
        verify_webhook(SECRET, headers, BODY, now=NOW)


def test_another_body_another_secret_and_another_version_are_refused() -> None:
    for headers, body in (
        (signed(), BODY + " "),
        (signed(key=b"x" * 24), BODY),
        (signed() | {"Webhook-Signature": signed()["Webhook-Signature"].replace("v1", "v2")}, BODY),
    ):
        with pytest.raises(WebhookRefused, match="no signature fits"):
            verify_webhook(SECRET, headers, body, now=NOW)


@pytest.mark.parametrize("seconds", [-301, 301])
def test_an_old_delivery_is_refused_and_one_of_the_future(seconds: int) -> None:
    with pytest.raises(WebhookRefused, match="outside the tolerance"):
        verify_webhook(SECRET, signed(at=NOW + seconds), BODY, now=NOW)
    assert verify_webhook(SECRET, signed(at=NOW + seconds), BODY, now=NOW, tolerance=400).id


@pytest.mark.parametrize("body", ["", "[]", "{}", "{", "[" * 100_000])
def test_a_body_that_is_no_event_is_refused(body: str) -> None:
    with pytest.raises(WebhookRefused):
        verify_webhook(SECRET, signed(body), body, now=NOW)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_AAAA", "whsec_***"])
def test_a_secret_that_is_invalid_is_the_callers_mistake(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        verify_webhook(secret, signed(), BODY, now=NOW)
