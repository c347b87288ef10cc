"""What builds on many machines rest on, without any: tasks made again, a store, what is refused."""

import importlib
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from typer.testing import CliRunner

from prefdata import cli, locks, way
from prefdata.errors import PrefdataError, RecipeError
from prefdata.models.spec import ModelSpec
from prefdata.planning.plan import PlannedStage, plan
from prefdata.recipe import Recipe
from prefdata.stage import Asks, Model, contract, requests
from prefdata.tables import Completions, Scores, empty

prefect = pytest.importorskip("prefect")

TABLE = pl.DataFrame({"a": [1, None], "b": [[{"role": "user", "content": "é"}], []]})


def chat(completions: Completions, *, model: Model, rounds: int = 3) -> Asks[Scores]:
    """Asks as often as it is told, each time about what it heard last."""
    said = completions["completion"]
    for _ in range(rounds):
        asked = requests(model, "text", said)
        responses = yield asked
        heard = asked.join(responses, on="request_id", how="left", maintain_order="left")["text"]
        said = pl.Series([[{"role": "user", "content": text}] for text in heard])
    return Scores(
        completions.select(
            subject_id="completion_id",
            subject=pl.lit("completion"),
            score=pl.lit("chat"),
            value=said.list.first().struct.field("content").str.len_chars().cast(pl.Float64),
        )
    )


def fickle(completions: Completions, *, model: Model, seen: list[int]) -> Asks[Scores]:
    """Asks something else each time that it is made."""
    seen.append(0)
    yield requests(model, "text", completions["completion"], draw=len(seen))
    return Scores(empty("scores"))


def planned(function: Any, **options: Any) -> PlannedStage:
    given = {"model": ModelSpec(client="scripted").resolve("m"), **options}
    return PlannedStage("it", "x:it", function, contract(function), given, {}, "recipe r, stage 1")


def answers(wanted: pl.DataFrame) -> pl.DataFrame:
    said = wanted.select("request_id", text=pl.col("request_id").str.slice(0, 5) + "!")
    blank = empty("responses")
    return pl.concat([blank, said], how="diagonal").with_columns(tokens_in=0, tokens_out=0)


def test_a_task_away_is_made_again_until_all_is_answered(world: Any, tmp_path: Path):
    """It asks what it would have asked at once, in as many rounds, and comes to the same."""
    from prefdata.flows import build, machines, store

    from prefdata.loop import run_stage

    tables = {"completions": world()["completions"]}
    stage = planned(chat)
    rounds: list[pl.DataFrame] = []

    def ask(wanted: Any) -> Any:
        rounds.append(wanted)
        return answers(wanted)

    at_once = run_stage(stage, tables, ask)
    folder = str(tmp_path / "1")
    seen = store.write(tables, folder)
    answered: list[store.Paths] = []
    for expected in rounds:
        asked = store.read(
            build._make("it", 1, 1, str(tmp_path), machines.Sealed(stage), seen, answered)
        )
        assert asked["requests"].equals(expected)
        answered.append(store.write({"responses": answers(asked["requests"])}, folder))
    made = store.read(
        build._make("it", 1, 1, str(tmp_path), machines.Sealed(stage), seen, answered)
    )
    assert made.keys() == at_once.keys() == {"scores"}
    assert made["scores"].equals(at_once["scores"])
    assert len(rounds) == 3


def test_a_stage_that_asks_something_else_when_made_again_is_refused(world: Any, tmp_path: Path):
    from prefdata.flows import build, machines, store

    stage = planned(fickle, seen=[])
    seen = store.write({"completions": world()["completions"]}, str(tmp_path))
    asked = store.read(build._make("it", 1, 1, str(tmp_path), machines.Sealed(stage), seen, []))[
        "requests"
    ]
    answered = [store.write({"responses": answers(asked)}, str(tmp_path))]
    with pytest.raises(PrefdataError, match=r"stage 1: it asked something else"):
        build._make("it", 1, 1, str(tmp_path), machines.Sealed(stage), seen, answered)


@pytest.mark.parametrize("url", ["{}/shelf", "file://{}/shelf", "memory://prefdata/shelf"])
def test_a_store_keeps_tables_under_names_that_are_never_used_twice(url: str, tmp_path: Path):
    from prefdata.flows import store

    folder = url.format(tmp_path) + "/of/one-run"
    one, other = (store.write({"t": TABLE}, folder) for _ in range(2))
    assert one["t"] != other["t"]
    for paths in (one, other):
        assert store.read(paths)["t"].equals(TABLE)
    assert store.read(one, columns=["a"])["t"].columns == ["a"]
    store.remove(folder)
    with pytest.raises(FileNotFoundError):
        store.read(one)
    store.remove(folder)


