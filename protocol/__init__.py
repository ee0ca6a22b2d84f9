"""The wire between a host and the daemon, without any I/O: bytes in, messages out.

Errors are in `protocol.errors`, whose docstring is their tree.
"""

from __future__ import annotations

from protocol.codecs import (
    MAX_DEPTH,
    Codec,
    Encoded,
    codec_of,
    decode,
    encode,
    load_quick_codecs,
)
from protocol.errors import BridgeError, FramingError
from protocol.frames import (
    DEFAULT_MAX_FRAME,
    FrameDecoder,
    LineDecoder,
    OversizedFrame,
    encode_frame,
    encode_line,
)
from protocol.messages import (
    HOST_CALL_TARGETS,
    VERSIONS,
    CancelCall,
    ErrorReply,
    Event,
    FromDaemon,
    FromHost,
    HostAnswer,
    HostCall,
    Id,
    Reply,
    Request,
    id_of,
    parse_from_daemon,
    parse_from_host,
)
from protocol.session import (
    DaemonSession,
    Framing,
    HostSession,
    LocalProtocolError,
    Received,
    Refused,
)

__all__ = [
    "DEFAULT_MAX_FRAME",
    "HOST_CALL_TARGETS",
    "MAX_DEPTH",
    "VERSIONS",
    "BridgeError",
    "CancelCall",
    "Codec",
    "DaemonSession",
    "Encoded",
    "ErrorReply",
    "Event",
    "FrameDecoder",
    "Framing",
    "FramingError",
    "FromDaemon",
    "FromHost",
    "HostAnswer",
    "HostCall",
    "HostSession",
    "Id",
    "LineDecoder",
    "LocalProtocolError",
    "OversizedFrame",
    "Received",
    "Refused",
    "Reply",
    "Request",
    "codec_of",
    "decode",
    "encode",
    "encode_frame",
    "encode_line",
    "id_of",
    "load_quick_codecs",
    "parse_from_daemon",
    "parse_from_host",
]
