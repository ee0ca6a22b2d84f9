"""A key that came in never goes out: every path that could carry one, then every byte searched."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.client import Port, RequestFailed
from bridge.secrets import SHORTEST_SECRET, Secrets
from protocol import Codec
from protocol.codecs import decode, encode
from tests.daemon.lm_maps import ENDPOINTS, FIRST_LITELLM_CALL, ask, lm_map, make_qa

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lm_server import LMServer

MARK = b"MARKED"
PLAIN = "sk-MARKED-3f9a1c77"
ESCAPED = 'sk-MARKED-"quo\\te"-\\n-9b1d'
"""Looks different in JSON, in JSON within JSON, and in Python's own quotes."""

ECHOES = ("echo-key-401", "echo-key-500")
MODULES = ("predict", "chain_of_thought", "best_of_n", "refine", "multi_chain_comparison")


class TappedPort(Port):
    """A port that keeps every byte the daemon wrote."""

    def __init__(self, **options: Any) -> None:
        self.raw = bytearray()
        super().__init__(**options)

    def _read(self) -> None:
        self.session = _Tap(self.session, self.raw)  # type: ignore[assignment]
        super()._read()


class _Tap:
    def __init__(self, session: Any, raw: bytearray) -> None:
        self._session, self._raw = session, raw

    def receive_data(self, data: bytes) -> Any:
        self._raw += data
        return self._session.receive_data(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@pytest.mark.parametrize("key", [PLAIN, ESCAPED], ids=["plain", "escaped"])
@pytest.mark.parametrize("codec", list(Codec))
def test_a_key_is_in_no_byte_that_the_daemon_writes(
    tmp_path: Path, lm_server: LMServer, codec: Codec, key: str
) -> None:
    log = tmp_path / "stderr"
    with log.open("wb") as stderr:
        port = TappedPort(codec=codec, stderr=stderr)
        with port:
            port.hello()
            port.wait_ready()
            _take_every_path(port, lm_server, key)
            _read_everything(port)
    assert {received.key for received in lm_server.requests if MARK.decode() in received.key}
    assert MARK not in port.raw
    assert MARK not in log.read_bytes()
    # Otherwise nothing was ever about to leak.
    assert b"*" * len(key) in port.raw


def _try(port: Port, command: str, args: Any, **envelope: Any) -> None:
    with suppress(RequestFailed):
        port.call(command, args, timeout=FIRST_LITELLM_CALL, **envelope)


def _take_every_path(port: Port, server: LMServer, key: str) -> None:
    _faults_that_no_key_was_learnt_from(port, key)
    bad = lm_map(server, "openai", "first+echo-key-401", api_key=key, max_retries=1)
    port.call("configure", {"lm": bad, "lms": {"echo": bad}, "log_level": "debug"})
    make_qa(port)
    inputs = {"question": f"what is {key}?"}
    for kind in MODULES:
        module: dict[str, Any] = {"id": kind, "type": kind, "signature": "question -> answer"}
        if kind in ("best_of_n", "refine"):
            module["config"] = {"n": 2, "threshold": 2.0, "reward": _REWARD}
        port.call("create_module", module)
        for word in ECHOES:
            lm = {**bad, "model": f"{kind}+{word}"}
            _try(port, "forward", {"module_id": kind, "inputs": inputs}, lm=lm)
    for provider in ENDPOINTS:
        for word in (*ECHOES, "auth", "garbage", "cut", "ok"):
            lm = lm_map(server, provider, f"p+{word}", api_key=key, max_retries=0)
            _try(port, "forward", {"module_id": "qa", "inputs": inputs}, lm=lm, trace=True)
    _other_commands(port, bad, inputs, key)


def _faults_that_no_key_was_learnt_from(port: Port, key: str) -> None:
    """Requests that fail before anybody knows which part of them is the key."""
    lm = {"provider": "openai", "model": "m", "api_key": key}
    for wrong in (
        {**lm, "provider": "opnai"},
        {**lm, "provider": key},
        {**lm, "api_key": [key]},
        {**lm, "api_key": {"value": key}},
        {**lm, "base_url": key},
        {**lm, "temperature": key},
        {**lm, "config": {"api_key": key}},
        {**lm, "config": {key: 1}},
        {"provider": "openai", "model": "m", "apikey": key},
        {"model": key},
        [key],
    ):
        _try(port, "configure", {"lm": wrong})
        _try(port, "configure", {"lms": {"x": wrong}})
        _try(port, "generate", {"prompt": "hi", "lm": wrong})
        _try(port, "generate", {"prompt": "hi"}, lm=wrong)
        module = {"id": "m", "type": "predict", "signature": "a -> b", "lm": wrong}
        _try(port, "create_module", module)
    _try(port, "configure", {"lm": lm, "adapter": key, "log_level": key})


_REWARD = {"name": "exact_match", "expected": "x"}


def _other_commands(port: Port, bad: dict[str, Any], inputs: Any, key: str) -> None:
    module = {"id": "with-lm", "type": "predict", "signature": "question -> answer", "lm": bad}
    port.call("create_module", module)
    _try(port, "forward", {"module_id": "with-lm", "inputs": inputs})
    _try(port, "create_program", {"id": "whole", "modules": [{**module, "id": "inner"}]})
    _try(port, "execute", {"program_id": "whole", "inputs": inputs})
    _try(port, "batch", {"module_id": "with-lm", "inputs": [inputs] * 2})
    _try(port, "generate", {"prompt": key})
    _try(port, "generate", {"prompt": key, "lm": "echo"})
    _try(port, "generate_batch", {"prompts": [key, key]})
    _try(port, "count_tokens", {"text": key, "nonsense": key})
    _try(port, "forward", {"module_id": key, "inputs": inputs})
    _try(port, "forward", {"module_id": "qa", "inputs": {"qestion": key, "question": 1}})
    _try(port, "forward", {"module_id": "qa", "inputs": {key: key}})
    _try(port, key, {key: key})
    _try(port, "generate", {"prompt": "hi"}, lm=key)
    _try(port, "configure", {"lm": {**bad, "config": {key: key}}})
    _try(port, "configure", {"cache": {"ttl_s": key}})
    port.call("ping", {"echo": key, "nested": [{"key": key}]})


def _read_everything(port: Port) -> None:
    port.call("history", {"limit": 10_000})
    for command in ("usage", "stats", "list", "export"):
        port.call(command)
    for kind, spec_id in (("module", "with-lm"), ("module", "inner"), ("program", "whole")):
        _try(port, "get", {"kind": kind, "id": spec_id})
    port.call("configure", {})


def test_an_export_has_the_lm_without_its_key(daemon: Port, lm_server: LMServer) -> None:
    lm = lm_map(lm_server, "openai", "exported", api_key=PLAIN)
    spec = {"id": "ex", "type": "predict", "signature": "question -> answer", "lm": lm}
    daemon.call("create_module", spec)
    (module,) = daemon.call("export", {"modules": ["ex"]})["modules"]
    assert module["lm"]["model"] == "exported"
    assert "api_key" not in module["lm"]


def test_the_key_of_an_adapters_own_lm_is_masked_too(spawn: Callable[..., Port]) -> None:
    port = spawn()
    lm = {"provider": "openai", "model": "extracting", "api_key": PLAIN}
    port.call("configure", {"adapter": {"name": "two_step", "extraction_lm": lm}})
    assert port.call("ping", {"key": PLAIN}) == {"key": "*" * len(PLAIN)}


def test_an_address_with_a_password_in_it_is_refused_and_not_repeated(daemon: Port) -> None:
    lm = {"provider": "openai", "model": "m", "base_url": f"https://user:{PLAIN}@host/v1"}
    spec = {"id": "p", "type": "predict", "signature": "a -> b", "lm": lm}
    for command, args in (("configure", {"lm": lm}), ("create_module", spec)):
        with pytest.raises(RequestFailed) as caught:
            daemon.call(command, args)
        assert caught.value.code == "invalid_args"
        assert PLAIN not in str(caught.value.error)


def test_a_placeholder_for_a_key_does_not_spoil_honest_text(
    daemon: Port, lm_server: LMServer
) -> None:
    make_qa(daemon)
    lm = lm_map(lm_server, "local", "placeholder", api_key="ollama")
    assert "ollama" in ask(daemon, "is ollama a llama?", lm=lm)["answer"]


@pytest.mark.parametrize(
    ("provider", "variable"), [("openai", "OPENAI_API_KEY"), ("together_ai", "TOGETHERAI_API_KEY")]
)
def test_a_key_of_the_environment_is_not_sent_to_an_address_of_the_hosts_choosing(
    lm_server: LMServer, provider: str, variable: str
) -> None:
    lm_server.reset()
    with Port(env={variable: PLAIN}) as port:
        port.hello()
        make_qa(port)
        lm = {**lm_map(lm_server, provider, f"ambient-{provider}"), "max_retries": 0}
        del lm["api_key"]
        with suppress(RequestFailed):
            ask(port, "who am I?", lm=lm, timeout=FIRST_LITELLM_CALL)
        assert port.call("ping", {"key": PLAIN}) == {"key": "*" * len(PLAIN)}
    sent = [str(received.headers) for received in lm_server.requests]
    assert not [headers for headers in sent if PLAIN in headers]


def test_the_environment_holds_no_key_of_ours() -> None:
    # The children of these tests would inherit one and send it to the LM server.
    assert not [name for name in os.environ if name.endswith("_API_KEY")]


@given(
    secret=st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=4),
    before=st.text(),
    after=st.text(),
    codec=st.sampled_from(list(Codec)),
)
def test_a_masked_frame_is_a_whole_frame_without_the_secret(
    secret: str, before: str, after: str, codec: Codec
) -> None:
    key = f"sk-{secret:x<{SHORTEST_SECRET}}"
    secrets = Secrets()
    secrets.add(key)
    value = {"text": before.replace("sk-", "") + key + after, "n": 1}
    payload = encode(codec, value).payload
    masked = secrets.mask_bytes(payload)
    assert len(masked) == len(payload)
    _, found = decode(masked)
    assert found["n"] == 1
    assert key not in found["text"]


def test_of_two_keys_that_begin_alike_nothing_is_left() -> None:
    secrets = Secrets()
    secrets.add("sk-short-key")
    secrets.add("sk-short-key-and-more")
    assert secrets.mask_text("sk-short-key-and-more") == "*" * len("sk-short-key-and-more")


def test_a_key_of_the_environment_outlives_any_number_of_others() -> None:
    secrets = Secrets()
    secrets.add("sk-environment", for_good=True)
    secrets.add("sk-first-of-many")
    for number in range(3):
        secrets.add(f"sk-later-{number}")
    secrets._known.clear()
    secrets.add("sk-one-more-key")
    assert "environment" not in secrets.mask_text("sk-environment")
