"""What the test server reads: requests off the wire, output fields in prompts, words in names."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from . import answer_text
from .answers import Prompt, compose_answer
from .behaviours import read_behaviour
from .http11 import MalformedRequestError, RequestParser

REQUESTS = [
    (b"POST /a?b=c HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "/a", b"hello"),
    (b"GET /b HTTP/1.1\r\nX: y\r\n\r\n", "/b", b""),
    (
        b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n",
        "/c",
        b"abcde",
    ),
]

CHAT_SYSTEM = """
[[ ## reasoning ## ]]
{reasoning}

[[ ## answer ## ]]
{answer}

[[ ## n ## ]]
{n}        # note: the value you produce must be a single int value

[[ ## kind ## ]]
{kind}        # note: the value you produce must exactly match (no extra characters) one of: x; y

[[ ## l ## ]]
{l}        # note: the value you produce must adhere to the JSON schema: %s
"""
SCHEMA = '{"type": "array", "$defs": {"E": {"enum": ["a"]}}, "items": {"$ref": "#/$defs/E"}}'
CHAT_USER = (
    "[[ ## question ## ]]\n%s\n\n[[ ## context ## ]]\nBecause.\n\n"
    "Respond with the corresponding output fields, starting with the field "
    "`[[ ## reasoning ## ]]`, then `[[ ## answer ## ]]`, then `[[ ## n ## ]]` (must be formatted "
    "as a valid Python int), then `[[ ## kind ## ]]`, then `[[ ## l ## ]]`, and then ending with "
    "the marker for `[[ ## completed ## ]]`."
)

JSON_SYSTEM = """Outputs will be a JSON object with the following fields.

{
  "answer": "{answer}",
  "sure": "{sure}        # note: the value you produce must be True or False"
}
In adhering to this structure, your objective is:
"""
JSON_USER = (
    "[[ ## question ## ]]\nWhy?\n\n"
    "Respond with a JSON object in the following order of fields: `answer`, then `sure` (must be "
    "formatted as a valid Python bool)."
)

XML_SYSTEM = """<question>
{question}
</question>

<answer>
{answer}
</answer>

<l><item>...</item></l>
"""
XML_USER = """<question>
a < b?
</question>

Respond with the corresponding output fields wrapped in XML tags `<answer>`, then `<l>`."""


def test_every_output_field_of_a_chat_prompt_is_filled_in_its_type() -> None:
    answer = compose_answer("m", Prompt(CHAT_SYSTEM % SCHEMA, CHAT_USER % "Why?", 0))
    sections = answer.split("\n\n")
    assert sections[0] == "[[ ## reasoning ## ]]\n" + answer_text("m", "Why?", "reasoning")
    assert sections[1] == "[[ ## answer ## ]]\nm: Why?"
    assert sections[2].removeprefix("[[ ## n ## ]]\n").isdecimal()
    assert sections[3].removeprefix("[[ ## kind ## ]]\n") in ("x", "y")
    assert sections[4:] == ['[[ ## l ## ]]\n["a"]', "[[ ## completed ## ]]"]


def test_a_json_prompt_is_answered_by_an_object() -> None:
    fields = json.loads(compose_answer("m", Prompt(JSON_SYSTEM, JSON_USER, 0)))
    assert fields["answer"] == "m: Why?"
    assert isinstance(fields["sure"], bool)


def test_an_xml_prompt_is_answered_by_escaped_elements() -> None:
    answer = compose_answer("m", Prompt(XML_SYSTEM, XML_USER, 0))
    assert answer == "<answer>\nm: a &lt; b?\n</answer>\n\n<l><item>1</item></l>"


@given(st.text())
def test_the_answer_depends_on_the_first_input_alone(question: str) -> None:
    prompt = Prompt(CHAT_SYSTEM % SCHEMA, CHAT_USER % question, 0)
    assert answer_text("m", question.strip()) in compose_answer("m", prompt)


@given(st.text(), st.text())
def test_any_prompt_without_fields_gets_one_plain_text(system: str, user: str) -> None:
    assert compose_answer("m", Prompt(system, user, 0)).startswith("m: ")


@given(st.lists(st.integers(1, 60), max_size=40))
def test_requests_survive_any_chunking(sizes: list[int]) -> None:
    whole = b"".join(raw for raw, _, _ in REQUESTS)
    parser, seen, at = RequestParser(), [], 0
    for size in [*sizes, len(whole)]:
        seen += parser.feed(whole[at : at + size])
        at += size
    assert [(request.path, request.body) for request in seen] == [
        (path, body) for _, path, body in REQUESTS
    ]


@given(st.binary(max_size=200))
def test_any_bytes_are_requests_or_malformed(noise: bytes) -> None:
    try:
        RequestParser().feed(noise + b"\r\n\r\n")
    except MalformedRequestError:
        return


@given(st.text(max_size=40))
def test_any_name_without_a_plus_is_a_model(name: str) -> None:
    assert read_behaviour(name.replace("+", "-")).extra_words >= 0
