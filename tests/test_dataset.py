"""From a recipe to a version and back, with planted models: no server, every effect in place."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import prefdata
from prefdata import judge as judges
from prefdata import tables as t
from prefdata.dataset import Built, estimate
from prefdata.errors import BudgetError, ModelError, RecipeError, SourceError, TableError
from prefdata.models.ledger import Ledger
from prefdata.models.purse import Purse
from prefdata.tables import Requests, Responses
from prefdata.version import find, verify
from prefdata.watch import Event, Made
from tests.chain import CHAIN

RECIPE = (
    """
name = "planted"
seed = 3
sources.prompts = "prompts.jsonl"
splits.test = 0.25

[models.writer]
client = "scripted"
model = "planted"
max_tokens = 200
price_in = 1.0
price_out = 1.0

[models.judge]
client = "scripted"
model = "planted"
accuracy = 0.9
position_bias = 0.1
price_in = 1.0
price_out = 1.0
"""
    + CHAIN
    + """
[[stages]]
use = "select.margin"
min_margin = 0.1

[[exports]]
use = "export.pairwise"

[[exports]]
use = "export.listwise"

[[exports]]
use = "export.binary"
"""
)
PROMPTS = 30
Make = Callable[..., Built]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [json.dumps({"prompt": f"question {i}"}) for i in range(PROMPTS)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def make(folder: Path) -> Make:
    def build(**options: Any) -> Built:
        return prefdata.build(folder / "recipe.toml", data=folder / "data", **options)

    return build


def test_every_row_can_be_followed_to_the_words_of_the_model(make: Make, folder: Path):
    built = make()
    version = find(folder / "data", "planted")
    tables = {name: version.table(name) for name in built.tables}
    completions = tables["completions"].rows_by_key("completion_id", named=True, unique=True)
    ledger = Ledger(folder / "data" / "ledger")
    asked = ledger.find(tables["votes"]["request_id"].to_list())
    assert set(asked["request_id"]) == set(tables["votes"]["request_id"])
    pairs = prefdata.load("planted", "pairwise", data=folder / "data")
    for split in pairs.values():
        for row in split:
            assert row["chosen"] == completions[row["chosen_id"]]["completion"]
            assert row["rejected"] == completions[row["rejected_id"]]["completion"]
            assert row["chosen"] != row["rejected"]
            two = sorted([row["chosen_id"], row["rejected_id"]])
            votes = tables["votes"].filter(
                (pl.col("completion_a") == two[0]) & (pl.col("completion_b") == two[1])
            )
            assert votes.height == row["n_votes"] == 2
            for vote in votes.iter_rows(named=True):
                said = ledger.request(vote["request_id"])
                assert said is not None
                shown = said["request"]["messages"][-1]["content"]
                texts = [completions[c]["completion"][0]["content"] for c in two]
                first, second = texts if vote["a_first"] else texts[::-1]
                assert 0 <= shown.index(first) < shown.index(second)
                verdict = json.loads(said["response"]["text"])["verdict"]
                expected = {"A": 1.0, "B": 0.0, "tie": 0.5}[verdict]
                assert vote["preference"] == (expected if vote["a_first"] else 1 - expected)


def test_building_again_asks_and_writes_nothing(make: Make, folder: Path):
    first = make()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    second = make()
    assert second.id == first.id
    assert not second.is_new
    assert second.requests["asked"] == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("n_shards", [2, 7])
def test_the_id_does_not_depend_on_shards_order_or_folder(
    make: Make, folder: Path, tmp_path_factory: pytest.TempPathFactory, n_shards: int
):
    first = make()
    other = tmp_path_factory.mktemp("elsewhere")
    lines = (folder / "prompts.jsonl").read_text().splitlines()
    (other / "prompts.jsonl").write_text("\n".join(reversed(lines)))
    (other / "recipe.toml").write_text("# moved\n" + RECIPE)
    again = prefdata.build(other / "recipe.toml", data=other / "data", n_shards=n_shards)
    assert again.id == first.id


def test_what_the_plan_estimates_is_what_the_build_asks(make: Make, folder: Path):
    planned = estimate(folder / "recipe.toml", data=folder / "data")
    assert not (folder / "data").exists(), "an estimate writes nothing"
    built = make()
    assert planned.rows == {"prompts": PROMPTS}
    assert planned.share == 1
    assert (
        sum(each.requests for each in planned.asked) == built.requests["asked"] == PROMPTS * (3 + 6)
    )
    answered = estimate(folder / "recipe.toml", data=folder / "data").asked
    assert sum(each.answered for each in answered) == built.requests["asked"]
    assert sum(each.cost for each in answered) == 0


def test_one_more_prompt_costs_its_own_requests_and_keeps_the_splits(make: Make, folder: Path):
    make()
    before = find(folder / "data", "planted").table("pairs")
    with (folder / "prompts.jsonl").open("a") as file:
        file.write('\n{"prompt": "one more"}')
    grown = make()
    assert grown.requests["asked"] == 3 + 6
    after = find(folder / "data", grown.name).table("pairs")
    kept = before.join(after, on="pair_id", suffix="_after")
    assert kept.height == before.height
    assert kept["split"].equals(kept["split_after"], check_names=False)


def test_fresh_asks_all_again(make: Make):
    first = make()
    assert make(fresh=True).requests["asked"] == first.requests["asked"]


def test_limit_takes_the_first_prompts_and_reuses_them_later(make: Make):
    few = make(limit=5)
    assert few.tables["prompts"] == 5
    assert make().requests["cached"] == few.requests["asked"]


def test_a_failed_request_is_a_row_with_its_reason(make: Make, folder: Path):
    built = make(changes=["models.writer.failure_rate=0.2", "models.judge.failure_rate=0.2"])
    version = find(folder / "data", "planted")
    dropped = version.table("dropped").filter(pl.col("stage") == "generate.sample")
    assert dropped.height > 0
    assert dropped["reason"].unique().to_list() == ["error: planted failure"]
    assert version.table("samples").height + dropped.height == PROMPTS * 3
    votes = version.table("votes")
    unscored = votes.filter(pl.col("preference").is_null())
    assert unscored["unscored"].unique().to_list() == ["error: planted failure"]
    assert built.unscored == {"annotate.pairwise": {"error: planted failure": unscored.height}}
    assert built.requests["failed"] == dropped.height + unscored.height


def test_a_budget_is_kept_and_the_version_is_still_whole(make: Make, folder: Path):
    whole = make(changes=["name=unbounded"])
    part = prefdata.build(folder / "recipe.toml", data=folder / "other", budget=whole.cost / 2)
    assert 0 < part.cost <= whole.cost / 2
    verify(Path(part.path))
    reasons = {reason for stage in part.unscored.values() for reason in stage}
    assert reasons <= {"error: budget reached"}
    rest = prefdata.build(folder / "recipe.toml", data=folder / "other")
    assert rest.requests["cached"] == part.requests["asked"]
    assert rest.id != part.id


def test_a_limit_makes_a_partial_version_that_says_what_is_missing(make: Make, folder: Path):
    part = make(max_requests=PROMPTS * 3 + 10)
    counts = {"asked": PROMPTS * 3 + 10, "cached": 0, "failed": 0, "unsent": PROMPTS * 6 - 10}
    assert part.requests == counts, "what was not sent did not fail"
    assert part.partial is not None
    assert part.partial["reason"] == "request limit reached"
    assert part.partial["missing"] == {"annotate.pairwise": PROMPTS * 6 - 10}
    version = verify(Path(part.path))
    assert version.partial == part.partial
    card = (Path(part.path) / "README.md").read_text()
    assert f"`annotate.pairwise` {PROMPTS * 6 - 10:,}" in card
    assert "partial" in card.lower()
    whole = make()
    assert whole.partial is None
    assert whole.id != part.id
    assert "partial" not in verify(Path(whole.path)).manifest
    assert "partial" not in (Path(whole.path) / "README.md").read_text().lower()
    assert whole.requests["cached"] == part.requests["asked"]


@pytest.mark.parametrize("limits", [{"budget": 1e9}, {"max_requests": 10**9}])
def test_a_limit_that_is_not_reached_leaves_no_trace(
    make: Make, folder: Path, limits: dict[str, Any]
):
    whole = make()
    ((name, value),) = limits.items()
    text = f"{name} = {value}\n{RECIPE}"
    (folder / "recipe.toml").write_text(text)
    assert prefdata.build(folder / "recipe.toml", data=folder / "other").id == whole.id
    assert make(**limits).id == whole.id


@pytest.mark.parametrize("limits", [{"budget": 0.0}, {"max_requests": 0}])
def test_a_limit_that_allows_nothing_still_ends_with_a_version(
    make: Make, folder: Path, limits: dict[str, Any]
):
    nothing = make(**limits)
    assert (nothing.requests["asked"], nothing.cost) == (0, 0)
    assert nothing.partial is not None
    assert nothing.partial["missing"] == {"generate.sample": PROMPTS * 3}
    verify(Path(nothing.path))


def test_a_limit_of_the_recipe_is_kept_and_that_of_the_call_goes_before(make: Make, folder: Path):
    (folder / "recipe.toml").write_text("max_requests = 7\n" + RECIPE)
    assert make().requests["asked"] == 7
    assert make(max_requests=9).requests["asked"] == 9


def test_what_is_missing_is_part_of_the_id(folder: Path):
    """Where the tables do not show it, a version that lacks answers is still another one."""
    plugin = """
