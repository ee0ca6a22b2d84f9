"""Sockets that wait in one thread, and HTTP over them: what ends a wait, and what is kept."""

from __future__ import annotations

import math
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from dspy._vendor.lm15.transports import TransportRequest
from dspy._vendor.lm15.transports._exceptions import ConnectError, ReadTimeout
from hypothesis import given
from hypothesis import strategies as st

from bridge.engine.lms import pool, sockets
from bridge.engine.lms.pool import Pool
from bridge.engine.lms.reply import ReplyTooLarge
from bridge.engine.lms.sockets import PatientSocket, connect
from bridge.engine.lms.transport import AbortableTransport
from bridge.scope import Scope, Stopped, current_scope
from bridge.strand import drive
from bridge.turnstile import turnstile
from protocol.errors import Cancelled
from tests.engine.loopback import server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 30.0
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(autouse=True)
def scope() -> Iterator[Scope]:
    """Every socket belongs to a request."""
    own = Scope()
    token = current_scope.set(own)
    yield own
    current_scope.reset(token)


def until_closed(client: socket.socket) -> None:
    while client.recv(65536):
        pass
    client.close()


def get(transport: AbortableTransport, port: int) -> bytes:
    request = TransportRequest("GET", f"http://127.0.0.1:{port}/", [], None)
    with transport.stream(request) as response:
        body: bytes = response.read()
    return body


def ends_with_its_scope(scope: Scope, wait: Callable[[], Any]) -> None:
    """`wait` goes on until the scope is stopped, and then ends at once."""
    outcome: list[BaseException] = []
    waiting = threading.Event()

    def work() -> None:
        token = current_scope.set(scope)
        try:
            waiting.set()
            wait()
        except BaseException as error:
            outcome.append(error)
        finally:
            current_scope.reset(token)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert waiting.wait(PATIENCE)
    ends = time.monotonic() + PATIENCE
    while not scope._aborts:
        assert time.monotonic() < ends
        time.sleep(0.001)
    assert thread.is_alive()
    scope.stop(Cancelled("enough"))
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert isinstance(outcome[0], Stopped)


def test_a_stopped_request_waits_for_no_byte_and_its_server_sees_the_end(scope):
    seen = threading.Event()

    def answer(client: socket.socket) -> None:
        until_closed(client)
        seen.set()

    with server(answer) as port:
        wire = drive(connect("127.0.0.1", port, PATIENCE, math.inf))
        ends_with_its_scope(scope, lambda: wire.recv(1))
        assert seen.wait(PATIENCE)
        wire.close()


def test_a_stopped_request_does_not_wait_for_a_connection(scope):
    # A full queue of connections: the next one is neither taken nor refused.
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    address = listener.getsockname()
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(address)
    try:
        ends_with_its_scope(scope, lambda: drive(connect(*address, PATIENCE, math.inf)))
    finally:
        for each in (*fillers, listener):
            each.close()


def test_a_connection_comes_about_where_its_state_cannot_be_asked(scope, monkeypatch):
    monkeypatch.setattr(sockets, "TCP_INFO", None)
    with server(lambda client: client.sendall(REPLY)) as port:
        transport = AbortableTransport(timeout=PATIENCE, max_reply=1000)
        assert get(transport, port) == b"ok"


def test_a_stopped_request_does_not_wait_for_a_handshake(scope):
    with server(until_closed) as port:
        transport = AbortableTransport(timeout=PATIENCE, max_reply=1000)
        request = TransportRequest("GET", f"https://127.0.0.1:{port}/", [], None)
        ends_with_its_scope(scope, lambda: transport.stream(request))
        assert transport.pool_stats()["in_use"] == 0


def test_a_stopped_request_does_not_wait_for_its_bytes_to_be_taken(scope):
    with server(lambda _: None) as port:
        wire = drive(connect("127.0.0.1", port, PATIENCE, math.inf))
        ends_with_its_scope(scope, lambda: wire.sendall(b"x" * 50_000_000))
        wire.close()


def test_all_waits_stand_in_one_thread(scope):
    pairs = [socket.socketpair() for _ in range(40)]
    got: list[bytes] = []

    def read(wire: PatientSocket) -> None:
        current_scope.set(Scope())
        got.append(wire.recv(10))

    before = threading.active_count()
    readers = [threading.Thread(target=read, args=(PatientSocket(ours),)) for ours, _ in pairs]
    for reader in readers:
        reader.start()
    assert threading.active_count() <= before + len(readers) + 1
    for number, (_, theirs) in enumerate(pairs):
        theirs.sendall(b"%d" % number)
    for reader in readers:
        reader.join(PATIENCE)
    assert sorted(got, key=int) == [b"%d" % number for number in range(40)]
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_reply_wakes_its_thread_inside_when_it_was_inside(scope):
    ours, theirs = socket.socketpair()
    wire = PatientSocket(ours)
    threading.Timer(0.02, theirs.sendall, (b"now",)).start()
    with turnstile.inside():
        assert wire.recv(10) == b"now"
        assert turnstile.occupied
    ours.close()
    theirs.close()


def test_a_server_that_drips_its_head_is_left_when_the_time_is_over():
    def answer(client: socket.socket) -> None:
        try:
            for at in range(len(REPLY)):
                client.sendall(REPLY[at : at + 1])
                time.sleep(0.05)
        except OSError:
            pass

    with server(answer) as port:
        transport = AbortableTransport(timeout=0.4, max_reply=1000)
        begun = time.monotonic()
        with pytest.raises(ReadTimeout):
            get(transport, port)
        assert 0.3 < time.monotonic() - begun < 0.05 * len(REPLY)


