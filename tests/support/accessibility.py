"""What can be measured of a page that everybody can use (WCAG 2.2)."""

from __future__ import annotations

import re
from typing import cast

from playwright.sync_api import Page

# Roles that are worth nothing without a name (WCAG 4.1.2), as an ARIA snapshot writes them.
NAMELESS = re.compile(
    r"\s*- (?:button|link|textbox|combobox|checkbox|heading|region)(?: \[[^\]]*\])*(?::.*)?$"
)

# Text against what lies behind it, colours blended as painted (WCAG 1.4.3); edges of fields
# against theirs (1.4.11).
LOW_CONTRAST = """() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((v, i) => v * a + below[i] * (1 - a));
  const luminance = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255)
      .map((v) => (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ratio = (one, two) => {
    const [a, b] = [luminance(one), luminance(two)].sort((x, y) => y - x);
    return (a + .05) / (b + .05);
  };
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    return over(parse(getComputedStyle(element).backgroundColor), behind(element.parentElement));
  };
  const found = [];
  const check = (element, colour, below, least) => {
    const measured = ratio(over(parse(colour), below), below);
    if (measured < least) found.push(`${measured.toFixed(2)} ${element.outerHTML.slice(0, 100)}`);
  };
  for (const element of document.body.querySelectorAll('*')) {
    if (!element.checkVisibility({ visibilityProperty: true })) continue;
    const style = getComputedStyle(element);
    const field = element.matches('input:not([type=checkbox]), textarea');
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (field || own) {
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      check(element, style.color, behind(element), large ? 3 : 4.5);
    }
    if (field) check(element, style.borderTopColor, behind(element.parentElement), 3);
  }
  return found;
}"""

TOO_SMALL = """() => [
  ...document.querySelectorAll('button, .button, input, textarea, .aside a, .check')]
  .filter((element) => element.checkVisibility({ visibilityProperty: true }))
  .map((element) => element.closest('.check') ?? element)
  .filter((element) => {
    const { width, height } = element.getBoundingClientRect();
    return width < 24 || (height < 24 && !element.matches('a'));
  }).map((element) => element.outerHTML.slice(0, 100))"""

REPEATED_IDS = """() => [...document.querySelectorAll('[id]')].map(({ id }) => id)
  .filter((id, place, all) => all.indexOf(id) !== place)"""

SPILLED = """() => {
  const spare = document.documentElement.scrollWidth - innerWidth;
  if (spare <= 0) return [];
  const wide = [...document.querySelectorAll('body *')]
    .filter((element) => element.getBoundingClientRect().right > innerWidth)
    .map((element) => element.outerHTML.slice(0, 100));
  return [`${spare} px`, ...wide]; // text can stick out of a box that does not
}"""


# Ends in an ellipsis, or what somebody typed or is to copy as it is: these may be longer.
CUT_OFF = """() => [...document.querySelectorAll('body *')].filter((element) => {
  if (!element.checkVisibility({ visibilityProperty: true })) return false;
  if (element.matches('pre, input, textarea, select, .unseen')) return false;
  const { overflowX, textOverflow, clipPath } = getComputedStyle(element);
  return overflowX !== 'visible' && textOverflow !== 'ellipsis' && clipPath === 'none'
    && element.scrollWidth > element.clientWidth + 1;
}).map((element) => `${element.scrollWidth - element.clientWidth} px of ${
  element.outerHTML.slice(0, 100)}`)"""


def low_contrast(page: Page) -> list[str]:
    """Text below 4.5:1 (large text 3:1) and edges of fields below 3:1."""
    return cast("list[str]", page.evaluate(LOW_CONTRAST))


def nameless(page: Page) -> list[str]:
    """Controls, headings and regions that a screen reader has no name for."""
    lines = page.locator("body").aria_snapshot().splitlines()
    return [line.strip() for line in lines if NAMELESS.match(line)]


def too_small(page: Page) -> list[str]:
    """What a finger cannot hit: controls under 24 by 24 px (WCAG 2.5.8)."""
    return cast("list[str]", page.evaluate(TOO_SMALL))


def repeated_ids(page: Page) -> list[str]:
    return cast("list[str]", page.evaluate(REPEATED_IDS))


def cut_off(page: Page) -> list[str]:
    """What is hidden at the side of a narrow screen, and only scrolling there would show."""
    return cast("list[str]", page.evaluate(CUT_OFF))


def spilled(page: Page) -> list[str]:
    """What makes the page scroll sideways (WCAG 1.4.10)."""
    return cast("list[str]", page.evaluate(SPILLED))
