"""Streamed requests, and what a host that shows their pieces has on its screen in the end."""

from __future__ import annotations

import threading
from typing import Any


class Hearing:
    """One streamed request: its events, in order, and its future."""

    def __init__(self, port, command, args, **envelope):
        self.events: list[Any] = []
        self._spoken = threading.Event()
        self.future = port.send(command, args, stream=True, on_event=self._hear, **envelope)
        self.id = self.future.request_id

    def _hear(self, event):
        self.events.append(event)
        if event.event == "chunk":
            self._spoken.set()

    def wait_for_chunk(self, timeout=30):
        """Until the first piece has come."""
        assert self._spoken.wait(timeout), self.events

    def result(self, timeout=60):
        return self.future.result(timeout)

    def chunks(self):
        return [event.data for event in self.events if event.event == "chunk"]

    def statuses(self, *names):
        found = [event.data for event in self.events if event.event == "status"]
        return [data for data in found if not names or data["status"] in names]

    def calls(self):
        """The fields of each LM call as they were heard: ``{call: {field: text}}``."""
        heard: dict[int, dict[str, str]] = {}
        pieces: dict[tuple[int, str], int] = {}
        for chunk in self.chunks():
            at = chunk["call"], chunk["field"]
            fields = heard.setdefault(chunk["call"], {})
            if chunk["index"] == 0:
                pieces[at], fields[chunk["field"]] = 0, ""
            assert chunk["index"] == pieces[at], chunk
            assert chunk["text"], "an empty piece says nothing"
            pieces[at] += 1
            fields[chunk["field"]] += chunk["text"]
        return heard

    def last_call(self):
        return self.calls()[max(self.calls())]


def texts(result):
    """The fields of a result that are texts, but for empty ones."""
    return {
        name: value
        for name, value in result.items()
        if name != "_meta" and isinstance(value, str) and value
    }


def forward_streamed(port, module_id, inputs=None, **envelope):
    """The hearing of one call, at its end."""
    args = {"module_id": module_id, "inputs": inputs or {}}
    hearing = Hearing(port, "forward", args, **envelope)
    hearing.result()
    return hearing
