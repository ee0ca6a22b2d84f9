"""Running steps with a fake way to call a module."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.ways.step_values import MAX_TEXT
from bridge.engine.ways.steps import MAX_CALLS, MAX_ITEMS, run_steps
from bridge.specs.steps.chain import check_chain
from bridge.specs.steps.reading import ModuleShape, parse_steps
from protocol.errors import ProgramError

MODULES = {
    "generate_query": ModuleShape({"question": True, "context": False}, ("query",)),
    "retrieve": ModuleShape({"query": True}, ("passages",)),
    "generate_answer": ModuleShape({"question": True, "context": True}, ("reasoning", "answer")),
    "echo": ModuleShape({"x": True}, ("y",)),
}


class Modules:
    """A fake way to call modules; keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((name, inputs))
        if name == "generate_query":
            return {"query": f"{inputs['question']}/{len(inputs.get('context', ''))}"}
        if name == "retrieve":
            return {"passages": [f"on {inputs['query']}", "Paris"]}
        if name == "generate_answer":
            return {"reasoning": inputs["context"], "answer": "Paris"}
        return {"y": inputs["x"]}


def run(program: Any, call: Any = None, parallel_map: Any = None, **inputs: Any) -> Any:
    return run_steps(
        parse_steps(program),
        inputs,
        call or Modules(),
        modules=MODULES,
        parallel_map=parallel_map,
    )


def value_of(expression: Any, **inputs: Any) -> Any:
    return run([{"output": {"value": expression}}], **inputs)["value"]


def failing_path(program: Any, **inputs: Any) -> Any:
    with pytest.raises(ProgramError) as caught:
        run(program, **inputs)
    return caught.value.details["path"]


# --- programs -------------------------------------------------------------------------------


def test_the_two_hop_program_gathers_context_and_answers() -> None:
    program = [
        {"let": {"context": ""}},
        {
            "repeat": 2,
            "do": [
                {"call": "generate_query", "as": "hop"},
                {"call": "retrieve", "in": {"query": "$hop.query"}},
                {
                    "let": {
                        "context": {
                            "concat": ["$context", "\n\n", {"join": "$passages", "with": "\n"}]
                        }
                    }
                },
            ],
        },
        {"call": "generate_answer"},
    ]
    assert parse_steps(program).check(None, MODULES).inputs == {"question": True}
    modules = Modules()
    result = run(program, modules, question="Where?")
    first = "\n\non Where?/0\nParis"
    assert result == {
        "reasoning": f"{first}\n\non Where?/{len(first)}\nParis",
        "answer": "Paris",
    }
    assert [name for name, _ in modules.calls] == [
        *["generate_query", "retrieve"] * 2,
        "generate_answer",
    ]


def test_a_chain_runs_as_steps() -> None:
    plan = check_chain([(name, MODULES[name]) for name in ("generate_query", "retrieve")])
    result = run_steps(plan.steps, {"question": "q"}, Modules(), modules=MODULES)
    assert result == {"passages": ["on q/0", "Paris"]}


def test_a_module_gets_its_own_inputs_and_no_others() -> None:
    modules = Modules()
    run([{"call": "generate_query"}], modules, question="q", label="secret")
    assert modules.calls == [("generate_query", {"question": "q"})]


def test_given_inputs_win_over_what_is_in_scope() -> None:
    modules = Modules()
    run([{"call": "echo", "in": {"x": {"length": "$x"}}}], modules, x="four")
    assert modules.calls == [("echo", {"x": 4})]


def test_a_default_record_is_reached_by_reference_only() -> None:
    shapes = {
        "x": ModuleShape({"x": True}, ("y",)),
        "echo": MODULES["echo"],
    }
    steps = parse_steps([{"call": "x"}, {"call": "echo"}, {"output": {"y": "$echo.y"}}])
    assert run_steps(steps, {"x": 1}, Modules(), modules=shapes) == {"y": 1}


def test_a_branch_is_taken_by_its_condition() -> None:
    program = [
        {
            "if": {"all": [{"not": {"empty": "$x"}}, {"less": [{"length": "$x"}, 3]}]},
            "then": [{"output": {"y": "short"}}],
            "else": [{"call": "echo"}],
        }
    ]
    assert run(program, x="ab") == {"y": "short"}
    assert run(program, x="abc") == {"y": "abc"}
    assert run(program, x="") == {"y": ""}


def test_repeat_ends_when_its_condition_holds_after_a_pass() -> None:
    program = [
        {"let": {"n": "$x"}},
        {
            "repeat": 100,
            "do": [{"let": {"n": {"concat": ["$n", "."]}}}],
            "until": {"equals": [{"length": "$n"}, 3]},
        },
        {"output": {"n": "$n"}},
    ]
    assert run(program, x="") == {"n": "..."}
    assert run(program, x="..") == {"n": "..."}


