"""`get`, `list`, `delete`, `export`, `import` through a spawned daemon."""

from __future__ import annotations

import pytest

from tests.daemon.asking import (
    create,
    execute,
    faults,
    forward,
    lm_at,
    new_id,
    program,
    refused,
)

QA = "question -> answer"


def test_what_get_gives_creates_the_same_module_again(daemon):
    spec = {
        "id": new_id(),
        "type": "chain_of_thought",
        "signature": {
            "inputs": [{"name": "q", "type": "{:array, :date}"}],
            "outputs": {"a": "map"},
        },
        "config": {"temperature": 0.3, "stop": "END", "reasoning_field": "why"},
        "state": {"demos": [{"q": ["2024-01-01"], "a": {"k": None}}]},
        "lm": "fast",
    }
    version = daemon.call("create_module", spec)["version"]
    found = daemon.call("get", {"kind": "module", "id": spec["id"]})
    assert (found.pop("kind"), found.pop("version")) == ("module", version)
    daemon.call("delete", {"kind": "module", "id": spec["id"]})
    assert daemon.call("create_module", found)["version"] == version


def test_what_get_gives_creates_the_same_program_again(daemon):
    module = create(daemon, "predict", QA)
    steps = [{"call": "m"}, {"output": {"reply": "$answer", "fixed": {"literal": ["$x"]}}}]
    made = program(daemon, {"m": module}, steps=steps)
    found = daemon.call("get", {"kind": "program", "id": made})
    assert (found.pop("kind"), found["steps"]) == ("program", steps)
    version = found.pop("version")
    assert daemon.call("create_program", found)["version"] == version


def test_an_id_is_the_same_as_a_number_and_as_text(daemon):
    daemon.call("create_module", {"id": 4711, "type": "predict", "signature": QA})
    assert forward(daemon, "4711", {"question": "q"}) == forward(daemon, 4711, {"question": "q"})
    assert daemon.call("get", {"kind": "module", "id": "4711"})["id"] == 4711


def test_list_names_modules_and_programs_with_their_versions(daemon):
    module = create(daemon, "predict", QA)
    made = program(daemon, {"answer": module})
    everything = daemon.call("list")
    found = {row["id"]: row for row in everything["modules"]}
    version = daemon.call("get", {"kind": "module", "id": module})["version"]
    assert found[module] == {"id": module, "type": "predict", "version": version}
    version = daemon.call("get", {"kind": "program", "id": made})["version"]
    row = {"id": made, "modules": ["answer"], "version": version}
    assert row in everything["programs"]
    assert set(daemon.call("list", {"kind": "module"})) == {"modules"}


def test_what_is_deleted_needs_its_spec_again(daemon):
    module = create(daemon, "predict", QA)
    made = program(daemon, {"m": module})
    deleted = daemon.call("delete", {"kind": "module", "id": module})
    assert deleted == {"deleted": True, "kind": "module", "id": module}
    for command, args in (
        ("forward", {"module_id": module, "inputs": {"question": "q"}}),
        ("execute", {"program_id": made, "inputs": {"question": "q"}}),
        ("get", {"kind": "module", "id": module}),
        ("delete", {"kind": "module", "id": module}),
        ("export", {"modules": [module]}),
        ("export", {"programs": [made]}),
    ):
        error = refused(daemon, command, args)
        assert (error["code"], error["details"]["need"]) == ("not_found", "spec")
        assert error["details"]["id"] == module
    daemon.call("create_module", {"id": module, "type": "predict", "signature": QA})
    assert set(execute(daemon, made, {"question": "q"})) == {"answer"}


def test_create_forward_and_delete_may_be_sent_back_to_back(daemon):
    spec = {"id": new_id(), "type": "predict", "signature": QA}
    daemon.send("create_module", spec)
    first = daemon.send("forward", {"module_id": spec["id"], "inputs": {"question": "q"}})
    daemon.send("create_module", {**spec, "signature": "question -> other"})
    second = daemon.send("forward", {"module_id": spec["id"], "inputs": {"question": "q"}})
    daemon.send("delete", {"kind": "module", "id": spec["id"]})
    third = daemon.send("forward", {"module_id": spec["id"], "inputs": {"question": "q"}})
    assert "answer" in first.result(10)
    assert "other" in second.result(10)
    assert third.exception(10).code == "not_found"


def test_an_export_of_everything_holds_everything_in_order(spawn):
    port = spawn()
    port.hello()
    modules = [create(port, "predict", QA) for _ in range(3)]
    made = program(port, {"m": modules[0]})
    data = port.call("export")
    assert [spec["id"] for spec in data["modules"]] == modules
    assert [spec["id"] for spec in data["programs"]] == [made]


def test_an_export_of_nothing_in_particular_is_empty(daemon):
    create(daemon, "predict", QA)
    assert daemon.call("export", {"modules": []}) == {"modules": [], "programs": []}


def test_an_import_puts_programs_and_custom_modules_in_whatever_their_order(spawn):
    port = spawn()
    port.hello()
    data = {
        "modules": [
            {"id": "outer", "type": "custom", "config": {"program": "p2"}},
            {"id": "inner", "type": "custom", "config": {"program": "p1"}},
            {"id": "leaf", "type": "predict", "signature": QA},
        ],
        "programs": [
            {"id": "p3", "modules": [{"id": "outer", "name": "m"}]},
            {"id": "p2", "modules": [{"id": "inner", "name": "m"}]},
            {"id": "p1", "modules": [{"id": "leaf", "name": "m"}]},
        ],
    }
    assert port.call("import", data) == {"modules": 3, "programs": 3, "missing": []}
    lm = {"provider": "embedded", "model": "echo"}
    assert set(execute(port, "p3", {"question": "q"}, lm=lm)) == {"answer"}
    exported = port.call("export", {"programs": ["p3"]})
    assert {spec["id"] for spec in exported["programs"]} == {"p1", "p2", "p3"}


