"""The installation's name, logo and accent colour, shown on the sign-in pages.

Text stays readable with any accent colour. The colour is darkened on a light background, and
lightened on a dark one, until the contrast is 4.5:1 (WCAG 1.4.3). Buttons keep the original colour.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from services.errors import SettingError
from services.settings.origins import origin_of, parse_origin

DEFAULT_NAME = "Usher"
MAX_NAME_LENGTH = 60
MAX_LOGO_BYTES = 512 * 1024
MIN_CONTRAST = 4.5
MIX_STEPS = 50
TINT_SHARE = 0.1
"""Share of the accent colour in the background of accented text."""

_COLOUR = re.compile(r"#?(?P<hex>[0-9A-Fa-f]{6}|[0-9A-Fa-f]{3})")
_MAGIC = MappingProxyType(
    {
        b"\x89PNG\r\n\x1a\n": "image/png",
        b"\xff\xd8\xff": "image/jpeg",
        b"GIF8": "image/gif",
    }
)
TAKES_LOGO = (
    f"a PNG, JPEG, GIF, WebP or SVG file of at most {MAX_LOGO_BYTES // 1024} KiB, or a URL that "
    "begins with PUBLIC_URL"
)


class Colour(NamedTuple):
    """An sRGB colour. Each component is 0 to 255."""

    red: int
    green: int
    blue: int

    @property
    def css(self) -> str:
        return f"#{self.red:02x}{self.green:02x}{self.blue:02x}"

    @property
    def luminance(self) -> float:
        """Relative luminance (WCAG 2.2)."""
        parts = [part / 255 for part in self]
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    def mixed(self, other: Colour, share: float) -> Colour:
        """Mix this colour with another. `share`: of the other colour, 0 to 1."""
        return Colour(*(round(a + (b - a) * share) for a, b in zip(self, other, strict=True)))


BLACK, WHITE = Colour(0, 0, 0), Colour(255, 255, 255)


class Background(NamedTuple):
    """The background colours of a colour scheme in static/style.css.

    Attributes:
        surface: `--surface`.
        others: `--ground` and `--sunk`.
        away: the colour that is mixed into an accent to raise its contrast.
    """

    surface: Colour
    others: tuple[Colour, ...]
    away: Colour


LIGHT = Background(WHITE, (Colour(0xF6, 0xF5, 0xF1), Colour(0xF4, 0xF3, 0xEE)), BLACK)
DARK = Background(
    Colour(0x1C, 0x20, 0x24), (Colour(0x14, 0x17, 0x1A), Colour(0x17, 0x1A, 0x1D)), WHITE
)


class Palette(msgspec.Struct, frozen=True):
    """The CSS colours that one accent gives on one background.

    Attributes:
        text: links and focus outlines.
        tint: background of accented text.
        fill: background of a button.
        on_fill: text of a button.
    """

    text: str
    tint: str
    fill: str
    on_fill: str


class Logo(msgspec.Struct, frozen=True):
    """The logo: the content of a file, which Usher serves, or a URL of Usher's own origin."""

    url: str = ""
    content: bytes = b""
    media_type: str = ""


class Branding(msgspec.Struct, frozen=True):
    """The look of the sign-in pages. `accent`: None for the colours of static/style.css."""

    name: str = DEFAULT_NAME
    logo: Logo | None = None
    accent: Colour | None = None


def contrast(one: Colour, other: Colour) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    dark, light = sorted((one.luminance, other.luminance))
    return (light + 0.05) / (dark + 0.05)


def palette(accent: Colour, ground: Background) -> Palette:
    """Derive the colours from an accent, so that text is readable on the background."""
    text, tint = accent, accent
    for step in range(MIX_STEPS + 1):
        text = accent.mixed(ground.away, step / MIX_STEPS)
        tint = ground.surface.mixed(text, TINT_SHARE)
        if min(contrast(text, behind) for behind in (ground.surface, *ground.others, tint)) >= (
            MIN_CONTRAST
        ):
            break
    on_fill = max((WHITE, BLACK), key=lambda words: contrast(words, accent))
    return Palette(text.css, tint.css, accent.css, on_fill.css)


def stylesheet(branding: Branding) -> str:
    """The CSS that is appended to static/style.css; empty without an accent colour."""
    if branding.accent is None:
        return ""
    light, dark = (palette(branding.accent, ground) for ground in (LIGHT, DARK))
    return (
        f":root {{ {_variables(light)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(dark)} }} }}\n"
    )


def _variables(colours: Palette) -> str:
    return (
        f"--accent: {colours.text}; --tint: {colours.tint}; --fill: {colours.fill}; "
        f"--on-fill: {colours.on_fill};"
    )


def read_colour(text: str) -> Colour | None:
    """Parse `#0b5c63` or `#abc`. Returns None for anything else."""
    match = _COLOUR.fullmatch(text.strip())
    if match is None:
        return None
    digits = match["hex"] if len(match["hex"]) == 6 else "".join(c * 2 for c in match["hex"])
    return Colour(*(int(digits[place : place + 2], 16) for place in (0, 2, 4)))


def read_logo(text: str, name: str, public_url: str | None) -> Logo:
    """Read the logo from the file, or check the URL, that APP_LOGO gives.

    Args:
        text: a path or a URL.
        name: of the setting, for the error.
        public_url: PUBLIC_URL, or None.

    Raises:
        SettingError: the file is not an image or is too large, or the URL is of another origin,
            which the pages' Content-Security-Policy would block.
    """
    if text.startswith(("http://", "https://")):
        origin = "/".join(text.split("/")[:3])
        if public_url is None or parse_origin(origin) != origin_of(public_url):
            raise SettingError(name, repr(text[:80]), TAKES_LOGO)
        return Logo(url=text)
    try:
        path = Path(text).expanduser()
        content = path.read_bytes() if path.stat().st_size <= MAX_LOGO_BYTES else b""
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingError(name, f"{text[:80]!r}, which cannot be read", TAKES_LOGO) from error
    media_type = _media_type(content)
    if not media_type:
        raise SettingError(name, f"{text[:80]!r}, which is not an image", TAKES_LOGO)
    return Logo(content=content, media_type=media_type)


def _media_type(content: bytes) -> str:
    """The media type by the first bytes, since a file name proves nothing; "" if unknown."""
    for magic, media_type in _MAGIC.items():
        if content.startswith(magic):
            return media_type
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    return "image/svg+xml" if b"<svg" in content[:1024] else ""
