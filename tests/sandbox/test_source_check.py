"""What is known of a program's source before it runs, and how it is said."""

from __future__ import annotations

import pytest

from bridge.specs.source.check import Part, check_program
from protocol.errors import ProgramError

PARTS = (
    Part("generate_query", {"question": True, "context": True}, ("query",)),
    Part("generate_answer", {"question": True, "context": False}, ("reasoning", "answer")),
    Part("search", {"query": True}, ("passages",)),
    Part("lookup", {"word": True, "many": False}, None, is_tool=True),
)

GOLDEN = [
    (
        "query = self.generate_qurey(question=question, context='')\nresult = query",
        (
            "forward_fn:1:9: the program has no module 'generate_qurey'; "
            "did you mean 'generate_query'?"
        ),
    ),
    (
        "result = self.generate_query(question=question)",
        "forward_fn:1:10: the call of 'generate_query' lacks its input 'context'",
    ),
    (
        "q = self.generate_query(question=question, contxt='', context='')\nresult = q",
        "forward_fn:1:44: module 'generate_query' has no input 'contxt'; did you mean 'context'?",
    ),
    (
        "q = self.generate_query(question=question, context='')\nresult = {'query': q.qurey}",
        "forward_fn:2:20: the answer has no field 'qurey'; did you mean 'query'?",
    ),
    (
        "q = await self.search(query=question)\nresult = q",
        (
            "forward_fn:1:11: `self.search(…)` answers at once; drop `await`, or write "
            "`await self.search.acall(…)`"
        ),
    ),
    (
        "self.search(query=question)",
        (
            "forward_fn:1:1: the source gives nothing back; bind `result`, or `return` a map "
            "such as {'answer': …}"
        ),
    ),
    (
        "q = search(query=question)\nresult = q",
        (
            "forward_fn:1:5: 'search' is a module of the program, not a function; call it as "
            "`self.search(…)`"
        ),
    ),
    (
        "def pages():\n    yield 1\nresult = {'n': list(pages())}",
        "forward_fn:2:5: the sandbox's Python has no `yield`; build a list and return it",
    ),
    (
        "class Stop(Exception):\n    pass\nresult = {}",
        (
            "forward_fn:1:1: class 'Stop' inherits, and the sandbox's classes cannot; raise "
            "`ValueError('…')` instead of an exception of your own"
        ),
    ),
    (
        "import numpy\nresult = {}",
        (
            "forward_fn:1:1: the sandbox has no module 'numpy'; there are __future__, asyncio, "
            "base64, binascii, bisect, collections, copy, csv, dataclasses, datetime, decimal, "
            "functools, hashlib, itertools, json, math, os, pathlib, posixpath, random, re, sys, "
            "time, tomllib, typing, unicodedata"
        ),
    ),
    (
        "result = {'answer': question",
        "forward_fn:1:10: invalid syntax: '{' was never closed",
    ),
    (
        (
            "found = self.search(query=question)\ncontext = found.passages\n"
            "result = self.generate_answer(question=question, context=contxt)"
        ),
        "forward_fn:3:58: nothing is bound under 'contxt'; did you mean 'context'?",
    ),
    (
        "result = self.generate_query(question, '')",
        (
            "forward_fn:1:30: module 'generate_query' takes its inputs by name: question, context; "
            "write question=…"
        ),
    ),
    (
        "return 'just a text'",
        (
            "forward_fn:1:8: a program gives a map of output fields; write "
            "{'answer': 'just a text'}, or a module's prediction"
        ),
    ),
    (
        "del question\nresult = {}",
        "forward_fn:1:1: the sandbox's Python has no `del`; leave it, or use `pop`",
    ),
]


@pytest.mark.parametrize(
    ("text", "message"), GOLDEN, ids=[m.split(";")[0][11:50] for _, m in GOLDEN]
)
def test_mistakes_are_told_as_a_good_compiler_tells_them(text, message):
    with pytest.raises(ProgramError) as caught:
        check_program(text, PARTS)
    assert caught.value.message == message
    details = caught.value.details
    assert f"forward_fn:{details['line']}:{details['column']}:" in message
    shown, mark = details["excerpt"].split("\n")
    assert shown == text.splitlines()[details["line"] - 1]
    assert mark == " " * (details["column"] - 1) + "^"


