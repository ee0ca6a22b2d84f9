"""What an LM says, taken apart into fields while it comes, against what DSPy reads in the end."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise
from xml.sax.saxutils import escape

import dspy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.engine.streaming.chat_text import ChatText
from bridge.engine.streaming.json_text import JsonText
from bridge.engine.streaming.splitter import Verbatim
from bridge.engine.streaming.xml_text import XmlText

FIELDS = ("reasoning", "answer")
SIGNATURE = dspy.Signature("question -> reasoning, answer")
CHAT, JSON, XML = dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()

MAKERS = {
    "chat": partial(ChatText, FIELDS),
    "json": partial(JsonText, FIELDS),
    "xml": partial(XmlText, FIELDS),
    "verbatim": partial(Verbatim, "text"),
}


def said(make, *texts):
    """What is left of each field after all beginnings anew, joined."""
    splitter = make()
    fields = {}
    for text in texts:
        for name, piece in splitter.feed(text):
            _add(fields, name, piece)
    for name, piece in splitter.finish():
        _add(fields, name, piece)
    return fields


def _add(fields, name, piece):
    if piece is None:
        fields.pop(name)
    else:
        assert piece, "an empty piece is none"
        fields[name] = fields.get(name, "") + piece


def cut(text, places):
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


places = st.lists(st.integers(0, 10_000), max_size=12)

# Pieces of what makes each format hard, in any order: well formed or not.
MORSELS = {
    "chat": [
        *("[[ ## answer ## ]]", "[[ ## reasoning ## ]]", "[[ ## completed ## ]]", "[[ ## x ## ]]"),
        *("[", "[[ ", "[[ ## ", "## ]]", " ## ", "answer", "\n", "\n\n", "\r\n", "\r", " ", "\t"),
        *("\x0b", "\x0c", "\x1c", "\x85", "\u2028", "a", "b c", "é", "[[ ## answer ## ]]x "),
    ],
    "json": [
        *("{", "}", "[", "]", '"', "\\", ":", ",", " ", "\n", "```json\n", "```", "Sure: ", "true"),
        *('"answer"', '"reasoning"', '{"answer": "', '{"answer": [1, {"a": "}"}], ', "12.5", "é"),
        *("\\n", '\\"', "\\u00e9", "\\ud83d", "\\ude00", "\\ud83d\\ude00", "\\u12", "\\x", "x"),
    ],
    "xml": [
        *("<answer>", "</answer>", "<reasoning>", "</reasoning>", "<b>", "</b>", "<b/>", "\r"),
        *("<x a='>'>", "</x>", "<", ">", "&", "&amp;", "&lt;", "&#233;", "&#xe9;", "&#13;", ";"),
        *("<!-- <answer> -->", "<!--", "-->", "<![CDATA[<&]]>", "&nope;", "&;", "\n", "\r\n", " a"),
    ],
    "verbatim": ["", "a", "\n", " ", "é"],
}


@pytest.mark.parametrize("name", MAKERS)
@given(data=st.data())
def test_where_a_text_is_cut_makes_no_difference(name, data):
    text = "".join(data.draw(st.lists(st.sampled_from(MORSELS[name]), max_size=20)))
    make = MAKERS[name]
    assert said(make, *cut(text, data.draw(places))) == said(make, text)
    assert said(make, *text) == said(make, text)


@pytest.mark.parametrize("name", MAKERS)
@given(text=st.text(), at=places)
def test_any_text_is_taken_and_its_cuts_make_no_difference(name, text, at):
    assert said(MAKERS[name], *cut(text, at)) == said(MAKERS[name], text)


def same_as_dspy(adapter, make, text):
    """What was said of each field is what DSPy reads; nothing was said of an empty one."""
    read = adapter.parse(SIGNATURE, text)
    assert said(make, text) == {name: value for name, value in read.items() if value}


chat_values = st.lists(st.sampled_from(MORSELS["chat"]), max_size=8).map("".join) | st.text()


@given(reasoning=chat_values, answer=chat_values)
@example(reasoning="", answer="  [[ ## answer ## ]] twice")
@example(reasoning=" x [[ ## answer ## ]]", answer="a\u2028b\x1cc\r\n\r\nd  ")
def test_chat_sections_are_heard_as_dspy_reads_them(reasoning, answer):
    text = (
        f"Certainly!\n[[ ## reasoning ## ]]\n{reasoning}\n\n  [[ ## answer ## ]] {answer}\n\n"
        "[[ ## completed ## ]]\n[[ ## answer ## ]]\nno more"
    )
    same_as_dspy(CHAT, MAKERS["chat"], text)


@given(
    reasoning=st.text(),
    answer=st.text(),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 2]),
    around=st.sampled_from([("", ""), ("```json\n", "\n```"), ("Here you are:\n", "\nBye")]),
    others=st.dictionaries(st.sampled_from(["x", "y"]), st.recursive(st.text(), st.lists)),
)
def test_json_strings_are_heard_as_dspy_reads_them(
    reasoning, answer, ascii_only, indent, around, others
):
    values = {"reasoning": reasoning, **others, "answer": answer}
    text = json.dumps(values, ensure_ascii=ascii_only, indent=indent)
    assert said(MAKERS["json"], around[0] + text + around[1]) == {
        name: value for name, value in values.items() if value and name in FIELDS
    }
    if around == ("", ""):
        same_as_dspy(JSON, MAKERS["json"], text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=json_values, at=places, indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_a_json_value_that_is_no_string_is_heard_as_it_is_written(value, at, indent, ascii_only):
    text = json.dumps({"answer": value}, indent=indent, ensure_ascii=ascii_only)
    heard = said(MAKERS["json"], *cut(text, at)).get("answer", "")
    assert (heard if isinstance(value, str) else json.loads(heard)) == value


def test_a_key_that_comes_again_begins_its_field_anew():
    splitter = JsonText(FIELDS)
    text = '{"answer": "one", "answer": "two"}'
    assert list(splitter.feed(text)) == [("answer", "one"), ("answer", None), ("answer", "two")]
    assert json.loads(text)["answer"] == "two"


def cdata(text):
    return "<![CDATA[" + text.replace("]]>", "]]]]><![CDATA[>") + "]]>"


xml_text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])).filter(
    lambda text: "\ufffe" not in text and "\uffff" not in text
)


@given(
    reasoning=xml_text,
    answer=xml_text,
    written=st.sampled_from([escape, lambda text: "".join(f"&#{ord(c)};" for c in text), cdata]),
)
def test_xml_elements_are_heard_as_dspy_reads_them(reasoning, answer, written):
    text = (
        f"Well <!-- <answer>no</answer> --> <x><answer>nor this</answer></x>"
        f"<reasoning>\n{written(reasoning)}\n</reasoning>\r\n"
        f"<answer a='>'>{written(answer)}</answer>"
    )
    same_as_dspy(XML, MAKERS["xml"], text)


def test_nested_xml_is_heard_as_it_is_written():
    inner = "<item>a &amp; b</item>\n<item><![CDATA[<c>]]></item>"
    heard = said(partial(XmlText, FIELDS, ("answer",)), f"<answer>\n{inner}\n</answer>")
    assert heard == {"answer": inner}


def test_nothing_is_kept_back_that_could_be_said():
    splitter = ChatText(FIELDS)
    pieces = ("[[ ## answer ## ]]\n", "One", " two\n[", "x")
    heard = [list(splitter.feed(piece)) for piece in pieces]
    assert heard == [[], [("answer", "One")], [("answer", " two")], [("answer", "\n[x")]]