from prefdata.stage import Asks, Model, requests
from prefdata.tables import Prompts, Requests


def look(prompts: Prompts, *, model: Model) -> Asks[Prompts]:
    yield Requests(requests(model, "text", prompts["prompt"]))
    return prompts
"""
    (folder / "looking.py").write_text(plugin)
    head = RECIPE[: RECIPE.index("[[stages]]")]
    (folder / "recipe.toml").write_text(
        f'{head}[[stages]]\nuse = "looking:look"\nmodel = "judge"\n'
    )
    part = prefdata.build(folder / "recipe.toml", data=folder / "data", max_requests=3)
    whole = prefdata.build(folder / "recipe.toml", data=folder / "data")
    assert part.tables == whole.tables
    assert part.id != whole.id
    verify(Path(part.path))


def test_builds_that_share_a_purse_share_its_bounds(folder: Path):
    """As the tries of one run do: what one has spent another has no more."""
    purse = Purse.of(None, PROMPTS * 3 + 10)
    first = prefdata.build(folder / "recipe.toml", data=folder / "one", purse=purse, limit=5)
    again = prefdata.build(folder / "recipe.toml", data=folder / "two", purse=purse)
    assert first.partial is None
    assert again.partial is not None
    assert first.requests["asked"] + again.requests["asked"] == PROMPTS * 3 + 10
    assert purse.spent == pytest.approx(first.cost + again.cost)


ELSEWHERE = 'base_url = "http://127.0.0.1:9/v1"'


def test_a_budget_needs_the_prices_of_all_models_before_any_is_asked(make: Make, folder: Path):
    for unpriced in ("writer", "judge"):
        at = RECIPE.index(f"[models.{unpriced}]")
        asked = RECIPE[at:].replace('client = "scripted"', f'client = "openai"\n{ELSEWHERE}', 1)
        for given in ("accuracy = 0.9", "position_bias = 0.1", "price_in = 1.0", "price_out = 1.0"):
            asked = asked.replace(f"{given}\n", "", 1)
        (folder / "recipe.toml").write_text(RECIPE[:at] + asked)
        with pytest.raises(BudgetError, match=f"{unpriced}.*price_in"):
            make(budget=1.0)
        assert list((folder / "data").rglob("*.jsonl")) == [], "nothing was asked"


def test_a_bad_row_is_quarantined_and_with_strict_an_error(make: Make, folder: Path):
    with (folder / "prompts.jsonl").open("a") as file:
        file.write('\n{"prompt": ""}\nnot json\n')
    built = make()
    assert built.quarantined >= 1
    quarantine = Path(built.path, "quarantine.jsonl").read_text().splitlines()
    assert any(json.loads(line)["line"] == PROMPTS + 2 for line in quarantine)
    with pytest.raises(SourceError, match="line"):
        make(strict=True)


def test_without_any_pair_the_version_is_whole_and_its_exports_are_empty(make: Make):
    built = make(changes=["stages.select.margin.min_margin=1000.0"])
    assert built.tables["pairs"] == 0
    assert built.dropped["select.margin"] > 0
    pairs = prefdata.load(built.name, "pairwise", data=Path(built.path).parents[2])
    assert sum(len(split) for split in pairs.values()) == 0


def test_a_recipe_in_python_is_the_recipe_of_the_file(make: Make, folder: Path):
    recipe = prefdata.Recipe.load(folder / "recipe.toml")
    assert prefdata.build(recipe, data=folder / "data").id == make().id


def test_pairs_that_are_imported_are_pairs_unless_a_stage_makes_some(folder: Path):
    rows = [{"prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(4)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "pairs.toml").write_text(
        'name = "imported"\nsources.pairs = "pairs.jsonl"\n[[exports]]\nuse = "export.pairwise"\n'
    )
    built = prefdata.build(folder / "pairs.toml", data=folder / "data")
    assert built.tables["pairs"] == built.exports["pairwise"] == 4
    pairs = find(folder / "data", "imported").table("pairs")
    assert pairs["soft_label"].to_list() == [1.0] * 4
    assert pairs["margin"].to_list() == [None] * 4
    loaded = prefdata.load("imported", "pairwise", data=folder / "data")["train"]
    assert {row["chosen"][0]["content"] for row in loaded} == {r["chosen"] for r in rows}


def test_models_may_be_replaced(make: Make):
    def refuse(requests: Requests) -> Responses:
        refused = requests.select("request_id", error=pl.lit("no"), tokens_in=0, tokens_out=0)
        return Responses(t.check("responses", refused, where="test"))

    built = make(ask=refuse)
    assert built.tables.get("completions", 0) == 0
    assert built.dropped["generate.sample"] == PROMPTS * 3


def test_imported_pairs_survive_a_filter(folder: Path):
    rows = [{"prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(4)]
    rows[0]["chosen"] = "bad  0 "  # but for blanks the same as the other side
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "pairs.toml").write_text(
        'name = "imported"\nsources.pairs = "pairs.jsonl"\n'
        '[[stages]]\nuse = "select.distinct"\n[[exports]]\nuse = "export.pairwise"\n'
    )
    built = prefdata.build(folder / "pairs.toml", data=folder / "data")
    assert (built.exports["pairwise"], built.dropped) == (3, {"select.distinct": 1})


def test_two_exports_of_one_stage_have_a_folder_each(make: Make, folder: Path):
    more = '\n[[exports]]\nuse = "export.pairwise"\nformat = "standard"\n'
    (folder / "recipe.toml").write_text(RECIPE + more)
    with pytest.raises(RecipeError, match="2 exports would be written to the folder 'pairwise'"):
        make()
    (folder / "recipe.toml").write_text(RECIPE + more + 'name = "plain"\n')
    built = make()
    plain = prefdata.load("planted", "plain", data=folder / "data")["train"]
    assert isinstance(plain[0]["chosen"], str)
    assert built.exports["plain"] == built.exports["pairwise"]


UNSEEN_BY_NAMES_AND_TYPES = {
    "a judge of the wrong kind": ('judge = "helpfulness"', 'judge = "ultrafeedback"', "pointwise"),
    "a number out of range": ("n = 3", "n = 0", "n = 0"),
    "a criterion nobody votes on": (
        'use = "aggregate.bradley_terry"',
        'use = "aggregate.bradley_terry"\ncriteria = ["helpfullness"]',
        "did you mean 'helpfulness'",
    ),
    "two results under one name": (
        'use = "aggregate.bradley_terry"',
        'use = "aggregate.bradley_terry"\n[[stages]]\nuse = "aggregate.bradley_terry"\nprior = 2.0',
        "appears once",
    ),
    "shares that leave nothing": ("splits.test = 0.25", "splits.test = 1.5", "splits.test"),
    "an estimator that is not there": (
        'use = "pair.best_vs_worst"',
        'use = "pair.best_vs_worst"\nestimator = "bradley_tery"',
        "did you mean 'bradley_terry'",
    ),
}


@pytest.mark.parametrize("mistake", UNSEEN_BY_NAMES_AND_TYPES)
def test_what_only_a_stage_can_see_is_found_before_anything_is_asked(
    make: Make, folder: Path, mistake: str
):
    found, wrong, said = UNSEEN_BY_NAMES_AND_TYPES[mistake]
    (folder / "recipe.toml").write_text(RECIPE.replace(found, wrong, 1))
    with pytest.raises((RecipeError, TableError), match=said):
        estimate(folder / "recipe.toml", data=folder / "data")
    with pytest.raises((RecipeError, TableError), match=said):
        make()
    assert list((folder / "data").rglob("*.jsonl")) == [], "nothing was asked"


def test_two_judges_of_one_name_are_refused(make: Make, folder: Path):
    own = judges.load("helpfulness").to_toml().replace("You compare", "You weigh")
    (folder / "helpfulness.toml").write_text(own)
    more = '[[stages]]\nuse = "annotate.pairwise"\njudge = "helpfulness.toml"\nmodel = "judge"\n'
    (folder / "recipe.toml").write_text(RECIPE.replace("[[exports]]", more + "[[exports]]", 1))
    with pytest.raises(RecipeError, match="two judges are called 'helpfulness'"):
        make()


def test_unscored_rows_of_the_sources_are_counted(folder: Path):
    row = {"prompt": "p", "completion_a": "x", "completion_b": "y", "annotator": "human:u"}
    rows = [{**row, "preference": 1.0}, {**row, "prompt": "q", "preference": "?"}]
    (folder / "votes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "votes.toml").write_text(
        'name = "votes"\n[sources.votes]\npath = "votes.jsonl"\n'
        '[sources.votes.values.preference]\n1 = 1.0\n"?" = "illegible"\n'
    )
    built = prefdata.build(folder / "votes.toml", data=folder / "data")
    assert built.unscored == {"sources": {"illegible": 1}}


@pytest.mark.parametrize(
    "stage", ["majority_vote", "bradley_terry", "dawid_skene", "reliability", "rank_centrality"]
)
def test_an_aggregate_of_unscored_votes_says_so(folder: Path, stage: str):
    row = {"prompt": "p", "completion_a": "x", "completion_b": "y", "preference": "?"}
    rows = [{**row, "annotator": f"human:{who}"} for who in "uvw"]
    recipe = f"""
