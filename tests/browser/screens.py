"""Pictures of every state of the page, for docs/screens: `python -m tests.browser.screens [NAME…]`.

Each is taken light and dark at 1280 by 800, and light at 360 by 780.
"""

from __future__ import annotations

import base64
import sys
from contextlib import ExitStack

from playwright.sync_api import Browser, Page

from tests.browser.states import EMPTY, LOOK
from tests.browser.states_rooms import STATES
from tests.support.browser import Visitor, chromium, visitors
from tests.support.server import ROOT, Usher, sign_up, usher

FOLDER = ROOT / "docs/screens"
QUALITY = 60
"""Of WebP: all of them together stay under 3 MB."""
SHOTS = (("light", 1280, 800, ""), ("dark", 1280, 800, "-dark"), ("light", 360, 780, "-small"))


def main(names: list[str]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with chromium() as browser, usher("sqlite", **LOOK) as server:
        sign_up(server)
        for name in names or sorted(STATES):
            if name in EMPTY:
                with usher("sqlite") as empty:
                    _take(browser, empty, name)
            else:
                _take(browser, server, name)
            sys.stdout.write(f"{name}\n")
    size = sum(path.stat().st_size for path in FOLDER.glob("*.webp"))
    sys.stdout.write(f"{size / 1e6:.2f} MB in {FOLDER.relative_to(ROOT)}\n")


def _take(browser: Browser, server: Usher, name: str) -> None:
    with ExitStack() as stack:
        visitor: Visitor = stack.enter_context(visitors(browser, server))()
        page = STATES[name](visitor).page
        for scheme, width, height, suffix in SHOTS:
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(
                color_scheme=scheme,  # type: ignore[arg-type]
                reduced_motion="reduce",
            )
            (FOLDER / f"{name}{suffix}.webp").write_bytes(_picture(page))


def _picture(page: Page) -> bytes:
    link = page.context.new_cdp_session(page)
    page.evaluate("() => new Promise((next) => requestAnimationFrame(() => setTimeout(next, 50)))")
    taken = link.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    link.detach()
    return base64.b64decode(taken["data"])


if __name__ == "__main__":
    main(sys.argv[1:])