def answer_for_ever(client: socket.socket) -> None:
    while client.recv(65536):
        client.sendall(REPLY)
    client.close()


def test_a_connection_is_used_again_and_a_stale_one_is_not(scope):
    with server(answer_for_ever) as port:
        transport = AbortableTransport(timeout=PATIENCE, max_reply=1000)
        for _ in range(3):
            assert get(transport, port) == b"ok"
        assert transport._pool._total_opened == 1
        (kept,) = next(iter(transport._pool._idle.values()))
        kept.sock.shut()
        assert get(transport, port) == b"ok"
        assert transport._pool._total_opened == 2


def test_what_a_request_says_is_its_own_however_alike_the_last_one_was(scope):
    came: list[bytes] = []

    def answer(client: socket.socket) -> None:
        while data := client.recv(65536):
            came.append(data)
            client.sendall(REPLY)
        client.close()

    def post(path: str, key: str, body: bytes) -> None:
        headers = [("Authorization", f"Bearer {key}")]
        url = f"http://127.0.0.1:{port}/{path}"
        with transport.stream(TransportRequest("POST", url, headers, body)) as response:
            response.read()

    with server(answer) as port:
        transport = AbortableTransport(timeout=PATIENCE, max_reply=1000)
        for path, key, body in (("a", "1", b"one"), ("a", "2", b"three"), ("b", "2", b"")):
            post(path, key, body)
    assert [data.split(b" ")[1] for data in came] == [b"/a", b"/a", b"/b"]
    assert [b"Bearer 1" in data for data in came] == [True, False, False]
    assert [data.partition(b"\r\n\r\n")[2] for data in came] == [b"one", b"three", b""]
    assert "Bearer" not in repr(transport._last)
    lengths = [b"Content-Length: %d\r\n" % size for size in (3, 5, 0)]
    assert all(length in data for length, data in zip(lengths, came, strict=True))


def burst(transport: AbortableTransport, port: int, count: int) -> list[bytes]:
    """What that many requests at once are answered."""
    bodies: list[bytes] = []

    def ask() -> None:
        current_scope.set(Scope())
        bodies.append(get(transport, port))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return bodies


def test_of_a_burst_so_many_connections_stay_open_and_no_more(monkeypatch):
    monkeypatch.setattr(pool, "MOST_IDLE", 12)
    count = 20
    together = threading.Barrier(count)

    def answer(client: socket.socket) -> None:
        client.recv(65536)
        together.wait(PATIENCE)
        client.sendall(REPLY)
        until_closed(client)

    with server(answer, backlog=count) as port:
        transport = AbortableTransport(timeout=PATIENCE, max_reply=1000)
        assert burst(transport, port, count) == [b"ok"] * count
        assert transport.pool_stats()["idle"] == 12
        transport.close()


def test_what_a_burst_opened_is_closed_once_nobody_has_needed_it_for_a_while(monkeypatch):
    monkeypatch.setattr(pool, "KEPT", 2)
    monkeypatch.setattr(pool, "LOOK_SECONDS", 0.05)
    looked = threading.Semaphore(0)
    together = threading.Barrier(8)
    closed: list[int] = []

    def answer(client: socket.socket) -> None:
        client.recv(65536)
        together.wait(PATIENCE)
        client.sendall(REPLY)
        until_closed(client)
        closed.append(1)
        looked.release()

    with server(answer, backlog=8) as port:
        transport = AbortableTransport(timeout=PATIENCE, max_reply=1000)
        burst(transport, port, 8)
        for _ in range(6):
            assert looked.acquire(timeout=PATIENCE)
        assert transport.pool_stats() == {"idle": 2, "in_use": 0, "total_opened": 8}
        transport.close()


@given(st.lists(st.sampled_from(["out", "in", "look"]), max_size=60))
def test_only_what_was_idle_between_two_looks_is_closed(steps):
    class Open:
        def __init__(self) -> None:
            self.origin, self.closed, self.in_use, self.used = "server", False, True, 0

        def is_stale(self) -> bool:
            return False

        def close(self) -> None:
            self.closed = True

    looks = [0]
    own = Pool(1)
    own._looked_after = True
    out: list[Any] = []
    for now, step in enumerate(steps, 1):
        if step == "out":
            out.append(own.checkout("server") or Open())
        elif step == "in" and out:
            out[-1].used = now
            own.checkin(out.pop())
        elif step == "look":
            kept = own.stats()["idle"]
            taken = own.unneeded()
            assert all(conn.used <= looks[-1] for conn in taken)
            assert len(taken) <= max(0, kept - pool.KEPT)
            looks.append(now)


def test_a_reply_above_the_bound_is_not_read_to_its_end():
    def answer(client: socket.socket) -> None:
        client.recv(65536)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
        client.sendall(head + b"x" * 100_000)

    with server(answer) as port, pytest.raises(ReplyTooLarge):
        get(AbortableTransport(timeout=PATIENCE, max_reply=1000), port)


def test_nobody_at_the_address_is_a_connect_error():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ConnectError):
        get(AbortableTransport(timeout=PATIENCE, max_reply=1000), port)
