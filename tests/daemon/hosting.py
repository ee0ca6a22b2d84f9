"""A daemon whose host answers calls: its functions, and programs that it drives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.client import HostFunctions
from tests.daemon.optimizing import two_hop

if TYPE_CHECKING:
    from bridge.client import Port

__all__ = ["Host", "driven_two_hop", "last_question"]


class Host:
    """A daemon, the functions that answer it, and what was asked of them."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.functions = HostFunctions(port)
        self.asked: list[Any] = []
        self.withdrawn: list[Any] = []
        port.on_cancel_call = lambda cancel: self.withdrawn.append(cancel.call)

    def answers(self, target: str, name: str, function: Any) -> None:
        """Let `function` answer, and remember every call."""

        def remembered(call: Any) -> Any:
            self.asked.append(call)
            return function(call)

        self.functions.add(target, name, remembered)

    def lm(self, name: str, function: Any) -> dict[str, str]:
        """An LM of the host's that answers by `function`; how requests name it."""
        self.answers("lm", name, function)
        return {"provider": "host", "model": name}


def last_question(call: Any) -> str:
    """What an LM of the host's is asked in the end."""
    text: str = call.args["messages"][-1]["content"]
    return text.partition("[[ ## question ## ]]\n")[2].partition("\n")[0]


def driven_two_hop(host: Host, prefix: str) -> dict[str, Any]:
    """The demo's program with its `forward` on the host, which calls the modules back."""
    spec = two_hop(prefix)
    spec = {key: value for key, value in spec.items() if key not in {"steps", "forward_fn"}}
    spec["forward"] = "host"
    spec["signature"] = "question -> answer, confidence: float, context"
    query, search, answer = (module["id"] for module in spec["modules"])

    def drive(call: Any) -> dict[str, Any]:
        def ask(module_id: str, **inputs: Any) -> Any:
            args = {"module_id": module_id, "inputs": inputs}
            return host.port.call("forward", args, parent=call.call)

        question, context = call.args["inputs"]["question"], ""
        for _ in range(2):
            words = ask(query, question=question, context=context)["query"]
            context += "\n" + "\n".join(ask(search, query=words)["passages"])
        found = ask(answer, question=question, context=context)
        return {name: found[name] for name in ("answer", "confidence")} | {"context": context}

    host.answers("forward", spec["id"], drive)
    return spec
