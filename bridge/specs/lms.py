"""An LM as data: who serves it, under which key, and how it is called.

A key is a `SecretStr` from the moment it is parsed; `to_wire` has no key in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from bridge.specs.checking import Args, checked, faults_of, nearest
from bridge.specs.lm_providers import PROVIDERS, Provider, provider_names
from bridge.specs.version import version_of
from protocol.errors import InvalidArgs, NotConfigured, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LMOptions", "LMSpec", "LMTable", "parse_lm"]


class LMOptions(Args):
    """How an LM generates; None leaves it to the LM, its spec, or the provider."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: list[str] | str | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None

    def given(self) -> dict[str, Any]:
        """Only the options that say something; `stop` always as a list."""
        options = {
            name: value
            for name in LMOptions.model_fields
            if (value := getattr(self, name)) is not None
        }
        if isinstance(self.stop, str):
            options["stop"] = [self.stop]
        return options


class _ConfigArgs(LMOptions):
    """An LM's `config`; `latency_ms` is the embedded LM's."""

    latency_ms: Annotated[float, Field(ge=0, le=3_600_000)] | None = None


class LMSpec(Args):
    """One language model.

    ``{"provider"?, "model", "api_key"?, "base_url"?, "temperature"?, "max_tokens"?, "timeout_s"?,
    "max_retries"?, "retry_delay_ms"?, "cache"?, "config"?}``; `model` may carry the provider.
    """

    provider: str = ""
    model: Annotated[str, Field(min_length=1, max_length=512)]
    api_key: SecretStr | None = None
    base_url: Annotated[str, Field(pattern=r"^https?://", max_length=2048)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    max_retries: Annotated[int, Field(ge=0, le=20)] = 3
    retry_delay_ms: Annotated[int, Field(ge=0, le=60_000)] = 1000
    cache: bool = True
    config: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        # Elixir sends nil for what was not set; a default is what it means.
        if isinstance(value, dict):
            return {key: item for key, item in value.items() if item is not None}
        return value

    @field_validator("base_url")
    @classmethod
    def _no_credentials_in_the_address(cls, value: str | None) -> str | None:
        # An address is shown to whoever asks; what stands in it could not be masked.
        if value is not None and urlsplit(value).username is not None:
            raise ValueError("holds a user name or password; a credential goes in `api_key`")
        return value

    @field_validator("config")
    @classmethod
    def _config_holds_options_only(cls, value: dict[str, Any]) -> dict[str, Any]:
        # A client's `config` must not redirect a call that carries the operator's key.
        allowed = set(_ConfigArgs.model_fields)
        for key in value:
            if key not in allowed:
                close = nearest(key, allowed)
                # Only what is almost right is repeated: anything else might be a secret.
                if close:
                    raise ValueError(f"unknown option {key!r}; did you mean {close!r}?")
                raise ValueError(f"holds an unknown option; known: {', '.join(sorted(allowed))}")
        try:
            _ConfigArgs.model_validate(value)
        except ValidationError as error:
            fault = faults_of(error, "", _ConfigArgs)[0]
            raise ValueError(f"{fault['path']}: {fault['message']}") from None
        return value

    @model_validator(mode="after")
    def _provider_is_known(self) -> LMSpec:
        provider, model = self.provider, self.model
        if not provider:
            provider, slash, rest = model.partition("/")
            if not slash or not rest:
                raise ValueError(
                    "name the provider, as `provider` or in the model: 'openai/gpt-4o-mini'"
                )
            model = rest
        elif model.startswith(f"{provider}/"):
            model = model.removeprefix(f"{provider}/")
        if provider not in provider_names():
            close = nearest(provider, provider_names())
            if close:
                raise ValueError(f"unknown provider {provider!r}; did you mean {close!r}?")
            raise ValueError("unknown provider; `hello` lists them as `lm_providers`")
        object.__setattr__(self, "provider", provider)
        object.__setattr__(self, "model", model)
        return self

    @cached_property
    def identity(self) -> str:
        """Equal where two specs are: what is told, and the fingerprint of what is not."""
        # LMs are looked up by it on every call.
        return version_of([self.model_dump(exclude={"api_key"}), self.fingerprint])

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LMSpec) and self.identity == other.identity

    @property
    def row(self) -> Provider:
        """The provider's row; a litellm prefix gets one made for it."""
        known = PROVIDERS.get(self.provider)
        return known or Provider(self.provider, "litellm", self.provider, needs_key=False)

    @cached_property
    def name(self) -> str:
        """``provider/model``, the name that usage is counted under."""
        return f"{self.provider}/{self.model}"

    @property
    def key(self) -> str | None:
        """The key itself: for the engine that sends it, and for the mask."""
        return self.api_key.get_secret_value() if self.api_key else None

    @cached_property
    def fingerprint(self) -> str:
        """What tells two credentials apart without telling either."""
        return sha256((self.key or "").encode()).hexdigest()[:16]

    def options(self) -> dict[str, Any]:
        """The LM's own generation options, before a module's or a request's."""
        extra = {key: value for key, value in self.config.items() if key != "latency_ms"}
        options = LMOptions.model_validate(extra).given()
        if self.temperature is not None:
            options["temperature"] = self.temperature
        if self.max_tokens is not None:
            options["max_tokens"] = self.max_tokens
        return options

    def whole(self) -> dict[str, Any]:
        """The spec with its key, for a process of ours; never for anybody else."""
        return {**self.to_wire(), **({"api_key": self.key} if self.key else {})}

    def to_wire(self) -> dict[str, Any]:
        """The spec without its key."""
        wire = self.model_dump(exclude={"api_key"}, exclude_none=True, exclude_defaults=True)
        return {**wire, "provider": self.provider}


def parse_lm(value: Any, path: str) -> LMSpec | str:
    """An LM as it stands on the wire: a map, or the name of a configured one.

    A name is looked up when it is used. ``"provider/model"`` is a name like any other: it would
    have no key, and a misspelt name must not become a call to somebody else.
    """
    if isinstance(value, str):
        if not value:
            raise InvalidArgs.at(path, "is empty; name a configured LM or give a map")
        return value
    return checked(LMSpec, value, path)


@dataclass(frozen=True, slots=True)
class LMTable:
    """The LMs one tenant sees at one moment; never changed, only replaced."""

    default: LMSpec | None = None
    named: Mapping[str, LMSpec] = field(default_factory=lambda: MappingProxyType({}))

    def resolve(self, ref: LMSpec | str | None) -> LMSpec:
        """The spec that `ref` means; None means the default.

        Raises:
            NotConfigured: nothing is named and there is no default.
            NotFound: no LM has that name.
        """
        if ref is None:
            if self.default is None:
                raise NotConfigured("no LM is configured: send `configure` with an `lm` first")
            return self.default
        if isinstance(ref, LMSpec):
            return ref
        if ref in self.named:
            return self.named[ref]
        close = nearest(ref, self.named)
        hint = f"did you mean {close!r}?" if close else "an LM that has no name goes as a map"
        raise NotFound(
            f"no LM is configured as {ref!r}; {hint}",
            kind="lm",
            id=ref,
            need="configure",
            nearest=close,
        )

    def merged(self, default: LMSpec | None, named: Mapping[str, LMSpec]) -> LMTable:
        """A new table with these put over the old ones."""
        return LMTable(default or self.default, MappingProxyType({**self.named, **named}))
