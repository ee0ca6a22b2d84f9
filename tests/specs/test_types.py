"""Every spelling of a type, and the one canonical form that each becomes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.specs.types.model import (
    MAX_DEPTH,
    MISSING,
    Enum,
    FieldSpec,
    Media,
    Nullable,
    Object,
    Union,
    nullable,
    union,
)
from bridge.specs.types.reading import parse_type
from bridge.specs.types.spellings import SPELLINGS
from protocol.errors import InvalidArgs
from tests.specs.spelling_tables import ANY, INTEGER, SPELLINGS_OF_TYPES, STRING
from tests.specs.strategies import json_values, types, unhurried


@pytest.mark.parametrize(("given_form", "wanted"), SPELLINGS_OF_TYPES, ids=repr)
def test_every_spelling_means_its_type(given_form, wanted):
    assert parse_type(given_form, "t") == wanted


@pytest.mark.parametrize(("given_form", "wanted"), SPELLINGS_OF_TYPES, ids=repr)
def test_what_a_spelling_means_is_canonical(given_form, wanted):
    assert parse_type(wanted.to_wire(), "t") == wanted


@pytest.mark.parametrize("word", SPELLINGS)
def test_a_word_means_the_same_as_an_atom_and_in_any_case(word):
    assert parse_type(word, "t") == parse_type(f':"{word}"', "t") == parse_type(word.upper(), "t")


REFUSED = [
    ("strng", "t"),
    ("aray", "t"),
    ("", "t"),
    ("MyApp.Status", "t"),
    ("{:array}", "t"),
    ("{:array, :strng}", "t"),
    ("{:array, string}", "t"),
    ("{:array, :string", "t"),
    ("{:map, :integer, :string}", "t"),
    ("{:parameterized, Ecto.Enum, %{values: [:a]}}", "t"),
    ("{:string, [max_length: 3]}", "t.constraints.max_length"),
    ("{:string, [one_off: [:a]]}", "t.constraints.one_off"),
    ("%MyApp.User{name: :string}", "t"),
    ("#Ecto.Enum<[:a]>", "t"),
    ("&String.upcase/1", "t"),
    ("tuple[str, int]", "t"),
    ("set[str]", "t"),
    ("dict[int, str]", "t"),
    ("dict[str]", "t"),
    ("list[str, int]", "t"),
    ("Annotated[int, 3]", "t"),
    ("str[int]", "t"),
    ("list[str", "t"),
    ("'str'", "t"),
    ("None", "t"),
    ("Literal[1.5]", "t"),
    ("Literal[[1]]", "t"),
    ("__import__('os')", "t"),
    ("os.system", "t"),
    (None, "t"),
    (3, "t"),
    (True, "t"),
    ([], "t"),
    ({}, "t"),
    (["string"], "t"),
    ({"aray": "string"}, "t.aray"),
    ({"array": "string", "map": "string"}, "t"),
    ({"array": "strng"}, "t.array"),
    ({"object": []}, "t.object"),
    ({"object": {"a-b": "string"}}, "t.object.a-b.name"),
    ({"object": {"_a": "string"}}, "t.object._a.name"),
    ({"object": {"a": "strng"}}, "t.object.a"),
    ({"object": [{"name": "a"}, {"name": "a"}]}, "t.object[1]"),
    ({"enum": []}, "t.enum"),
    ({"enum": "ab"}, "t.enum"),
    ({"enum": [{"a": 1}]}, "t.enum"),
    ({"enum": [2**65]}, "t.enum"),
    ({"enum": list(range(257))}, "t.enum"),
    ({"type": "integer", "enum": ["a"]}, "t.enum"),
    ({"type": "string", "items": "string"}, "t.items"),
    ({"type": "string", "minLength": 3}, "t.minLength"),
    ({"type": "string", "format": "string"}, "t.format"),
    ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]}, "t.required"),
    ({"type": None}, "t.type"),
    ({"$ref": "#/$defs/A"}, "t.$ref"),
    ({"code": "python; rm"}, "t.code"),
    ({1: "string"}, "t"),
]


@pytest.mark.parametrize(("given_form", "path"), REFUSED, ids=repr)
def test_what_is_no_type_is_refused_where_it_is_wrong(given_form, path):
    with pytest.raises(InvalidArgs) as caught:
        parse_type(given_form, "t")
    assert [fault["path"] for fault in caught.value.details["faults"]] == [path]


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("strng", "string"), ({"aray": "string"}, "array"), ({"type": "objekt"}, "object")],
    ids=repr,
)
def test_a_misspelt_word_gets_the_nearest_right_one(wrong, nearest):
    with pytest.raises(InvalidArgs) as caught:
        parse_type(wrong, "t")
    assert caught.value.details["faults"][0]["nearest"] == nearest


def test_every_fault_of_an_object_is_listed():
    with pytest.raises(InvalidArgs) as caught:
        parse_type({"object": {"a": "strng", "b": {"tipe": "string"}, "c": "string"}}, "t")
    assert [f["path"] for f in caught.value.details["faults"]] == ["t.object.a", "t.object.b.tipe"]


@unhurried
@given(types())
@example(Enum((1, True)))
@example(Nullable(ANY))
def test_every_type_survives_its_wire_form(kind):
    assert parse_type(kind.to_wire(), "t") == kind


@unhurried
@given(types())
def test_equal_types_hash_alike(kind):
    assert hash(parse_type(kind.to_wire(), "t")) == hash(kind)


@unhurried
@given(st.one_of(st.text(), st.text(alphabet="{}[]()%:,.|'\"\\=>~c aL1_", max_size=60)))
@example("[" * 19_000)
@example("{" * 19_000)
@example("list[" * 3_000)
@example("(" * 19_000)
@example("%{a: " * 3_000)
@example('{"' * 9_000)
@example("Optional[" * 20 + "int" + "]" * 20)
def test_any_text_is_a_type_or_invalid_args(text):
    try:
        kind = parse_type(text, "t")
    except InvalidArgs:
        return
    assert parse_type(kind.to_wire(), "t") == kind


@unhurried
@given(json_values())
def test_any_value_is_a_type_or_invalid_args(value):
    try:
        kind = parse_type(value, "t")
    except InvalidArgs:
        return
    assert parse_type(kind.to_wire(), "t") == kind


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 500])
@pytest.mark.parametrize("key", ["array", "map", "optional", "union", "object", "items"])
def test_depth_is_bounded_in_every_form(key, depth):
    value: object = "string"
    for _ in range(depth):
        value = {key: [value] if key == "union" else {"a": value} if key == "object" else value}
    allowed = depth <= MAX_DEPTH or (depth <= 2 * MAX_DEPTH and key in {"optional", "union"})
    if allowed:
        assert parse_type(value, "t")
    else:
        with pytest.raises(InvalidArgs):
            parse_type(value, "t")


def test_the_number_of_types_is_bounded():
    wide = {"object": {f"a{n}": "string" for n in range(120)}}
    with pytest.raises(InvalidArgs):
        parse_type({"object": {f"b{n}": wide for n in range(120)}}, "t")


def test_one_and_true_are_different_values():
    assert Enum((1,)) != Enum((True,))
    assert FieldSpec("a", ANY, "", True, 1) != FieldSpec("a", ANY, "", True, True)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Enum(()),
        lambda: Enum(("a", "a")),
        lambda: Union((STRING,)),
        lambda: Union((STRING, Nullable(INTEGER))),
        lambda: Object(()),
        lambda: Media("image", "python"),
        lambda: FieldSpec("a", STRING, "", True, MISSING),
        lambda: FieldSpec("a", STRING, "", False, None),
    ],
)
def test_what_is_not_canonical_cannot_be_built(build):
    with pytest.raises(ValueError, match=r"."):
        build()


def test_unions_flatten_and_null_moves_outside():
    assert union([STRING, Nullable(Union((INTEGER, STRING)))]) == Nullable(Union((STRING, INTEGER)))
    assert nullable(Nullable(STRING)) == Nullable(STRING)