name = "votes"
[sources.votes]
path = "votes.jsonl"
values.preference = {{ "?" = "illegible", 1 = 1.0 }}
[[stages]]
use = "aggregate.{stage}"
"""
    (folder / "votes.toml").write_text(recipe)
    (folder / "votes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    seen: list[Event] = []
    built = prefdata.build(folder / "votes.toml", data=folder / "data", watch=seen.append)
    said = "nothing was made of 3 votes: all are unscored, most because of 'illegible'"
    assert built.nothing_made == {f"aggregate.{stage}": said}
    assert [event.nothing for event in seen if isinstance(event, Made)] == [said]
    assert said in (Path(built.path) / "README.md").read_text()
    rows[0]["preference"] = 1.0  # pyright: ignore[reportArgumentType]
    (folder / "votes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert prefdata.build(folder / "votes.toml", data=folder / "data").nothing_made == {}


def test_a_model_that_answers_nothing_ends_the_build(make: Make, folder: Path):
    with pytest.raises(ModelError, match="'judge' answered none of 180 requests"):
        make(changes=["models.judge.failure_rate=1.0"])
    assert not (folder / "data" / "versions").exists()
    assert make().requests["cached"] == PROMPTS * 3, "what the other model said is kept"


def test_a_missing_key_is_found_before_another_model_is_asked(
    make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    text = RECIPE.replace("accuracy = 0.9\nposition_bias = 0.1\n", 'api_key_env = "NO_SUCH_KEY"\n')
    judge = text.index("[models.judge]")
    text = text[:judge] + text[judge:].replace('client = "scripted"', 'client = "openai"', 1)
    (folder / "recipe.toml").write_text(text)
    with pytest.raises((ModelError, RecipeError), match="NO_SUCH_KEY"):
        make()
    assert list((folder / "data").rglob("*.jsonl")) == []


@pytest.mark.parametrize(
    "given",
    [
        *({"n_shards": n} for n in (0, -2, 1.5, "2", True, None)),
        *({"budget": usd} for usd in (math.nan, -1.0, -math.inf, "5", True)),
        *({"max_requests": n} for n in (-1, 2.5, "3", True)),
        *({"limit": n} for n in (0, -1, 2.5, "5", True)),
    ],
    ids=str,
)
def test_limits_that_are_none_are_refused_and_make_no_empty_version(
    given: dict[str, Any], tmp_path: Path
):
    """No shard would hold a prompt; and of a deployment's file these are somebody's typing."""
    with pytest.raises(RecipeError, match=f"{next(iter(given))} is "):
        prefdata.build("quickstart", data=tmp_path / "data", **given)
    assert not (tmp_path / "data").exists()
