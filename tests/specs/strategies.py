"""Hypothesis strategies for the type language; every value they draw is canonical."""

from __future__ import annotations

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st

from bridge.specs.names import name_fault, object_name_fault
from bridge.specs.signatures import SignatureSpec
from bridge.specs.types.defaults import MAX_INTEGER, MIN_INTEGER
from bridge.specs.types.model import (
    MEDIA,
    MISSING,
    SCALARS,
    Array,
    Enum,
    FieldSpec,
    Map,
    Media,
    Nullable,
    Object,
    Scalar,
    Union,
    nullable,
    union,
)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For properties whose time says more about how busy the machine is than about the code."""

TEXT = st.text(max_size=20)
INTEGERS = st.integers(MIN_INTEGER, MAX_INTEGER)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,9}", fullmatch=True)


def json_values():
    """JSON values that often hold the words of the type language."""
    words = st.sampled_from(
        [
            *("string", "integer", "array", "map", "object", "enum", "one_of", "type", "items"),
            *("fields", "properties", "required", "name", "optional", "default", "description"),
            *("{:array, :string}", "list[int]", "inputs", "outputs"),
        ]
    )
    leaves = st.one_of(st.none(), st.booleans(), INTEGERS, FLOATS, TEXT, words, words)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.one_of(words, TEXT), inner, max_size=4)
        ),
        max_leaves=12,
    )


def types():
    leaves = st.one_of(
        st.sampled_from(SCALARS).map(Scalar),
        st.sampled_from(MEDIA).map(Media),
        st.sampled_from(["python", "c++", "elixir"]).map(lambda name: Media("code", name)),
        st.lists(
            st.one_of(TEXT, INTEGERS, st.booleans()),
            min_size=1,
            max_size=5,
            unique_by=lambda value: (type(value), value),
        ).map(lambda values: Enum(tuple(values))),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(Array),
            inner.map(Map),
            inner.map(nullable),
            st.lists(inner, min_size=1, max_size=3).map(union),
            st.builds(
                Object,
                st.lists(
                    fields(inner, WORDS.filter(lambda name: object_name_fault(name) is None)),
                    min_size=1,
                    max_size=3,
                    unique_by=lambda each: each.name,
                ).map(tuple),
                st.none() | WORDS.filter(lambda name: object_name_fault(name) is None),
            ),
        ),
        max_leaves=6,
    )


@st.composite
def fields(draw, kinds, names):
    kind, name, description = draw(kinds), draw(names), draw(TEXT)
    if not draw(st.booleans()):
        return FieldSpec(name, kind, description)
    default = draw(st.none() | values_of(kind))
    return FieldSpec(name, kind, description, optional=True, default=default)


def values_of(kind):
    """JSON values that fit the type."""
    match kind:
        case Scalar("any"):
            return json_values()
        case Scalar("integer"):
            return INTEGERS
        case Scalar("float"):
            return INTEGERS | FLOATS
        case Scalar("boolean"):
            return st.booleans()
        case Scalar() | Media():
            return TEXT
        case Enum(values):
            return st.sampled_from(values)
        case Array(of):
            return st.lists(values_of(of), max_size=3)
        case Map(of):
            return st.dictionaries(TEXT, values_of(of), max_size=3)
        case Nullable(of):
            return st.none() | values_of(of)
        case Union(of):
            return st.one_of(*map(values_of, of))
        case Object(within):
            required = {f.name: values_of(f.type) for f in within if f.default is MISSING}
            optional = {f.name: values_of(f.type) for f in within if f.default is not MISSING}
            return st.fixed_dictionaries(required, optional=optional)
    raise TypeError(kind)


@st.composite
def signatures(draw):
    words = draw(st.lists(WORDS, min_size=2, max_size=4))
    names = [f"{word}_{index}" for index, word in enumerate(words)]
    assume(not any(name_fault(n, "inputs") or name_fault(n, "outputs") for n in names))
    cut = draw(st.integers(1, len(names) - 1))
    every = tuple(draw(fields(types(), st.just(name))) for name in names)
    text = st.none() | st.text(min_size=1, max_size=30).filter(str.strip)
    return SignatureSpec(every[:cut], every[cut:], draw(text), draw(text))
