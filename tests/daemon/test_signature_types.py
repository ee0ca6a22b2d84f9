"""Types and values through a spawned daemon: every spelling, coercion, media, markers, replies."""

from __future__ import annotations

import datetime as dt
from typing import Literal

import dspy
import pydantic
import pytest

from tests.daemon.asking import (
    chat_reply,
    create,
    faults,
    forward,
    lm_at,
    new_id,
    one,
    plain_dspy,
    prompts,
    refused,
    user_text,
)

PERSON = {
    "object": [
        {"name": "name", "type": "string", "description": "Full name"},
        {"name": "born", "type": "date"},
        {"name": "nick", "type": "string", "optional": True},
    ],
    "name": "Person",
}


def into(type_, **more):
    """A signature with one output of this type."""
    return {"inputs": {"question": "string"}, "outputs": [{"name": "y", "type": type_, **more}]}


def answered(daemon, server, type_, reply, **more):
    """The value that a reply gives an output of this type."""
    model = new_id("reply")
    module = create(daemon, "predict", into(type_, **more), lm=lm_at(server, model))
    server.script(model, chat_reply(y=reply))
    return forward(daemon, module, {"question": "q"})["y"]


# Inputs


@pytest.mark.parametrize(
    ("spelling", "value", "text"),
    [
        ("string", "a", "a"),
        (":string", "a", "a"),
        ("String.t()", "a", "a"),
        ("Ash.Type.String", "a", "a"),
        ("integer", 3, "3"),
        ("integer", "3", "3"),
        ("non_neg_integer", 3, "3"),
        ("float", 1, "1.0"),
        ("float", "1.5", "1.5"),
        ("boolean", True, "True"),
        ("boolean", "false", "False"),
        ("decimal", "1.50", "1.50"),
        ("array", [1, "a", None], '[1, "a", null]'),
        ("map", {"k": [1]}, '{"k": [1]}'),
        ("any", {"k": None}, '{"k": null}'),
        ("any", "text", "text"),
        ("{:array, :string}", ["a", "b"], '["a", "b"]'),
        ("{:array, :integer}", ["1", 2], "[1, 2]"),
        (["array", "string"], ["a"], '["a"]'),
        ({"array": "string"}, ["a"], '["a"]'),
        ("{:map, :integer}", {"a": "1"}, '{"a": 1}'),
        ("{:map, :string, :float}", {"a": 1}, '{"a": 1.0}'),
        ("{:map, %{name: :string}}", {"name": "n"}, '{"name": "n"}'),
        ("{:map, [fields: [a: [type: :string]]]}", {"a": "v"}, '{"a": "v"}'),
        ("{:map, %{}}", {"a": 1}, '{"a": 1}'),
        (["map", {"name": "string"}], {"name": "n"}, '{"name": "n"}'),
        ("{:one_of, [:a, :b]}", "b", "b"),
        ({"enum": ["a", "b"]}, "b", "b"),
        ({"enum": [1, 2]}, 2, "2"),
        ("date", "2024-02-03", "2024-02-03"),
        ("time", "10:20:30", "10:20:30"),
        (":utc_datetime", "2024-02-03T10:20:30Z", "2024-02-03T10:20:30Z"),
        ("naive_datetime", "2024-02-03T10:20:30", "2024-02-03T10:20:30"),
        ("list[dict[str, int]]", [{"a": 1}], '[{"a": 1}]'),
        ("int | None", 5, "5"),
        ({"type": "array", "items": {"type": "number"}}, [1], "[1.0]"),
        (
            PERSON,
            {"name": "Ada", "born": "1815-12-10"},
            '{"name": "Ada", "born": "1815-12-10", "nick": null}',
        ),
        (
            {"array": PERSON},
            [{"name": "Ada", "born": "1815-12-10", "nick": "A"}],
            '[{"name": "Ada", "born": "1815-12-10", "nick": "A"}]',
        ),
    ],
)
def test_every_spelling_of_a_type_takes_its_values(daemon, spelling, value, text):
    assert user_text(daemon, spelling, value) == text


def test_an_optional_input_without_a_value_stays_out_of_the_prompt(daemon):
    assert user_text(daemon, "string", ..., optional=True) is None
    assert user_text(daemon, "string", None, optional=True) is None
    assert user_text(daemon, "int | None", None) is None


