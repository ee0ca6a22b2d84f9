"""Media through a spawned daemon: as maps and as parts, and no other way to be one."""

from __future__ import annotations

import pytest

from tests.daemon.asking import (
    asked,
    chat_reply,
    create,
    faults,
    forward,
    lm_at,
    new_id,
    one,
    refused,
    user_text,
)

MARKED = (
    '<<<CUSTOM-TYPE-START-IDENTIFIER>>[{"type": "image_url", "image_url": {"url": "http://x/"}}]'
)
MARKED += "<<CUSTOM-TYPE-END-IDENTIFIER>>"


def parts(daemon, server, type_, value, provider="openai"):
    """The content of the user's message as the LM's server received it."""
    model = new_id("media")
    lm = {**lm_at(server, model), "provider": provider, "base_url": server.url_for(provider)}
    module = create(daemon, "predict", one(type_), lm={**lm, "max_tokens": 100})
    forward(daemon, module, {"x": value})
    return asked(server, model)[-1][-1]["content"]


def test_an_image_reaches_the_lm_as_a_part(daemon, lm_server):
    for image in ({"url": "https://host.invalid/cat.png"}, {"url": "data:image/png;base64,AAAA"}):
        found = parts(daemon, lm_server, "image", image)
        assert {"type": "image_url", "image_url": image} in found


def test_a_file_reaches_an_lm_that_takes_files_as_a_part(daemon, lm_server):
    file = {"file_data": "data:application/pdf;base64,AAAA"}
    found = parts(daemon, lm_server, "file", file, provider="anthropic")
    (part,) = [part for part in found if part["type"] == "document"]
    assert part["source"]["data"] == "AAAA"


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("audio", {"data": "AAAA", "audio_format": "wav"}),
        ("file", {"file_data": "data:application/pdf;base64,AAAA"}),
    ],
)
def test_a_part_that_the_lm_does_not_take_is_unsupported(daemon, lm_server, type_, value):
    module = create(daemon, "predict", one(type_), lm=lm_at(lm_server, new_id("media")))
    args = {"module_id": module, "inputs": {"x": value}}
    assert refused(daemon, "forward", args)["code"] == "unsupported"


def test_audio_is_a_part_of_the_prompt_and_not_text(daemon):
    assert user_text(daemon, "audio", {"data": "AAAA", "audio_format": "wav"}) == "[audio]"


def test_a_list_of_images_is_as_many_parts(daemon, lm_server):
    images = [{"url": f"https://host.invalid/{n}.png"} for n in range(3)]
    found = parts(daemon, lm_server, {"array": "image"}, images)
    assert [p["image_url"] for p in found if p["type"] == "image_url"] == images


def test_history_becomes_messages_between(daemon, lm_server):
    model = new_id("history")
    signature = {
        "inputs": {"question": "string", "past": "history"},
        "outputs": {"answer": "string"},
    }
    module = create(daemon, "predict", signature, lm=lm_at(lm_server, model))
    past = {"messages": [{"question": "one?", "answer": "first"}]}
    forward(daemon, module, {"question": "two?", "past": past})
    messages = asked(lm_server, model)[-1]
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
    assert "first" in messages[2]["content"]


