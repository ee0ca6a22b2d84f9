"""The envelope messages: what a map on the wire must look like to be one.

The law of this file: a message object is always valid, and `to_map` gives exactly its wire map,
without optional keys that are not set. Parsing what the host sent is strict (it is the host's
mistake and is answered, with every fault at once); parsing what the daemon sent leaves unknown
keys alone, so that an older client reads a newer daemon. What a command's arguments or an LM's
map may hold is not known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from protocol.checks import (
    answer_error_fault,
    bool_fault,
    budget_fault,
    deadline_fault,
    fault,
    faults_of,
    id_fault,
    is_id,
    lm_fault,
    map_fault,
    refuse,
    string_fault,
    trace_fault,
    unknown_keys,
)
from protocol.errors import InvalidMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from protocol.checks import Check, Fault

__all__ = [
    "HOST_CALL_TARGETS",
    "VERSIONS",
    "CancelCall",
    "ErrorReply",
    "Event",
    "FromDaemon",
    "FromHost",
    "HostAnswer",
    "HostCall",
    "Id",
    "Reply",
    "Request",
    "id_of",
    "parse_from_daemon",
    "parse_from_host",
]

VERSIONS = (1, 2)
"""The protocol versions spoken here; every connection begins with the first."""

HOST_CALL_TARGETS = ("tool", "metric", "lm", "forward", "retrieve", "reward")

Id: TypeAlias = int | str


class Request(NamedTuple):
    """The host asks for a command; ``stream`` and ``trace`` are off unless asked for."""

    id: Id
    command: str
    args: dict[str, Any]
    deadline_ms: int | None = None
    budget: dict[str, Any] | None = None
    stream: bool = False
    tenant: str | None = None
    lm: str | dict[str, Any] | None = None
    trace: bool | dict[str, Any] = False
    parent: Id | None = None

    def to_map(self) -> dict[str, Any]:
        """``{id, command, args}`` and the optional keys that are set."""
        wire = {"id": self.id, "command": self.command, "args": self.args}
        for key in _REQUEST_OPTIONS:
            value = getattr(self, key)
            if value is not None and value is not False:
                wire[key] = value
        return wire


class HostAnswer(NamedTuple):
    """The host answers a host call: with ``error`` if that is not None, else with ``result``."""

    call: Id
    result: Any = None
    error: dict[str, Any] | str | None = None

    def to_map(self) -> dict[str, Any]:
        """``{call, result}`` or ``{call, error}``."""
        if self.error is not None:
            return {"call": self.call, "error": self.error}
        return {"call": self.call, "result": self.result}


class Reply(NamedTuple):
    """The daemon's result of a request."""

    id: Id
    result: Any

    def to_map(self) -> dict[str, Any]:
        """``{id, result}``."""
        return {"id": self.id, "result": self.result}


class ErrorReply(NamedTuple):
    """The daemon's refusal of a request, or of a frame whose id could not be read (``id`` None).

    ``error`` is the string ``"<code>: <message>"`` in version 1, `BridgeError.to_wire`'s map in
    version 2.
    """

    id: Id | None
    error: dict[str, Any] | str

    @property
    def code(self) -> str:
        """The error code, in either version."""
        if isinstance(self.error, str):
            return self.error.partition(":")[0]
        return str(self.error.get("code", ""))

    def to_map(self) -> dict[str, Any]:
        """``{id, error}``."""
        return {"id": self.id, "error": self.error}


class Event(NamedTuple):
    """The daemon tells something about the request ``id``, or about itself (``id`` None)."""

    event: str
    id: Id | None
    data: dict[str, Any]

    def to_map(self) -> dict[str, Any]:
        """``{event, id, data}``."""
        return {"event": self.event, "id": self.id, "data": self.data}


class HostCall(NamedTuple):
    """The daemon asks the host; ``id`` is the request that caused it."""

    call: Id
    target: str
    name: str
    args: dict[str, Any]
    id: Id | None

    def to_map(self) -> dict[str, Any]:
        """``{call, target, name, args, id}``."""
        return {
            "call": self.call,
            "target": self.target,
            "name": self.name,
            "args": self.args,
            "id": self.id,
        }


class CancelCall(NamedTuple):
    """The daemon no longer wants the answer to host call ``call``."""

    call: Id

    def to_map(self) -> dict[str, Any]:
        """``{cancel_call: call}``."""
        return {"cancel_call": self.call}


FromHost: TypeAlias = Request | HostAnswer
FromDaemon: TypeAlias = Reply | ErrorReply | Event | HostCall | CancelCall