def test_an_output_ends_the_program_from_inside_a_loop() -> None:
    program = [
        {
            "each": "$items",
            "do": [{"if": {"contains": ["$item", "b"]}, "then": [{"output": {"found": "$item"}}]}],
        },
        {"output": {"found": None}},
    ]
    assert run(program, items=["a", "abc", "b"]) == {"found": "abc"}
    assert run(program, items=[]) == {"found": None}


def test_bindings_go_on_from_item_to_item_in_order() -> None:
    program = [
        {"let": {"all": ""}},
        {"each": "$items", "as": "it", "do": [{"let": {"all": {"concat": ["$all", "$it"]}}}]},
        {"output": {"all": "$all"}},
    ]
    assert run(program, items=["a", "b", "c"]) == {"all": "abc"}


def test_bindings_of_one_let_do_not_see_each_other() -> None:
    program = [{"let": {"a": "$b", "b": "$a"}}, {"output": {"a": "$a", "b": "$b"}}]
    assert run(program, a=1, b=2) == {"a": 2, "b": 1}


@given(st.lists(st.integers(), max_size=30), st.booleans())
def test_a_parallel_each_collects_in_order_as_a_plain_one_does(
    items: list[int], parallel: bool
) -> None:
    program = [
        {
            "each": "$items",
            "do": [{"call": "echo", "in": {"x": "$item"}}],
            "collect": "$echo.y",
            "into": "ys",
            "parallel": parallel,
        },
        {"output": {"ys": "$ys"}},
    ]
    with ThreadPoolExecutor(4) as pool:
        result = run(program, None, lambda f, xs: list(pool.map(f, xs)), items=items)
    assert result == {"ys": items}


@pytest.mark.parametrize("threads", [True, False])
def test_only_what_is_collected_comes_out_of_a_parallel_each(threads: bool) -> None:
    program = [
        {
            "each": [1, 2],
            "do": [{"let": {"x": "$item"}}],
            "collect": "$x",
            "into": "xs",
            "parallel": True,
        },
        {"output": {"x": "$x", "xs": "$xs"}},
    ]
    with ThreadPoolExecutor(2) as pool:
        mapper = (lambda f, xs: list(pool.map(f, xs))) if threads else None
        assert run(program, None, mapper, x="before") == {"x": "before", "xs": [1, 2]}


def test_data_in_a_program_cannot_be_changed_by_a_module() -> None:
    program = [{"repeat": 2, "do": [{"call": "echo", "in": {"x": {"literal": [1]}}}]}]
    seen = []

    def grow(_name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs["x"].append(2)
        seen.append(list(inputs["x"]))
        return {"y": 0}

    run(program, grow)
    assert seen == [[1, 2], [1, 2]]


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("$r.list.1.k", "v"),
        ("$$r", "$r"),
        ({"concat": [[1], "$r.list"]}, [1, "a", {"k": "v"}]),
        ({"join": [1, "b", None, True, 1.5], "with": "-"}, "1-b--true-1.5"),
        ({"format": "{{{r.list.0}}} {r.list}"}, '{a} ["a", {"k": "v"}]'),
        ({"first": "$r.list"}, "a"),
        ({"length": "$r"}, 1),
        ({"majority": ["Rome", "The Paris", "paris!", "Oslo"]}, "The Paris"),
        ({"majority": ["Rome", "Paris"]}, "Rome"),
        ({"majority": [None, None, "", "Paris"]}, "Paris"),
        ({"majority": [None, ""]}, None),
        ({"majority": ["A", "a", "B"]}, "B"),
        ({"majority": [True, 1, 1.0]}, 1),
        ({"majority": ["$r.list", "x", "$r.list"]}, ["a", {"k": "v"}]),
        ({"majority": "$r.list"}, {"k": "v"}),
        ({"literal": {"first": "$r"}}, {"first": "$r"}),
        ({"equals": [True, 1]}, False),
        ({"equals": ["$r.list.0", "a"]}, True),
        ({"less": ["a", "b"]}, True),
        ({"contains": [["$r.list.0"], "a"]}, True),
        ({"contains": ["$r", "list"]}, True),
        ({"empty": 0}, False),
        ({"any": [0, {"not": ""}, "$missing"]}, True),
        ({"all": [[], "$missing"]}, False),
        ({"k": ["$r.list.0"]}, {"k": ["a"]}),
    ],
)
def test_an_expression_has_its_value(expression: Any, value: Any) -> None:
    assert value_of(expression, r={"list": ["a", {"k": "v"}]}) == value


