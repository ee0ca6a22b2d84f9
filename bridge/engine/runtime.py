"""The engine: what commands ask of DSPy, on a worker's thread, under one request's scope.

Every call runs synchronously under `dspy.context`; nothing here configures DSPy globally. Built
objects are kept by version, LMs by what they are.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import dspy
from dspy.lm15 import Config, Message, Request

from bridge.engine.adapters import ADAPTERS, TwoStepAdapter
from bridge.engine.conversion import plain_fields
from bridge.engine.failures import explain
from bridge.engine.lms.cache import CacheSettings, ResponseCache
from bridge.engine.lms.lm import BridgeLM
from bridge.engine.lms.meter import Meter
from bridge.engine.lms.providers import backend_for
from bridge.engine.parallel import in_parallel
from bridge.engine.programs import HostModule, HostProgram, LMs, build, part_in_force
from bridge.engine.runs.bench import Bench
from bridge.engine.runs.evaluation import evaluate
from bridge.engine.runs.optimizing import optimize
from bridge.engine.streaming.listening import expecting_text, settle
from bridge.engine.tokens import count_tokens
from bridge.scope import Scope, Stopped, Usage, current_scope, current_tally
from bridge.settings import AdapterChoice
from bridge.strand import drive
from bridge.turnstile import turnstile
from protocol.errors import BridgeError, Cancelled, Internal, InvalidArgs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bridge.ledger import Ledger
    from bridge.registry import Runnable
    from bridge.settings import Limits
    from bridge.specs.lms import LMSpec
    from bridge.specs.runs import EvaluatePlan, OptimizePlan

__all__ = ["Engine"]

MOST_LMS = 256
"""LMs kept open, connections and all; the least recently used is let go."""


class Engine:
    """Real DSPy behind plain values. Any worker's thread."""

    def __init__(self, ledger: Ledger, limits: Limits) -> None:
        self._ledger = ledger
        self._limits = limits
        self._cache = ResponseCache(limits.cache_bytes)
        self._lock = threading.Lock()
        self._built: OrderedDict[str, HostModule | HostProgram] = OrderedDict()
        self._being_built: dict[str, Future[HostModule | HostProgram]] = {}
        self._lms: OrderedDict[str, dspy.LM] = OrderedDict()
        self._adapters = {name: make() for name, make in ADAPTERS.items()}
        self._module_lms = LMs(
            chosen=lambda ref: self._lm(current_scope.get(), ref),
            named=lambda name: self._named_lm(current_scope.get(), name),
        )
        self._bench = Bench(self._context, self._module_lms, self._named_lm, {})
        # DSPy's own log repeats what our errors and warnings say, prompt and all.
        logging.getLogger("dspy").setLevel(logging.CRITICAL)

    def explain(self, error: BaseException) -> BridgeError | None:
        """The wire's error for one of DSPy's."""
        return explain(error)

    def set_cache(self, settings: Mapping[str, Any]) -> None:
        """Switch the response cache; `settings` as `configure` has them."""
        if settings:
            self._cache.settings = CacheSettings(**settings)
            if not self._cache.settings.enabled:
                self._cache.clear()

    # Modules and programs

    def call(
        self, runnable: Runnable, inputs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """`answer`, on this thread."""
        return drive(self.answer(runnable, inputs, options))

    async def answer(
        self, runnable: Runnable, inputs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Output fields by name. Raises InvalidArgs, DSPy's errors, or Stopped."""
        module = self._in_force(runnable)
        scope = current_scope.get()
        read = module.read(inputs, "inputs", scope)
        scope.options = options
        with self._context_here(scope):
            return plain_fields(await module.arun(read))

    def batch(
        self,
        runnable: Runnable,
        rows: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
        *,
        max_concurrency: int,
        max_errors: int | None,
    ) -> dict[str, Any]:
        """``{rows: [{index, outputs, error}], total, errors}`` in order.

        Once more than `max_errors` rows have failed, the rows not begun get the error `cancelled`.
        """
        scope = current_scope.get()
        scope.options = options
        with self._context_here(scope):
            results = _rows(
                lambda row: self._row(runnable, *row),
                list(enumerate(rows)),
                max_concurrency,
                max_errors,
            )
        errors = sum(1 for row in results if row["error"] is not None)
        for index, row in enumerate(results):
            row["index"] = index
        return {"rows": results, "total": len(results), "errors": errors}

    def _row(self, runnable: Runnable, index: int, inputs: Mapping[str, Any]) -> dict[str, Any]:
        module = self._in_force(runnable)
        path = f"inputs[{index}]"
        scope = current_scope.get()
        read = module.read(inputs, path, scope)
        # A trace of its own: DSPy's modules look back at the last entries of it.
        trace: list[Any] = []
        with dspy.context(trace=trace):
            outputs = plain_fields(module.run(read, path))
        if scope.parent is not None:
            dspy.settings.trace.extend(trace)
        return outputs

    def _in_force(self, runnable: Runnable) -> HostModule | HostProgram:
        """The module of `runnable`: of the program that asks the host, when that is who asks."""
        found = None if current_scope.get().parent is None else part_in_force(runnable)
        return self.built(runnable) if found is None else found

    def built(self, runnable: Runnable) -> HostModule | HostProgram:
        """The DSPy module of `runnable`, built once a version."""
        key = f"{type(runnable).__name__}:{runnable.spec.id}:{runnable.version}"
        with self._lock:
            found = self._built.get(key)
            if found is not None:
                self._built.move_to_end(key)
                return found
            being_built = self._being_built.get(key)
            mine = being_built is None
            if being_built is None:
                being_built = self._being_built[key] = Future()
        if not mine:
            # Somebody else is at it, and a large index would not fit into memory twice.
            with turnstile.outside():
                return being_built.result()
        try:
            built = build(runnable, self._module_lms)
        except BaseException as error:
            being_built.set_exception(error)
            raise
        else:
            being_built.set_result(built)
            return built
        finally:
            with self._lock:
                del self._being_built[key]
                if being_built.exception() is None:
                    self._built[key] = being_built.result()
                while len(self._built) > self._limits.built_programs:
                    self._built.popitem(last=False)

    # Runs

    def optimize(
        self, plan: OptimizePlan, report: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """One optimizer run's result; see `bridge.engine.runs.optimizing`."""
        return optimize(self._bench, plan, report)

    def evaluate(
        self, plan: EvaluatePlan, report: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """One evaluation's rows and score; see `bridge.engine.runs.evaluation`."""
        return evaluate(self._bench, plan, report)

    def stop_run(self, run_id: str, tenant: str | None = None) -> bool:
        """End a run early, with what it has; False when no such run is in progress."""
        run = self._bench.running.get((tenant, run_id))
        if run is None:
            return False
        run.stop()
        return True

    # The LM alone

    async def generate(
        self, lm: LMSpec | str | None, messages: Sequence[Mapping[str, str]], options: Any
    ) -> dict[str, Any]:
        """``{text, finish_reason, model, usage, cost}``."""
        scope = current_scope.get()
        meter = self._lm(scope, lm).engine
        tally: dict[str, Usage] = {}
        token = current_tally.set(tally)
        try:
            with expecting_text("text"):
                response = await meter.answer(_request(meter.spec, messages, options))
                settle({"text": response.text or ""})
        finally:
            current_tally.reset(token)
        used = tally[meter.spec.name]
        return {
            "text": response.text or "",
            "finish_reason": response.finish_reason,
            "model": meter.spec.name,
            "usage": {"input_tokens": used.input_tokens, "output_tokens": used.output_tokens},
            "cost": used.cost,
        }

    def generate_batch(
        self, lm: LMSpec | str | None, prompts: Sequence[str], options: Any, max_concurrency: int
    ) -> dict[str, Any]:
        """``{texts, rows: [{index, text, error}]}``; a failed row's text is null."""
        results = _rows(
            lambda prompt: drive(self.generate(lm, _prompt(prompt), options)),
            prompts,
            max_concurrency,
            None,
        )
        rows = [
            {
                "index": index,
                "text": row["outputs"]["text"] if row["outputs"] is not None else None,
                "error": row["error"],
            }
            for index, row in enumerate(results)
        ]
        return {"texts": [row["text"] for row in rows], "rows": rows}

    def count_tokens(
        self, lm: LMSpec | str | None, messages: list[dict[str, str]]
    ) -> dict[str, Any]:
        """``{tokens, exact, tokenizer}``."""
        scope = current_scope.get()
        return count_tokens(scope.lms.resolve(_choice(scope, lm)), messages)

    # What a request runs under

    def _context(self, scope: Scope) -> Any:
        """One request's DSPy settings: its LM and adapter, a trace of its own, no histories."""
        return dspy.context(
            lm=self._lm(scope, None, optional=True),
            adapter=self._adapter(scope),
            trace=[],
            disable_history=True,
            warn_on_type_mismatch=False,
            callbacks=[],
        )

    def _context_here(self, scope: Scope) -> Any:
        """The same; a request within a host call has the asking thread's, trace and all."""
        if scope.parent is None:
            return self._context(scope)
        if scope.lm is scope.parent.lm:
            return nullcontext()
        return dspy.context(lm=self._lm(scope, None))

    def _lm(self, scope: Scope, ref: LMSpec | str | None, *, optional: bool = False) -> Any:
        """The LM in force: the request's own, else `ref`, else the default."""
        chosen = _choice(scope, ref)
        if chosen is None and optional and scope.lms.default is None:
            return None
        return self._opened(scope.lms.resolve(chosen))

    def _named_lm(self, scope: Scope, ref: LMSpec | str | None) -> Any:
        """The LM that `ref` names, whatever the request's own is; None is the one in force."""
        return self._lm(scope, None) if ref is None else self._opened(scope.lms.resolve(ref))

    def _opened(self, spec: LMSpec) -> dspy.LM:
        """The LM of `spec`, opened once."""
        identity = spec.identity
        with self._lock:
            found = self._lms.get(identity)
            if found is not None:
                self._lms.move_to_end(identity)
                return found
        made = self._open(spec)
        with self._lock:
            kept = self._lms.setdefault(identity, made)
            while len(self._lms) > MOST_LMS:
                # Not closed: requests in flight may be on it. Its sockets close with the last one.
                self._lms.popitem(last=False)
        return kept

    def _open(self, spec: LMSpec) -> dspy.LM:
        meter = Meter(spec, backend_for(spec, self._limits.max_lm_reply), self._cache, self._ledger)
        # Retries and caching are the meter's; DSPy's own would hide them from the budget.
        return BridgeLM(spec.name, engine=meter, cache=False, num_retries=0, **spec.options())

    def _adapter(self, scope: Scope) -> Any:
        choice: AdapterChoice = scope.adapter or AdapterChoice()
        if choice.name != "two_step":
            return self._adapters[choice.name]
        # The request's own LM answers; the extraction stays with the LM that was chosen for it.
        return TwoStepAdapter(self._opened(scope.lms.resolve(choice.extraction_lm)))


def _choice(scope: Scope, ref: LMSpec | str | None) -> LMSpec | str | None:
    return scope.lm if scope.lm is not None else ref


def _prompt(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _request(spec: LMSpec, messages: Sequence[Mapping[str, str]], options: Any) -> Request:
    merged = {**spec.options(), **options}
    if "stop" in merged:
        merged["stop"] = tuple(merged["stop"])
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system") or None
    spoken = tuple(
        Message.user(m["content"]) if m["role"] == "user" else Message.assistant(m["content"])
        for m in messages
        if m["role"] != "system"
    )
    try:
        return Request(spec.name, spoken, system=system, config=Config(**merged))
    except (TypeError, ValueError) as error:
        raise InvalidArgs.at("messages", str(error)) from None


def _rows(
    work: Callable[[Any], dict[str, Any]],
    items: Sequence[Any],
    max_concurrency: int,
    max_errors: int | None,
) -> list[dict[str, Any]]:
    """``{outputs, error}`` for each item, in order; raises Stopped when the request is."""
    scope = current_scope.get()
    failed = 0
    lock = threading.Lock()

    def one(item: Any) -> dict[str, Any]:
        nonlocal failed
        scope.check()
        if max_errors is not None and failed > max_errors:
            return {"outputs": None, "error": _not_begun(max_errors)}
        try:
            return {"outputs": work(item), "error": None}
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - a row's failure is the row's answer
            with lock:
                failed += 1
            found = explain(error) or Internal(f"{type(error).__name__} in this row")
            return {"outputs": None, "error": found.to_wire()}

    return in_parallel(one, items, max_concurrency, "batch")


def _not_begun(max_errors: int) -> dict[str, Any]:
    return Cancelled(f"not begun: more than {max_errors} rows failed").to_wire()
