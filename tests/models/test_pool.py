"""Several endpoints serve as one: the others go on where one is dead, full or locked."""

import base64
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shutil import which
from typing import Any, ClassVar

import polars as pl
import pytest

from prefdata.errors import ModelError
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.openai import OpenAIClient
from prefdata.models.spec import ModelSpec
from prefdata.tables import Requests
from tests.models.conftest import ask

SpecOf = Callable[..., ModelSpec]
Another = Callable[..., Any]
TEXTS = [f"Question {i}" for i in range(60)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefdata.models.lane.FIRST_WAIT", 0.01)
    monkeypatch.setattr("prefdata.models.pool.FIRST_PAUSE", 0.2)


@pytest.fixture
def client_of() -> Any:
    opened: list[OpenAIClient] = []

    def make(spec: ModelSpec) -> OpenAIClient:
        opened.append(OpenAIClient(spec))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def answers(client: OpenAIClient, requests: Requests) -> pl.DataFrame:
    said = pl.concat(client.answer(requests))
    assert sorted(said["request_id"]) == sorted(requests["request_id"])
    return requests.join(said, on="request_id", maintain_order="left")


def test_endpoints_share_the_work_each_with_its_own_key(
    another: Another, spec_of: SpecOf, client_of: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FIRST_KEY", "first-of-two")
    monkeypatch.setenv("SECOND_KEY", "second-of-two")
    servers = [another(key="first-of-two", latency=0.01), another(key="second-of-two")]
    servers[1].latency = 0.01
    spec = spec_of(
        base_url=[each.url for each in servers],
        api_key_env=["FIRST_KEY", "SECOND_KEY"],
        concurrency=4,
    )
    client = client_of(spec)
    assert answers(client, ask(spec, TEXTS))["error"].null_count() == len(TEXTS)
    assert [each.most_in_flight for each in servers] == [4, 4]
    assert all(each["said"] == "ok" for server in servers for each in server.requests)
    assert sum(len(each.requests) for each in servers) == len(TEXTS)
    assert [each.answered for each in client.health()] == [len(s.requests) for s in servers]


def test_a_dead_endpoint_costs_nobody_an_answer(
    another: Another, spec_of: SpecOf, server: Any, client_of: Any
):
    dead = another()
    dead.close()
    spec = spec_of(base_url=[dead.url, server.url], retries=0)
    client = client_of(spec)
    assert answers(client, ask(spec, TEXTS))["error"].null_count() == len(TEXTS)
    assert len(server.requests) == len(TEXTS)
    assert [each.state for each in client.health()] == ["connection refused", "well"]


@pytest.mark.parametrize("kind", ["401", "404", "500", "429"])
def test_an_endpoint_that_came_back_is_asked_again(
    kind: str, another: Another, spec_of: SpecOf, server: Any, client_of: Any
):
    ill = another()
    ill.fault(kind, retry_after=0.2 if kind == "429" else None)
    server.latency = 0.01
    spec = spec_of(base_url=[ill.url, server.url], retries=3, concurrency=8)
    client = client_of(spec)
    assert answers(client, ask(spec, TEXTS))["error"].null_count() == len(TEXTS)
    during = len(ill.requests)
    assert during <= 24, "one after another it would have been asked by all"
    ill.reset()
    time.sleep(1.0)
    assert answers(client, ask(spec, [f"Later {i}" for i in range(100)]))["error"].null_count()
    assert len(ill.requests) > 20
    assert [each.state for each in client.health()] == ["well", "well"]


def test_where_all_are_locked_each_is_complained_of(
    another: Another, spec_of: SpecOf, client_of: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "not-for-logs")
    locked = [another(key="other"), another(key="other")]
    spec = spec_of(base_url=[each.url for each in locked])
    with pytest.raises(ModelError, match="401") as stopped:
        answers(client_of(spec), ask(spec, TEXTS))
    assert all(each.url in str(stopped.value) for each in locked)
    assert "not-for-logs" not in str(stopped.value)


def test_where_all_are_dead_it_is_noticed(another: Another, spec_of: SpecOf, client_of: Any):
    dead = [another(), another()]
    for each in dead:
        each.close()
    spec = spec_of(base_url=[each.url for each in dead], retries=1)
    with pytest.raises(ModelError, match="does not answer"):
        answers(client_of(spec), ask(spec, TEXTS))


def test_who_asks_for_hours_is_not_waited_for(server: Any, spec_of: SpecOf, client_of: Any):
    spec = spec_of()
    server.fault("429", retry_after=86400)
    with pytest.raises(ModelError, match="come back in 86400 seconds"):
        answers(client_of(spec), ask(spec, TEXTS))


def test_requests_a_minute_are_kept(server: Any, spec_of: SpecOf, client_of: Any):
    spec = spec_of(rpm=3000)
    answers(client_of(spec), ask(spec, TEXTS))
    at = sorted(each["at"] for each in server.requests)
    assert at[-1] - at[0] >= 0.9 * (len(TEXTS) - 1) * 60 / 3000


def test_tokens_a_minute_are_kept(server: Any, spec_of: SpecOf, client_of: Any):
    spec = spec_of(tpm=60_000, concurrency=4)
    said = answers(client_of(spec), ask(spec, [*TEXTS, *(f"{t} more" for t in TEXTS)]))
    taken = int((said["tokens_in"] + said["tokens_out"]).sum())
    at = sorted(each["at"] for each in server.requests)
    assert at[-1] - at[0] >= 0.9 * (taken / 1000 - 4 * taken / said.height / 1000)


def test_draws_of_one_conversation_share_a_request(server: Any, spec_of: SpecOf, ledger: Ledger):
    spec = spec_of(max_n=4)
    table = ask(spec, [f"Tell {i // 6}" for i in range(30)], draw=pl.Series([*range(6)] * 5))
    with Edge({"m": spec}, ledger) as edge:
        said = edge(table)
        assert edge(table).equals(said)
        assert [each.answered for each in edge.clients.health()] == [10]
    assert said["text"].n_unique() == 30
    assert sorted(each["body"].get("n", 1) for each in server.requests) == [2] * 5 + [4] * 5
    assert ledger.find(table["request_id"]).height == 30
    assert said["tokens_in"].sum() == 2 * 10, "what was read is counted once a request"
    assert said["tokens_out"].sum() == sum(len(text.split()) for text in said["text"])


def test_a_seeded_draw_is_asked_alone(server: Any, spec_of: SpecOf, client_of: Any):
    spec = spec_of(max_n=4, seed=1)
    answers(client_of(spec), ask(spec, ["x"] * 3, draw=pl.Series([0, 1, 2])))
    assert [each["body"].get("n") for each in server.requests] == [None] * 3


@pytest.mark.parametrize("kind", ["duplicated", "reordered", "single", "wrong id", "slow"])
def test_choices_find_their_draws(kind: str, server: Any, spec_of: SpecOf, client_of: Any):
    spec = spec_of(max_n=3)
    table = ask(spec, ["x"] * 3, draw=pl.Series([0, 1, 2]))
    calm = answers(client_of(spec), table)
    server.fault(kind)
    stormy = answers(client_of(spec), table)
    assert stormy["error"].null_count() == 3
    if kind != "single":
        assert stormy.equals(calm)
        return
    assert [each["body"].get("n") for each in server.requests] == [3, 3, None, None]


def test_a_cut_answer_is_visible(server: Any, spec_of: SpecOf, client_of: Any):
    spec = spec_of()
    server.fault("length", match="Question 1")
    said = answers(client_of(spec), ask(spec, TEXTS[:2]))
    assert said["finish_reason"].to_list() == ["stop", "length"]


def test_the_proxy_of_the_environment_is_used(
    server: Any, spec_of: SpecOf, client_of: Any, monkeypatch: pytest.MonkeyPatch
):
    spec = spec_of(base_url="http://models.invalid/v1")
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))
    assert answers(client_of(spec), ask(spec, TEXTS[:3]))["error"].null_count() == 3
    assert len(server.requests) == 3


