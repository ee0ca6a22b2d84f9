"""A loopback LM server for tests and benchmarks: several providers' wire formats, any misbehaviour.

In a test, in the test's own process (its event loop has a thread of its own):

    from tests.lm_server import LMServer

    with LMServer() as server:
        lm = {"provider": "openai", "model": "one+slow-200", "api_key": "k",
              "base_url": server.url_for("openai")}
        ...
        server.wait_for(lambda: server.in_flight("one+slow-200") == 1)
        assert server.requests[0].headers["authorization"] == "Bearer k"

In a benchmark, in a process of its own (the load then has a core to itself):

    from tests.lm_server import LMServerProcess

    with LMServerProcess() as server:
        server.base_url, server.stats()["peak_connections"]

What a model does is in its name: a plain name answers at once, `one+rate-limit-2-then-ok` refuses
twice first; `behaviours.py` lists the words. State is kept per (model, API key), so that tests
which use names or keys of their own do not disturb each other on a shared server.

By default every output field that a DSPy prompt asks for is filled with a text derived from the
request (`answer_text` says which), so that a test can prove whose reply it got.
"""

from .answers import answer_text, count_tokens
from .behaviours import UnknownBehaviourError
from .ledger import Received
from .process import LMServerProcess
from .server import LMServer

__all__ = [
    "LMServer",
    "LMServerProcess",
    "Received",
    "UnknownBehaviourError",
    "answer_text",
    "count_tokens",
]