def test_a_default_stands_in_for_a_value_that_is_not_given_or_null(daemon):
    assert user_text(daemon, "date", ..., default="2024-01-02") == "2024-01-02"
    assert user_text(daemon, "string", None, default="plain") == "plain"
    assert user_text(daemon, {"optional": "string"}, None, default="plain") == "None"
    assert user_text(daemon, "{:array, :integer}", ..., default=[1, 2]) == "[1, 2]"
    assert user_text(daemon, PERSON, ..., default={"name": "A", "born": "1815-12-10"}).startswith(
        '{"name": "A"'
    )


def test_a_default_that_only_dspys_type_refuses_is_invalid_args(daemon):
    module = create(daemon, "predict", one("image", default="photo.png"))
    found = faults(daemon, "forward", {"module_id": module, "inputs": {}})
    assert set(found) == {"signature.x.default"}


@pytest.mark.parametrize(
    ("type_", "value", "path"),
    [
        ("string", 5, "inputs.x"),
        ("string", None, "inputs.x"),
        ("integer", "five", "inputs.x"),
        ("integer", 1.5, "inputs.x"),
        ("boolean", "maybe", "inputs.x"),
        ("{:array, :string}", ["a", 5], "inputs.x[1]"),
        ("{:array, :string}", "a", "inputs.x"),
        ("{:map, :integer}", {"a": "b"}, "inputs.x.a"),
        ({"enum": ["a"]}, "b", "inputs.x"),
        ("date", "yesterday", "inputs.x"),
        ({"union": ["integer", {"array": "integer"}]}, ["a"], "inputs.x[0]"),
        (PERSON, {"name": "A"}, "inputs.x.born"),
        (PERSON, {"name": "A", "born": "1815-12-10", "nik": "x"}, "inputs.x.nik"),
        ({"array": PERSON}, [{"name": 1, "born": "1815-12-10"}], "inputs.x[0].name"),
    ],
)
def test_an_ill_typed_input_is_refused_with_its_path(daemon, type_, value, path):
    module = create(daemon, "predict", one(type_))
    assert path in faults(daemon, "forward", {"module_id": module, "inputs": {"x": value}})


def test_every_missing_and_unknown_input_is_named_with_the_nearest_right_one(daemon):
    module = create(daemon, "predict", "question, context: list[str] -> answer")
    inputs = {"qestion": "q", "zzz": 1}
    found = faults(daemon, "forward", {"module_id": module, "inputs": inputs})
    assert set(found) == {"inputs.question", "inputs.context", "inputs.qestion", "inputs.zzz"}
    assert found["inputs.qestion"]["nearest"] == "question"


def test_a_misspelt_key_within_a_list_of_objects_is_told_the_nearest(daemon):
    module = create(daemon, "predict", one({"array": PERSON}))
    people = [{"name": "A", "born": "1815-12-10", "nik": "x"}]
    found = faults(daemon, "forward", {"module_id": module, "inputs": {"x": people}})
    assert found["inputs.x[0].nik"]["nearest"] == "nick"


@pytest.mark.parametrize(
    ("signature", "path", "word"),
    [
        ("config -> answer", "signature.inputs[0].name", "call argument"),
        ("question -> signature", "signature.outputs[0].name", "attribute"),
        ("question -> items", "signature.outputs[0].name", "method"),
        ("class -> answer", "signature.inputs[0].name", "keyword"),
        ("_a -> answer", "signature.inputs[0].name", "underscore"),
    ],
)
def test_reserved_names_are_refused_with_the_reason(daemon, signature, path, word):
    spec = {"id": new_id(), "type": "predict", "signature": signature}
    assert word in faults(daemon, "create_module", spec)[path]["message"]


# Outputs


