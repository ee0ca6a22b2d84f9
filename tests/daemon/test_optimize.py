"""`optimize` over the port, as the seed's Elixir sends it: every optimizer on the two-hop program.

The first daemon here is bytes on pipes: whatever an optimizer printed into them would show.
"""

from __future__ import annotations

import itertools

import pytest

from tests.daemon.optimizing import (
    CONFIGS,
    HELDOUT,
    LEXICAL,
    PATIENCE,
    TRAIN,
    local,
    open_daemon,
    optimize_faults,
    request,
    two_hop,
)
from tests.daemon.raw_daemon import RawDaemon, written
from tests.lm_server import answer_text

AT_ONCE = 4
AT_SERVER = "two-hop"
LABEL = "a label of no input field"
LEARNED = ("instructions", "demos", "predictors")
ASKED = [row["question"] for row in HELDOUT[:2]]


def prompts_of(ask, program_id, **envelope):
    """Every prompt that the program makes of two questions."""
    found = []
    for question in ASKED:
        args = {"program_id": program_id, "inputs": {"question": question}}
        result = ask("execute", args, trace=True, **envelope)
        found += [row["prompt"] for row in result["_meta"]["trace"]]
    assert len(found) == 3 * len(ASKED)
    return found


def learned_state(result):
    """What the result says that each module has learned, as `create_module` takes it."""
    modules = result["optimized_program"]["modules"]
    return {
        key: {name: state[name] for name in LEARNED if name in state}
        for key, state in modules.items()
    }


