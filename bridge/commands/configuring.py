"""`configure`: LMs, adapter, cache, bounds and log level."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bridge.commands.command import Command, Invocation
from bridge.settings import CONFIGURABLE, AdapterChoice
from bridge.specs.checking import Args, nearest
from bridge.specs.lms import LMSpec
from protocol.errors import InvalidArgs

__all__ = ["COMMANDS"]

MOST_LMS = 1_000
"""Named LMs of one `configure`."""

LARGEST_LIMIT = 1_000_000_000
"""Of any bound: eleven days in milliseconds, and far from what a clock cannot count."""


class CacheArgs(Args):
    """The response cache. Off unless enabled here."""

    enabled: bool = True
    ttl_s: Annotated[float, Field(gt=0, description="seconds an answer is kept")] = 3600.0
    max_entries: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000


class TwoStepArgs(Args):
    """The two-step adapter needs a second LM, which extracts the fields."""

    name: Literal["two_step"]
    extraction_lm: Annotated[LMSpec | str, Field(description="an LM, or the name of one")]


def _with_its_lm(value: Any) -> Any:
    if value == "two_step":
        raise ValueError("two_step needs a second LM: {name: 'two_step', extraction_lm: an LM}")
    return value


class ConfigureArgs(Args):
    """Arguments of `configure`; what is left out stays as it is."""

    lm: Annotated[LMSpec | None, Field(description="the default LM")] = None
    lms: Annotated[dict[str, LMSpec], Field(description="LMs by name", max_length=MOST_LMS)] = (
        Field(default_factory=dict)
    )
    adapter: Annotated[
        Literal["chat", "json", "xml"] | TwoStepArgs | None,
        BeforeValidator(_with_its_lm),
        Field(description="how prompts are written and replies are read"),
    ] = None
    cache: CacheArgs | None = None
    limits: Annotated[dict[str, Annotated[int, Field(ge=1)]], Field(description="bounds")] = Field(
        default_factory=dict
    )
    log_level: Literal["debug", "info", "warning", "error"] | None = None


def configure(args: ConfigureArgs, invocation: Invocation) -> dict[str, Any]:
    """Set LMs and adapter, which are the tenant's, and the daemon's cache, bounds, log level."""
    services = invocation.services
    _check_limits(args.limits)
    extraction_lm = args.adapter.extraction_lm if isinstance(args.adapter, TwoStepArgs) else None
    for spec in (args.lm, *args.lms.values(), extraction_lm):
        if isinstance(spec, LMSpec) and spec.key is not None:
            services.secrets.add(spec.key)
    services.registry.configure(invocation.scope.tenant, args.lm, args.lms, _adapter(args.adapter))
    if args.cache is not None:
        services.set_cache(args.cache.model_dump())
    if args.limits:
        services.change_limits(args.limits)
    if args.log_level is not None:
        services.set_log_level(args.log_level)
    table = services.registry.lms(invocation.scope.tenant)
    return {
        "status": "configured",
        "lm": table.default.name if table.default else None,
        "lms": sorted(table.named),
    }


def _adapter(given: str | TwoStepArgs | None) -> AdapterChoice | None:
    if isinstance(given, TwoStepArgs):
        return AdapterChoice(given.name, given.extraction_lm)
    return None if given is None else AdapterChoice(given)


def _check_limits(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        if name not in CONFIGURABLE:
            close = nearest(name, CONFIGURABLE)
            hint = f"did you mean {close!r}?" if close else f"known: {sorted(CONFIGURABLE)}"
            raise InvalidArgs.at(f"limits.{name}", f"cannot be configured; {hint}", nearest=close)
        if value > LARGEST_LIMIT:
            raise InvalidArgs.at(f"limits.{name}", f"is more than {LARGEST_LIMIT:,}")


COMMANDS = (Command("configure", ConfigureArgs, configure),)
