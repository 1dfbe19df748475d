"""Reads QR codes off a page, as the camera of a phone does: of what a browser has painted."""

from __future__ import annotations

import base64

import zxingcpp
from playwright.sync_api import BrowserContext, Locator

_PIXELS = """async (png) => {
  const image = new Image();
  image.src = `data:image/png;base64,${png}`;
  await image.decode();
  const { width, height } = image;
  const canvas = new OffscreenCanvas(width, height).getContext('2d');
  canvas.drawImage(image, 0, 0);
  const { data } = canvas.getImageData(0, 0, width, height);
  return [width, height, Array.from({ length: width * height }, (_, n) => data[4 * n])];
}"""
"""The red of each pixel: the codes are black and white."""


def read_qr(context: BrowserContext, shown: Locator) -> str:
    """The text of the QR code that an element shows."""
    png = base64.b64encode(shown.screenshot()).decode()
    page = context.new_page()  # an empty one, where no CSP forbids an image
    try:
        width, height, pixels = page.evaluate(_PIXELS, png)
    finally:
        page.close()
    image = memoryview(bytes(pixels)).cast("B", (height, width))
    found = zxingcpp.read_barcode(image)
    assert found is not None, "no code that can be read"
    assert found.format == zxingcpp.BarcodeFormat.QRCode
    return str(found.text)