@pytest.mark.parametrize(
    "expression",
    [
        "$missing",
        "$r.missing",
        "$r.list.2",
        "$r.list.x",
        "$r.list.0.x",
        {"concat": ["a", {"k": 1}]},
        {"concat": ["a", 1]},
        {"join": "abc"},
        {"join": [], "with": 1},
        {"first": []},
        {"first": "abc"},
        {"majority": []},
        {"majority": "abc"},
        {"length": 1},
        {"less": [1, "a"]},
        {"less": [True, 2]},
        {"contains": [1, 1]},
        {"contains": ["a", 1]},
        {"format": "{missing}"},
    ],
)
def test_what_has_no_value_is_a_program_error_at_its_path(expression: Any) -> None:
    assert failing_path([{"output": {"v": expression}}], r={"list": ["a"]}) == "steps[0].output.v"


@given(st.lists(st.text(" .aAtTheEx1é", max_size=4), min_size=1, max_size=6))
def test_the_majority_is_dspys(texts: list[str]) -> None:
    theirs = dspy.majority([dspy.Prediction(answer=text) for text in texts])
    assert value_of({"majority": texts}) == theirs.answer


SCOPE = {"a": "text", "b": [1, "x"], "c": {"k": None}, "d": 2.5, "e": True}
ATOMS = st.sampled_from([f"${name}" for name in SCOPE] + ["$b.0", "$c.k", "$zz", 0, None])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        *[
            st.fixed_dictionaries({op: inner})
            for op in ("first", "length", "not", "empty", "majority")
        ],
        *[
            st.fixed_dictionaries({op: st.tuples(inner, inner).map(list)})
            for op in ("concat", "all", "any", "equals", "less", "contains")
        ],
        st.fixed_dictionaries({"join": inner, "with": inner}),
        st.lists(inner, max_size=2),
    ),
    max_leaves=6,
)


@given(EXPRESSIONS)
def test_any_expression_has_a_value_or_is_a_program_error(expression: Any) -> None:
    with contextlib.suppress(ProgramError):
        value_of(expression, **SCOPE)


# --- errors and bounds ----------------------------------------------------------------------


def test_an_error_names_the_path_of_its_step() -> None:
    program = [
        {"let": {"x": 1}},
        {"repeat": 1, "do": [{"if": True, "then": [{"call": "retrieve"}]}]},
    ]
    assert failing_path(program) == "steps[1].do[0].then[0].in.query"


def test_what_a_module_raises_passes_through_untouched() -> None:
    class OutageError(Exception):
        pass

    outage = OutageError()

    def fail(_name: str, _inputs: dict[str, Any]) -> dict[str, Any]:
        raise outage

    with pytest.raises(OutageError) as caught:
        run([{"call": "echo"}], fail, x=1)
    assert caught.value is outage


def test_a_run_makes_a_bounded_number_of_calls() -> None:
    modules = Modules()
    program = [{"repeat": 100, "do": [{"repeat": 100, "do": [{"call": "echo"}]}]}]
    with pytest.raises(ProgramError):
        run(program, modules, x=1)
    assert len(modules.calls) == MAX_CALLS


def test_each_takes_a_bounded_number_of_items() -> None:
    program = [{"each": "$items", "do": [{"let": {"y": 1}}]}, {"output": {"z": 1}}]
    assert run(program, items=[0] * MAX_ITEMS) == {"z": 1}
    assert failing_path(program, items=[0] * (MAX_ITEMS + 1)) == "steps[0].each"


def test_each_takes_a_list_only() -> None:
    assert failing_path([{"each": "$x", "do": [{"call": "echo"}]}], x="abc") == "steps[0].each"


def test_loops_without_a_call_end_too() -> None:
    program: Any = [{"let": {"x": 1}}]
    for _ in range(5):
        program = [{"repeat": 100, "do": program}]
    assert failing_path([*program, {"output": {"x": 1}}])


@pytest.mark.parametrize(
    "doubled",
    [{"concat": ["$x", "$x"]}, ["$x", "$x"], {"a": "$x", "b": "$x"}, {"format": "{x}{x}"}],
)
@pytest.mark.parametrize("x", ["text", ["text"]])
def test_a_value_that_a_loop_doubles_is_stopped(doubled: Any, x: Any) -> None:
    program = [{"repeat": 100, "do": [{"let": {"x": doubled}}]}, {"output": {"x": "$x"}}]
    assert failing_path(program, x=x) == "steps[0].do[0].let.x"


def test_a_long_text_is_no_fault_below_its_bound() -> None:
    half = "x" * (MAX_TEXT // 2)
    assert len(value_of({"concat": ["$h", "$h"]}, h=half)) == MAX_TEXT


def test_a_run_stops_at_a_checkpoint_that_raises() -> None:
    class LateError(Exception):
        pass

    def late() -> None:
        raise LateError

    modules = Modules()
    steps = parse_steps([{"call": "echo"}])
    with pytest.raises(LateError):
        run_steps(steps, {"x": 1}, modules, modules=MODULES, checkpoint=late)
    assert modules.calls == []


def test_a_program_that_ends_with_nothing_is_a_program_error() -> None:
    assert failing_path([{"let": {"x": 1}}]) == "steps"
