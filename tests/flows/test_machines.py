"""What builds on many machines rest on, without any: tasks made again, a store, what is refused."""

import threading
import types
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from prefdata import cli, way
from prefdata.errors import ModelError, PrefdataError, RecipeError
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
    from prefdata.flows import build, store

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
            build._make("it", 1, 1, str(tmp_path), build.Sealed(stage), seen, answered)
        )
        assert asked["requests"].equals(expected)
        answered.append(store.write({"responses": answers(asked["requests"])}, folder))
    made = store.read(build._make("it", 1, 1, str(tmp_path), build.Sealed(stage), seen, answered))
    assert made.keys() == at_once.keys() == {"scores"}
    assert made["scores"].equals(at_once["scores"])
    assert len(rounds) == 3


def test_a_stage_that_asks_something_else_when_made_again_is_refused(world: Any, tmp_path: Path):
    from prefdata.flows import build, store

    stage = planned(fickle, seen=[])
    seen = store.write({"completions": world()["completions"]}, str(tmp_path))
    asked = store.read(build._make("it", 1, 1, str(tmp_path), build.Sealed(stage), seen, []))[
        "requests"
    ]
    answered = [store.write({"responses": answers(asked)}, str(tmp_path))]
    with pytest.raises(PrefdataError, match=r"stage 1: it asked something else"):
        build._make("it", 1, 1, str(tmp_path), build.Sealed(stage), seen, answered)


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


def test_what_a_node_lacks_is_told(tmp_path: Path):
    from prefdata.flows import machines, store

    here = machines.packages()
    probe = store.probe(str(tmp_path))
    api = "http://127.0.0.1:9/api"
    wrong = machines.look_around({**here, "polars": "0.1"}, (), str(tmp_path), probe, api)
    assert len(wrong) == 2
    assert f"polars is {here['polars']}, not 0.1" in wrong[0]
    assert "http://127.0.0.1:9/api is not reached" in wrong[1]
    store.remove(str(tmp_path))
    lost = machines.look_around(here, (), str(tmp_path), probe, api)[0]
    assert f"store {tmp_path} is not shared: FileNotFoundError" in lost
    assert "--store" in lost


def test_replicas_need_room():
    from prefdata.flows.machines import refuse_crowds

    big = ModelSpec(client="vllm", model="m", engine={"tensor_parallel_size": 4}, replicas=2)
    gpu, cpu = {"CPU": 8.0, "GPU": 4.0}, {"CPU": 2.0}
    refuse_crowds({"a": big, "b": big}, [gpu, cpu])
    refuse_crowds({"a": big, "b": big}, [cpu, cpu])  # two replicas, which these roles share
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


def test_errors_of_replicas_are_those_of_any_client():
    from prefdata.flows import replicas

    class Broken(Exception):
        cause = ModelError("no such model")

    class Lost(Exception):
        pass

    told: list[Exception] = [Broken(), Lost("The actor died.\nmore")]

    def get(_: Any) -> Any:
        raise told.pop(0)

    exceptions = types.SimpleNamespace(RayTaskError=Broken, RayError=Lost)
    ray = types.SimpleNamespace(get=get, exceptions=exceptions)
    asked = replicas.Replicas(ModelSpec(client="vllm", model="org/m"), {})
    with pytest.raises(ModelError, match=r"^no such model$"):
        asked._heard(ray, None)
    with pytest.raises(ModelError, match=r"'org/m' was lost.*The actor died\.; .*build again"):
        asked._heard(ray, None)