GOOD = {"type": "predict", "signature": QA}


def test_an_import_is_checked_by_what_it_brings_not_by_what_it_replaces(spawn):
    port = spawn()
    port.hello()
    port.call("create_module", {"id": "leaf", **GOOD})
    port.call("create_program", {"id": "outer", "modules": [{"id": "leaf", "name": "m"}]})
    port.call("create_module", {"id": "c", "type": "custom", "config": {"program": "outer"}})
    # With the `c` of before, `outer` would call itself.
    data = {
        "modules": [{"id": "c", "type": "custom", "config": {"program": "inner"}}],
        "programs": [
            {"id": "inner", "modules": [{"id": "leaf", "name": "m"}]},
            {"id": "outer", "modules": [{"id": "c", "name": "m"}]},
        ],
    }
    assert port.call("import", data) == {"modules": 1, "programs": 2, "missing": []}
    assert [spec["id"] for spec in port.call("list")["programs"]] == ["outer", "inner"]


@pytest.mark.parametrize(
    ("modules", "programs", "path"),
    [
        ([{"id": "n2", "type": "predict"}], [], "modules[1].signature"),
        ([{"id": "n2", **GOOD, "state": {"demos": 1}}], [], "modules[1].state.demos"),
        ([], [{"id": "p", "modules": []}], "programs[0].modules"),
        (
            [],
            [{"id": "p", "modules": [{"id": "n1"}], "steps": [{"cal": 1}]}],
            "programs[0].steps[0]",
        ),
        (
            [{"id": "n2", "type": "predict", "signature": "other -> x"}],
            [{"id": "p", "modules": [{"id": "n1"}, {"id": "n2"}]}],
            "programs[0].modules[1].inputs.other",
        ),
        (
            [{"id": "c", "type": "custom", "config": {"program": "p"}}],
            [{"id": "p", "modules": [{"id": "c"}]}],
            "programs[0].modules[0]",
        ),
    ],
)
def test_an_import_with_one_fault_puts_nothing(daemon, modules, programs, path):
    data = {"modules": [{"id": "n1", **GOOD}, *modules], "programs": programs}
    assert path in faults(daemon, "import", data)
    assert refused(daemon, "get", {"kind": "module", "id": "n1"})["code"] == "not_found"
    daemon.call("ping")


def test_a_registry_without_a_module_that_is_named_can_be_exported_and_imported(spawn):
    port, other = spawn(), spawn()
    port.hello()
    leaf, kept = create(port, "predict", QA), create(port, "predict", QA)
    broken, whole = program(port, {"m": leaf, "k": kept}), program(port, {"m": kept})
    port.call("create_module", {"id": "c", "type": "custom", "config": {"program": whole}})
    port.call("delete", {"kind": "module", "id": leaf})
    data = port.call("export")
    other.hello()
    assert other.call("import", data) == {
        "modules": 2,
        "programs": 2,
        "missing": [{"kind": "module", "id": leaf}],
    }
    assert other.call("export") == data
    args = {"program_id": broken, "inputs": {"question": "q"}}
    lm = {"provider": "embedded", "model": "echo"}
    error = refused(other, "execute", args, lm=lm)
    assert (error["code"], error["details"]["need"]) == ("not_found", "spec")
    assert error["details"]["id"] == leaf
    other.call("create_module", {"id": leaf, **GOOD})
    assert other.call("execute", args, lm=lm)["answer"]


def test_an_imported_key_is_masked_like_any_other(daemon, lm_server):
    key = "sk-marked-key-of-the-import"
    model = "echoing+echo-key-401"
    lm = {**lm_at(lm_server, model), "api_key": key}
    made = new_id()
    daemon.call("import", {"modules": [{"id": made, **GOOD, "lm": lm}]})
    error = refused(daemon, "forward", {"module_id": made, "inputs": {"question": "q"}})
    assert error["code"] == "lm_auth"
    assert key not in str(error)


@pytest.mark.parametrize(
    ("command", "args", "path"),
    [
        ("get", {"kind": "modul", "id": 1}, "kind"),
        ("get", {"kind": "module"}, "id"),
        ("get", {"kind": "module", "id": ""}, "id"),
        ("get", {"kind": "module", "id": 1.5}, "id"),
        ("delete", {"kind": "module", "id": 1, "force": True}, "force"),
        ("export", {"modules": "all"}, "modules"),
        ("import", {"module": []}, "module"),
        ("list", {"kind": "lm"}, "kind"),
    ],
)
def test_wrong_arguments_are_refused_with_their_path(daemon, command, args, path):
    assert path in faults(daemon, command, args)


@pytest.mark.parametrize("taken", [True, 1.0, "", None])
def test_an_id_is_a_text_or_a_whole_number(daemon, taken):
    spec = {"id": taken, "type": "predict", "signature": "a -> b"}
    assert "id" in faults(daemon, "create_module", spec)


def test_null_is_the_same_as_left_out(daemon):
    nothing = dict.fromkeys(["lm", "lms", "limits", "cache", "adapter"])
    assert daemon.call("configure", nothing)["status"] == "configured"
    assert daemon.call("history", {"limit": None}) == daemon.call("history")
