"""What Hypothesis draws: wire values, messages, and ways to cut bytes into chunks."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st

from protocol import Codec, ErrorReply, Event, HostAnswer, HostCall, Reply, Request
from protocol.messages import HOST_CALL_TARGETS, CancelCall

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

# Other work runs on the same cores: time is not what these tests are about.
patient = settings(deadline=None)

codecs = st.sampled_from(Codec)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
surrogate_texts = st.text(st.characters(), max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
wire_integers = st.integers(-(2**63), 2**64 - 1)


def trees(leaves: SearchStrategy[Any], keys: SearchStrategy[Any] = texts) -> SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )


# What both codecs carry, unchanged.
values = trees(st.none() | st.booleans() | wire_integers | finite | texts)
maps = st.dictionaries(texts, values, max_size=4)

# What only one of them carries unchanged.
json_values = trees(st.none() | st.booleans() | st.integers() | finite | texts)
msgpack_values = trees(
    st.none() | st.booleans() | wire_integers | st.floats(allow_nan=False) | texts | st.binary()
)

# What Python code may hand in.
python_values = trees(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | surrogate_texts
    | st.binary(max_size=8)
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.uuids()
    | st.frozensets(st.integers() | texts, max_size=3)
    | st.tuples(st.integers(), texts),
    st.none() | st.booleans() | st.integers() | st.floats() | surrogate_texts | st.dates(),
)

ids = wire_integers | texts
call_ids = ids
errors = texts.map("failed: {}".format) | st.fixed_dictionaries(
    {"code": texts, "message": texts, "details": maps}
)

requests = st.builds(
    Request,
    id=ids,
    command=texts.filter(lambda name: name != "hello"),
    args=maps,
    deadline_ms=st.none() | st.integers(0, 2**40),
    budget=st.none()
    | st.fixed_dictionaries(
        {}, optional={"lm_calls": st.integers(0, 99), "cost_usd": st.floats(0, 99)}
    ),
    stream=st.booleans(),
    tenant=st.none() | texts,
    lm=st.none() | texts | maps,
    trace=st.booleans() | st.fixed_dictionaries({"traceparent": texts}),
    parent=st.none() | call_ids,
)
answers = st.builds(HostAnswer, call=call_ids, result=values, error=st.none()) | st.builds(
    HostAnswer, call=call_ids, result=st.none(), error=errors
)
from_host = requests | answers

targets = st.sampled_from(HOST_CALL_TARGETS)
from_daemon = st.one_of(
    st.builds(Reply, id=ids, result=values),
    st.builds(ErrorReply, id=st.none() | ids, error=errors),
    st.builds(Event, event=texts, id=st.none() | ids, data=maps),
    st.builds(HostCall, call=call_ids, target=targets, name=texts, args=maps, id=st.none() | ids),
    st.builds(CancelCall, call=call_ids),
)


@st.composite
def chunkings(draw: Any, stream: bytes) -> list[bytes]:
    """The stream cut at any places; pieces may be empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *cuts, len(stream)]
    return [stream[start:stop] for start, stop in pairwise(edges)]