def id_of(message: Mapping[Any, Any] | None) -> Id | None:
    """The id that an answer to a broken message should carry: its own, if that is readable."""
    found: Any = message.get("id") if message is not None else None
    return found if is_id(found) else None


def parse_from_host(version: int, message: dict[str, Any]) -> FromHost:
    """The message in a map that the host sent.

    Version 1 reads ``id``, ``command`` and ``args`` and ignores every other key; there are no
    answers, as there are no host calls.

    Raises:
        InvalidMessage: ``details.faults`` lists every fault as ``{path, message, nearest?}``.
    """
    if version >= 2 and "call" in message and "command" not in message:
        return _parse_answer(message)
    id_: Any = message.get("id")
    command: Any = message.get("command")
    args: Any = message.get("args")
    if args is None:
        args = {}
    bare = version < 2 or message.keys() <= _BARE_KEYS
    # Most requests are bare and right: only the others are looked at key by key.
    if bare and is_id(id_) and type(command) is str and type(args) is dict:
        return Request(id_, command, args)
    refuse(_request_faults(message, bare=bare))
    options = {key: value for key in _REQUEST_OPTIONS if (value := message.get(key)) is not None}
    return Request(id_, command, args, **options)


def _request_faults(message: dict[str, Any], *, bare: bool) -> list[Fault]:
    faults = [
        *faults_of(message, _REQUEST_KEYS, required=True),
        *faults_of(message, _REQUEST_ARGS),
    ]
    if not bare:
        faults += faults_of(message, _REQUEST_OPTIONS)
        faults += unknown_keys(message, (*sorted(_BARE_KEYS), *_REQUEST_OPTIONS))
    return faults


def _parse_answer(message: dict[str, Any]) -> HostAnswer:
    if message.keys() == _BARE_ANSWER and is_id(message["call"]):
        return HostAnswer(message["call"], message["result"])
    faults = faults_of(message, {"call": id_fault}, required=True)
    faults += unknown_keys(message, ("call", "result", "error"))
    failed = message.get("error") is not None
    if failed:
        faults += faults_of(message, {"error": answer_error_fault})
    if failed and message.get("result") is not None:
        faults.append(fault("error", "an answer has a result or an error, not both"))
    if not failed and "result" not in message:
        faults.append(fault("result", "is missing; null is a result, too"))
    refuse(faults)
    return HostAnswer(message["call"], message.get("result"), message.get("error"))


def parse_from_daemon(message: dict[str, Any]) -> FromDaemon:
    """The message in a map that the daemon sent, in any version; unknown keys are ignored.

    Raises:
        InvalidMessage: it is none; ``details.faults`` lists what is missing or ill-typed.
    """
    for mark, (required, optional, build) in _FROM_DAEMON.items():
        if mark in message:
            refuse(
                [
                    *faults_of(message, required, required=True),
                    *faults_of(message, optional),
                ]
            )
            return build(message)
    raise InvalidMessage(
        "a message of the daemon has one of the keys " + ", ".join(_FROM_DAEMON), faults=[]
    )


_BARE_KEYS = frozenset(["id", "command", "args"])
_BARE_ANSWER = frozenset(["call", "result"])
_REQUEST_KEYS: dict[str, Check] = {"id": id_fault, "command": string_fault}
_REQUEST_ARGS: dict[str, Check] = {"args": map_fault}
_REQUEST_OPTIONS: dict[str, Check] = {
    "deadline_ms": deadline_fault,
    "budget": budget_fault,
    "stream": bool_fault,
    "tenant": string_fault,
    "lm": lm_fault,
    "trace": trace_fault,
    "parent": id_fault,
}

# The first key that a message has tells what it is; an event and a host call have an ``id``, too.
_FROM_DAEMON: dict[
    str, tuple[dict[str, Check], dict[str, Check], Callable[[dict[str, Any]], FromDaemon]]
] = {
    "event": (
        {"event": string_fault, "data": map_fault},
        {"id": id_fault},
        lambda message: Event(message["event"], message.get("id"), message["data"]),
    ),
    "call": (
        {"call": id_fault, "target": string_fault, "name": string_fault, "args": map_fault},
        {"id": id_fault},
        lambda message: HostCall(
            message["call"],
            message["target"],
            message["name"],
            message["args"],
            message.get("id"),
        ),
    ),
    "cancel_call": (
        {"cancel_call": id_fault},
        {},
        lambda message: CancelCall(message["cancel_call"]),
    ),
    "error": (
        {"error": answer_error_fault},
        {"id": id_fault},
        lambda message: ErrorReply(message.get("id"), message["error"]),
    ),
    "result": (
        {"id": id_fault},
        {},
        lambda message: Reply(message["id"], message["result"]),
    ),
}
