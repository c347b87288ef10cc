"""Every layout on a hand-made sample, in which better completions begin with "good"."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prefdata.errors import SourceError
from prefdata.sources import Imported, Sources, read, resolved
from prefdata.sources.layout import load, names
from prefdata.version.splits import prompt_splits

SAMPLES = Path(__file__).parents[1] / "data" / "layouts"


def sample(layout: str) -> Path:
    [found] = SAMPLES.glob(f"{layout}.json*")
    return found


def imported(layout: str, path: Path | None = None, **spec: Any) -> Imported:
    file = path or sample(layout)
    given = {load(layout)["kind"]: {"path": file.name, "layout": layout, **spec}}
    return read(Sources.model_validate(given), file.parent, strict=True)


def rows(layout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sample(layout).read_text().splitlines()]


def written(folder: Path, layout: str, changed: list[dict[str, Any]]) -> Path:
    path = folder / f"{layout}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in changed))
    return path


def texts(made: Imported) -> dict[str, str]:
    last = pl.col("completion").list.last().struct.field("content")
    return dict(made.tables["completions"].select("completion_id", last).rows())


def prompts(made: Imported) -> list[list[tuple[str, str]]]:
    return [
        [(m["role"], m["content"]) for m in turns] for turns in made.tables["prompts"]["prompt"]
    ]


@pytest.mark.parametrize("layout", names())
def test_what_is_better_in_the_file_is_better_in_the_tables(layout: str) -> None:
    made = imported(layout)
    said = texts(made)
    good = {id: text.startswith("good") for id, text in said.items()}
    bad = {id: text.startswith("bad") for id, text in said.items()}
    told = 0
    if "votes" in made.tables:
        for a, b, preference in (
            made.tables["votes"]
            .filter(~pl.col("criterion").is_in(["harmless", "truthful"]))
            .select("completion_a", "completion_b", "preference")
            .rows()
        ):
            if preference is not None and good[a] + good[b] == 1:
                assert (preference > 0.5) == good[a]
                told += 1
            elif preference is not None:
                assert preference == 0.5
    if "ratings" in made.tables:
        means = made.tables["ratings"].group_by("completion_id").agg(pl.col("rating").mean())
        for id, mean in means.drop_nulls().rows():
            assert mean > 0.5 if good[id] else mean < 0.5 if bad[id] else mean == 0.5
            told += 1
    if "rankings" in made.tables:
        for ranking in made.tables["rankings"]["ranking"]:
            assert (good[ranking[0]], bad[ranking[-1]]) == (True, True)
            told += 1
    assert told >= 2


@pytest.mark.parametrize("layout", names())
def test_an_import_says_which_way_is_up_and_a_layout_where_it_is_documented(layout: str) -> None:
    made = imported(layout)
    assert made.audit
    assert made.quarantined.is_empty()
    assert all(turns[-1][0] == "user" for turns in prompts(made))
    assert load(layout)["documented"].startswith("https://")
    assert len(load(layout)["description"]) > 30


def test_hh_is_parted_into_turns_and_ends_where_the_sides_part() -> None:
    made = imported("hh-rlhf")
    assert sorted(map(len, prompts(made))) == [1, 1, 3]
    assert {text.split(":")[0] for text in texts(made).values()} == {"good", "bad"}
    assert made.tables["completions"]["completion"].list.len().max() == 1


def test_ultrafeedback_has_a_rating_an_aspect_and_none_where_it_says_na() -> None:
    ratings = imported("ultrafeedback").tables["ratings"]
    assert set(ratings["criterion"]) == {
        *("instruction_following", "honesty", "truthfulness", "helpfulness")
    }
    assert ratings.height == 2 * 4 * 4
    assert (
        ratings.filter(pl.col("rating").is_null())["unscored"].to_list() == ["not applicable"] * 2
    )
    # 5, N/A, 5, 5: a mean of 5 on the scale, for what was not given is no 0 and no -1
    made = imported("ultrafeedback")
    even = {id for id, text in texts(made).items() if "even" in text}
    assert ratings.filter(pl.col("completion_id").is_in(even))["rating"].mean() == 1.0


def test_a_ten_that_the_aspects_contradict_was_a_one_or_is_in_doubt() -> None:
    """The released scores took 1 for 10 of 10: https://github.com/OpenBMB/UltraFeedback/issues/8."""
    made = imported("ultrafeedback-overall")
    found = {
        texts(made)[id]: raw
        for id, raw in made.tables["ratings"].select("completion_id", "raw").rows()
    }
    assert found["bad: 9"] == "1"
    assert found["good: 7"] == "10"
    assert found["good: 2, the even one"] == "8.5"
    [doubt] = made.tables["ratings"].filter(pl.col("rating").is_null()).rows(named=True)
    assert texts(made)[doubt["completion_id"]].startswith("fair")
    assert "contradict" in doubt["unscored"]


