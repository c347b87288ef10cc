"""Of what answers in Prefect's place the doctor says what is wrong, soon, and shows no secret."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from prefdata.doctor import services
from prefdata.finding import Finding
from prefdata.secrets import without_login
from prefdata.way import prefect_api

KEY = "pnu_planted-0123456789abcdef"
PASSWORD = "p4ss-planted"
Serve = Callable[..., tuple[str, list[bytes]]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that says given bytes to everybody, the last of them for ever if `drips`."""
    servers: list[socket.socket] = []

    def started(said: bytes, *, drips: bool = False) -> tuple[str, list[bytes]]:
        server, asked = socket.create_server(("127.0.0.1", 0)), list[bytes]()
        servers.append(server)

        def serving() -> None:
            with suppress(OSError):
                while True:
                    with server.accept()[0] as one:
                        asked.append(one.recv(65536))
                        one.sendall(said)
                        while drips:
                            one.sendall(b"x")
                            time.sleep(0.05)

        threading.Thread(target=serving, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}", asked

    yield started
    for server in servers:
        server.close()


def answer(status: str, body: bytes = b"", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
    return head.encode() + body


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Finding]:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_KEY", KEY)

    def of(url: str) -> Finding:
        monkeypatch.setenv("PREFECT_API_URL", url)
        finding = services._prefect()
        for secret in (KEY, PASSWORD, KEY[4:], PASSWORD[1:]):
            assert secret not in str(finding)
        return finding

    return of


def test_an_api_that_is_well(serve: Serve, found: Callable[[str], Finding]):
    url, asked = serve(answer("200 OK", b"true"))
    assert found(f"{url}/api/").level == "ok"
    assert asked[0].startswith(b"GET /api/health ")
    assert f"Authorization: Bearer {KEY}".encode() in asked[0]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (answer("200 OK", b"<html>Welcome</html>"), "not Prefect's API"),
        (answer("200 OK", b""), "not Prefect's API"),
        (answer("401 Unauthorized"), "PREFECT_API_AUTH_STRING"),
        (answer("500 Oh"), "it says 500"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no answer"),
        (b"\x00\xff\x1b[2J\n\n", "no answer"),
        (b"", "no answer"),
    ],
)
def test_what_is_no_api_is_told(
    said: bytes, why: str, serve: Serve, found: Callable[[str], Finding]
):
    finding = found(serve(said)[0])
    assert finding.level == "error"
    assert why in finding.says
    assert "PREFECT_API_URL" in finding.advice


def test_a_key_goes_nowhere_else(serve: Serve, found: Callable[[str], Finding]):
    thief, stolen = serve(answer("200 OK", b"true"))
    to = f"Location: {thief.replace('//', f'//u:{PASSWORD}@')}/api/health\r\n"
    url, asked = serve(answer("302 Found", more=to))
    finding = found(url)
    assert finding.level == "error"
    assert f"redirects to {thief}" in finding.says
    assert len(asked) == 1
    assert not stolen


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\nX: ", answer("200 OK")[:-2] + b"\r\n"])
def test_one_that_goes_on_for_ever_is_not_waited_for(
    said: bytes, serve: Serve, found: Callable[[str], Finding], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(services, "PATIENCE", 1.0)
    url, _ = serve(said.replace(b"Content-Length: 0", b"Content-Length: 999"), drips=True)
    finding = found(url)
    assert finding.level == "error"
    assert any(each in finding.says for each in ("nothing came", "no answer", "not Prefect's API"))


@pytest.mark.parametrize(
    "url",
    [
        *("foo", "file:///etc", "http://[::1", "http://a b/api", "http://127.0.0.1:99999/api"),
        *(f"http://u:{PASSWORD}@127.0.0.1:9/api", f"http://u:x@{PASSWORD}@127.0.0.1:9/api"),
        *(f"http://u:{PASSWORD}/x@127.0.0.1:9/api", f"http://127.0.0.1:9/api?key={PASSWORD}"),
        f"http://u:{PASSWORD}\n@127.0.0.1:9/api",
    ],
)
def test_an_address_that_is_none_is_told_without_its_login(
    url: str, found: Callable[[str], Finding]
):
    assert found(url).level == "error"
    assert PASSWORD not in without_login(url)


@pytest.mark.parametrize("name", ["PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"])
def test_a_broken_key_is_named_and_not_shown(
    name: str, serve: Serve, found: Callable[[str], Finding], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(name, f"{KEY}\n{PASSWORD}")
    finding = found(serve(answer("200 OK", b"true"))[0])
    assert finding.level == "error"
    assert f"{name} holds a line break" in finding.says


@pytest.mark.parametrize("said", ["profiles = 3", "active = [1]", "active = 'a'\nprofiles.a = 1"])
def test_a_broken_profile_of_prefect_ends_nothing(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "profiles.toml").write_text(said)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert prefect_api() == ""


def test_a_collector_is_looked_for_where_one_is_named(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    url, _ = serve(answer("404 Not here"))
    for address, level in ((url, "ok"), (f"http://u:{PASSWORD}@127.0.0.1:9", "warning")):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        (finding,) = [each for each in services.findings() if each.check == "OpenTelemetry"]
        assert finding.level == level
        assert PASSWORD not in str(finding.to_json())


def test_each_collector_is_looked_for_and_another_protocol_is_told(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    url, _ = serve(answer("404 Not here"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://127.0.0.1:9")
    first, second = [each for each in services.findings() if each.check == "OpenTelemetry"]
    assert (first.level, second.level) == ("ok", "warning")
    assert second.advice.startswith("see OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    (told,) = [each for each in services.findings() if each.check == "OpenTelemetry"]
    assert (told.level, "is 'grpc'" in told.says) == ("error", True)
