"""What goes out on one side and comes in on the other: values, and two real sessions."""

from __future__ import annotations

import json

from protocol import (
    CancelCall,
    Codec,
    DaemonSession,
    Event,
    HostAnswer,
    HostCall,
    HostSession,
    Reply,
    Request,
    decode,
    encode,
    encode_frame,
)

JSON, MSGPACK = Codec


def round_trip(codec, message):
    payload, notes = encode(codec, message)
    assert notes == ()
    found, decoded = decode(payload)
    assert found is codec
    return decoded


def same(left, right):
    """Equality that tells 1 from 1.0 and True, and 0.0 from -0.0."""
    return left == right and repr(left) == repr(right)


class Link:
    """Two real sessions; what one encodes, the other receives, cut into single bytes if asked."""

    def __init__(self, framing="packet", codec=JSON, version=2, cut=None):
        self.host = HostSession(framing=framing, codec=codec)
        self.daemon = DaemonSession(framing=framing)
        self.codec = codec
        self.cut = cut or (lambda stream: [stream])
        if version == 2:
            self.daemon.upgrade(2, codec)

    def to_daemon(self, *frames):
        stream = b"".join(frames)
        return [item for chunk in self.cut(stream) for item in take(self.daemon, chunk)]

    def to_host(self, *frames):
        stream = b"".join(frames)
        return [item for chunk in self.cut(stream) for item in self.host.receive_data(chunk)]

    def send(self, message):
        """The frame by which the right side sends a message."""
        host, daemon, codec = self.host, self.daemon, self.codec
        match message:
            case Request():
                wire = message.to_map()
                return host.encode_request(
                    wire.pop("id"), wire.pop("command"), wire.pop("args"), **wire
                )
            case HostAnswer(call, result, error):
                return host.encode_answer(call, result=result, error=error)
            case Reply(id_, result):
                return daemon.encode_reply(id_, result, codec)
            case Event(name, id_, data):
                return daemon.encode_event(name, id_, data, codec)
            case HostCall(call, target, name, args, id_):
                return daemon.encode_host_call(call, target, name, args, id_, codec)
            case CancelCall(call):
                return daemon.encode_cancel_call(call, codec)
        raise AssertionError(message)


def take(daemon, data=None):
    """What the daemon's side makes of more bytes, or of the end of its input."""
    if data is None:
        daemon.receive_eof()
    else:
        daemon.receive_data(data)
    return list(iter(daemon.next_message, None))


def session(version=2, **options):
    daemon = DaemonSession(**options)
    daemon.upgrade(version)
    return daemon


def frame(message, codec=JSON):
    return encode_frame(encode(codec, message).payload)


def heard(items):
    """The messages and their codecs, without what they were on the wire."""
    return [(item.message, item.codec) for item in items]


def only(items):
    [item] = items
    return item


def body(framed):
    """The map in one packet frame of JSON."""
    assert int.from_bytes(framed[:4], "big") == len(framed) - 4
    return json.loads(framed[4:])
