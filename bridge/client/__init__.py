"""The bundled client: the host's side of the wire, as an Elixir application would hold it."""

from __future__ import annotations

from bridge.client.functions import HostFunctions
from bridge.client.port import DaemonExited, Port, RequestFailed

__all__ = ["DaemonExited", "HostFunctions", "Port", "RequestFailed"]
