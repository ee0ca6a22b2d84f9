"""What Python values become on the wire: `protocol.plain`, through `protocol.codecs.encode`."""

from __future__ import annotations

import math
from collections import OrderedDict
from datetime import UTC, date, datetime
from enum import Enum, IntEnum
from types import MappingProxyType
from uuid import UUID

import pytest

from protocol.codecs import Codec, encode
from tests.protocol.link import round_trip, same

pytestmark = pytest.mark.usefixtures("way")

both = pytest.mark.parametrize("codec", Codec)


# --- values of more than one kind -------------------------------------------------------------


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Shouting(str):
    __slots__ = ()

    def __str__(self):
        return self.upper()


class Metre(float):
    def __repr__(self):
        return "metres"


PYTHON_FORMS = [
    ((1, "a"), [1, "a"]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a"}), ["a", "b"]),
    ({1, "a"}, [1, "a"]),
    (date(2024, 2, 29), "2024-02-29"),
    (datetime(2024, 2, 29, 12, 30, tzinfo=UTC), "2024-02-29T12:30:00+00:00"),
    (datetime(2024, 2, 29, 12, 30, 0, 5), "2024-02-29T12:30:00.000005"),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Shouting("soft"), "soft"),
    (Metre(1.5), 1.5),
    (OrderedDict(a=1), {"a": 1}),
    (MappingProxyType({"a": (1,)}), {"a": [1]}),
    ({7: "a", True: "b", None: "c", 1.5: "d"}, {"7": "a", "true": "b", "null": "c", "1.5": "d"}),
    ({Colour.RED: 1, date(2024, 1, 2): 2}, {"red": 1, "2024-01-02": 2}),
]


@both
@pytest.mark.parametrize(("value", "expected"), PYTHON_FORMS)
def test_python_values_take_one_plain_form(codec, value, expected):
    assert same(round_trip(codec, {"a": [value]}), {"a": [expected]})


@pytest.mark.parametrize("blob", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes_are_base64_in_json_and_bin_in_messagepack(blob):
    assert round_trip(Codec.JSON, {"a": blob}) == {"a": "AP8="}
    assert round_trip(Codec.MSGPACK, {"a": blob}) == {"a": b"\x00\xff"}


def test_an_integer_beyond_64_bits_is_a_decimal_string_in_messagepack():
    message = {"a": 2**64, "b": 2**64 - 1, "c": -(2**63) - 1, "d": -(2**63)}
    assert round_trip(Codec.MSGPACK, message) == {
        "a": "18446744073709551616",
        "b": 2**64 - 1,
        "c": "-9223372036854775809",
        "d": -(2**63),
    }


@both
def test_a_value_of_no_wire_form_is_refused_by_its_path(codec):
    with pytest.raises(ValueError, match=r"^result\.rows\.1: .*object"):
        encode(codec, {"result": {"rows": [1, object()]}})


@both
def test_the_callers_map_is_left_alone(codec):
    message = {"a": {1: (math.nan, "\ud800", {2})}}
    before = repr(message)
    encode(codec, message)
    assert repr(message) == before


# --- NaN --------------------------------------------------------------------------------------


def test_nan_and_infinities_become_null_in_json_with_a_note_of_their_path():
    message = {"id": 1, "result": {"score": math.nan, "rows": [1.0, math.inf, (-math.inf,)]}}
    payload, notes = encode(Codec.JSON, message)
    assert payload == b'{"id":1,"result":{"score":null,"rows":[1.0,null,[null]]}}'
    assert notes == (
        "result.score: NaN became null",
        "result.rows.1: Infinity became null",
        "result.rows.2.0: -Infinity became null",
    )


def test_nulls_that_were_null_are_no_note():
    assert encode(Codec.JSON, {"a": None, "b": [None, 1.5, "null"]}).notes == ()


def test_notes_have_a_bound():
    notes = encode(Codec.JSON, {"a": [math.nan] * 1000}).notes
    assert len(notes) == 21
    assert notes[-1] == "980 more became null"
