"""The installation's own name, logo and accent colour, for the pages that people sign in on.

Whatever colour is chosen, text in it and on it can be read: it is darkened on light ground and
lightened on dark ground until the contrast is 4.5:1 (WCAG 1.4.3). Buttons keep it as it is.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from services.errors import SettingError
from services.settings.origins import parse_origin

DEFAULT_NAME = "Usher"
MAX_NAME_LENGTH = 60
MAX_LOGO_BYTES = 512 * 1024
LEAST_CONTRAST = 4.5
STEPS = 50
TINT = 0.1
"""Share of the accent in what lies behind accented text."""

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
    """sRGB, each from 0 to 255."""

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
        """This colour with so much of another in it."""
        return Colour(*(round(a + (b - a) * share) for a, b in zip(self, other, strict=True)))


BLACK, WHITE = Colour(0, 0, 0), Colour(255, 255, 255)


class Ground(NamedTuple):
    """What lies behind text in one of the two schemes of static/style.css: `--surface`,
    `--ground`, `--sunk`. `away`: what an accent is mixed with to stand out from them."""

    surface: Colour
    others: tuple[Colour, ...]
    away: Colour


LIGHT = Ground(WHITE, (Colour(0xF6, 0xF5, 0xF1), Colour(0xF4, 0xF3, 0xEE)), BLACK)
DARK = Ground(Colour(0x1C, 0x20, 0x24), (Colour(0x14, 0x17, 0x1A), Colour(0x17, 0x1A, 0x1D)), WHITE)


class Palette(msgspec.Struct, frozen=True):
    """What an accent becomes on one ground.

    Attributes:
        text: links and the edges of what has the focus.
        tint: behind accented text.
        fill: behind the words of a button.
        on_fill: those words.
    """

    text: str
    tint: str
    fill: str
    on_fill: str


class Logo(msgspec.Struct, frozen=True):
    """An image: of a file, which is served from here, or a URL of the own origin."""

    url: str = ""
    content: bytes = b""
    media_type: str = ""


class Branding(msgspec.Struct, frozen=True):
    """How the pages look. `accent`: None for the colours of static/style.css."""

    name: str = DEFAULT_NAME
    logo: Logo | None = None
    accent: Colour | None = None


def contrast(one: Colour, other: Colour) -> float:
    """From 1 to 21 (WCAG 2.2)."""
    dark, light = sorted((one.luminance, other.luminance))
    return (light + 0.05) / (dark + 0.05)


def palette(accent: Colour, ground: Ground) -> Palette:
    """An accent so that it can be read on a ground."""
    text, tint = accent, accent
    for step in range(STEPS + 1):
        text = accent.mixed(ground.away, step / STEPS)
        tint = ground.surface.mixed(text, TINT)
        if min(contrast(text, behind) for behind in (ground.surface, *ground.others, tint)) >= (
            LEAST_CONTRAST
        ):
            break
    on_fill = max((WHITE, BLACK), key=lambda words: contrast(words, accent))
    return Palette(text.css, tint.css, accent.css, on_fill.css)


def stylesheet(branding: Branding) -> str:
    """What static/style.css is followed by."""
    if branding.accent is None:
        return ""
    light, dark = (palette(branding.accent, ground) for ground in (LIGHT, DARK))
    return (
        f":root {{ {_variables(light)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(dark)} }} }}\n"
        "button:not(.plain), .button:not(.plain) { background: var(--fill); "
        "color: var(--on-fill); border-color: var(--accent); }\n"
    )


def _variables(colours: Palette) -> str:
    return (
        f"--accent: {colours.text}; --tint: {colours.tint}; --fill: {colours.fill}; "
        f"--on-fill: {colours.on_fill};"
    )


def read_colour(text: str) -> Colour | None:
    """`#0b5c63` or `#abc`; None for anything else."""
    match = _COLOUR.fullmatch(text.strip())
    if match is None:
        return None
    digits = match["hex"] if len(match["hex"]) == 6 else "".join(c * 2 for c in match["hex"])
    return Colour(*(int(digits[place : place + 2], 16) for place in (0, 2, 4)))


def read_logo(text: str, name: str, public_url: str | None) -> Logo:
    """The logo that a setting names, read once.

    Args:
        name: of the setting.

    Raises:
        SettingError: it is no image, too large, or of another origin, which the
            Content-Security-Policy of the pages would not let in.
    """
    if text.startswith(("http://", "https://")):
        origin = "/".join(text.split("/")[:3])
        if public_url is None or parse_origin(origin) != parse_origin(public_url):
            raise SettingError(name, repr(text[:80]), TAKES_LOGO)
        return Logo(url=text)
    try:
        path = Path(text).expanduser()
        content = path.read_bytes() if path.stat().st_size <= MAX_LOGO_BYTES else b""
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingError(name, f"{text[:80]!r}, which cannot be read", TAKES_LOGO) from error
    media_type = _media_type(content)
    if not media_type:
        raise SettingError(name, f"{text[:80]!r}, which is none", TAKES_LOGO)
    return Logo(content=content, media_type=media_type)


def _media_type(content: bytes) -> str:
    """By its first bytes: a name says what it likes."""
    for magic, media_type in _MAGIC.items():
        if content.startswith(magic):
            return media_type
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    return "image/svg+xml" if b"<svg" in content[:1024] else ""
