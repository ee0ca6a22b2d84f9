"""Every spelling of a type, and the one canonical form that each becomes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.specs.spellings import SPELLINGS
from bridge.specs.type_model import (
    MAX_DEPTH,
    MISSING,
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
from bridge.specs.types import parse_type
from protocol.errors import InvalidArgs
from tests.specs.strategies import json_values, types

STRING, INTEGER, FLOAT, BOOLEAN, ANY = map(Scalar, ("string", "integer", "float", "boolean", "any"))


def field(name, kind=STRING, **more):
    return FieldSpec(name, kind, **more)


def maybe(name, kind=STRING):
    return FieldSpec(name, kind, optional=True, default=None)


PERSON = Object((field("name"), field("age", INTEGER)))
AB = Enum(("a", "b"))

SEED = [
    ("string", STRING),
    ("integer", INTEGER),
    ("float", FLOAT),
    ("boolean", BOOLEAN),
    ("array", Array(ANY)),
    ("map", Map(ANY)),
    ("any", ANY),
    ("{:array, :string}", Array(STRING)),
    ("{:array,:string}", Array(STRING)),
    (" {:array, {:array, :integer}} ", Array(Array(INTEGER))),
    ("{:array, :map}", Array(Map(ANY))),
]
ELIXIR = [
    (":string", STRING),
    (':"string"', STRING),
    ("Elixir.String", STRING),
    ("String", STRING),
    ("String.t()", STRING),
    ("integer()", INTEGER),
    ("Ash.Type.String", STRING),
    ("Elixir.Ash.Type.String", STRING),
    ("Ash.Type.CiString", STRING),
    ("Ash.Type.UUID", STRING),
    ("Ash.Type.UUIDv7", STRING),
    ("Ecto.UUID", STRING),
    ("Ash.Type.UtcDatetime", Scalar("datetime")),
    ("Elixir.Ash.Type.UtcDatetimeUsec", Scalar("datetime")),
    ("DateTime", Scalar("datetime")),
    ("NaiveDateTime", Scalar("datetime")),
    ("Ash.Type.Integer", INTEGER),
    ("Ash.Type.Term", ANY),
    ("Ash.Type.Vector", Array(FLOAT)),
    ("Ash.Type.File", Media("file")),
    ("Decimal", Scalar("decimal")),
    (":utc_datetime", Scalar("datetime")),
    (":naive_datetime", Scalar("datetime")),
    (":date", Scalar("date")),
    (":time", Scalar("time")),
    (":decimal", Scalar("decimal")),
    (":uuid", STRING),
    (":atom", STRING),
    (":ci_string", STRING),
    (":number", FLOAT),
    (":list", Array(ANY)),
    (":keyword", Map(ANY)),
    ("{:map, :string}", Map(STRING)),
    ("{:map, :string, :integer}", Map(INTEGER)),
    ("{:map, :atom, {:array, :integer}}", Map(Array(INTEGER))),
    ("{:map, []}", Map(ANY)),
    ("{:map, %{}}", Map(ANY)),
    ("{:map, %{name: :string, age: :integer}}", PERSON),
    ('{:map, %{"name" => :string, "age" => :integer}}', PERSON),
    ("{:map, [name: :string, age: :integer]}", PERSON),
    ("{:map, name: :string, age: :integer}", PERSON),
    ("{:map, %{type: :string, items: {:array, :string}}}",
     Object((field("type"), field("items", Array(STRING))))),
    ("{:map, %{code: :string}}", Object((field("code"),))),
    ("{:map, [fields: [name: [type: :string, allow_nil?: false], age: [type: :integer]]]}",
     Object((field("name"), maybe("age", INTEGER)))),
    ("""{:map, fields: [name: [type: Ash.Type.String, allow_nil?: false,
        constraints: [trim?: true], description: "Full"]]}""",
     Object((field("name", description="Full"),))),
    ("{Ash.Type.Map, [fields: [name: [type: :string, allow_nil?: false]]]}",
     Object((field("name"),))),
    ("{:array, {:map, %{name: :string, age: :integer}}}", Array(PERSON)),
    ("{{:array, :atom}, [items: [one_of: [:a, :b]]]}", Array(AB)),
    ("{:one_of, [:a, :b]}", AB),
    ('{:one_of, ["a", "b"]}', AB),
    ("{:enum, [:a, :b]}", AB),
    ('{:one_of, ~c"ab"}', Enum((97, 98))),
    ("{:one_of, [:a, nil]}", Nullable(Enum(("a",)))),
    ("{:atom, [one_of: [:a, :b]]}", AB),
    ("{Ash.Type.Atom, one_of: [:a, :b]}", AB),
    ("{:atom, [one_of: [:a, :b], unsafe_to_atom?: false]}", AB),
    ("{:string, []}", STRING),
    ("{:optional, :string}", Nullable(STRING)),
    ("{:nullable, {:array, :string}}", Nullable(Array(STRING))),
    ("{:union, [:string, :integer]}", Union((STRING, INTEGER))),
    ("[type: :array, items: :string]", Array(STRING)),
]  # fmt: skip
JSON = [
    (["array", "string"], Array(STRING)),
    (("array", "string"), Array(STRING)),
    ([":array", ":string"], Array(STRING)),
    (["array", ["array", "integer"]], Array(Array(INTEGER))),
    (["map", "string"], Map(STRING)),
    (["map", "string", "integer"], Map(INTEGER)),
    (["map", {"name": "string", "age": "integer"}], PERSON),
    (["map", [["name", "string"], ["age", "integer"]]], PERSON),
    (["map", {"fields": {"name": {"type": "string", "allow_nil?": False}}}],
     Object((field("name"),))),
    (["map", {"array": "string"}], Map(Array(STRING))),
    (["one_of", ["a", "b"]], AB),
    (["atom", {"one_of": ["a", "b"]}], AB),
    (["atom", [["one_of", ["a", "b"]]]], AB),
    ({"array": "string"}, Array(STRING)),
    ({"list": "string"}, Array(STRING)),
    ({"map": "integer"}, Map(INTEGER)),
    ({"map": {"array": "string"}}, Map(Array(STRING))),
    ({"map": {"name": "string", "age": "integer"}}, PERSON),
    ({"map": {"type": "string"}}, Map(STRING)),
    ({"object": {"name": "string", "age": "integer"}}, PERSON),
    ({"object": {"array": "string"}}, Object((field("array"),))),
    ({"object": [{"name": "name"}, {"name": "age", "type": "integer"}]}, PERSON),
    ({"object": {"name": "string"}, "name": "Person"}, Object((field("name"),), "Person")),
    ({"enum": ["a", "b"]}, AB),
    ({"enum": ["a", "b", "a"]}, AB),
    ({"one_of": [1, 2]}, Enum((1, 2))),
    ({"enum": [1, True]}, Enum((1, True))),
    ({"enum": ["a", None]}, Nullable(Enum(("a",)))),
    ({"optional": "string"}, Nullable(STRING)),
    ({"optional": {"optional": "string"}}, Nullable(STRING)),
    ({"union": ["string", "integer"]}, Union((STRING, INTEGER))),
    ({"union": ["string", "string"]}, STRING),
    ({"union": ["string", {"union": ["integer", "null"]}]}, Nullable(Union((STRING, INTEGER)))),
    ({"code": "python"}, Media("code", "python")),
    ({"type": "string"}, STRING),
    ({"type": "array", "items": "string"}, Array(STRING)),
    ({"type": "array", "items": {"type": "integer"}}, Array(INTEGER)),
    ('{"type": "array", "items": "string"}', Array(STRING)),
    ({"type": "list"}, Array(ANY)),
    ({"type": {"array": "string"}}, Array(STRING)),
    ({"type": ["string", "null"]}, Nullable(STRING)),
    ({"type": ["string", "integer"]}, Union((STRING, INTEGER))),
    ({"type": ["array", "string"]}, Array(STRING)),
    ({"type": "string", "nullable": True}, Nullable(STRING)),
    ({"type": "string", "enum": ["a", "b"]}, AB),
    ({"type": ["string", "null"], "enum": ["a", "b", None]}, Nullable(AB)),
    ({"type": "enum", "values": ["a", "b"]}, AB),
    ({"type": "atom", "constraints": {"one_of": ["a", "b"]}}, AB),
    ({"const": "a"}, Enum(("a",))),
    ({"type": "string", "format": "date-time"}, Scalar("datetime")),
    ({"type": "string", "format": "uuid", "title": "Id"}, STRING),
    ({"type": "object"}, Map(ANY)),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, Map(INTEGER)),
    ({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
      "required": ["name"], "additionalProperties": False},
     Object((field("name"), maybe("age", INTEGER)))),
    ({"properties": {"name": {"type": "string", "description": "Full"}}, "required": ["name"]},
     Object((field("name", description="Full"),))),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, Nullable(STRING)),
    ({"type": "map", "fields": {"name": {"type": "string", "allow_nil?": False}}},
     Object((field("name"),))),
]  # fmt: skip
PYTHON = [
    ("str", STRING),
    ("int", INTEGER),
    ("bool", BOOLEAN),
    ("list", Array(ANY)),
    ("dict", Map(ANY)),
    ("List[str]", Array(STRING)),
    ("list[list[int]]", Array(Array(INTEGER))),
    ("typing.List[str]", Array(STRING)),
    ("Sequence[str]", Array(STRING)),
    ("dict[str, int]", Map(INTEGER)),
    ("Dict[str, Any]", Map(ANY)),
    ("Literal['a','b']", AB),
    ('Literal["a", "b",]', AB),
    ("Literal['a', 1, True, None]", Nullable(Enum(("a", 1, True)))),
    ("Literal['a, b', '->', 'it\\'s']", Enum(("a, b", "->", "it's"))),
    ("Optional[int]", Nullable(INTEGER)),
    ("Optional[Optional[int]]", Nullable(INTEGER)),
    ("int | None", Nullable(INTEGER)),
    ("None | int | str", Nullable(Union((INTEGER, STRING)))),
    ("Union[int, None]", Nullable(INTEGER)),
    ("list[int | None]", Array(Nullable(INTEGER))),
    ("(int | str)", Union((INTEGER, STRING))),
    ("Any", ANY),
    ("typing.Any", ANY),
    ("date", Scalar("date")),
    ("datetime", Scalar("datetime")),
    ("datetime.date", Scalar("date")),
    ("datetime.datetime", Scalar("datetime")),
    ("decimal.Decimal", Scalar("decimal")),
    ("uuid.UUID", STRING),
    ("dspy.Image", Media("image")),
    ("Image", Media("image")),
    ("list[dspy.Image]", Array(Media("image"))),
    ("dspy.Audio", Media("audio")),
    ("dspy.File", Media("file")),
    ("dspy.History", Media("history")),
    ("dspy.Reasoning", Media("reasoning")),
    ("dspy.Code", Media("code")),
    ('dspy.Code["python"]', Media("code", "python")),
    ("Code[python]", Media("code", "python")),
    ("list[\n  str\n]", Array(STRING)),
]


@pytest.mark.parametrize(("given_form", "wanted"), SEED + ELIXIR + JSON + PYTHON, ids=repr)
def test_every_spelling_means_its_type(given_form, wanted):
    assert parse_type(given_form, "t") == wanted


@pytest.mark.parametrize(("given_form", "wanted"), SEED + ELIXIR + JSON + PYTHON, ids=repr)
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


@given(types())
@example(Enum((1, True)))
@example(Nullable(ANY))
def test_every_type_survives_its_wire_form(kind):
    assert parse_type(kind.to_wire(), "t") == kind


@given(types())
def test_equal_types_hash_alike(kind):
    assert hash(parse_type(kind.to_wire(), "t")) == hash(kind)


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