def test_the_tables_of_a_run_are_held_while_it_runs(tmp_path: Path):
    from prefdata.flows import store

    run = tmp_path / "builds" / "recipe" / "run"
    with store.held(str(run)):
        paths = store.write({"t": TABLE}, str(run))
        assert locks.is_held(run) is True
    assert locks.is_held(run) is False
    assert store.read(paths)["t"].equals(TABLE)
    with store.held("memory://elsewhere/run"):
        pass


def test_a_store_that_cannot_be_used_is_named(tmp_path: Path):
    from prefdata.flows import store

    (tmp_path / "file").touch()
    for url in (str(tmp_path / "file" / "x"), "nosuch://bucket/x"):
        with pytest.raises(PrefdataError, match=r"store cannot be used") as told:
            store.probe(url)
        assert url in str(told.value)
    with pytest.raises(RecipeError, match=r"login or key.*AWS_ACCESS_KEY_ID") as told:
        store.checked("ftp://ann:secret@host/x")
    assert "secret@" not in str(told.value)


@pytest.fixture
def api() -> Iterator[Callable[[int], Any]]:
    """The API of a flow run, at a port; at 0 at that of a Prefect that knows no such run."""
    from prefdata.flows.machines import Api
    from prefect.context import SettingsContext
    from prefect.settings import PREFECT_API_URL, temporary_settings

    class Another(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    def at(port: int) -> Any:
        url = f"http://127.0.0.1:{port or server.server_port}/api"
        with temporary_settings({PREFECT_API_URL: url}):
            settings = SettingsContext.get()
            assert settings is not None
            return Api(url, settings.serialize(), uuid4())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Another)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield at
    server.shutdown()


def test_what_a_node_lacks_is_told(tmp_path: Path, api: Callable[[int], Any]):
    from prefdata.flows import machines, store

    here = machines.packages(())
    probe = store.probe(str(tmp_path))
    wrong = machines.look_around({**here, "polars": "0.1"}, (), str(tmp_path), probe, api(9))
    assert len(wrong) == 2
    assert f"polars is {here['polars']}, not 0.1" in wrong[0]
    assert "http://127.0.0.1:9/api is not reached (ConnectError)" in wrong[1]
    (other,) = machines.look_around(here, (), str(tmp_path), probe, api(0))
    assert "is another one, which does not know this flow run" in other
    store.remove(str(tmp_path))
    lost = machines.look_around(here, (), str(tmp_path), probe, api(9))[0]
    assert f"store {tmp_path} is not shared: FileNotFoundError" in lost
    assert "--store" in lost


