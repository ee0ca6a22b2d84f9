"""Version 1, byte for byte: the requests as the seed's Elixir code encodes them with Jason.

Jason writes no white space; the keys of a small map with atom keys come sorted. What the seed's
`handle_info` matches is `%{"id" => id, "result" => result}` or `%{"id" => id, "error" => error}`,
and `atomize_keys` turns every key of a result into an atom, so a key too many is a leak.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.daemon.raw_daemon import RawDaemon, framed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lm_server import LMServer

SERIALIZED_MODULE = (
    b'{"id":"0b6f6e1c-3c1e-4c5e-9a57-5a1f6f0f3b11","signature":{"inputs":[{"default":null,'
    b'"description":"The question to answer","name":"question","optional":false,'
    b'"type":"string"},{"default":null,"description":"Optional context","name":"context",'
    b'"optional":true,"type":"string"}],"outputs":[{"default":null,"description":'
    b'"Final answer","name":"answer","optional":false,"type":"string"}]},"state":{"demos":[],'
    b'"max_tokens":1500,"reasoning_field":"reasoning","temperature":0.7},'
    b'"type":"chain_of_thought"}'
)
"""`serialize_module` of a chain of thought whose `init/1` has run."""


class Seed:
    """The GenServer of the seed: ids count up from 1, one JSON map a frame."""

    def __init__(self, daemon: RawDaemon) -> None:
        self.daemon = daemon
        self._id = 0

    def call(self, command: bytes, args: bytes) -> bytes:
        """The payload that answers; its id is checked and cut out of what is compared."""
        self._id += 1
        request = b'{"args":%b,"command":"%b","id":%d}' % (args, command, self._id)
        self.daemon.write(framed(request))
        answer = self.daemon.payload()
        assert answer is not None
        prefix = b'{"id":%d,' % self._id
        assert answer.startswith(prefix), answer
        return b"{" + answer.removeprefix(prefix)

    def error(self, command: bytes, args: bytes) -> str:
        """The error's text, from an answer with no other key than id and error."""
        answer = json.loads(self.call(command, args))
        assert list(answer) == ["error"]
        text = answer["error"]
        assert isinstance(text, str)
        return text

    def result(self, command: bytes, args: bytes) -> Any:
        """The result, from an answer with no other key than id and result."""
        answer = json.loads(self.call(command, args))
        assert list(answer) == ["result"], answer
        return answer["result"]


def code_of(text: str) -> str:
    code, colon, message = text.partition(": ")
    assert colon
    assert message
    assert re.fullmatch(r"[a-z_]+", code)
    return code


@pytest.fixture(scope="module")
def process() -> Iterator[RawDaemon]:
    with RawDaemon() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def seed(process: RawDaemon) -> Seed:
    return Seed(process)


@pytest.fixture
def embedded(seed: Seed) -> Seed:
    seed.call(b"configure", b'{"lm":{"model":"echo","provider":"embedded"}}')
    return seed


# configure


LMS = {
    "openai": (
        b'{"api_key":"sk-1","max_tokens":1000,"model":"gpt-4","provider":"openai",'
        b'"temperature":0.0}'
    ),
    "anthropic": (
        b'{"api_key":"sk-2","max_tokens":1000,"model":"claude-3-opus-20240229",'
        b'"provider":"anthropic","temperature":0.0}'
    ),
    "cohere": (
        b'{"api_key":"sk-3","max_tokens":1000,"model":"command-r","provider":"cohere",'
        b'"temperature":0.0}'
    ),
    "local": (
        b'{"api_key":null,"max_tokens":1000,"model":"llama3","provider":"local","temperature":0.0}'
    ),
}


@pytest.mark.parametrize("lm", LMS.values(), ids=LMS)
def test_configure_answers_status_configured_and_nothing_else(seed: Seed, lm: bytes) -> None:
    assert seed.call(b"configure", b'{"lm":%b}' % lm) == b'{"result":{"status":"configured"}}'


def test_configure_with_nothing_to_configure_is_answered_as_the_seed_did(seed: Seed) -> None:
    assert seed.call(b"configure", b"{}") == b'{"result":{"status":"configured"}}'


def test_an_unknown_provider_is_an_error_and_never_a_silent_configured(seed: Seed) -> None:
    text = seed.error(b"configure", b'{"lm":{"model":"m","provider":"opnai"}}')
    assert code_of(text) == "invalid_args"


# create_module, create_program


def test_a_module_with_a_string_signature_is_created(seed: Seed) -> None:
    args = b'{"id":"qa","signature":"question: string -> answer: string","type":"predict"}'
    assert seed.call(b"create_module", args) == b'{"result":{"id":"qa","type":"predict"}}'


