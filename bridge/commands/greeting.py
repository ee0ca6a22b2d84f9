"""`hello` and `ping`: answered before pydantic or DSPy is imported, whatever else runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocol.errors import InvalidArgs, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Greeting = Callable[[int], dict[str, Any]]

__all__ = ["PROTOCOLS", "hello", "ping"]

PROTOCOLS = (1, 2)
"""The protocol versions this daemon speaks."""


def hello(args: Mapping[str, Any], greeting: Greeting) -> dict[str, Any]:
    """Agree on a protocol version and tell what this daemon is and can do."""
    faults = _faults(args)
    if faults:
        raise InvalidArgs.of(faults)
    offered = args.get("protocol") or list(PROTOCOLS)
    common = [version for version in PROTOCOLS if version in offered]
    if not common:
        raise Unsupported(f"this daemon speaks protocol {list(PROTOCOLS)}, not {offered}")
    return greeting(max(common))


def ping(args: Any, greeting: Greeting) -> Any:  # noqa: ARG001 - both are called alike
    """Give back the arguments at once, whatever else runs."""
    return args


def _faults(args: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The checks of `greeting_models.HelloArgs`, by hand: pydantic is not there yet."""
    faults = [
        {"path": key, "message": "unknown key; known: accepts, client, protocol"}
        for key in args
        if key not in {"protocol", "client", "accepts"}
    ]
    versions = args.get("protocol")
    if versions is not None and not _is_list(versions, int):
        faults.append({"path": "protocol", "message": "is a list of whole numbers, such as [1, 2]"})
    accepts = args.get("accepts")
    if accepts is not None and not (
        _is_list(accepts, str) and all(item in {"events", "calls"} for item in accepts)
    ):
        faults.append({"path": "accepts", "message": "is a list of 'events' and 'calls'"})
    client = args.get("client")
    if client is not None and not (
        isinstance(client, dict)
        and all(key in {"name", "version"} for key in client)
        and all(value is None or isinstance(value, str) for value in client.values())
    ):
        faults.append({"path": "client", "message": "is {name, version}, both strings"})
    return faults


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, kind) and not isinstance(item, bool) for item in value
    )