def test_the_password_of_a_proxy_is_kept_where_a_server_repeats_it(
    server: Any, spec_of: SpecOf, client_of: Any, monkeypatch: pytest.MonkeyPatch
):
    """A proxy sees its own header, and some send it back in what they complain of or answer."""
    proxy = server.url.removesuffix("/v1").removeprefix("http://")
    monkeypatch.setenv("HTTP_PROXY", f"me:not-for-logs@{proxy}")
    spec = spec_of(base_url="http://models.invalid/v1")
    server.fault("echo", match="Question 1")
    server.fault("parrot", match="Question 0")
    said = answers(client_of(spec), ask(spec, TEXTS[:2]))
    assert "Proxy-Authorization" in said["text"][0]
    assert "Proxy-Authorization" in said["error"][1]
    encoded = base64.b64encode(b"me:not-for-logs").decode()
    assert not [each for each in ("not-for-logs", encoded) if each in str(said.to_dicts())]


def test_a_proxy_that_is_no_use_is_named(
    server: Any, spec_of: SpecOf, client_of: Any, monkeypatch: pytest.MonkeyPatch
):
    spec = spec_of(base_url="http://models.invalid/v1")
    monkeypatch.setenv("HTTP_PROXY", "http://me:not-for-logs@127.0.0.1:9")
    with pytest.raises(ModelError, match="refused by the proxy") as stopped:
        answers(client_of(spec), ask(spec, TEXTS[:3]))
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))
    server.fault("407")
    with pytest.raises(ModelError, match="not let through by the proxy"):
        answers(client_of(spec), ask(spec, TEXTS[:3]))
    monkeypatch.setenv("HTTP_PROXY", "socks5://me:not-for-logs@127.0.0.1:9")
    with pytest.raises(ModelError, match="proxy of the kind 'socks5'") as refused:
        client_of(spec)
    assert "not-for-logs" not in f"{stopped.value}{refused.value}"


