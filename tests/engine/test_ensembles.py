"""Ensembles: programs made of programs, against DSPy's own."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.ways.steps import run_steps
from bridge.ensembles import Ensemble, ensemble_of
from bridge.registry import Registry
from bridge.specs.modules import parse_module
from bridge.specs.programs import parse_program
from protocol.errors import InvalidArgs, NotFound
from tests.engine.workshop import HELDOUT, TRAIN, Watched, Workshop

ANSWER = {"type": "chain_of_thought", "signature": "question -> answer"}
WORDS = st.sampled_from(["Paris", "paris.", "the Paris", "Rome", "rome", "Oslo", "", "..."])


def registry_of(ids: list[str], signature: str = "question -> answer") -> Registry:
    """Programs of one module each, and a program `whole` in whose place an ensemble may stand."""
    registry = Registry()
    for name in [*ids, "whole"]:
        module = {"id": f"{name}-module", "type": "chain_of_thought", "signature": signature}
        registry.put_program(parse_program({"id": name, "modules": [{**module, "name": "m"}]}))
    return registry


def ensemble(registry: Registry, programs: Any, **more: Any) -> Ensemble:
    return ensemble_of(registry, registry.runnable("program", "whole"), programs=programs, **more)


def refused_path(kind: Any, registry: Registry, programs: Any, **more: Any) -> str:
    with pytest.raises(kind) as caught:
        ensemble(registry, programs, **more)
    return str(caught.value.details["faults"][0]["path"])


class Says(dspy.Module):  # type: ignore[misc]
    """A program that always answers the same."""

    def __init__(self, answer: dict[str, str]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, **_: Any) -> Any:
        return dspy.Prediction(**self.answer)


@given(st.lists(WORDS, min_size=2, max_size=6))
def test_it_answers_what_dspys_ensemble_does_with_all_its_outputs(words: list[str]) -> None:
    said = [{"reasoning": f"reason {n}", "answer": word} for n, word in enumerate(words)]
    theirs = dspy.Ensemble(reduce_fn=dspy.majority).compile([Says(answer) for answer in said])
    ids = [f"p{n}" for n in range(len(words))]
    made = ensemble(registry_of(ids), ids).runnable
    answers = dict(zip(made.parts, said, strict=True))
    ours = run_steps(
        made.wiring.steps,
        {"question": "?"},
        lambda name, _: answers[name],
        modules=made.wiring.modules,
        parallel_map=lambda work, items: [work(item) for item in items],
        checkpoint=lambda: None,
    )
    assert ours == theirs(question="?").toDict()


def test_its_fields_are_the_programs() -> None:
    registry = registry_of(["a", "b"], "member_1, winner -> member, member_1_vote")
    made = ensemble(registry, ["a", "b"]).runnable
    whole = registry.runnable("program", "whole")
    assert dict(made.shape.inputs) == dict(whole.shape.inputs)
    assert set(made.shape.outputs) == set(whole.shape.outputs)


def test_it_is_made_again_from_what_is_told() -> None:
    registry = registry_of(["a", "b"])
    made = ensemble(registry, ["a", "b-module"])
    assert (made.programs, made.modules) == (("a",), ("b-module",))
    assert [module["id"] for module in made.wire["modules"]] == ["whole.member_1", "b-module"]
    assert registry.put_program(parse_program(made.wire)).version == made.runnable.version


def test_a_sample_is_drawn_by_the_seed() -> None:
    ids = [f"p{n}" for n in range(8)]
    registry = registry_of(ids)
    drawn = [ensemble(registry, ids, size=3, seed=seed).wire for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]["modules"]) == 3


def test_what_cannot_be_an_ensemble_is_refused_at_its_place() -> None:
    registry = registry_of(["a", "b"])
    registry.put_module(
        parse_module({"id": "other", "type": "predict", "signature": "x -> answer"})
    )
    registry.put_module(
        parse_module({"id": "around", "type": "custom", "config": {"program": "whole"}})
    )
    assert refused_path(InvalidArgs, registry, None) == "config.programs"
    assert refused_path(InvalidArgs, registry, ["a", "b"], size=3) == "config.size"
    for member in ("other", "whole", "around"):
        assert refused_path(InvalidArgs, registry, ["a", member]) == "config.programs[1]"
    taken = {"id": "whole.member_2", "type": "predict", "signature": "x -> y"}
    registry.put_module(parse_module(taken))
    assert refused_path(InvalidArgs, registry, ["a", "b"]) == "program"
    with pytest.raises(NotFound) as caught:
        ensemble(registry, ["a", "nowhere"])
    assert caught.value.details["need"] == "spec"
    with pytest.raises(InvalidArgs):
        ensemble_of(registry, registry.runnable("module", "a-module"), programs=["a", "b"])


# --- runs -----------------------------------------------------------------------------------


def shop_with_members() -> tuple[Workshop, Ensemble]:
    shop = Workshop()
    for name in ("a", "b", "c"):
        shop.module({**ANSWER, "id": name})
    shop.program({"id": "whole", "modules": [{"id": "a", "name": "m"}]})
    whole = shop.registry.runnable("program", "whole")
    return shop, ensemble_of(shop.registry, whole, programs=["a", "b", "c"])


def run(shop: Workshop, made: Ensemble, **more: Any) -> Any:
    runnable = shop.registry.runnable("program", "whole")
    return shop.optimize("Ensemble", runnable=runnable, ensemble=made, **more)


def test_a_run_scores_the_program_and_the_ensemble() -> None:
    shop, made = shop_with_members()
    result = run(shop, made, trainset=TRAIN[:4], valset=HELDOUT[:3])
    assert result["status"] == "completed"
    assert result["scores"] == {"train": None, "val": result["score"]}
    assert type(result["baseline_score"]) is float
    assert result["stats"]["lm_calls"] == 3 * (1 + 3)
    assert all(row["before"] and row["after"] for row in result["rows"])
    program = result["optimized_program"]
    assert (program["id"], program["modules"]) == ("whole", {})
    assert program["program"] == made.wire
    assert program["version"] == made.runnable.version


def test_a_run_without_examples_asks_no_lm_and_has_no_score() -> None:
    shop, made = shop_with_members()
    lm = shop.behind(Watched)
    result = run(shop, made, trainset=())
    assert (result["score"], result["baseline_score"], lm.calls) == (None, None, 0)
    assert result["optimized_program"]["program"] == made.wire


def test_a_run_that_ends_before_leaves_the_program_as_it_was() -> None:
    shop, made = shop_with_members()
    lm = shop.behind(Watched)
    lm.at[6] = lambda: shop.engine.stop_run("run")
    result = run(shop, made, trainset=TRAIN[:4], max_concurrency=1)
    assert (result["status"], result["ended_by"]) == ("stopped", "run_stop")
    assert "program" not in result["optimized_program"]
    assert result["score"] == result["baseline_score"]
