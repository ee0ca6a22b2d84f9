"""Both forms of a signature, the canonical one they become, and every fault at once."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.specs.signatures import (
    ALIASES,
    MISSING,
    FieldSpec,
    SignatureSpec,
    check_names_for,
    parse_signature,
)
from bridge.specs.types.model import Array, Enum, Map, Media, Nullable, Scalar
from bridge.specs.types.reading import parse_type
from protocol.errors import InvalidArgs
from tests.specs.strategies import json_values, signatures, unhurried

STRING, INTEGER, FLOAT = Scalar("string"), Scalar("integer"), Scalar("float")


def encoded(name, kind, description="", optional=False, default=None):
    """A field as an Elixir app that encodes every key sends it."""
    return {
        "name": name,
        "type": kind,
        "description": description,
        "optional": optional,
        "default": default,
    }


def faults(value):
    with pytest.raises(InvalidArgs) as caught:
        parse_signature(value)
    assert caught.value.code == "invalid_args"
    return [fault["path"] for fault in caught.value.details["faults"]]


def types_of(text):
    spec = parse_signature(text)
    return {each.name: each.type for each in (*spec.inputs, *spec.outputs)}


def test_bare_names_are_strings():
    spec = parse_signature("question, context -> answer")
    assert spec == SignatureSpec(
        (FieldSpec("question", STRING), FieldSpec("context", STRING)),
        (FieldSpec("answer", STRING),),
    )


def test_what_follows_a_colon_is_a_type():
    text = "question: str, ctx: list[str] -> answer: Literal['x','y'], score: float"
    assert types_of(text) == {
        "question": STRING,
        "ctx": Array(STRING),
        "answer": Enum(("x", "y")),
        "score": FLOAT,
    }


def test_elixir_types_may_follow_a_colon():
    text = "q: string, ids: {:array, :integer}, m: {:map, :string, :integer}, d: :date -> a: float"
    assert types_of(text) == {
        "q": STRING,
        "ids": Array(INTEGER),
        "m": Map(INTEGER),
        "d": Scalar("date"),
        "a": FLOAT,
    }


def test_commas_and_arrows_within_brackets_and_quotes_do_not_split():
    text = """a: dict[str, int],
              b: Literal['x, y', "->"],
              c: {:map, %{"k" => :string, n: :integer}}
              -> d: Union[int, str], e: dspy.Code["python"]"""
    assert list(types_of(text)) == ["a", "b", "c", "d", "e"]
    assert types_of(text)["b"] == Enum(("x, y", "->"))
    assert types_of(text)["e"] == Media("code", "python")


@pytest.mark.parametrize(
    ("text", "kind", "default"),
    [
        ("a: int = 1", INTEGER, 1),
        ("a: float = -1.5e3", FLOAT, -1500.0),
        ("a: bool = True", Scalar("boolean"), True),
        ("a: boolean = false", Scalar("boolean"), False),
        ("a = 'x, y -> z'", STRING, "x, y -> z"),
        ('a: str = "a: b = c"', STRING, "a: b = c"),
        ("a: list[str] = []", Array(STRING), []),
        ("a: list[int] = [1, 2]", Array(INTEGER), [1, 2]),
        ('a: dict = {"k": [1, null]}', Map(Scalar("any")), {"k": [1, None]}),
        ("a: Literal['x', 'y'] = 'y'", Enum(("x", "y")), "y"),
        ("a: str = None", STRING, None),
        ("a: string = nil", STRING, None),
        ("a: int | None", Nullable(INTEGER), None),
        ("a: Optional[int] = 3", Nullable(INTEGER), 3),
    ],
)
def test_a_default_makes_a_field_optional(text, kind, default):
    (found,) = parse_signature(f"{text} -> out").inputs
    assert (found.type, found.optional, found.default) == (kind, True, default)


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("", ["signature"]),
        ("question", ["signature"]),
        ("a -> b -> c", ["signature"]),
        ("-> a", ["signature.inputs"]),
        ("a ->", ["signature.outputs"]),
        ("->", ["signature.inputs", "signature.outputs"]),
        ("a, , b -> c", ["signature.inputs[1]"]),
        ("a, -> c", ["signature.inputs[1]"]),
        (": str -> c", ["signature.inputs[0]"]),
        ("a: -> c", ["signature.inputs[0].type"]),
        ("a: strng -> c", ["signature.inputs[0].type"]),
        ("a b -> c", ["signature.inputs[0].name"]),
        ("*a -> c", ["signature.inputs[0].name"]),
        ("1a -> class", ["signature.inputs[0].name", "signature.outputs[0].name"]),
        ("a, a -> c", ["signature.inputs[1]"]),
        ("a -> a", ["signature.outputs[0].name"]),
        ("a: int = 'x' -> c", ["signature.inputs[0].default"]),
        ("a: int = x -> c", ["signature.inputs[0].default"]),
        ("a: int = -> c", ["signature.inputs[0].default"]),
        ("a: list[str -> c", ["signature"]),
        ("a: str] -> c", ["signature"]),
        ("a: 'x -> c", ["signature"]),
        ("config: strng -> c", ["signature.inputs[0].name", "signature.inputs[0].type"]),
        (", ".join(f"a{n}" for n in range(129)) + " -> c", ["signature.inputs"]),
    ],
)
def test_every_fault_of_a_string_is_listed_where_it_is(text, paths):
    assert faults(text) == paths


def test_the_map_form_that_elixir_encodes_is_read():
    spec = parse_signature(
        {
            "inputs": [
                encoded("question", "string", "The question to answer"),
                encoded("context", "string", "Optional context", optional=True),
                encoded("passages", "{:array, :string}"),
            ],
            "outputs": [encoded("answer", "string"), encoded("score", "float", default=0.5)],
        }
    )
    assert spec == SignatureSpec(
        (
            FieldSpec("question", STRING, "The question to answer"),
            FieldSpec("context", STRING, "Optional context", optional=True, default=None),
            FieldSpec("passages", Array(STRING)),
        ),
        (FieldSpec("answer", STRING), FieldSpec("score", FLOAT, optional=True, default=0.5)),
    )


def test_null_says_nothing():
    spec = parse_signature(
        {
            "inputs": [{"name": "q", "type": "string", "description": None, "optional": None}],
            "outputs": {"a": {"type": "string", "default": None}},
            "instructions": None,
            "docstring": None,
            "name": None,
        }
    )
    assert spec == SignatureSpec((FieldSpec("q", STRING),), (FieldSpec("a", STRING),))
    assert spec.inputs[0].default is MISSING


def test_fields_may_be_a_map_by_name():
    spec = parse_signature(
        {
            "inputs": {"question": "string", "tags": {"array": "string"}},
            "outputs": {"answer": {"type": "string", "description": "Short", "optional": True}},
        }
    )
    assert [each.name for each in spec.inputs] == ["question", "tags"]
    assert spec.outputs == (FieldSpec("answer", STRING, "Short", True, None),)


def test_a_fields_type_may_be_spread_over_its_map():
    spec = parse_signature(
        {
            "inputs": [{"name": "q", "type": "array", "items": "string", "desc": "Many"}],
            "outputs": {
                "a": {"enum": ["x", "y"], "description": "One", "default": "x"},
                "b": {"optional": "integer"},
                "c": {"object": {"n": "string"}, "name": "Person"},
                "d": {"type": "atom", "constraints": {"one_of": ["u", "v"]}},
            },
        }
    )
    assert spec.inputs[0] == FieldSpec("q", Array(STRING), "Many")
    assert spec.outputs[0] == FieldSpec("a", Enum(("x", "y")), "One", True, "x")
    assert spec.outputs[1] == FieldSpec("b", Nullable(INTEGER), "", True, None)
    assert spec.outputs[2].type == parse_type({"object": {"n": "string"}, "name": "Person"}, "t")
    assert spec.outputs[3].type == Enum(("u", "v"))


def test_a_nullable_field_that_says_it_is_required_is():
    spec = parse_signature(
        {"inputs": [encoded("q", {"optional": "string"})], "outputs": {"a": "string"}}
    )
    assert spec.inputs[0] == FieldSpec("q", Nullable(STRING))


@pytest.mark.parametrize("alias", ALIASES)
def test_the_keys_of_the_ash_resource_are_aliases(alias):
    whole = {"inputs": {"q": "string"}, "outputs": {"a": "string"}, "instructions": "Do."}
    renamed = {alias if key == ALIASES[alias].key else key: body for key, body in whole.items()}
    assert parse_signature(renamed) == parse_signature(whole)


def test_instructions_and_name_are_kept_as_they_are():
    spec = parse_signature(
        {"inputs": {"q": "str"}, "outputs": {"a": "str"}, "docstring": " Do.\n", "name": "My.QA"}
    )
    assert (spec.instructions, spec.name) == (" Do.\n", "My.QA")


GOOD = {"inputs": {"q": "string"}, "outputs": {"a": "string"}}


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        (None, ["signature"]),
        (3, ["signature"]),
        (["q -> a"], ["signature"]),
        ({}, ["signature.inputs", "signature.outputs"]),
        (GOOD | {"inputs": []}, ["signature.inputs"]),
        (GOOD | {"outputs": {}}, ["signature.outputs"]),
        (GOOD | {"outputs": None}, ["signature.outputs"]),
        (GOOD | {"inputs": "q"}, ["signature.inputs"]),
        (GOOD | {"inputs": ["q"]}, ["signature.inputs[0]"]),
        (GOOD | {"inputs": [{"type": "string"}]}, ["signature.inputs[0].name"]),
        (GOOD | {"inputs": [{"name": 3}]}, ["signature.inputs[0].name"]),
        (GOOD | {"inputs": {"q": None}}, ["signature.inputs.q"]),
        (GOOD | {"inputs": {"q": {"type": None}}}, ["signature.inputs.q.type"]),
        (GOOD | {"inputs": {"q": {"typ": "string"}}}, ["signature.inputs.q.typ"]),
        (
            GOOD | {"inputs": {"q": {"type": "string", "optional": 1}}},
            ["signature.inputs.q.optional"],
        ),
        (GOOD | {"inputs": {"q": {"description": 3}}}, ["signature.inputs.q.description"]),
        (
            GOOD | {"inputs": {"q": {"description": "x" * 10_001}}},
            ["signature.inputs.q.description"],
        ),
        (
            GOOD | {"inputs": {"q": {"type": "integer", "default": True}}},
            ["signature.inputs.q.default"],
        ),
        (
            GOOD | {"inputs": {"q": {"type": "any", "default": float("nan")}}},
            ["signature.inputs.q.default"],
        ),
        (
            GOOD | {"inputs": {"q": {"type": "any", "default": 2**70}}},
            ["signature.inputs.q.default"],
        ),
        (
            GOOD | {"inputs": {"q": {"type": "any", "default": b"x"}}},
            ["signature.inputs.q.default"],
        ),
        (GOOD | {"inputs": {"q": {"default": "x" * 10_001}}}, ["signature.inputs.q.default"]),
        (GOOD | {"inputs": {f"q{n}": "string" for n in range(129)}}, ["signature.inputs"]),
        (GOOD | {"input": {"q": "string"}}, ["signature.input"]),
        (GOOD | {"instructions": 3}, ["signature.instructions"]),
        (GOOD | {"instructions": "a", "docstring": "b"}, ["signature.docstring"]),
        (GOOD | {"input_fields": {"r": "string"}}, ["signature.input_fields"]),
        (GOOD | {"name": "x" * 256}, ["signature.name"]),
        (GOOD | {3: "x"}, ["signature"]),
        (
            {
                "inputs": {"q": "strng", "config": "string"},
                "outputs": [{"name": "q", "typ": 1}],
                "x": 1,
            },
            [
                "signature.x",
                "signature.inputs.q",
                "signature.inputs.config.name",
                "signature.outputs[0].typ",
            ],
        ),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_every_fault_of_a_map_is_listed_where_it_is(value, paths):
    assert faults(value) == paths


def test_a_misspelt_key_gets_the_nearest_right_one():
    with pytest.raises(InvalidArgs) as caught:
        parse_signature(GOOD | {"instuctions": "x"})
    assert caught.value.details["faults"][0]["nearest"] == "instructions"


@unhurried
@given(signatures())
def test_every_signature_survives_its_wire_form(spec):
    assert parse_signature(spec.to_wire()) == spec


@unhurried
@given(st.one_of(st.text(), st.text(alphabet="ab:,=->[]{}()'\"\\ \n1|_", max_size=60)))
@example("a:" * 40_000)
@example("a=" * 40_000 + "-> b")
@example("[" * 90_000)
@example("a," * 40_000 + "-> b")
@example("a -> b: " + "list[" * 90)
@example("a: int = " + "[" * 900 + "]" * 900 + " -> b")
@example("a: int = " + "9" * 5_000 + " -> b")
def test_any_text_is_a_signature_or_invalid_args(text):
    try:
        spec = parse_signature(text)
    except InvalidArgs:
        return
    assert parse_signature(spec.to_wire()) == spec


@unhurried
@given(
    st.one_of(
        json_values(), st.fixed_dictionaries({"inputs": json_values(), "outputs": json_values()})
    )
)
def test_any_value_is_a_signature_or_invalid_args(value):
    try:
        spec = parse_signature(value)
    except InvalidArgs:
        return
    assert parse_signature(spec.to_wire()) == spec


def test_chain_of_thought_may_have_its_reasoning_as_an_output_only():
    check_names_for(parse_signature("q -> reasoning, a"), "chain_of_thought")
    with pytest.raises(InvalidArgs):
        check_names_for(parse_signature("q, reasoning -> a"), "chain_of_thought")


def test_every_name_that_a_module_reserves_is_listed():
    with pytest.raises(InvalidArgs) as caught:
        check_names_for(parse_signature("trajectory, max_iters -> a"), "react")
    assert [fault["path"] for fault in caught.value.details["faults"]] == [
        "signature.inputs[0].name",
        "signature.inputs[1].name",
    ]


@pytest.mark.load
@pytest.mark.parametrize(
    "piece",
    ["a:", "a=", "a,", "[", "a: {:array, ", "'", '"', "\\", "a: Literal['x', ", "- >", "a -> "],
)
def test_reading_time_grows_no_faster_than_the_text(piece):
    def seconds(length):
        text = (piece * length)[:length]
        start = time.thread_time()
        with pytest.raises(InvalidArgs):
            parse_signature(text)
        return time.thread_time() - start

    small = min(seconds(10_000) for _ in range(3))
    large = min(seconds(90_000) for _ in range(3))
    assert large < 30 * max(small, 0.001)  # 9 times the text; quadratic would be 81 times
