"""The argument models of `greeting`, for the schema and the documentation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from bridge.commands import greeting
from bridge.commands.command import Command
from bridge.specs.checking import Args

__all__ = ["COMMANDS", "HelloArgs", "PingArgs"]


class Client(Args):
    """Who is calling; for the log."""

    name: str | None = None
    version: str | None = None


class HelloArgs(Args):
    """Arguments of `hello`; null is the same as left out."""

    protocol: Annotated[
        list[StrictInt] | None,
        Field(description="protocol versions the host speaks; all when left out"),
    ] = None
    client: Annotated[Client | None, Field(description="who is calling")] = None
    accepts: Annotated[
        list[Literal["events", "calls"]] | None, Field(description="what the host can take")
    ] = None


class PingArgs(BaseModel):
    """Arguments of `ping`: anything."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Any]


COMMANDS = (
    Command("hello", HelloArgs, greeting.hello),
    Command("ping", PingArgs, greeting.ping),
)