def test_a_module_as_serialize_module_sends_it_is_created(seed: Seed) -> None:
    assert seed.call(b"create_module", SERIALIZED_MODULE) == (
        b'{"result":{"id":"0b6f6e1c-3c1e-4c5e-9a57-5a1f6f0f3b11","type":"chain_of_thought"}}'
    )


def test_a_program_of_whole_modules_without_names_is_created(seed: Seed) -> None:
    args = b'{"forward_fn":null,"id":"p-whole","modules":[%b]}' % SERIALIZED_MODULE
    assert seed.call(b"create_program", args) == b'{"result":{"id":"p-whole"}}'


def test_a_program_of_references_is_created(seed: Seed) -> None:
    seed.call(b"create_module", SERIALIZED_MODULE)
    args = (
        b'{"forward_fn":null,"id":"p-refs","modules":['
        b'{"id":"0b6f6e1c-3c1e-4c5e-9a57-5a1f6f0f3b11","name":"generate_answer"}]}'
    )
    assert seed.call(b"create_program", args) == b'{"result":{"id":"p-refs"}}'


def test_a_program_of_unknown_modules_is_an_error_and_never_skips_them(seed: Seed) -> None:
    args = b'{"forward_fn":null,"id":"p-none","modules":[{"id":"nowhere","name":"a"}]}'
    assert code_of(seed.error(b"create_program", args)) == "not_found"


def test_forward_fn_is_source_that_gets_the_inputs_by_name(embedded: Seed) -> None:
    args = (
        b'{"forward_fn":"reader = self.reader(question=question, context=\'\')\\n'
        b'result = {\'answer\': reader.answer}","id":"p-code",'
        b'"modules":[{"id":"0b6f6e1c-3c1e-4c5e-9a57-5a1f6f0f3b11","name":"reader"}]}'
    )
    embedded.call(b"create_module", SERIALIZED_MODULE)
    assert embedded.call(b"create_program", args) == b'{"result":{"id":"p-code"}}'
    run = b'{"inputs":{"question":"Who wrote Emma?"},"program_id":"p-code"}'
    assert embedded.call(b"execute", run) == b'{"result":{"answer":"Who wrote Emma?"}}'


def test_source_that_does_not_hold_together_is_a_program_error(seed: Seed) -> None:
    args = b'{"forward_fn":"result = self.qa()","id":"p","modules":[%b]}' % SERIALIZED_MODULE
    assert code_of(seed.error(b"create_program", args)) == "program_error"


@pytest.mark.parametrize("kind", [b"program_of_thought", b"react"])
def test_module_types_of_the_seed_are_here(seed: Seed, kind: bytes) -> None:
    args = b'{"id":"x","signature":"question -> answer","type":"%b"}' % kind
    assert seed.call(b"create_module", args) == b'{"result":{"id":"x","type":"%b"}}' % kind


# forward, execute


def test_forward_answers_exactly_the_output_fields(embedded: Seed) -> None:
    embedded.call(b"create_module", SERIALIZED_MODULE)
    args = (
        b'{"inputs":{"context":"","question":"Who wrote Emma?"},'
        b'"module_id":"0b6f6e1c-3c1e-4c5e-9a57-5a1f6f0f3b11"}'
    )
    assert embedded.call(b"forward", args) == (
        b'{"result":{"reasoning":"Who wrote Emma?","answer":"Who wrote Emma?"}}'
    )


def test_execute_answers_exactly_the_output_fields(embedded: Seed) -> None:
    program = b'{"forward_fn":null,"id":"p-run","modules":[%b]}' % SERIALIZED_MODULE
    embedded.call(b"create_program", program)
    args = b'{"inputs":{"question":"Who wrote Emma?"},"program_id":"p-run"}'
    result = embedded.result(b"execute", args)
    assert sorted(result) == ["answer", "reasoning"]


def test_output_keys_are_fit_to_become_atoms(embedded: Seed) -> None:
    args = (
        b'{"id":"rag","signature":{"inputs":[{"name":"question","type":"string"}],"outputs":['
        b'{"name":"answer","type":"string"},{"name":"citations","type":"{:array, :integer}"},'
        b'{"name":"confidence","type":"float"}]},"state":{},"type":"predict"}'
    )
    embedded.call(b"create_module", args)
    result = embedded.result(b"forward", b'{"inputs":{"question":"q"},"module_id":"rag"}')
    assert list(result) == ["answer", "citations", "confidence"]
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", key) for key in result)
    assert isinstance(result["confidence"], float)


