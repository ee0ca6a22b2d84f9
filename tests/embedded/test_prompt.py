"""What the embedded LM reads out of a prompt, and of plain text."""

from __future__ import annotations

import json

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.embedded.answering import MODELS, answer
from bridge.embedded.prompt import read_prompt, schema_of_type
from bridge.embedded.text import names, read_question, sentences, stem
from tests.embedded.embedded_engine import ADAPTERS, TOWER, run


@pytest.fixture(params=ADAPTERS, ids=lambda a: type(a).__name__)
def adapter(request):
    return request.param


def test_history_is_read_as_earlier_turns():
    history = dspy.History(messages=[{"question": "Is it day?", "answer": "yes"}])
    program = dspy.Predict("question, history: dspy.History -> answer")
    prompt = read_prompt(run(program, question="Is it night?", history=history).messages)
    assert prompt.demos[0].inputs == {"question": "Is it day?"}
    assert prompt.demos[0].outputs == {"answer": "yes"}
    assert prompt.inputs == {"question": "Is it night?"}


def test_a_prompt_is_read_with_its_types_descriptions_and_objective(adapter):
    signature = dspy.Signature(
        {
            "question": (str, dspy.InputField(desc="what is asked")),
            "n": (int, dspy.OutputField(desc="how many")),
        },
        "Count them.",
    )
    prompt = read_prompt(run(dspy.Predict(signature), adapter, question="How many?").messages)
    assert prompt.objective == "Count them."
    assert prompt.inputs == {"question": "How many?"}
    field = prompt.output_fields[0]
    assert (field.name, field.type_text, field.description) == ("n", "int", "how many")
    assert field.schema == {"type": "integer"}


def test_fields_not_supplied_in_a_demonstration_are_absent(adapter):
    program = dspy.ChainOfThought("context, question -> answer")
    program.predict.demos = [dspy.Example(question="Who?", answer="I")]
    prompt = read_prompt(run(program, adapter, context=TOWER, question="Where?").messages)
    assert prompt.demos[0].inputs == {"question": "Who?"}
    assert prompt.demos[0].outputs == {"answer": "I"}


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("list[int]", {"type": "array", "items": {"type": "integer"}}),
        ("Literal['a, b', \"it's\", 3]", {"enum": ["a, b", "it's", 3]}),
        ("Union[str, NoneType]", {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (
            "dict[str, list[float]]",
            {
                "type": "object",
                "additionalProperties": {"type": "array", "items": {"type": "number"}},
            },
        ),
        ("Person", None),
    ],
)
def test_types_are_read_as_dspy_prints_them(text, schema):
    assert schema_of_type(text) == schema


def test_word_forms_of_one_root_share_a_stem():
    assert {stem(w) for w in ("inventor", "invented", "invention", "invents")} == {"invent"}


def test_initials_do_not_end_a_sentence():
    text = "The electron was discovered by J. J. Thomson. He was English."
    assert len(sentences(text)) == 2


def test_names_keep_their_particles_and_lose_leading_articles():
    found = names("The Mona Lisa was painted by Leonardo da Vinci in The Hague.")
    assert [n.text for n in found] == ["Mona Lisa", "Leonardo da Vinci", "The Hague"]


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Who painted it?", "person"),
        ("Where was she born?", "place"),
        ("In which city was she born?", "place"),
        ("When was she born?", "year"),
        ("How many moons has Mars?", "number"),
        ("What is it?", "name"),
    ],
)
def test_the_question_word_tells_the_kind_of_answer(question, kind):
    assert read_question(question).kind == kind


BROKEN_NOTE = "{c}        # note: the value you produce must adhere to the JSON schema: {"


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "role": st.sampled_from(["system", "user", "assistant", "tool"]),
                "content": st.one_of(
                    st.text(),
                    st.none(),
                    st.lists(st.dictionaries(st.text(), st.text())),
                    st.lists(
                        st.sampled_from(
                            [
                                "Your input fields are:\n1. `a` (str):\n",
                                "Your output fields are:\n1. `b` (list[Literal['):\n",
                                "1. `c` (P): x\n",
                                "All interactions will be structured in the following way\n",
                                "Outputs will be a JSON object with the following fields.\n{\n",
                                BROKEN_NOTE,
                                "[[ ## a ## ]]\n",
                                "[[ ## completed ## ]]\n",
                                "<a>",
                                "</a>",
                                "Respond with the corresponding output fields",
                            ]
                        )
                    ).map("".join),
                ),
            }
        ),
        max_size=5,
    ),
    st.sampled_from(sorted(MODELS)),
)
def test_no_messages_make_it_raise(messages, model):
    assert isinstance(answer(messages, model=model), str)


SCHEMAS = st.recursive(
    st.sampled_from(
        [
            {"type": "string"},
            {"type": "integer", "minimum": 3},
            {"type": "number"},
            {"type": "boolean"},
            {"type": "null"},
            {"enum": ["x", 2]},
            {"type": "string", "format": "date"},
        ]
    ),
    lambda inner: st.one_of(
        inner.map(lambda s: {"type": "array", "items": s}),
        inner.map(lambda s: {"anyOf": [s, {"type": "null"}]}),
        st.dictionaries(st.sampled_from("abc"), inner).map(
            lambda p: {"type": "object", "properties": p, "required": sorted(p)}
        ),
    ),
    max_leaves=6,
)


def with_schema(schema: object, text: str) -> list[dict[str, str]]:
    """A JSON prompt `text -> v` whose type is known by its schema alone."""
    note = "{v}        # note: the value you produce must adhere to the JSON schema: "
    sample = json.dumps({"v": note + json.dumps(schema)}, indent=2)
    system = (
        "Your input fields are:\n1. `text` (str):\nYour output fields are:\n1. `v` (Thing):\n"
        "All interactions will be structured in the following way, with the values filled in.\n\n"
        f"Outputs will be a JSON object with the following fields.\n\n{sample}\n"
        "In adhering to this structure, your objective is: \n        Do."
    )
    user = f"[[ ## text ## ]]\n{text}"
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


@given(SCHEMAS, st.sampled_from(sorted(MODELS)))
@settings(deadline=None)
def test_a_json_value_fits_the_schema_the_prompt_states(schema, model):
    jsonschema = pytest.importorskip("jsonschema")
    messages = with_schema(schema, "Ada Lovelace was born in London in 1815.")
    jsonschema.validate(json.loads(answer(messages, model=model))["v"], schema)


KEYWORDS = ["type", "enum", "anyOf", "$ref", "$defs", "items", "properties", "format", "minimum"]
VALUES = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.sampled_from(["object", "array", "string", "integer", "date", "#/$defs/type"]),
)


@given(
    st.recursive(
        VALUES,
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.sampled_from(KEYWORDS), inner)),
    ),
    st.sampled_from(sorted(MODELS)),
    st.one_of(st.text(), st.integers().map(str)),
)
@settings(deadline=None)
def test_no_schema_makes_it_raise(schema, model, text):
    assert isinstance(answer(with_schema(schema, text), model=model), str)


def test_digits_without_end_are_not_a_number():
    messages = with_schema({"type": "integer"}, "9" * 5000)
    assert json.loads(answer(messages, model="lexical")) == {"v": 0}