class Host:
    """Asks a raw daemon in JSON; keeps every message that came for another request."""

    def __init__(self, raw):
        self.raw = raw
        self.ids = itertools.count(1)
        self.messages = []

    def send(self, command, args, **envelope):
        number = next(self.ids)
        self.raw.write(written({"id": number, "command": command, "args": args, **envelope}))
        return number

    def reply(self, number):
        while True:
            for message in self.messages:
                if message.get("id") == number and "event" not in message:
                    return message
            self.messages.append(self.raw.message(PATIENCE))

    def ask(self, command, args, **envelope):
        message = self.reply(self.send(command, args, **envelope))
        assert "error" not in message, message
        return message["result"]

    def events(self, number):
        return [m for m in self.messages if m.get("id") == number and "event" in m]


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """All optimizers, run through one raw daemon: replies by name, and the prompts afterwards."""
    with RawDaemon("--state-dir", str(tmp_path_factory.mktemp("runs"))) as raw:
        host = Host(raw)
        host.ask("hello", {"protocol": [1, 2], "accepts": ["events"]})
        host.ask("configure", {"lm": LEXICAL})
        host.numbers, waiting = {}, []
        for name in CONFIGS:
            if len(waiting) == AT_ONCE:
                host.reply(waiting.pop(0))
            host.numbers[name] = host.send("optimize", request(name, f"{name}:", run_id=name))
            waiting.append(host.numbers[name])
        for number in waiting:
            host.reply(number)
        yield host
        raw.end_input()
        # The stream ends with a whole frame, and there was nothing in it but frames.
        assert raw.remaining(PATIENCE) == []


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A daemon that has seen no run."""
    with open_daemon(tmp_path_factory.mktemp("fresh")) as port:
        yield port


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with open_daemon(tmp_path_factory.mktemp("state")) as port:
        yield port


def result_of(host, name):
    reply = host.reply(host.numbers[name])
    assert "error" not in reply, reply
    return reply["result"]


# Every optimizer


@pytest.mark.parametrize("name", CONFIGS)
def test_what_was_learned_gives_a_fresh_daemon_the_same_prompts(host, fresh, name):
    result = result_of(host, name)
    program_id = f"{name}:two_hop"
    taught = prompts_of(host.ask, program_id)
    created = fresh.call("create_program", two_hop(f"{name}:", state=learned_state(result)))
    assert created["version"] == result["optimized_program"]["version"]
    again = prompts_of(fresh.call, program_id)
    assert again == taught


@pytest.mark.parametrize("name", CONFIGS)
def test_the_seeds_own_update_of_its_modules_gives_the_same_prompts(host, fresh, name):
    # It merges an optimizer's instructions and demonstrations into each module's state.
    result = result_of(host, name)
    state = {
        key: {"instructions": text, "demos": result["module_demos"].get(key, [])}
        for key, text in result["module_instructions"].items()
    }
    fresh.call("create_program", two_hop(f"{name}:", state=state))
    program_id = f"{name}:two_hop"
    again = prompts_of(fresh.call, program_id)
    taught = prompts_of(host.ask, program_id)
    assert again == taught


@pytest.mark.parametrize("name", CONFIGS)
def test_a_result_has_what_the_seeds_elixir_reads(host, name):
    result = result_of(host, name)
    ids = {f"{name}:generate_query", f"{name}:generate_answer"}
    program = result["optimized_program"]
    assert result["status"] == "completed"
    assert result["run_id"] == name
    assert type(result["score"]) is float
    assert 0.0 <= result["baseline_score"] <= result["score"] <= 1.0
    assert program["id"] == f"{name}:two_hop"
    assert program["metrics"]["training_score"] == result["score"]
    assert program["modules"].keys() == ids
    assert result["module_instructions"].keys() == result["module_demos"].keys() == ids
    assert all(isinstance(text, str) for text in result["module_instructions"].values())
    assert {"trials", "lm_calls", "usage", "cost", "seconds"} <= result["stats"].keys()
    assert result["stats"]["lm_calls"] > 0
    row = result["traces"][-1]
    assert row["module_id"] in ids
    assert {"inputs", "outputs", "prompt", "response", "metadata"} <= row.keys()
    assert "_meta" in result


@pytest.mark.parametrize("name", CONFIGS)
def test_progress_tells_the_best_score_so_far(host, name):
    result = result_of(host, name)
    events = [event["data"] for event in host.events(host.numbers[name])]
    keys = {
        *("run_id", "phase", "trial", "trials", "score", "best_score"),
        *("lm_calls", "tokens", "cost", "elapsed_ms"),
    }
    last = events[-1]
    assert (last["phase"], last["status"], last["error"]) == ("done", "completed", None)
    assert last["score"] == result["score"]
    assert all(event.keys() == keys for event in events[:-1])
    assert last.keys() == {*keys, "status", "error"}
    best = [event["best_score"] for event in events if event["best_score"] is not None]
    assert best[-1] == pytest.approx(result["score"])
    assert [event["trial"] for event in events] == sorted(event["trial"] for event in events)
    assert [event["lm_calls"] for event in events] == sorted(event["lm_calls"] for event in events)
    assert events[-1]["trial"] == result["stats"]["trials"]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_trial_has_an_event(host, name):
    result = result_of(host, name)
    events = [event["data"] for event in host.events(host.numbers[name])]
    told = {event["trial"]: event["score"] for event in events[:-1] if event["score"] is not None}
    assert told == {row["trial"]: row["score"] for row in result["trials"]}


def test_optimizers_that_show_examples_raise_the_score(host):
    scores = {name: result_of(host, name)["score"] for name in CONFIGS}
    showing = set(CONFIGS) - {"COPRO", "SIMBA", "GEPA"}
    assert {name for name, score in scores.items() if score >= 0.5} >= showing


def test_bootstrapping_raises_the_heldout_score_by_twenty_points(daemon):
    program = two_hop("raise:")
    scored = {"devset": HELDOUT, "metric": "exact_match"}
    before = daemon.call("evaluate", {"program": program, **scored})
    given = request(program=program, trainset=TRAIN[:20])
    daemon.call("optimize", given, timeout=PATIENCE)
    after = daemon.call("evaluate", {"program_id": "raise:two_hop", **scored})
    assert after["score"] - before["score"] >= 0.20


# Against an LM over HTTP


@pytest.fixture(scope="module")
def over_http(lm_server, tmp_path_factory):
    """All optimizers at the LM server: futures of their results by name, and the requests made."""
    model = AT_SERVER
    # Half of the labels are what this LM says.
    rows = [
        {**row, "answer": answer_text(model, row["question"]) if even else row["answer"]}
        for even, row in zip(itertools.cycle([True, False]), TRAIN[:8], strict=False)
    ]
    rows = [{**row, "gold_passages": [LABEL]} for row in rows]
    with open_daemon(tmp_path_factory.mktemp("http"), local(lm_server, model)) as port:
        futures, waiting = {}, []
        for name in CONFIGS:
            if len(waiting) == AT_ONCE:
                waiting.pop(0).exception(PATIENCE)
            given = request(name, f"{name}:", trainset=rows, seed=7)
            futures[name] = port.send("optimize", given)
            waiting.append(futures[name])
        yield port, futures


@pytest.mark.parametrize("name", CONFIGS)
def test_every_optimizer_runs_at_an_lm_over_http(over_http, lm_server, fresh, name):
    port, futures = over_http
    result = futures[name].result(PATIENCE)
    assert result["status"] == "completed"
    assert result["score"] >= result["baseline_score"] == 0.5
    taught = prompts_of(port.call, f"{name}:two_hop")
    fresh.call("create_program", two_hop(f"{name}:", state=learned_state(result)))
    lm = local(lm_server, AT_SERVER)
    assert prompts_of(fresh.call, f"{name}:two_hop", lm=lm) == taught


def test_labels_that_are_no_field_of_the_program_never_reach_it(over_http, lm_server):
    for future in over_http[1].values():
        future.result(PATIENCE)
    told = 0
    for received in lm_server.requests:
        system, *rest = received.body["messages"]
        # An optimizer may show whole examples to the LM that writes instructions for it.
        if "`query` (str): words to look for" in system["content"] or "`confidence`" in str(system):
            told += 1
            assert LABEL not in str(rest)
    assert told > 500


# The wire


@pytest.mark.parametrize("optimizer", ["BootstrapFewShot", "MIPRO"])
def test_version_1_answers_the_seeds_request_with_one_frame_and_no_event(tmp_path, optimizer):
    with RawDaemon("--state-dir", str(tmp_path)) as raw:
        raw.write(written({"id": 1, "command": "configure", "args": {"lm": LEXICAL}}))
        raw.write(written({"id": 2, "command": "optimize", "args": request(optimizer)}))
        configured, optimized = raw.message(PATIENCE), raw.message(PATIENCE)
        raw.end_input()
        assert raw.remaining(PATIENCE) == []
    assert configured == {"id": 1, "result": {"status": "configured"}}
    assert optimized.keys() == {"id", "result"}
    result = optimized["result"]
    assert "_meta" not in result
    assert result["score"] > result["baseline_score"]
    assert result["module_demos"]["generate_answer"]


def test_a_program_as_the_seed_has_it_learns(daemon):
    # No instructions, no name, no steps: signatures as lists of fields, run in their order.
    def field(name):
        return {"name": name, "type": "string", "description": f"the {name}"}

    def module(key, type_, inputs, outputs):
        signature = {"inputs": list(map(field, inputs)), "outputs": list(map(field, outputs))}
        return {"id": key, "type": type_, "signature": signature, "state": {}}

    program = {
        "id": "5f1f6d3a-0b0e-4f5e-9a53-0a9d2f0c8a11",
        "modules": [
            module("query-module", "predict", ["question"], ["query"]),
            module("answer-module", "chain_of_thought", ["question", "query"], ["answer"]),
        ],
        "forward_fn": None,
    }
    result = daemon.call("optimize", request(program=program), timeout=PATIENCE)
    assert result["module_demos"].keys() == {"query-module", "answer-module"}
    assert result["optimized_program"]["metrics"]["training_score"] == result["score"]


def test_the_seeds_names_are_names(daemon):
    known = ["bootstrap_fewshot", "bootstrap_fewshot_with_optuna", "mipro", "copro", "BootstrapRS"]
    for name in known:
        # Past the name, to what is wrong with the rest.
        with_fault = request(name, config={"no_such_key": 1})
        assert optimize_faults(daemon, with_fault).keys() == {"config.no_such_key"}


# What is learned stays, or does not


def test_the_registry_holds_the_optimized_program_under_its_id(daemon):
    given = request("LabeledFewShot", "held:")
    result = daemon.call("optimize", given, timeout=PATIENCE)
    held = daemon.call("get", {"kind": "program", "id": "held:two_hop"})
    assert held["version"] == result["optimized_program"]["version"]
    module = daemon.call("get", {"kind": "module", "id": "held:generate_answer"})
    assert module["state"]["demos"] == result["module_demos"]["held:generate_answer"]
    assert len(module["state"]["demos"]) == 4


def test_keep_new_leaves_the_original_alone(daemon):
    created = daemon.call("create_program", two_hop("new:"))
    given = request("LabeledFewShot", program="new:two_hop", keep="new")
    result = daemon.call("optimize", given, timeout=PATIENCE)
    assert result["module_demos"]["new:generate_answer"]
    assert result["optimized_program"]["version"] != created["version"]
    held = daemon.call("get", {"kind": "program", "id": "new:two_hop"})
    assert held["version"] == created["version"]


def test_a_module_by_itself_learns(daemon):
    module = next(m for m in two_hop("alone:")["modules"] if m["name"] == "generate_answer")
    del module["name"]
    daemon.call("create_module", module)
    rows = [{**row, "context": " ".join(row["gold_passages"])} for row in TRAIN[:6]]
    given = request("LabeledFewShot", module_id="alone:generate_answer", trainset=rows)
    del given["program"]
    result = daemon.call("optimize", given, timeout=PATIENCE)
    assert result["optimized_program"]["id"] == "alone:generate_answer"
    assert result["optimized_program"]["modules"].keys() == {"alone:generate_answer"}
    assert result["score"] > result["baseline_score"]


def test_a_module_that_was_replaced_during_the_run_keeps_its_new_spec(daemon, lm_server):
    model = "replaced+slow-20"
    given = request("LabeledFewShot", "re:", trainset=TRAIN[:4], max_concurrency=1)
    future = daemon.send("optimize", given, lm=local(lm_server, model))
    lm_server.wait_for(lambda: lm_server.in_flight(model), PATIENCE)
    other = {"id": "re:generate_answer", "type": "predict", "signature": "question -> answer"}
    daemon.call("create_module", other)
    daemon.call("delete", {"kind": "module", "id": "re:generate_query"})
    result = future.result(PATIENCE)
    assert result["module_demos"]["re:generate_answer"]
    assert any("re:generate_answer" in text for text in result["warnings"])
    kept = daemon.call("get", {"kind": "module", "id": "re:generate_answer"})
    assert kept["type"] == "predict"
    assert not kept["state"]


def test_usage_of_a_run_counts_for_its_tenant_and_program(daemon):
    given = request("LabeledFewShot", "counted:")
    result = daemon.call("optimize", given, tenant="counting", timeout=PATIENCE)
    usage = daemon.call("usage", tenant="counting")
    assert usage["total"]["calls"] == result["stats"]["lm_calls"]
    assert usage["programs"]["counted:two_hop"]["calls"] == result["stats"]["lm_calls"]
    assert result["_meta"]["usage"]["embedded/lexical"]["calls"] == result["stats"]["lm_calls"]


def test_an_ensemble_takes_the_programs_place(daemon):
    for name in ("whole", "a", "b", "c"):
        daemon.call("create_program", two_hop(f"ens-{name}:"))
    members = [f"ens-{name}:two_hop" for name in "abc"]
    given = request("Ensemble", program="ens-whole:two_hop", config={"programs": members})
    alone = {key: value for key, value in given.items() if key not in ("trainset", "metric")}
    told = daemon.call("optimize", {**alone, "keep": "new"}, timeout=PATIENCE)
    assert told["score"] is None
    result = daemon.call("optimize", {**given, "trainset": TRAIN[:2]}, timeout=PATIENCE)
    assert result["score"] == result["baseline_score"]
    program = result["optimized_program"]
    assert program["program"] == told["optimized_program"]["program"]
    held = daemon.call("get", {"kind": "program", "id": "ens-whole:two_hop"})
    assert held["version"] == program["version"]
    args = {"program_id": "ens-whole:two_hop", "inputs": {"question": ASKED[0]}}
    assert len(daemon.call("execute", args, trace=True)["_meta"]["trace"]) == 3 * 3


def test_an_ensemble_of_other_fields_is_refused(daemon):
    daemon.call("create_program", two_hop("unlike:"))
    config = {"programs": ["unlike:two_hop", "unlike:generate_query"]}
    faults = optimize_faults(daemon, request("Ensemble", "unlike-whole:", config=config))
    assert faults.keys() == {"config.programs[1]"}
    assert optimize_faults(daemon, request("Ensemble")).keys() == {"config.programs"}