def test_openai_with_a_key_is_called_over_http_as_configured(
    seed: Seed, lm_server: LMServer
) -> None:
    lm = (
        b'{"api_key":"sk-seed","base_url":"%b","max_tokens":1000,"model":"seed-model",'
        b'"provider":"openai","temperature":0.0}' % lm_server.url_for("openai").encode()
    )
    seed.call(b"configure", b'{"lm":%b}' % lm)
    module = b'{"id":"http","signature":"question -> answer","type":"predict"}'
    seed.call(b"create_module", module)
    answer = seed.call(b"forward", b'{"inputs":{"question":"why"},"module_id":"http"}')
    assert answer == b'{"result":{"answer":"seed-model: why"}}'
    (request,) = [item for item in lm_server.requests if item.model == "seed-model"]
    assert request.headers["authorization"] == "Bearer sk-seed"


def test_a_refused_key_is_a_string_error_without_the_key(seed: Seed, lm_server: LMServer) -> None:
    lm = (
        b'{"api_key":"sk-refused-1","base_url":"%b","max_retries":0,"model":"m+echo-key-401",'
        b'"provider":"openai"}' % lm_server.url_for("openai").encode()
    )
    seed.call(b"configure", b'{"lm":%b}' % lm)
    module = b'{"id":"auth","signature":"question -> answer","type":"predict"}'
    seed.call(b"create_module", module)
    text = seed.error(b"forward", b'{"inputs":{"question":"why"},"module_id":"auth"}')
    assert code_of(text) == "lm_auth"
    assert "sk-refused-1" not in text


def test_nothing_is_forwarded_before_an_lm_is_configured() -> None:
    with RawDaemon() as daemon:
        seed = Seed(daemon)
        seed.call(b"create_module", SERIALIZED_MODULE)
        args = b'{"inputs":{"question":"q"},"module_id":"0b6f6e1c-3c1e-4c5e-9a57-5a1f6f0f3b11"}'
        assert code_of(seed.error(b"forward", args)) == "not_configured"


# What is wrong


@pytest.mark.parametrize(
    ("command", "args", "code"),
    [
        (b"optimise_everything", b"{}", "unknown_command"),
        (b"forward", b"{}", "invalid_args"),
        (b"forward", b"null", "invalid_args"),
        (b"execute", b"null", "invalid_args"),
        (b"create_module", b"null", "invalid_args"),
        (b"create_program", b"{}", "invalid_args"),
        (b"forward", b'{"inputs":{},"module_id":"nowhere"}', "not_found"),
        (b"execute", b'{"inputs":{},"program_id":"nowhere"}', "not_found"),
        (b"configure", b'{"lm":{"provider":"openai"}}', "invalid_args"),
    ],
)
def test_what_is_wrong_is_answered_with_a_string_of_code_and_text(
    seed: Seed, command: bytes, args: bytes, code: str
) -> None:
    assert code_of(seed.error(command, args)) == code


def test_a_request_without_args_is_answered_as_one_with_none(seed: Seed) -> None:
    seed.daemon.write(framed(b'{"command":"configure","id":900}'))
    assert seed.daemon.payload() == b'{"id":900,"result":{"status":"configured"}}'


def test_a_missing_or_wrong_input_is_an_error_with_its_path(embedded: Seed) -> None:
    module = b'{"id":"in","signature":"question -> answer","type":"predict"}'
    embedded.call(b"create_module", module)
    text = embedded.error(b"forward", b'{"inputs":{"qestion":"q"},"module_id":"in"}')
    assert code_of(text) == "invalid_args"
    assert "inputs." in text


def test_unknown_envelope_keys_are_ignored(seed: Seed) -> None:
    request = b'{"args":{},"command":"ping","id":901,"deadline":5,"meta":{"x":1},"trace":7}'
    seed.daemon.write(framed(request))
    assert seed.daemon.payload() == b'{"id":901,"result":{}}'


@pytest.mark.parametrize("request_id", [b"0", b"-3", b"9007199254740993", b'"req_7f"', b'""'])
def test_ids_are_echoed_as_they_came(seed: Seed, request_id: bytes) -> None:
    seed.daemon.write(framed(b'{"args":{},"command":"ping","id":%b}' % request_id))
    assert seed.daemon.payload() == b'{"id":%b,"result":{}}' % request_id


def test_without_hello_nothing_but_answers_is_ever_sent() -> None:
    with RawDaemon() as daemon:
        seed = Seed(daemon)
        seed.call(b"configure", b'{"lm":{"model":"echo","provider":"embedded"}}')
        seed.call(b"create_module", b'{"id":"m","signature":"a -> b","type":"predict"}')
        # The forward waits for DSPy: a `ready` event would have come before its answer.
        assert seed.call(b"forward", b'{"inputs":{"a":"x"},"module_id":"m"}') == (
            b'{"result":{"b":"x"}}'
        )
        daemon.end_input()
        assert daemon.everything() == b""
        assert daemon.status() == 0
