"""The bundled recipes that ask no model, built for real and held against other tools."""

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score

import prefdata
from prefdata.dataset import Built
from prefdata.errors import ModelError
from prefdata.version import find

PEOPLE = ["human:1", "human:2", "human:3"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, Path]:
    data = tmp_path_factory.mktemp("data")
    return prefdata.build("pandalm-humans", data=data), data


def test_kappas_between_people_are_those_of_scikit_learn(built: tuple[Built, Path]):
    made, data = built
    votes = prefdata.load(made.name, "votes", data=data)
    verdicts = votes.with_columns(label=(pl.col("preference") * 2).cast(pl.Int64)).pivot(
        "annotator", index=["completion_a", "completion_b", "draw"], values="label"
    )
    measures = prefdata.load(made.name, "measures", data=data)
    for i, one in enumerate(PEOPLE):
        for other in PEOPLE[i + 1 :]:
            row = measures.filter(pl.col("subject") == f"{one} & {other}").row(0, named=True)
            expected = cohen_kappa_score(verdicts[one].to_list(), verdicts[other].to_list())
            assert row["value"] == pytest.approx(expected, abs=1e-9)
            assert row["n"] == 624


def test_kappas_are_those_of_the_file_but_for_which_side_is_called_a(built: tuple[Built, Path]):
    made, data = built
    raw = pl.read_parquet(Path(__file__).parents[1] / "data" / "sources" / "pandalm.parquet")
    measures = prefdata.load(made.name, "measures", data=data)
    for one, other in (("1", "2"), ("1", "3"), ("2", "3")):
        subject = f"human:{one} & human:{other}"
        value = measures.filter(pl.col("subject") == subject)["value"][0]
        on_file = cohen_kappa_score(raw[f"human{one}"].to_list(), raw[f"human{other}"].to_list())
        assert value == pytest.approx(on_file, abs=5e-4)


def test_what_goes_in_comes_out_or_is_dropped_table_by_table(built: tuple[Built, Path]):
    made, data = built
    flows = find(data, made.name).manifest["counts"]["stages"]
    pairs = [flow for flow in flows if flow["table"] == "pairs"]
    assert [flow["use"] for flow in pairs] == [
        "pair.best_vs_worst",
        "select.margin",
        "select.distinct",
    ]
    strengths = prefdata.load(made.name, "strengths", data=data)
    candidates = strengths.group_by("prompt_id").len().filter(pl.col("len") > 1).height
    assert pairs[0]["in"] == candidates
    for before, after in pairwise(pairs):
        assert after["in"] == before["out"]
    dropped = prefdata.load(made.name, "dropped", data=data)
    for flow in pairs:
        counted = dropped.filter(pl.col("stage") == flow["stage"], pl.col("table") == "pairs")
        assert flow["dropped"] == counted.height
        assert flow["in"] == flow["out"] + counted.height
    assert pairs[-1]["out"] == made.tables["pairs"]


def test_every_reply_that_names_no_side_is_a_vote_with_its_reason(built: tuple[Built, Path]):
    made, data = built
    raw = pl.read_parquet(Path(__file__).parents[1] / "data" / "sources" / "pandalm.parquet")
    votes = prefdata.load(made.name, "votes", data=data)
    garbage = votes.filter(pl.col("annotator") == "llm:gpt-3.5")["unscored"].drop_nulls()
    assert garbage.unique().to_list() == ["unparsable"]
    assert len(garbage) == (raw["gpt35"].cast(pl.String) == "garbage").sum()


def test_exports_load_and_no_pair_has_two_equal_sides(built: tuple[Built, Path]):
    from datasets import load_from_disk

    made, _ = built
    for view in ("pairwise", "listwise", "binary"):
        rows = load_from_disk(f"{made.path}/{view}")
        assert sum(len(split) for split in rows.values()) == made.exports[view] > 0
    pairs = load_from_disk(f"{made.path}/pairwise")["train"]
    assert all(pair["chosen"] != pair["rejected"] for pair in pairs)


def test_the_same_again_writes_nothing_and_shards_do_not_matter(built: tuple[Built, Path]):
    made, data = built
    again = prefdata.build("pandalm-humans", data=data, n_shards=5)
    assert (again.id, again.is_new) == (made.id, False)


def test_the_quickstart_makes_pairs_of_a_real_models_words(tmp_path: Path):
    """On a few of its prompts, for a small machine is slow; `make quickstart` builds it whole."""
    pytest.importorskip("xllamacpp", reason="the embedded model needs prefdata[embedded]")
    try:
        made = prefdata.build("quickstart", data=tmp_path, limit=3)
    except ModelError as error:
        pytest.skip(str(error))
    assert made.requests["failed"] == 0
    assert made.tables["completions"] >= 3
    assert made.tables["pairs"] + made.dropped.get("pair.best_vs_worst", 0) == 3
    samples = prefdata.load(made.name, "samples", data=tmp_path)
    assert samples["generator"].n_unique() == 2
    votes = prefdata.load(made.name, "votes", data=tmp_path)
    assert votes["preference"].null_count() == 0
    assert votes["request_id"].null_count() == 0
    again = prefdata.build("quickstart", data=tmp_path, limit=3)
    assert (again.id, again.is_new, again.requests["asked"]) == (made.id, False, 0)
