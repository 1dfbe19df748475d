"""Tornado's WebSocket protocol, with the limits of the direct form that Tornado lacks.

It overrides private methods of Tornado, because there is no public interface. Each calls the
original and adds a check. tests/websocket/test_tornado_protocol.py verifies them with the installed
version.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from tornado.websocket import WebSocketHandler, WebSocketProtocol13

from services.websocket.frames import LIGHT_BYTES

CONTROL = 0x8
"""The bit that control frames have in their opcode (RFC 6455 section 5.5)."""


class BoundedProtocol(WebSocketProtocol13):
    """Reads and writes the frames of one socket.

    Args:
        handler: the socket's handler.
        params: as Tornado creates them.
        on_fragment: called for each small fragment, so that a flood of them can be ended.
    """

    def __init__(
        self, handler: WebSocketHandler, params: Any, on_fragment: Callable[[], None]
    ) -> None:
        super().__init__(handler, False, params)
        self._on_fragment = on_fragment
        self._is_fragment = False

    async def _receive_frame(self) -> None:
        start, self._is_fragment = self._wire_bytes_in, True
        is_compressed, begun = self._frame_compressed, self._fragmented_message_buffer is not None
        await super()._receive_frame()
        if begun and self._fragmented_message_buffer is not None:
            # Tornado 6.6 takes a ping between the fragments for the start of the message, and
            # then does not inflate it.
            self._frame_compressed = is_compressed
        small = self._wire_bytes_in - start < LIGHT_BYTES
        if small and self._is_fragment and not self.is_closing():
            self._on_fragment()

    def _handle_message(self, opcode: int, data: bytes) -> Any:
        self._is_fragment = False
        if opcode & CONTROL and self._frame_compressed:  # RFC 7692 section 6.1
            self._abort()
            return None
        try:
            return super()._handle_message(opcode, data)
        except zlib.error:  # for invalid deflate data, Tornado logs a traceback and stays open
            self._abort()
            return None

    def _create_compressors(self, side: str, agreed: dict[str, Any], *options: Any) -> None:
        super()._create_compressors(side, agreed, *options)
        # So that a token is never compressed together with another message (CRIME). Each message is
        # inflated separately; clients that keep their context are still supported.
        agreed["client_no_context_takeover"] = None
