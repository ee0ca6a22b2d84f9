"""How tests of modules and programs ask the daemon, and what plain DSPy would have asked an LM."""

from __future__ import annotations

import itertools
from typing import Any

import dspy
import pytest

from bridge.client import RequestFailed

_names = itertools.count(1)


def new_id(word="m"):
    """An id that no other test uses."""
    return f"{word}-{next(_names)}"


def lm_at(server, model, **more):
    """The LM `model` of the test server."""
    return {
        "provider": "openai",
        "model": model,
        "api_key": "key-of-the-test",
        "base_url": server.url_for("openai"),
        "max_retries": 0,
        **more,
    }


def create(port, type_, signature=None, **rest):
    """Create a module; its id."""
    spec = {"id": new_id(), "type": type_, **rest}
    if signature is not None:
        spec["signature"] = signature
    port.call("create_module", spec)
    return spec["id"]


def program(port, modules, **rest):
    """Create a program of ids by name; its id."""
    spec = {"id": new_id("p"), "modules": [{"id": i, "name": n} for n, i in modules.items()]}
    port.call("create_program", {**spec, **rest})
    return spec["id"]


def forward(port, module_id, inputs=None, *, config=None, **envelope):
    """The output fields of one call."""
    args = {"module_id": module_id, "inputs": inputs or {}}
    return fields(
        port.call("forward", {**args, **({"config": config} if config else {})}, **envelope)
    )


def execute(port, program_id, inputs=None, **envelope):
    """The output fields of one program's call."""
    return fields(
        port.call("execute", {"program_id": program_id, "inputs": inputs or {}}, **envelope)
    )


def fields(result):
    return {name: value for name, value in result.items() if name != "_meta"}


def refused(port, command, args, **envelope):
    """The error that a request is answered with."""
    with pytest.raises(RequestFailed) as caught:
        port.call(command, args, **envelope)
    return caught.value.error


def faults(port, command, args, **envelope):
    """The faults of an `invalid_args` answer by path."""
    error = refused(port, command, args, **envelope)
    assert error["code"] == "invalid_args", error
    return {fault["path"]: fault for fault in error["details"]["faults"]}


def prompts(port, command, args, **envelope):
    """Every prompt of a request, in order, from its trace."""
    result = port.call(command, args, trace=True, **envelope)
    return [row["prompt"] for row in result["_meta"]["trace"]]


def asked(server, model):
    """The messages of every request that a model of the server received."""
    return [request.body["messages"] for request in server.requests if request.model == model]


def plain_dspy(server, model, program: Any, *, adapter=None, **inputs):
    """Call a program with plain DSPy; the messages that the server received."""
    lm = dspy.LM(
        f"openai/{model}",
        api_key="k",
        api_base=server.url_for("openai"),
        cache=False,
        num_retries=0,
    )
    before = len(asked(server, model))
    with dspy.context(lm=lm, adapter=adapter or dspy.ChatAdapter(), disable_history=True, trace=[]):
        program(**inputs)
    return asked(server, model)[before:]


def chat_reply(**values):
    """A reply as the chat adapter reads it."""
    sections = [f"[[ ## {name} ## ]]\n{value}" for name, value in values.items()]
    return "\n\n".join([*sections, "[[ ## completed ## ]]"])


def one(type_, **more):
    """A signature with one input of this type."""
    return {"inputs": [{"name": "x", "type": type_, **more}], "outputs": {"answer": "string"}}


def user_text(daemon, type_, value, **more):
    """What the LM reads of a value."""
    module = create(daemon, "predict", one(type_, **more))
    inputs = {} if value is ... else {"x": value}
    (prompt,) = prompts(daemon, "forward", {"module_id": module, "inputs": inputs})
    head, _, rest = prompt[-1]["content"].partition("[[ ## x ## ]]\n")
    return rest.partition("\n\nRespond with")[0] if not head else None
