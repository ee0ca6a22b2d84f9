"""The language of steps: what it reads, what it refuses, what it knows before a run."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.specs.steps.nodes import OPERATORS, VERBS, Const, Let, Op, Ref
from bridge.specs.steps.reading import MAX_DEPTH, MAX_STEPS, ModuleShape, Steps, parse_steps
from protocol.errors import InvalidArgs

MODULES = {
    "generate_query": ModuleShape({"question": True, "context": False}, ("query",)),
    "retrieve": ModuleShape({"query": True, "k": False}, ("passages",)),
    "generate_answer": ModuleShape(
        {"question": True, "context": True}, ("reasoning", "answer", "confidence")
    ),
}

TWO_HOPS: list[Any] = [
    {"let": {"context": ""}},
    {
        "repeat": 2,
        "do": [
            {"call": "generate_query", "as": "hop"},
            {"call": "retrieve", "in": {"query": "$hop.query"}},
            {
                "let": {
                    "context": {"concat": ["$context", "\n\n", {"join": "$passages", "with": "\n"}]}
                }
            },
        ],
    },
    {"call": "generate_answer"},
]

# --- strategies -----------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "hop", "x_1", "é", "first", "with"])
TEXTS = st.text(max_size=5) | st.sampled_from(["$", "$$", "$$x", "$a", "$a.b.0", "$1", "{a}", "{"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
KEYS = st.sampled_from([*OPERATORS, *VERBS, "with", "wth", "in", "as", "do", "then", "else", "x"])
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=15,
)


def expressions(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    one = [
        st.fixed_dictionaries({op: inner}) for op in ("first", "length", "not", "empty", "majority")
    ]
    many = [
        st.fixed_dictionaries({op: st.lists(inner, min_size=1, max_size=3)})
        for op in ("concat", "all", "any")
    ]
    two = [
        st.fixed_dictionaries({op: st.lists(inner, min_size=2, max_size=2)})
        for op in ("equals", "less", "contains")
    ]
    return st.one_of(
        *one,
        *many,
        *two,
        st.fixed_dictionaries({"join": inner}, optional={"with": inner}),
        st.fixed_dictionaries({"literal": JSON}),
        st.fixed_dictionaries({"format": st.sampled_from(["", "{a}", "{{x}} {hop.query}!", "x"])}),
        st.lists(inner, max_size=3),
        st.dictionaries(NAMES, inner, min_size=2, max_size=3),
    )


REFERENCES = st.sampled_from(["$a", "$hop.query", "$passages.0", "$$x", "plain"])
VALUES = st.recursive(REFERENCES | st.integers(), expressions, max_leaves=6)
MAPS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=3)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    body = st.lists(inner, min_size=1, max_size=3)
    each = {"each": VALUES, "do": body}
    return st.one_of(
        st.fixed_dictionaries(each, optional={"as": NAMES}),
        st.fixed_dictionaries(
            {**each, "collect": VALUES, "into": NAMES}, optional={"parallel": st.booleans()}
        ),
        st.fixed_dictionaries(
            {"repeat": st.integers(1, 100), "do": body}, optional={"until": VALUES}
        ),
        st.fixed_dictionaries(
            {"if": VALUES, "then": body}, optional={"else": st.lists(inner, max_size=2)}
        ),
    )


STEPS = st.recursive(
    st.one_of(
        st.fixed_dictionaries({"call": NAMES}, optional={"in": MAPS, "as": NAMES}),
        st.fixed_dictionaries({"let": MAPS}),
        st.fixed_dictionaries({"output": MAPS}),
    ),
    nested,
    max_leaves=8,
)
PROGRAMS = st.lists(STEPS, min_size=1, max_size=4)


def faults(value: Any, **check: Any) -> dict[str, dict[str, Any]]:
    """The faults by path, of parsing or, with arguments of ``check``, of checking."""
    if check:
        steps = parse_steps(value)
        with pytest.raises(InvalidArgs) as caught:
            steps.check(**check)
    else:
        with pytest.raises(InvalidArgs) as caught:
            parse_steps(value)
    return {fault["path"]: fault for fault in caught.value.details["faults"]}


def check(value: Any, known: Any = None) -> ModuleShape:
    return parse_steps(value).check(known, MODULES)


# --- reading --------------------------------------------------------------------------------


@given(PROGRAMS)
def test_a_program_survives_the_wire(program: Any) -> None:
    steps = parse_steps(program)
    assert parse_steps(steps.to_wire()) == steps
    assert parse_steps(steps.to_wire()).to_wire() == steps.to_wire()


@given(JSON | st.lists(JSON, max_size=3))
def test_any_json_is_steps_or_invalid_args(value: Any) -> None:
    with contextlib.suppress(InvalidArgs):
        steps = parse_steps(value)
        assert parse_steps(steps.to_wire()) == steps


@given(JSON)
def test_any_json_is_a_literal(value: Any) -> None:
    steps = parse_steps([{"let": {"x": {"literal": value}}}])
    assert steps == Steps((Let((("x", Const(value)),)),))
    assert parse_steps(steps.to_wire()) == steps


@given(PROGRAMS)
def test_checking_any_program_gives_its_shape_or_invalid_args(program: Any) -> None:
    modules = {"a": ModuleShape({"b": True, "x_1": False}, ("hop",)), "hop": MODULES["retrieve"]}
    for known in (None, ("a", "b")):
        with contextlib.suppress(InvalidArgs):
            assert isinstance(parse_steps(program).check(known, modules), ModuleShape)


def test_the_order_of_keys_makes_no_difference() -> None:
    one = parse_steps([{"let": {"a": 1, "b": {"x": "$q", "y": 2}}}])
    assert one == parse_steps([{"let": {"b": {"y": 2, "x": "$q"}, "a": 1}}])


def test_two_dollars_are_a_text_that_begins_with_one() -> None:
    assert parse_steps([{"let": {"x": "$$x"}}]).body == (Let((("x", Const("$x")),)),)


def test_a_price_is_not_taken_for_a_reference() -> None:
    assert "steps[0].let.x" in faults([{"let": {"x": "$5 a month"}}])


def test_a_map_with_more_than_an_operator_is_a_plain_map() -> None:
    (step,) = parse_steps([{"let": {"x": {"first": "$a", "last": "$b"}}}]).body
    assert isinstance(step, Let)
    assert step.to_wire() == {"let": {"x": {"first": "$a", "last": "$b"}}}


def test_a_map_with_only_an_operator_is_an_expression() -> None:
    (step,) = parse_steps([{"let": {"x": {"first": "$a"}}}]).body
    assert isinstance(step, Let)
    assert step.pairs == (("x", Op("first", (Ref(("a",)),))),)


def test_a_misspelt_verb_names_the_nearest() -> None:
    assert faults([{"cal": "generate_query"}])["steps[0]"]["nearest"] == "call"


def test_a_step_has_one_verb() -> None:
    assert "steps[0]" in faults([{"call": "a", "let": {"x": 1}}])


def test_a_misspelt_key_of_a_step_names_the_nearest() -> None:
    assert faults([{"repeat": 2, "do": [{"call": "a"}], "untli": 1}])["steps[0].untli"][
        "nearest"
    ] == ("until")


def test_a_misspelt_separator_is_a_fault_and_not_a_map() -> None:
    assert "steps[0].let.x.wiht" in faults([{"let": {"x": {"join": "$a", "wiht": ","}}}])


def test_every_fault_is_reported_with_its_path() -> None:
    program = [
        {"call": ""},
        {"each": "$a", "do": [{"repeat": 0, "do": [{"let": {"1": 1}}]}], "into": "b"},
        {"if": {"equals": ["$a"]}, "then": []},
        {"output": {"answer": {"format": "{a"}}},
    ]
    assert set(faults(program)) == {
        "steps[0].call",
        "steps[1].collect",
        "steps[1].do[0].repeat",
        "steps[1].do[0].do[0].let.1",
        "steps[2].if.equals",
        "steps[2].then",
        "steps[3].output.answer.format",
    }


@pytest.mark.parametrize("times", [0, 101, True, "2", 1.5, None])
def test_repeat_takes_an_integer_from_1_to_100(times: Any) -> None:
    assert "steps[0].repeat" in faults([{"repeat": times, "do": [{"call": "a"}]}])


def test_a_parallel_each_must_collect() -> None:
    assert "steps[0].collect" in faults([{"each": "$a", "do": [{"call": "a"}], "parallel": True}])


@pytest.mark.parametrize("value", [None, [], {}, "call", [[]], [None]])
def test_what_is_no_list_of_steps_is_refused(value: Any) -> None:
    assert faults(value)


def test_nesting_ends_at_its_bound() -> None:
    program: Any = [{"let": {"x": 1}}]
    for _ in range(MAX_DEPTH - 1):
        program = [{"repeat": 1, "do": program}]
    parse_steps(program)
    assert faults([{"repeat": 1, "do": program}])


@pytest.mark.parametrize("wrap", [lambda inner: {"literal": inner}, lambda inner: inner])
def test_values_nest_as_deep_as_literals(wrap: Any) -> None:
    value: Any = "x"
    for _ in range(MAX_DEPTH):
        value = [value]
    steps = parse_steps([{"let": {"x": wrap(value)}}])
    assert parse_steps(steps.to_wire()) == steps
    assert faults([{"let": {"x": wrap([value])}}])


def test_the_number_of_steps_is_bounded_over_all_levels() -> None:
    step = {"let": {"x": 1}}
    parse_steps([step] * MAX_STEPS)
    halves = [{"repeat": 1, "do": [step] * (MAX_STEPS // 2)}] * 2
    assert len(faults(halves)) == 1


# --- checking -------------------------------------------------------------------------------


def test_the_two_hop_program_has_one_input_and_the_answer_as_outputs() -> None:
    shape = check(TWO_HOPS)
    assert shape.inputs == {"question": True, "k": False}
    assert shape.outputs == ("reasoning", "answer", "confidence")


def test_inputs_come_in_order_of_first_use() -> None:
    shape = check([{"let": {"x": ["$b", "$a"]}}, {"output": {"y": "$c"}}])
    assert list(shape.inputs) == ["b", "a", "c"]


def test_inputs_that_are_known_and_not_used_are_optional() -> None:
    assert check([{"output": {"y": "$a"}}], ("a", "b")).inputs == {"a": True, "b": False}


def test_an_unknown_module_names_the_nearest() -> None:
    found = faults([{"call": "retreive"}], inputs_known=None, modules=MODULES)
    assert found["steps[0].call"]["nearest"] == "retrieve"
    assert len(found) == 1


def test_an_unknown_input_of_a_module_names_the_nearest() -> None:
    program = [{"call": "retrieve", "in": {"qurey": "$question"}}]
    found = faults(program, inputs_known=("question", "query"), modules=MODULES)
    assert found["steps[0].in.qurey"]["nearest"] == "query"


def test_a_reference_close_to_a_bound_name_is_a_typo_and_not_an_input() -> None:
    program = [{"call": "retrieve"}, {"output": {"x": "$pasages"}}]
    found = faults(program, inputs_known=None, modules=MODULES)
    assert found["steps[1].output.x"]["nearest"] == "passages"


def test_an_unknown_reference_is_a_fault_when_the_inputs_are_known() -> None:
    found = faults(
        [{"output": {"x": {"first": ["$quesion"]}}}], inputs_known=("question",), modules={}
    )
    assert found["steps[0].output.x.first[0]"]["nearest"] == "question"


def test_a_field_that_a_module_does_not_have_is_a_fault() -> None:
    program = [{"call": "retrieve", "as": "found"}, {"output": {"x": "$found.pasages"}}]
    found = faults(program, inputs_known=None, modules=MODULES)
    assert found["steps[1].output.x"]["nearest"] == "passages"


def test_a_required_input_that_nothing_gives_is_a_fault() -> None:
    found = faults([{"call": "generate_answer"}], inputs_known=("question",), modules=MODULES)
    assert set(found) == {"steps[0].in.context"}


def test_what_one_branch_binds_is_not_bound_afterwards() -> None:
    program = [
        {"if": "$question", "then": [{"let": {"context": "x"}}]},
        {"call": "generate_answer"},
        {"output": {"x": "$context"}},
    ]
    found = faults(program, inputs_known=None, modules=MODULES)
    assert set(found) == {"steps[1].in.context", "steps[2].output.x"}
    assert "steps[0].then" in found["steps[2].output.x"]["message"]


def test_what_both_branches_bind_is_bound_afterwards() -> None:
    branch = [{"let": {"context": "x"}}]
    program = [{"if": "$q", "then": branch, "else": branch}, {"output": {"x": "$context"}}]
    assert check(program).inputs == {"q": True}


def test_a_branch_that_ends_the_program_binds_nothing_and_needs_nothing() -> None:
    program = [
        {"if": "$q", "then": [{"output": {"x": 1}}], "else": [{"let": {"y": 2}}]},
        {"output": {"x": "$y", "z": 1}},
    ]
    shape = check(program)
    assert shape.inputs == {"q": True}
    assert shape.outputs == ("x",)


def test_what_an_each_binds_is_not_bound_afterwards_for_the_list_may_be_empty() -> None:
    program = [{"each": "$list", "do": [{"let": {"y": "$item"}}]}, {"output": {"x": "$y"}}]
    assert set(faults(program, inputs_known=None, modules={})) == {"steps[1].output.x"}


def test_what_a_repeat_binds_is_bound_afterwards_for_it_runs_at_least_once() -> None:
    program = [{"repeat": 3, "do": [{"let": {"y": 1}}], "until": "$y"}, {"output": {"x": "$y"}}]
    assert check(program).inputs == {}


def test_what_an_each_collects_is_bound_afterwards() -> None:
    each = {"each": "$list", "do": [{"let": {"y": 1}}], "collect": "$y", "into": "all"}
    assert check([each, {"output": {"x": "$all"}}]).inputs == {"list": True}


def test_a_step_after_an_output_is_a_fault() -> None:
    program = [{"output": {"x": 1}}, {"call": "retrieve"}, {"call": "retrieve"}]
    assert set(faults(program, inputs_known=None, modules=MODULES)) == {"steps[1]"}


def test_an_output_in_a_parallel_each_is_a_fault() -> None:
    each = {
        "each": "$l",
        "do": [{"if": "$item", "then": [{"output": {"x": 1}}]}],
        "collect": 1,
        "into": "a",
        "parallel": True,
    }
    program = [each, {"output": {"x": "$a"}}]
    assert set(faults(program, inputs_known=None, modules={})) == {"steps[0].do[0].then[0]"}


def test_a_program_that_may_end_with_nothing_is_a_fault() -> None:
    program = [{"if": "$q", "then": [{"call": "retrieve"}]}]
    assert set(faults(program, inputs_known=None, modules=MODULES)) == {"steps"}


def test_bindings_of_one_let_do_not_see_each_other() -> None:
    assert check([{"let": {"a": 1, "b": "$a"}}, {"output": {"x": "$b"}}]).inputs == {"a": True}


def test_a_module_hides_no_name_that_is_its_own_name() -> None:
    modules = {
        "query": ModuleShape({"query": True}, ("text",)),
        "answer": ModuleShape({"query": True, "text": True}, ("answer",)),
    }
    program = [{"call": "query"}, {"call": "answer"}, {"output": {"x": "$answer"}}]
    assert parse_steps(program).check(None, modules).inputs == {"query": True}


def test_an_optional_input_becomes_required_where_a_later_module_needs_it() -> None:
    assert check([{"call": "generate_query"}, {"call": "generate_answer"}]).inputs == {
        "question": True,
        "context": True,
    }