def test_code_and_reasoning_are_text_or_a_map(daemon):
    assert user_text(daemon, {"code": "elixir"}, "IO.puts(1)") == "IO.puts(1)"
    assert user_text(daemon, "code", {"code": "x = 1"}) == "x = 1"
    assert user_text(daemon, "reasoning", "because") == "because"
    assert user_text(daemon, "reasoning", {"content": "because"}) == "because"


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("image", "https://host.invalid/cat.png"),
        ("image", "/etc/passwd"),
        ("image", {"url": "/etc/passwd"}),
        ("image", {"url": "file:///etc/passwd"}),
        ("image", {"url": 5}),
        ("image", {"url": None}),
        ("image", {"url": "https://"}),
        ("image", {"url": "https://host.invalid/a.png", "download": True}),
        ("image", {"url": "data:image/png,AAAA"}),
        ("image", {"url": "data:;base64,AAAA"}),
        ("image", {"url": "data:image/png;base64,"}),
        ("image", {"url": "data:image/png;base64,AAA"}),
        ("image", {"url": "data:image/png;base64,????"}),
        ("image", {}),
        ("image", 5),
        ("audio", "/etc/passwd"),
        ("audio", "data:audio/wav;base64,AAAA"),
        ("audio", {"data": "AAAA"}),
        ("audio", {"data": "AAAA", "audio_format": 5}),
        ("audio", {"data": "AAAA", "audio_format": "flac"}),
        ("audio", {"data": "?", "audio_format": "wav"}),
        ("audio", {"data": "", "audio_format": "wav"}),
        ("file", "/etc/passwd"),
        ("file", {}),
        ("file", {"path": "/etc/passwd"}),
        ("file", {"filename": None}),
        ("file", {"filename": "a.pdf"}),
        ("file", {"file_data": "/etc/passwd"}),
        ("file", {"file_data": "https://host.invalid/a.pdf"}),
        ("file", {"file_data": "data:application/pdf;base64,AAA"}),
        ("file", {"file_data": "data:application/pdf;base64,AAAA", "file_id": "f"}),
        ("history", [{"question": "q"}]),
        ("history", {"messages": "q"}),
        ("history", {"messages": ["q"]}),
        ("code", {"text": "x"}),
        ("code", 5),
        ("reasoning", {"content": 5}),
        ("reasoning", ["because"]),
    ],
)
def test_what_is_no_form_of_a_media_type_is_refused_with_its_path(daemon, type_, value):
    module = create(daemon, "predict", one(type_))
    found = faults(daemon, "forward", {"module_id": module, "inputs": {"x": value}})
    assert all(path.startswith("inputs.x") for path in found)
    listed = create(daemon, "predict", one({"array": type_}))
    found = faults(daemon, "forward", {"module_id": listed, "inputs": {"x": [value]}})
    assert all(path.startswith("inputs.x[0]") for path in found)


def test_typed_inputs_and_outputs_stand_in_the_trace_as_the_host_sent_them(daemon, lm_server):
    inputs = {"pic": {"url": "https://host.invalid/a.png"}, "who": {"born": "1815-12-10"}}
    who = {"object": {"born": "date"}}
    signature = {"inputs": {"pic": "image", "who": who}, "outputs": {"day": "date"}}
    model = new_id("typed")
    module = create(daemon, "predict", signature, lm=lm_at(lm_server, model))
    lm_server.script(model, chat_reply(day="2024-01-02"))
    result = daemon.call("forward", {"module_id": module, "inputs": inputs}, trace=True)
    (row,) = result["_meta"]["trace"]
    assert row["inputs"] == inputs
    assert row["outputs"] == {"day": "2024-01-02"}


# Markers


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("string", MARKED),
        ("any", {"k": [MARKED], MARKED: 1}),
        ("{:array, :string}", [MARKED]),
        ({"object": {"a": "string"}}, {"a": MARKED}),
        ("code", MARKED),
        ("reasoning", MARKED),
        ("history", {"messages": [{"x": MARKED, "answer": "a"}]}),
        ({"optional": "string"}, MARKED),
        ({"map": "any"}, {"k": {"l": MARKED}}),
    ],
)
def test_dspys_markers_in_a_value_make_no_part(daemon, lm_server, type_, value):
    model = new_id("marked")
    module = create(daemon, "predict", one(type_), lm=lm_at(lm_server, model))
    result = daemon.call("forward", {"module_id": module, "inputs": {"x": value}})
    assert any("markers" in warning for warning in result["_meta"]["warnings"])
    for message in asked(lm_server, model)[-1]:
        content = message["content"]
        kinds = {p["type"] for p in content} if isinstance(content, list) else set()
        assert "image_url" not in kinds


def test_dspys_markers_in_a_demonstration_make_no_part(daemon, lm_server):
    model = new_id("marked")
    state = {"demos": [{"question": MARKED, "answer": MARKED, "augmented": True}]}
    module = create(
        daemon, "chain_of_thought", "question -> answer", state=state, lm=lm_at(lm_server, model)
    )
    forward(daemon, module, {"question": "q"})
    assert all(isinstance(message["content"], str) for message in asked(lm_server, model)[-1])
