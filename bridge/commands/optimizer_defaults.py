"""What DSPy's optimizers do without a config key, for the documentation; a test asks DSPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CONFIG_DEFAULTS", "CONFIG_NOTES"]

CONFIG_DEFAULTS: Mapping[str, Any] = {
    "k": 16,
    "KNNFewShot.k": 4,
    "sample": True,
    "max_bootstrapped_demos": 4,
    "max_labeled_demos": 16,
    "MIPROv2.max_labeled_demos": 4,
    "max_rounds": 1,
    "num_candidate_programs": 16,
    "labeled_sample": True,
    "breadth": 10,
    "depth": 3,
    "COPRO.init_temperature": 1.4,
    "COPRO.track_stats": False,
    "auto": "light",
    "MIPROv2.init_temperature": 1.0,
    "MIPROv2.track_stats": True,
    "verbose": False,
    "minibatch": True,
    "minibatch_size": 35,
    "minibatch_full_eval_steps": 5,
    "program_aware_proposer": True,
    "data_aware_proposer": True,
    "view_data_batch_size": 10,
    "tip_aware_proposer": True,
    "fewshot_aware_proposer": True,
    "bsize": 32,
    "SIMBA.num_candidates": 6,
    "max_steps": 8,
    "SIMBA.max_demos": 4,
    "demo_input_field_maxlen": 100_000,
    "temperature_for_sampling": 0.2,
    "temperature_for_candidates": 0.2,
    "reflection_minibatch_size": 3,
    "candidate_selection_strategy": "pareto",
    "skip_perfect_score": True,
    "add_format_failure_as_feedback": False,
    "component_selector": "round_robin",
    "use_merge": True,
    "max_merge_invocations": 5,
    "failure_score": 0.0,
    "perfect_score": 1.0,
    "InferRules.num_candidates": 10,
    "num_rules": 10,
    "valset_ratio": 0.1,
    "shuffle_trainset_between_steps": True,
}
"""What an optimizer does without a config key: by ``Optimizer.key``, else by the key alone."""

CONFIG_NOTES: Mapping[str, str] = {
    "metric_threshold": "least score of a run that becomes a demonstration; any above 0",
    "teacher_settings": "`{lm}`: the LM whose runs are learned from; the run's LM",
    "KNNFewShot.max_bootstrapped_demos": "as many as `k`",
    "max_errors": "program runs that may fail; DSPy's 10",
    "num_threads": "at most `max_concurrency` of the request, and as many when left out",
    "stop_at_score": "a mean score that is enough",
    "restrict": "numbers of candidates, from -3 on; all",
    "BootstrapFewShotWithOptuna.max_demos": "takes the place of `max_bootstrapped_demos`",
    "prompt_model": "the run's LM",
    "task_model": "the run's LM",
    "reflection_lm": "the run's LM",
    "seed": "the request's",
    "MIPROv2.auto": "not beside `num_candidates` or `num_trials`",
    "MIPROv2.num_candidates": "10 when only `num_trials` is given",
    "num_trials": "from `num_candidates` when only that is given",
    "minibatch_size": "at most the examples that candidates are scored on",
    "bsize": "at most the trainset",
    "GEPA.auto": "one budget of `auto`, `max_full_evals`, `max_metric_calls`",
    "optimizers": "name to `{optimizer, config}`; `p`: BootstrapFewShotWithRandomSearch",
    "programs": "ids of programs or modules, two or more; each is asked",
    "Ensemble.size": "as many of them, drawn once by `seed`; all",
    "strategy": "names joined by ` -> `; all of them in order",
}
"""What stands beside a default, or in its place; keys as in `CONFIG_DEFAULTS`."""