def test_ultrafeedbacks_best_by_overall_and_by_mean_may_differ(tmp_path: Path) -> None:
    changed = rows("ultrafeedback")
    first, other = changed[0]["completions"][0], changed[0]["completions"][3]
    first["overall_score"], other["overall_score"] = 6.0, 9.0
    path = written(tmp_path, "ultrafeedback", changed)
    both = Sources.model_validate(
        {
            "ratings": [
                {"path": path.name, "layout": f"ultrafeedback{more}"} for more in ("", "-overall")
            ]
        }
    )
    ratings = read(both, tmp_path, strict=True).tables["ratings"]
    assert set(ratings["criterion"]) > {"overall"}
    overall = ratings.filter(criterion="overall").sort("rating", nulls_last=True)
    assert overall.drop_nulls("rating")["raw"][-1] == "9"


@pytest.mark.parametrize(
    "layout", ["ultrafeedback-binarized", "argilla-binarized", "distilabel-dpo"]
)
def test_pairs_whose_ratings_say_the_opposite_are_refused(tmp_path: Path, layout: str) -> None:
    swapped = [
        {key.replace("chosen", "#").replace("rejected", "chosen").replace("#", "rejected"): value
         for key, value in row.items()}
        for row in rows(layout)
    ]  # fmt: skip
    for row, old in zip(swapped, rows(layout), strict=True):
        row["chosen"], row["rejected"] = old["chosen"], old["rejected"]
    with pytest.raises(SourceError, match="0% of 2 pairs"):
        imported(layout, written(tmp_path, layout, swapped))


def test_shp_with_its_labels_upside_down_is_refused(tmp_path: Path) -> None:
    turned = [{**row, "labels": 1 - row["labels"]} for row in rows("shp")]
    path = written(tmp_path, "shp", turned)
    sources = Sources.model_validate({"votes": {"path": path.name, "layout": "shp"}})
    with pytest.raises(SourceError, match="2 of 2 rows it is not so that the preferred"):
        read(sources, tmp_path)


def test_helpsteers_strength_is_a_degree_and_its_markers_are_turns() -> None:
    made = imported("helpsteer2-preference")
    said = texts(made)
    preferences = made.tables["votes"]["preference"]
    assert sorted(max(p, 1 - p) for p in preferences) == pytest.approx([5 / 6, 1.0])
    assert sorted(map(len, prompts(made))) == [1, 3]
    assert prompts(made)[-1][0][1] == "Name a prime."
    assert len(said) == 4
    votes = imported("helpsteer2-annotators").tables["votes"]
    assert votes.height == 7
    assert votes["unscored"].drop_nulls().to_list() == ["neither is valid"]
    assert "human:helpsteer2-3" in set(votes["annotator"])


def test_oasst_flat_and_nested_give_the_same_rankings() -> None:
    flat, nested = imported("oasst").tables, imported("oasst-trees").tables
    assert flat["rankings"].height == 2
    for name in ("prompts", "completions", "rankings"):
        assert (
            flat[name]
            .drop("source", strict=False)
            .equals(nested[name].drop("source", strict=False))
        )
    assert sorted(flat["prompts"]["prompt"].list.len()) == [1, 3]


def test_arena_conversations_are_parted_where_they_part() -> None:
    made = imported("chatbot-arena")
    assert all(len(turns) == 1 for turns in prompts(made))
    assert made.tables["completions"]["completion"].list.len().max() == 3
    assert set(made.tables["votes"]["annotator"]) == {"human:arena_user_7"}
    assert set(made.tables["samples"]["generator"]) == {"one", "two"}


def test_an_answer_without_a_verdict_is_unscored() -> None:
    votes = imported("alpaca-eval").tables["votes"]
    assert votes["unscored"].drop_nulls().to_list() == ["no verdict"]
    assert set(votes["annotator"]) == {"llm:alpaca_eval_gpt4"}
    assert 0.98 in votes["preference"].round(6) or 0.02 in votes["preference"].round(6)


def test_lists_of_other_lengths_and_messages_out_of_place_are_quarantined(tmp_path: Path) -> None:
    bad = rows("distilabel")
    bad[0]["ratings"] = [5]
    sources = {"ratings": {"path": "distilabel.jsonl", "layout": "distilabel"}}
    written(tmp_path, "distilabel", bad)
    made = read(Sources.model_validate(sources), tmp_path)
    assert "2, 1, 2, 2 elements" in made.quarantined["reason"][0]
    orphans = [row for row in rows("oasst") if row["message_id"] != "m3"]
    written(tmp_path, "oasst", orphans)
    made = read(
        Sources.model_validate({"rankings": {"path": "oasst.jsonl", "layout": "oasst"}}), tmp_path
    )
    assert (
        made.quarantined["reason"].to_list()
        == ["the message answers 'm3', which does not stand before it"] * 2
    )


@pytest.mark.parametrize(
    "layout", ["ultrafeedback", "nectar", "multipref", "helpsteer2-annotators"]
)
def test_parquet_and_jsonl_give_the_same(tmp_path: Path, layout: str) -> None:
    path = tmp_path / f"{layout}.parquet"
    pl.DataFrame(rows(layout), infer_schema_length=None).write_parquet(path)
    one, other = imported(layout).tables, imported(layout, path).tables
    assert one.keys() == other.keys()
    assert all(one[name].equals(other[name]) for name in one)