def test_a_task_on_a_machine_that_joined_with_other_code_is_refused(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from prefdata.flows import build, machines, store

    sealed = machines.Sealed(planned(chat))
    monkeypatch.setattr(machines, "_code", lambda: "0123456789ab")
    seen = store.write({"completions": world()["completions"]}, str(tmp_path))
    with pytest.raises(PrefdataError, match=r"stage 1: on .*prefdata is .* \(0123456789ab\), not"):
        build._make("it", 1, 1, str(tmp_path), sealed, seen, [])


def test_code_has_one_digest_however_it_is_installed(tmp_path: Path):
    """An editable install has packages side by side that a wheel has in each other."""
    from prefdata.flows.machines import code

    digests: list[str] = []
    for flows, schemas, others in (
        ("flows", "schemas", "judges"),
        ("prefdata/flows", "prefdata/schemas", "prefdata/judges"),
    ):
        root = tmp_path / str(len(digests))
        for path, said in (
            *(("prefdata/loop.py", "a"), (f"{flows}/build.py", "b"), (f"{others}/x.py", "c")),
            (f"{schemas}/votes.json", "d"),
        ):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(said)
        roots = {"prefdata": root / "prefdata", "prefdata.flows": root / flows}
        roots["prefdata.schemas"] = root / schemas
        digests.append(code(roots))
    assert digests[0] == digests[1]
    (tmp_path / "1/prefdata/schemas/votes.json").write_text("e")
    assert code(roots) != digests[1]


def test_plugins_are_part_of_what_must_be_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from prefdata.flows import machines

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plugged_in.py").write_text("def it(): ...")
    stage = replace(planned(chat), function=importlib.import_module("plugged_in").it)
    expected = machines.packages([stage])
    assert not machines.differences(expected, [stage])
    (tmp_path / "plugged_in.py").write_text("def it(): 1")
    (said,) = machines.differences(expected, [stage])
    assert said.startswith("the plug-in plugged_in is ")


@pytest.mark.parametrize(
    "raised", [TimeoutError("ETIMEDOUT of the shelf"), PermissionError(13, "not the shelf's")]
)
def test_a_task_whose_store_fails_ends_at_once(raised: Exception):
    """A time-out that it raised is not taken for one of waiting for it."""
    from prefdata.flows.machines import Engine
    from prefect.futures import PrefectConcurrentFuture
    from prefect.states import Failed

    ended: Any = Future()
    ended.set_result(Failed(name="TimedOut", data=raised))
    runner: Any = types.SimpleNamespace(submit=lambda *_: PrefectConcurrentFuture(uuid4(), ended))
    given = {"stage": "it", "shard": 2, "of": 3}
    with pytest.raises(PrefdataError, match=r"^it, shard 2 of 3: .*shelf.*look at the store"):
        Engine(runner, lambda run, _: run.done()).make(
            None, given, goes_on=lambda: pytest.fail("its end was not seen")
        )


def test_a_task_that_need_not_go_on_is_left():
    from prefdata.flows.machines import Engine

    future = types.SimpleNamespace(wrapped_future=None)
    runner: Any = types.SimpleNamespace(submit=lambda *_: future)
    given, looks = {"stage": "it", "shard": 2, "of": 3}, [True, False]
    with pytest.raises(PrefdataError, match=r"^it, shard 2 of 3, was left"):
        Engine(runner, lambda *_: False).make(None, given, goes_on=lambda: looks.pop(0))
    assert not looks


def test_replicas_need_room():
    from prefdata.flows.machines import refuse_crowds

    big = ModelSpec(client="vllm", model="m", engine={"tensor_parallel_size": 4}, replicas=2)
    small = ModelSpec(client="vllm", model="s")
    other, many = (small.model_copy(update=each) for each in ({"model": "j"}, {"replicas": 8}))
    gpu, cpu = {"CPU": 8.0, "GPU": 4.0}, {"CPU": 2.0}
    refuse_crowds({"a": big, "b": big}, [gpu, gpu, cpu])  # two replicas, which these roles share
    refuse_crowds({"a": big, "b": big}, [cpu, cpu])
    refuse_crowds({"a": small, "b": big}, [gpu, gpu, {"GPU": 1.0}])
    for specs, nodes, said in (
        ({"a": big}, [gpu, cpu], "2 of 4 for 'm'.*of Ray have 4: only 1 of the 2 for 'm'"),
        ({"a": small, "b": big}, [gpu, gpu], "1 of 1 for 's'.*only 0 of the 1 for 's'"),
        ({"a": small, "b": other}, [{"GPU": 1.0}], "only 0 of the 1 for"),
        ({"a": many}, [gpu], "only 4 of the 8"),
    ):
        with pytest.raises(PrefdataError, match=said):
            refuse_crowds(specs, nodes)
    with pytest.raises(PrefdataError, match=r"needs 4 GPUs of one machine.*more than 2"):
        refuse_crowds({"a": big}, [{"CPU": 8.0, "GPU": 2.0}] * 4)
    with pytest.raises(PrefdataError, match=r"takes a processor: 2 of 2"):
        refuse_crowds({"a": big}, [cpu])
    refuse_crowds({"a": ModelSpec(client="scripted")}, [{"CPU": 0.0}])


def test_how_many_replicas_there_are_changes_no_id():
    one = ModelSpec(client="vllm", model="org/m", engine={"max_model_len": 64})
    many = one.model_copy(update={"replicas": 8})
    assert one.resolve("m") == many.resolve("m")
    assert one.served() == many.served()
    with pytest.raises(ValueError, match="`replicas` is for the client 'vllm', not 'scripted'"):
        ModelSpec(client="scripted", replicas=2)


def test_plans_of_bundled_recipes_go_to_other_machines():
    cloudpickle = pytest.importorskip("cloudpickle")
    from prefdata.flows import build

    build.ASKING["x"] = threading.Lock()  # as an edge has them: it can go nowhere  # pyright: ignore
    try:
        for thing in (build.make, build.build_flow):
            assert cloudpickle.loads(cloudpickle.dumps(thing)).fn is thing.fn
    finally:
        del build.ASKING["x"]
    for name in ("quickstart", "icai"):
        stages = plan(Recipe.load(name)).stages
        assert cloudpickle.loads(cloudpickle.dumps(stages)) == stages


def test_wrong_engines_are_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch):
    for wrong in ("dask", "ray:", "ray://head", "ray://ann:pw@head:1"):
        with pytest.raises(RecipeError, match=r"expected 'ray'.*'ray://HOST:PORT'") as told:
            way.choose(plain=False, prefect=False, engine=wrong)
        assert "pw" not in str(told.value)
    monkeypatch.setattr(way, "is_installed", lambda package: package != "prefect_ray")
    with pytest.raises(RecipeError, match=r"prefect-ray.*pip install 'prefdata\[flows,ray\]'"):
        way.choose(plain=False, prefect=False, engine="ray")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "dask"], "expected 'ray'"),
        (["--engine", "ray", "--plain"], "exclude each other"),
        (["--store", "s3://bucket"], "hands tables on"),
    ],
)
def test_the_command_refuses_what_does_not_go_together(options: list[str], said: str):
    done = CliRunner().invoke(cli.app, ["build", "quickstart", *options])
    assert done.exit_code
    assert said in " ".join(done.output.split())
