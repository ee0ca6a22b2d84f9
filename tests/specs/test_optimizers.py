"""The table of optimizers, and configs read by it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import dspy.teleprompt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.specs.lms import LMSpec
from bridge.specs.optimizers import (
    ALIASES,
    ROWS,
    check_available,
    find_row,
    listing,
    missing,
    split_config,
)
from protocol.errors import InvalidArgs, MissingExtra, Unsupported

RUNNABLE = [name for name, row in ROWS.items() if not row.unavailable]


def faults(name: str, config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    with pytest.raises(InvalidArgs) as caught:
        split_config(find_row(name), config)
    return {fault["path"]: fault for fault in caught.value.details["faults"]}


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_names_a_row_and_says_whose_it_is(alias: str) -> None:
    row, whose = ALIASES[alias]
    assert find_row(alias) is ROWS[row]
    assert whose


@pytest.mark.parametrize(
    ("written", "meant"),
    [("BootstrapFewshot", "BootstrapFewShot"), ("MIPROV2", "MIPROv2"), ("gepa", "GEPA")],
)
def test_a_misspelt_name_is_answered_with_the_nearest(written: str, meant: str) -> None:
    with pytest.raises(InvalidArgs) as caught:
        find_row(written)
    fault = caught.value.details["faults"][0]
    assert fault["path"] == "optimizer"
    assert fault.get("nearest", meant) == meant


def test_the_seeds_four_optimizer_types_are_known() -> None:
    types = ("bootstrap_fewshot", "bootstrap_fewshot_with_optuna", "mipro", "copro")
    assert [find_row(name).name for name in types] == [
        "BootstrapFewShot",
        "BootstrapFewShotWithOptuna",
        "MIPROv2",
        "COPRO",
    ]


# --- the table against DSPy -----------------------------------------------------------------

OURS = {
    "KNNFewShot": {"k"},
    "BootstrapFewShotWithOptuna": {"max_errors"},
    "BetterTogether": {"optimizers"},
}
"""Keys that the bridge reads itself."""


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_key_is_one_that_dspy_takes_where_the_row_says(name: str) -> None:
    row = ROWS[name]
    kind = getattr(dspy.teleprompt, name)
    constructor = set(inspect.signature(kind.__init__).parameters)
    if "fewshot" in name.lower() or name == "InferRules":
        # These hand the rest on to it.
        constructor |= set(inspect.signature(dspy.teleprompt.BootstrapFewShot.__init__).parameters)
    compiled = set(inspect.signature(kind.compile).parameters)
    assert set(row.constructor) - OURS.get(name, set()) <= constructor
    assert set(row.compile) <= compiled
    assert ("valset" in compiled) == row.valset


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_setting_of_dspys_that_is_plain_data_can_be_given(name: str) -> None:
    row = ROWS[name]
    kind = getattr(dspy.teleprompt, name)
    plain = {
        key
        for where in (kind.__init__, kind.compile)
        for key, parameter in inspect.signature(where).parameters.items()
        if type(parameter.default) in (int, float, bool, str)
    }
    not_here = {
        # Each writes to disk, to a service, or to a person.
        *("track_best_outputs", "use_wandb", "use_mlflow", "warn_on_score_mismatch"),
        # DSPy refuses what is not the default.
        "deterministic",
        # The bridge has its own.
        *(("track_stats",) if name == "GEPA" else ()),
    }
    assert plain - not_here <= set(row.constructor) | set(row.compile)


# --- configs --------------------------------------------------------------------------------


def test_keys_go_where_dspy_takes_them() -> None:
    constructor, compiled = split_config(
        find_row("MIPRO"), {"num_candidates": 3, "minibatch_size": 5, "max_errors": None}
    )
    assert constructor == {"num_candidates": 3}
    assert compiled == {"minibatch_size": 5}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        (
            "BootstrapFewShot",
            {
                "max_bootstrapped_demos": 4,
                "max_labeled_demos": 16,
                "max_rounds": 1,
                "max_errors": 5,
                "teacher_settings": {},
            },
        ),
        (
            "MIPRO",
            {
                "num_candidates": 10,
                "init_temperature": 1.0,
                "verbose": False,
                "track_stats": True,
                "view_data_batch_size": 10,
                "minibatch_size": 25,
                "minibatch_full_eval_steps": 10,
            },
        ),
    ],
)
def test_the_seeds_own_configs_are_taken_whole(name: str, config: dict[str, Any]) -> None:
    constructor, compiled = split_config(find_row(name), config)
    assert {**constructor, **compiled} == config


def test_an_unknown_key_is_refused_with_the_nearest_right_one() -> None:
    found = faults("BootstrapFewShot", {"max_bootstraped_demos": 4, "zzz": 1})
    assert found["config.max_bootstraped_demos"]["nearest"] == "max_bootstrapped_demos"
    assert "nearest" not in found["config.zzz"]


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("BootstrapFewShot", "max_rounds", "2"),
        ("BootstrapFewShot", "max_rounds", 0),
        ("BootstrapFewShot", "max_rounds", True),
        ("BootstrapFewShot", "max_rounds", 1.5),
        ("BootstrapFewShot", "metric_threshold", float("nan")),
        ("BootstrapFewShot", "teacher_settings", {"temperature": 1}),
        ("MIPROv2", "auto", "huge"),
        ("MIPROv2", "verbose", 1),
        ("MIPROv2", "init_temperature", 3),
        ("COPRO", "breadth", 1),
        ("COPRO", "prompt_model", 5),
        ("COPRO", "prompt_model", {"model": "no-provider"}),
        ("BootstrapRS", "restrict", [0, "1"]),
        ("BootstrapRS", "restrict", []),
        ("BetterTogether", "optimizers", {}),
        ("BetterTogether", "optimizers", {"p q": "COPRO"}),
        ("BetterTogether", "optimizers", {"p": 1}),
        ("BetterTogether", "optimizers", {"p": {"optimizer": "COPRO", "x": 1}}),
        ("BetterTogether", "optimizers", {"p": "BetterTogether"}),
    ],
)
def test_an_ill_typed_value_is_refused_where_it_stands(name: str, key: str, value: Any) -> None:
    assert all(path.startswith(f"config.{key}") for path in faults(name, {key: value}))


@pytest.mark.parametrize("key", ["metric", "teacher", "trainset", "vectorizer", "log_dir"])
def test_what_is_no_config_is_refused_with_the_reason(key: str) -> None:
    assert "nearest" not in faults("MIPROv2", {key: "x"})[f"config.{key}"]


def test_whole_numbers_may_come_as_floats() -> None:
    constructor, _ = split_config(find_row("LabeledFewShot"), {"k": 3.0})
    assert constructor == {"k": 3}
    assert isinstance(constructor["k"], int)


def test_lm_references_are_names_or_maps() -> None:
    constructor, _ = split_config(find_row("COPRO"), {"prompt_model": {"model": "embedded/echo"}})
    assert isinstance(constructor["prompt_model"], LMSpec)
    constructor, _ = split_config(find_row("GEPA"), {"reflection_lm": "strong"})
    assert constructor["reflection_lm"] == "strong"
    constructor, _ = split_config(find_row("BootstrapFewShot"), {"teacher_settings": {"lm": "t"}})
    assert constructor["teacher_settings"] == {"lm": "t"}


def test_the_steps_of_bettertogether_are_read_by_their_own_rows() -> None:
    constructor, _ = split_config(
        find_row("BetterTogether"),
        {"optimizers": {"m": {"optimizer": "mipro", "config": {"num_trials": 2}}, "c": "copro"}},
    )
    assert constructor["optimizers"] == {
        "m": (ROWS["MIPROv2"], {}, {"num_trials": 2}),
        "c": (ROWS["COPRO"], {}, {}),
    }
    wrong = {"optimizers": {"m": {"optimizer": "mipro", "config": {"num_trails": 2}}}}
    fault = faults("BetterTogether", wrong)["config.optimizers.m.config.num_trails"]
    assert fault["nearest"] == "num_trials"


@given(
    st.sampled_from(sorted(ROWS)),
    st.dictionaries(
        st.sampled_from(sorted({key for row in ROWS.values() for key in row.constructor}))
        | st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
            max_leaves=4,
        ),
        max_size=4,
    ),
)
def test_any_config_is_read_or_refused(name: str, config: dict[str, Any]) -> None:
    try:
        constructor, compiled = split_config(ROWS[name], config)
    except (InvalidArgs, Unsupported):
        return
    assert constructor.keys() | compiled.keys() == {k for k, v in config.items() if v is not None}


# --- what is installed ----------------------------------------------------------------------


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    row = ROWS["MIPROv2"]._replace(needs=("no_such_package_1", "json"))
    assert missing(row) == ["no_such_package_1"]
    with pytest.raises(MissingExtra) as caught:
        check_available(row)
    assert caught.value.details["package"] == "no_such_package_1"
    assert caught.value.details["install"].startswith("pip install")


@pytest.mark.parametrize("name", sorted(set(ROWS) - set(RUNNABLE)))
def test_what_cannot_run_here_is_listed_with_the_reason(name: str) -> None:
    listed = {row["name"]: row for row in listing()}[name]
    assert listed["available"] is False
    assert listed["reason"]
    with pytest.raises(Unsupported):
        check_available(ROWS[name])


def test_the_table_is_there_before_pydantic_and_dspy() -> None:
    code = (
        "import sys; from bridge.specs.optimizers import listing; listing();"
        "print([name for name in ('pydantic', 'dspy', 'numpy', 'optuna') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
