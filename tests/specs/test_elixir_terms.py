"""Elixir terms as text, and the plain values they become."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.specs.types.elixir_terms import Atom, parse_term
from protocol.errors import InvalidArgs
from tests.specs.strategies import unhurried


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (":a", Atom("a")),
        (":allow_nil?", Atom("allow_nil?")),
        (":save!", Atom("save!")),
        (':"a b"', Atom("a b")),
        (":nil", None),
        ("nil", None),
        ("true", True),
        ("String", Atom("Elixir.String")),
        ("Elixir.String", Atom("Elixir.String")),
        ("Ash.Type.UtcDatetime", Atom("Elixir.Ash.Type.UtcDatetime")),
        ("String.t()", Atom("Elixir.String")),
        ('"a\\n\\"b\\" \\u00e9 \\u{1F600} \\x41"', 'a\n"b" é 😀 A'),
        ('"\\#{x}"', "#{x}"),
        ("'a b'", "a b"),
        ('~c"ab"', [97, 98]),
        ("12", 12),
        ("-1_000", -1000),
        ("0xff", 255),
        ("0b101", 5),
        ("1.5e3", 1500.0),
        ("{}", ()),
        ("{:a, 1}", ("a", 1)),
        ("{:a, b: 1, c: 2}", ("a", [("b", 1), ("c", 2)])),
        ("[]", []),
        ("[1, [2], {3}]", [1, [2], (3,)]),
        ("[a: 1, b?: [c: :d]]", [("a", 1), ("b?", [("c", "d")])]),
        ('["a b": 1]', [("a b", 1)]),
        ("[1, a: 2]", [1, ("a", 2)]),
        ("%{}", {}),
        ('%{a: 1, "b c": 2}', {"a": 1, "b c": 2}),
        ('%{"a" => 1, :b => [2]}', {"a": 1, "b": [2]}),
        (" { :a ,\n 1 } ", ("a", 1)),
    ],
)  # fmt: skip
def test_a_term_becomes_its_plain_value(text, wanted):
    assert parse_term(text, "t") == wanted


def test_atoms_are_told_from_strings():
    (atom, text) = parse_term('{:a, "a"}', "t")
    assert isinstance(atom, Atom)
    assert not isinstance(text, Atom)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 1),
        ("{:a", 4),
        ("{:a 1}", 5),
        ("[1, 2", 6),
        ("foo", 1),
        ("{:a, foo}", 6),
        ("{:a, String.upcase}", 6),
        ('"abc', 1),
        ('{:a, "abc}', 6),
        ('"#{x}"', 1),
        ("%User{}", 1),
        ("#PID<0.1.0>", 1),
        ("&f/1", 1),
        ("~w(a b)a", 1),
        (":a :b", 4),
        ("%{a: 1, a: 2}", 9),
        ("%{1 => 2}", 3),
        ("%{a 1}", 3),
        ("[a: 1, 2]", 8),
        ("99999999999999999999", 1),
        ("1.0e999", 1),
        ('"\\u{110000}"', 1),
        ('"\\ud800"', 1),
        ("9" * 5_000, 1),
        ("1.2.3", 1),
    ],
)
def test_what_is_no_term_is_refused_with_its_column(text, column):
    with pytest.raises(InvalidArgs) as caught:
        parse_term(text, "t")
    assert caught.value.details["faults"][0]["column"] == column


def test_length_is_bounded():
    with pytest.raises(InvalidArgs):
        parse_term('"' + "a" * 20_000 + '"', "t")


def written(value):
    """A term as inspect/1 writes it."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Atom):
        return ":" + quoted(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, tuple):
        return "{" + ", ".join(map(written, value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, dict):
        return "%{" + ", ".join(f"{written(k)} => {written(v)}" for k, v in value.items()) + "}"
    return str(value)


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("#{", "\\#{") + '"'


TERMS = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.text(),
        st.text().map(Atom),
        st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: "e" not in repr(x)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text() | st.text().map(Atom), inner, max_size=4),
    ),
    max_leaves=15,
)


@unhurried
@given(TERMS)
def test_every_term_survives_being_written(value):
    assert parse_term(written(value), "t") == value


@unhurried
@given(st.one_of(st.text(), st.text(alphabet="{}[]%:,=>\"'\\ aA1._-?#~c", max_size=60)))
@example("[" * 20_000)
@example("%{a: " * 4_000)
@example('"' * 19_999)
@example("\\" * 20_000)
@example('"' + "\\" * 19_998)
def test_any_text_is_a_term_or_invalid_args(text):
    try:
        parse_term(text, "t")
    except InvalidArgs:
        return
