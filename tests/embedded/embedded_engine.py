"""DSPy on the embedded LM, for the tests of it."""

from __future__ import annotations

from typing import Any

import dspy
from dspy.lm15 import Message, Response, TextPart, Usage

from bridge.embedded.answering import answer

TOWER = "The Eiffel Tower is located in Paris, France."
CAPITAL = "Paris is the capital of France."
DESIGNER = "The tower was designed by Gustave Eiffel."
BEGUN = "Construction of the Eiffel Tower began in 1887."
ADAPTERS = [
    dspy.ChatAdapter(use_json_adapter_fallback=False),
    dspy.JSONAdapter(),
    dspy.XMLAdapter(use_json_adapter_fallback=False),
]


class Embedded:
    """A DSPy engine over `answer` that keeps what it was asked."""

    def __init__(self, model: str = "lexical") -> None:
        self.model = model
        self.messages: list[dict[str, Any]] = []

    def complete(self, request: Any) -> Response:
        self.messages = [{"role": "system", "content": request.system}] if request.system else []
        for message in request.messages:
            text = "".join(part.text for part in message.parts)
            self.messages.append({"role": message.role, "content": text})
        return Response(
            id="r",
            model=request.model,
            message=Message.assistant([TextPart(answer(self.messages, model=self.model))]),
            finish_reason="stop",
            usage=Usage(input_tokens=1, output_tokens=1, total_tokens=2),
        )


def run(program: Any, adapter: Any = ADAPTERS[0], model: str = "lexical", **inputs: Any) -> Any:
    engine = Embedded(model)
    lm = dspy.LM(f"embedded/{model}", engine=engine, cache=False, num_retries=0)
    with dspy.context(lm=lm, adapter=adapter, disable_history=True):
        prediction = program(**inputs)
    prediction.messages = engine.messages
    return prediction