def test_every_fault_is_told_at_once_in_order():
    text = "a = self.serch(query=question)\nb = self.search(qery=1)\nimport numpy\nresult = a"
    with pytest.raises(ProgramError) as caught:
        check_program(text, PARTS)
    found = [(each["line"], each.get("nearest")) for each in caught.value.details["faults"]]
    assert found == [(1, "search"), (2, None), (2, "query"), (3, None)]


def shape(text):
    return check_program(text, PARTS).shape


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("result = self.search(query=question)", {"question": True}),
        (
            "context = ''\nfor hop in range(hops):\n    context = context + 'x'\nresult = {}",
            {"hops": True},
        ),
        ("context = context + 'x'\nresult = {'c': context}", {"context": True}),
        ("context += 'x'\nresult = {'c': context}", {"context": True}),
        ("result = {'n': [len(doc) for doc in docs]}", {"docs": True}),
        ("def f(x):\n    return x + offset\nresult = {'n': f(n)}", {"n": True, "offset": True}),
        (
            "try:\n    x = a\nexcept ValueError as error:\n    x = str(error)\nresult = {'x': x}",
            {"a": True},
        ),
        ("import json as j\nresult = {'x': j.loads(text), 'y': json.dumps(text)}", {"text": True}),
        ("result = {'x': input}", {"input": True}),
        (
            "def forward(self, question, k=3, *, deep=False):\n    return {'a': question}",
            {"question": True, "k": False, "deep": False},
        ),
        (
            "match kind:\n    case 'a' as found:\n        pass\nresult = {'f': found}",
            {"kind": True},
        ),
        ("result = {'x': (lambda y: y + z)(1)}", {"z": True}),
        ("if (n := len(words)) > 3:\n    pass\nresult = {'n': n}", {"words": True}),
    ],
)
def test_the_inputs_are_the_names_that_nobody_binds_before(text, inputs):
    assert shape(text).inputs == inputs


@pytest.mark.parametrize(
    ("text", "outputs", "is_open"),
    [
        ("result = {'answer': question, 'n': 1}", ("answer", "n"), False),
        ("return self.generate_answer(question=question)", ("reasoning", "answer"), False),
        ("a = self.generate_answer(question=question)\nreturn a", ("reasoning", "answer"), False),
        ("result = dspy.Prediction(answer=question)", ("answer",), False),
        ("if question:\n    return {'a': 1, 'b': 2}\nreturn {'b': 1}", ("b",), False),
        ("result = {'a': 1}\nresult['b'] = 2", (), True),
        ("result = {'a': 1}\nresult.update(b=2)", (), True),
        ("result = dict(a=1)", (), True),
        ("result = self.lookup(word='x')", (), True),
        (
            "def forward(self, question):\n    a = self.search(query=question)\n    return a",
            ("passages",),
            False,
        ),
        ("return {**self.search(query=question).toDict()}", (), True),
    ],
)
def test_the_outputs_are_what_the_source_writes_out_else_they_are_open(text, outputs, is_open):
    found = shape(text)
    assert (found.outputs, found.open) == (outputs, is_open)


def test_a_call_with_spread_arguments_is_not_taken_for_incomplete():
    shape("given = {'question': question, 'context': ''}\nresult = self.generate_query(**given)")


def test_a_module_with_one_input_takes_it_by_place():
    shape("result = self.search(question)")


def test_a_plural_is_an_input_and_no_misspelling():
    assert shape("doc = 'x'\nresult = {'n': docs, 'd': doc}").inputs == {"docs": True}


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5_000 + ")" * 5_000,
        "-" * 60_000 + "1",
        "+".join(["1"] * 30_000),
        "a" + ".a" * 30_000,
        "[" * 90 + "]" * 90,
        "x" * 70_000,
        "9" * 6_000,
        "result = '\0'",
        "if x:\n" + "".join(" " * n + "if x:\n" for n in range(1, 90)) + " " * 90 + "pass",
        "f'{" * 20 + "1" + "}'" * 20,
        "lambda: " * 3_000 + "1",
        "not " * 10_000 + "1",
    ],
    ids=lambda text: text[:12],
)
def test_source_that_is_made_to_hurt_its_reader_is_refused(text):
    with pytest.raises(ProgramError):
        check_program(text, PARTS)
