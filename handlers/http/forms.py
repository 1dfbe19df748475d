"""Parses forms that programs and pages of other sites post."""

from __future__ import annotations

from urllib.parse import parse_qs

from tornado.httputil import HTTPServerRequest

FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 50


def form_values(request: HTTPServerRequest, name: str) -> list[str]:
    """Every value of a field, in the order sent.

    The media type is case-insensitive (RFC 9110 section 8.3.1), and may be missing, because some
    providers omit it. Tornado's own parser accepts one spelling only.
    """
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type not in ("", FORM):
        return []
    try:
        body = request.body.decode("ascii")
        found = parse_qs(body, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        return []
    return found.get(name, [])
