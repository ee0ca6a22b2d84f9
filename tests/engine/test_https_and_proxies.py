"""What lies between an LM and us in production: TLS, and proxies.

`localhost.pem` is a certificate for localhost and its key, for nobody but these tests.
"""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dspy._vendor.lm15.transports import TransportRequest
from dspy._vendor.lm15.transports._exceptions import ConnectError

from bridge.engine.lms.transport import AbortableTransport
from bridge.scope import Scope, current_scope
from tests.engine.loopback import server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 30.0
PEM = Path(__file__).with_name("localhost.pem")
BODY = b"x" * 300_000
"""More than one TLS record, and than a socket's buffer takes at once."""


@pytest.fixture(autouse=True)
def request_of_somebody() -> Iterator[None]:
    token = current_scope.set(Scope())
    yield
    current_scope.reset(token)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy but a test's own, and a trusted localhost."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(PEM))


def read_request(client: socket.socket) -> tuple[bytes, bytes]:
    """The head and the body of the next request."""
    came = b""
    while b"\r\n\r\n" not in came:
        data = client.recv(65536)
        if not data:
            return b"", b""
        came += data
    head, _, body = came.partition(b"\r\n\r\n")
    length = next(
        (int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")), 0
    )
    while len(body) < length:
        body += client.recv(65536)
    return head, body


def echo(client: socket.socket) -> None:
    """Answer every request with its own body."""
    while True:
        head, body = read_request(client)
        if not head:
            break
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    client.close()


def tls_echo(client: socket.socket) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    try:
        echo(context.wrap_socket(client, server_side=True))
    except OSError:
        client.close()


def post(transport: AbortableTransport, url: str, body: bytes = BODY) -> bytes:
    request = TransportRequest("POST", url, [("Authorization", "Bearer key")], body)
    with transport.stream(request) as response:
        answer: bytes = response.read()
    return answer


def new_transport() -> AbortableTransport:
    return AbortableTransport(timeout=PATIENCE, max_reply=1_000_000)


def test_https_is_spoken_and_its_connections_are_used_again() -> None:
    with server(tls_echo) as port:
        transport = new_transport()
        for _ in range(3):
            assert post(transport, f"https://localhost:{port}/") == BODY
        assert transport._pool._total_opened == 1


def test_a_server_that_is_not_who_it_should_be_gets_no_request(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nobody = tmp_path / "nobody.pem"
    nobody.write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(nobody))
    with server(tls_echo) as port, pytest.raises(ConnectError, match="TLS"):
        post(new_transport(), f"https://localhost:{port}/")


def test_plain_requests_go_through_the_proxy_with_their_whole_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heads: list[bytes] = []

    def proxy(client: socket.socket) -> None:
        while True:
            head, body = read_request(client)
            if not head:
                break
            heads.append(head)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with server(proxy) as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:word@127.0.0.1:{port}")
        transport = new_transport()
        for path in ("a", "b"):
            assert post(transport, f"http://lm.invalid/{path}", b"body") == b"body"
    assert [head.split(b"\r\n")[0] for head in heads] == [
        b"POST http://lm.invalid/a HTTP/1.1",
        b"POST http://lm.invalid/b HTTP/1.1",
    ]
    for head in heads:
        assert b"\r\nHost: lm.invalid" in head
        assert b"\r\nAuthorization: Bearer key" in head
        assert b"\r\nProxy-Authorization: Basic dXNlcjp3b3Jk" in head


def tunnel(to: int, heads: list[bytes]) -> Callable[[socket.socket], None]:
    """A proxy that connects whoever asks to that port."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            sink.close()

    def proxy(client: socket.socket) -> None:
        heads.append(read_request(client)[0])
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        there = socket.create_connection(("127.0.0.1", to))
        threading.Thread(target=pump, args=(there, client), daemon=True).start()
        pump(client, there)

    return proxy


def test_https_goes_through_the_proxy_in_a_tunnel_that_is_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heads: list[bytes] = []
    with server(tls_echo) as lm, server(tunnel(lm, heads)) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        transport = new_transport()
        for _ in range(2):
            assert post(transport, f"https://localhost:{lm}/") == BODY
    assert [head.split(b"\r\n")[0] for head in heads] == [b"CONNECT localhost:%d HTTP/1.1" % lm]
    # The key is for the LM, and not for what lies between.
    assert b"key" not in heads[0]


def test_a_proxy_that_refuses_is_a_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(client: socket.socket) -> None:
        read_request(client)
        client.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    with server(refuse) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(ConnectError, match="403"):
            post(new_transport(), "https://lm.invalid/")


def test_hosts_of_no_proxy_are_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with server(echo) as port:
        assert post(new_transport(), f"http://127.0.0.1:{port}/", b"direct") == b"direct"