def test_a_recipe_goes_before_its_layout_and_a_wrong_one_is_told() -> None:
    made = imported("pandalm", annotators={"human:x": "annotator1"})
    assert set(made.tables["votes"]["annotator"]) == {"human:x"}
    with pytest.raises(ValueError, match="did you mean 'nectar'"):
        Sources.model_validate({"votes": {"path": "a.jsonl", "layout": "nektar"}})
    with pytest.raises(ValueError, match=r"is of rankings; give it as sources\.rankings"):
        Sources.model_validate({"votes": {"path": "a.jsonl", "layout": "nectar"}})
    with pytest.raises(ValueError, match=r"derive\.x is no SQL"):
        Sources.model_validate({"votes": {"path": "a.jsonl", "derive": {"x": "1 +"}}})


def test_row_order_does_not_matter(tmp_path: Path) -> None:
    for layout in ("nectar", "multipref", "ultrafeedback"):
        turned = written(tmp_path, layout, rows(layout)[::-1])
        one, other = imported(layout).tables, imported(layout, turned).tables
        assert all(one[name].equals(other[name]) for name in one)


def test_prism_goes_on_with_the_answer_that_was_chosen() -> None:
    made = imported("prism-conversations")
    assert max(prompts(made), key=len) == [
        ("user", "Name a prime."),
        ("assistant", "good: 7"),
        ("user", "And another?"),
    ]
    assert set(made.tables["ratings"]["annotator"]) == {"human:user1", "human:user2"}
    first = made.tables["prompts"].filter(pl.col("prompt").list.len() == 1)
    opening = imported("prism").tables
    assert set(first["prompt_id"]) == set(opening["prompts"]["prompt_id"])
    key = ["completion_id", "annotator", "criterion", "draw"]
    both = made.tables["ratings"].join(opening["ratings"], on=key)
    assert both.height == 4
    assert both.filter(pl.col("rating") != pl.col("rating_right")).is_empty()
    later = made.tables["completions"].join(first, on="prompt_id", how="anti")
    by = made.tables["samples"].join(later, on="completion_id", how="semi")
    assert set(by["generator"]) == {"one"}


@pytest.mark.parametrize("seed", range(8))
def test_turns_of_one_conversation_are_in_one_split(seed: int) -> None:
    frames = imported("prism-conversations").tables
    splits = prompt_splits(frames, {"test": 0.5}, seed).join(frames["prompts"], on="prompt_id")
    of_primes = splits.filter(pl.col("group") == "Name a prime.")
    assert of_primes.height == 2
    assert of_primes["split"].n_unique() == 1


def test_a_conversation_that_cannot_be_followed_is_quarantined(tmp_path: Path) -> None:
    changed = rows("prism-conversations")
    for message in changed[0]["conversation_history"]:
        message["if_chosen"] = False
    changed[1]["conversation_history"][1].pop("content")
    written(tmp_path, "prism-conversations", changed)
    sources = {"ratings": {"path": "prism-conversations.jsonl", "layout": "prism-conversations"}}
    made = read(Sources.model_validate(sources), tmp_path)
    assert made.quarantined["reason"].to_list() == [
        "conversation_history goes on, but no answer before has if_chosen",
        "a message of conversation_history has no content or no role",
    ]
    assert made.tables["ratings"].height == 2
    with pytest.raises(ValueError, match="dialogue and kept"):
        Sources.model_validate({"ratings": {"path": "x.jsonl", "tree": {"dialogue": "turns"}}})


# Rows within rows without end are no columns of Arrow.
NO_COLUMNS = {"oasst-trees", "annotated-pairs"}


@pytest.mark.parametrize("layout", sorted({*names()} - NO_COLUMNS))
@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_source_of_the_hub_has_the_layout_of_its_file(
    tmp_path: Path, layout: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `load_dataset`, of a folder; with the kind given, and without, from the layout."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "rows"
    folder.mkdir()
    if form == "parquet":
        frame = pl.DataFrame(rows(layout), infer_schema_length=None)
        blank = [name for name, dtype in frame.schema.items() if dtype == pl.Struct([])]
        frame.drop(blank).write_parquet(folder / "train-00000-of-00001.parquet")
    else:
        (folder / "train.jsonl").write_bytes(sample(layout).read_bytes())
    spec = {"hub": str(folder), "layout": layout, "name": layout}
    one = imported(layout, name=layout)
    for kind in ("hub", load(layout)["kind"]):
        sources = Sources.model_validate({kind: spec})
        assert [each.kind for each in resolved(sources, tmp_path)] == [load(layout)["kind"]]
        other = read(sources, tmp_path, strict=True)
        assert one.tables.keys() == other.tables.keys()
        for name, table in one.tables.items():
            assert_frame_equal(table, other.tables[name])