def test_a_host_that_nobody_knows_is_told_from_one_that_does_not_listen(
    spec_of: SpecOf, client_of: Any
):
    spec = spec_of(base_url="http://models.invalid/v1")
    with pytest.raises(ModelError, match="no such host"):
        answers(client_of(spec), ask(spec, TEXTS[:3]))


def test_a_login_in_the_address_is_used_and_never_shown(
    another: Another, spec_of: SpecOf, client_of: Any, monkeypatch: pytest.MonkeyPatch
):
    served = another()
    monkeypatch.setenv("OPENAI_BASE_URL", served.url.replace("//", "//me:not-for-logs@"))
    spec = spec_of(base_url=None)
    client = client_of(spec)
    assert answers(client, ask(spec, TEXTS[:2]))["error"].null_count() == 2
    assert not any(each["authorized"] for each in served.requests), "a login, not a bearer's key"
    served.fault("401")
    with pytest.raises(ModelError, match="401") as stopped:
        answers(client, ask(spec, ["Again"]))
    assert "not-for-logs" not in f"{stopped.value}{client.health()}"


def test_no_proxy_goes_straight(
    server: Any, spec_of: SpecOf, client_of: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    spec = spec_of()
    assert answers(client_of(spec), ask(spec, TEXTS[:3]))["error"].null_count() == 3


@pytest.fixture
def secure(another: Another, tmp_path: Path) -> tuple[Any, Path]:
    """A server of TLS, and the certificate that it shows."""
    if which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    named = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", *made, *named], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return another(secure=context), cert


def test_the_authorities_of_the_environment_are_trusted(
    secure: tuple[Any, Path], spec_of: SpecOf, client_of: Any, monkeypatch: pytest.MonkeyPatch
):
    served, cert = secure
    spec = spec_of(base_url=served.url)
    with pytest.raises(ModelError, match="SSL_CERT_FILE"):
        answers(client_of(spec), ask(spec, TEXTS[:3]))
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    assert answers(client_of(spec), ask(spec, TEXTS[:3]))["error"].null_count() == 3


class Tunnel(socketserver.StreamRequestHandler):
    """A proxy that carries a TLS connection without seeing into it."""

    asked: ClassVar[list[str]] = []

    def handle(self) -> None:
        line = self.rfile.readline().decode()
        self.asked.append(line.strip())
        while self.rfile.readline().strip():
            pass
        host, port = line.split()[1].split(":")
        with socket.create_connection((host, int(port))) as there:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_carry, args=(there, self.connection), daemon=True)
            back.start()
            _carry(self.connection, there)
            back.join(5)


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while some := source.recv(65536):
            target.sendall(some)
        target.shutdown(socket.SHUT_WR)


def test_a_proxy_carries_tls_and_sees_only_where_it_goes(
    secure: tuple[Any, Path], spec_of: SpecOf, client_of: Any, monkeypatch: pytest.MonkeyPatch
):
    served, cert = secure
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    monkeypatch.setattr(Tunnel, "asked", [])
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel) as proxy:
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_address[1]}")
        spec = spec_of(base_url=served.url)
        client = client_of(spec)
        assert answers(client, ask(spec, TEXTS[:3]))["error"].null_count() == 3
        client.close()
        proxy.shutdown()
    where = served.url.removeprefix("https://").removesuffix("/v1")
    assert set(Tunnel.asked) == {f"CONNECT {where} HTTP/1.1"}
    assert len(served.requests) == 3