@pytest.mark.parametrize(
    ("type_", "reply", "value"),
    [
        ("string", "text", "text"),
        ("integer", "42", 42),
        ("float", "0.5", 0.5),
        ("boolean", "True", True),
        ("{:array, :integer}", "[1, 2]", [1, 2]),
        ("{:map, :string}", '{"a": "b"}', {"a": "b"}),
        ("map", '{"a": [1, null]}', {"a": [1, None]}),
        ({"enum": ["yes", "no"]}, "no", "no"),
        ({"enum": [1, 2]}, "2", 2),
        ("date", "2024-02-03", "2024-02-03"),
        ("datetime", "2024-02-03T10:20:30Z", "2024-02-03T10:20:30Z"),
        ("decimal", '"1.50"', "1.50"),
        ("code", "```python\nx = 1\n```", "x = 1"),
        ({"code": "elixir"}, "```elixir\nIO.puts(1)\n```", "IO.puts(1)"),
        ("reasoning", "because", "because"),
        ("image", '{"url": "https://host.invalid/a.png"}', {"url": "https://host.invalid/a.png"}),
        ({"array": "code"}, '["x = 1"]', ["x = 1"]),
        ({"optional": "integer"}, "null", None),
        (
            PERSON,
            '{"name": "Ada", "born": "1815-12-10"}',
            {"name": "Ada", "born": "1815-12-10", "nick": None},
        ),
        (
            {"array": PERSON},
            '[{"name": "Ada", "born": "1815-12-10", "nick": "A"}]',
            [{"name": "Ada", "born": "1815-12-10", "nick": "A"}],
        ),
        (
            {"object": {"people": {"map": PERSON}}},
            '{"people": {"a": {"name": "Ada", "born": "1815-12-10"}}}',
            {"people": {"a": {"name": "Ada", "born": "1815-12-10", "nick": None}}},
        ),
    ],
)
def test_outputs_are_read_into_their_type_and_sent_as_plain_values(
    daemon, lm_server, type_, reply, value
):
    found = answered(daemon, lm_server, type_, reply)
    assert found == value
    assert type(found) is type(value)


def test_an_output_with_a_default_may_be_left_out_of_a_reply(daemon, lm_server):
    model = new_id("left-out")
    outputs = [{"name": "answer", "type": "string"}, {"name": "n", "type": "integer", "default": 7}]
    signature = {"inputs": {"question": "string"}, "outputs": outputs}
    module = create(daemon, "predict", signature, lm=lm_at(lm_server, model))
    lm_server.script(model, chat_reply(answer="a"))
    assert forward(daemon, module, {"question": "q"}) == {"answer": "a", "n": 7}


@pytest.mark.parametrize("reply", ["no fields at all", chat_reply(y="twelve")])
def test_an_unreadable_reply_is_adapter_parse_with_the_raw_text(daemon, lm_server, reply):
    model = new_id("unread")
    module = create(daemon, "predict", into("integer"), lm=lm_at(lm_server, model))
    # The chat adapter asks once more, for JSON.
    lm_server.script(model, reply, "still nothing")
    error = refused(daemon, "forward", {"module_id": module, "inputs": {"question": "q"}})
    assert error["code"] == "adapter_parse"
    assert error["details"]["response"] == "still nothing"
    assert error["details"]["expected"] == ["y"]


# Prompts of typed signatures


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(description="Full name")
    born: dt.date
    nick: str | None = None


class Typed(dspy.Signature):
    """Say who it is."""

    who: Person = dspy.InputField(desc="The person")
    others: list[Person] = dspy.InputField()
    day: dt.date = dspy.InputField()
    kind: Literal["a", "b"] = dspy.InputField()
    best: Person = dspy.OutputField()
    note: str | None = dspy.OutputField(default=None)


def test_prompts_with_objects_are_to_the_letter_those_of_plain_dspy(daemon, lm_server):
    ada = {"name": "Ada", "born": "1815-12-10"}
    signature = {
        "instructions": "Say who it is.",
        "inputs": [
            {"name": "who", "type": PERSON, "description": "The person"},
            {"name": "others", "type": {"array": PERSON}},
            {"name": "day", "type": "date"},
            {"name": "kind", "type": {"enum": ["a", "b"]}},
        ],
        "outputs": [{"name": "best", "type": PERSON}, {"name": "note", "optional": True}],
    }
    module = create(daemon, "predict", signature)
    inputs = {"who": ada, "others": [ada, ada], "day": "2024-01-02", "kind": "b"}
    ours = prompts(
        daemon, "forward", {"module_id": module, "inputs": inputs}, lm=lm_at(lm_server, "typed")
    )
    person = Person(name="Ada", born=dt.date(1815, 12, 10))
    theirs = plain_dspy(
        lm_server,
        "typed-plain",
        dspy.Predict(Typed),
        who=person,
        others=[person, person],
        day=dt.date(2024, 1, 2),
        kind="b",
    )
    assert ours == theirs
