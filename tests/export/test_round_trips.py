"""What goes out comes back: pairs through single completions, and exports through imports."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata import tables
from prefdata.export.binary import binary
from prefdata.export.listwise import listwise
from prefdata.export.pairwise import pairwise
from prefdata.sources import Sources, as_pairs, read
from prefdata.tables import Completions, Pairs, Prompts, Strengths

# Letters in which a line, a quote, a brace or another script could be lost.
TEXT = st.text("abß漢\n\"{}\\' ,:", min_size=1, max_size=8).filter(lambda text: text.strip() != "")
TURNS = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
ASKED = st.sampled_from(["u", "su", "uau", "suauau", "uatau"])
SAID = st.sampled_from(["a", "ata", "aua"])


@st.composite
def said(draw, roles):
    return [{"role": TURNS[each], "content": draw(TEXT)} for each in draw(roles)]


@st.composite
def worlds(draw):
    """Prompts with two completions each, all of different content, and which is chosen."""
    pair = st.tuples(said(ASKED), said(SAID), said(SAID)).filter(lambda row: row[1] != row[2])
    by_prompt = st.lists(pair, min_size=1, max_size=5, unique_by=lambda row: json.dumps(row[0]))
    return draw(by_prompt)


def made_of(rows):
    """The tables of (prompt, chosen, rejected)."""
    prompt_ids = tables.prompt_ids([row[0] for row in rows]).to_list()
    sides = [tables.completion_ids(prompt_ids, [row[at] for row in rows]) for at in (1, 2)]
    asked = tables.conversations("prompt", [row[0] for row in rows])
    prompts = pl.DataFrame({"prompt_id": prompt_ids, "prompt": asked, "source": "s"})
    completions = pl.concat(
        pl.DataFrame({
            "completion_id": sides[at - 1], "prompt_id": prompt_ids,
            "completion": tables.conversations("completion", [row[at] for row in rows]),
        }) for at in (1, 2)
    )  # fmt: skip
    pairs = pl.DataFrame({"prompt_id": prompt_ids, "chosen_id": sides[0], "rejected_id": sides[1]})
    pairs = pairs.with_columns(
        tables.pair_ids(sides[0], sides[1]), soft_label=pl.lit(1.0), n_votes=1
    )
    schema = {"prompt_id": pl.String, "chosen_id": pl.String, "rejected_id": pl.String}
    return (
        tables.typed(Prompts, prompts.cast({"prompt_id": pl.String})),
        tables.typed(Completions, completions.cast({"prompt_id": pl.String})),
        tables.typed(Pairs, pairs.cast(schema)),
    )


def contents(rows: pl.DataFrame, *columns: str) -> list[str]:
    return sorted(json.dumps(list(row), sort_keys=True) for row in rows.select(columns).rows())


def imported(rows: pl.DataFrame, kind: str, **spec):
    with TemporaryDirectory() as folder:
        rows.write_ndjson(Path(folder) / "rows.jsonl")
        sources = Sources.model_validate({kind: {"path": "rows.jsonl", **spec}})
        return read(sources, Path(folder), strict=True)


def exported_again(made, **options):
    found = made.tables
    pairs, _ = as_pairs(found["votes"])
    return pairwise(found["prompts"], found["completions"], pairs, **options)


@given(worlds())
def test_pairs_are_single_completions_and_pairs_again(rows):
    prompts, completions, pairs = made_of(rows)
    single = binary(prompts, completions, pairs)
    good, bad = (single.filter(pl.col("label") == says) for says in (True, False))
    again = good.join(bad, on="prompt_id", suffix="_rejected")
    back = again.select("prompt", chosen="completion", rejected="completion_rejected")
    columns = ("prompt", "chosen", "rejected")
    assert contents(back, *columns) == contents(pairwise(prompts, completions, pairs), *columns)


@settings(max_examples=40)
@given(worlds())
def test_an_export_of_pairs_is_an_import_of_the_same(rows):
    once = pairwise(*made_of(rows))
    again = exported_again(imported(once, "pairs"))
    columns = ("prompt", "chosen", "rejected", "prompt_id", "chosen_id", "rejected_id")
    assert contents(once, *columns) == contents(again, *columns)


@settings(max_examples=40)
@given(worlds())
def test_an_export_of_whole_conversations_is_an_import_of_the_same_words(rows):
    """Where prompt and completion meet may move: both sides may begin alike."""
    once = pairwise(*made_of(rows), explicit_prompt=False)
    again = exported_again(imported(once, "pairs"), explicit_prompt=False)
    assert contents(once, "chosen", "rejected") == contents(again, "chosen", "rejected")


@settings(max_examples=40)
@given(worlds())
def test_single_completions_come_back_as_thumbs(rows):
    once = binary(*made_of(rows))
    columns = {"rating": "label"}
    made = imported(once, "ratings", columns=columns, scale=[0, 1], higher_is_better=True).tables
    again = binary(made["prompts"], made["completions"], None, None, made["ratings"], by="ratings")
    kept = ("prompt", "completion", "label", "completion_id")
    assert contents(once, *kept) == contents(again, *kept)


@pytest.mark.parametrize("n", [2, 5])
def test_lists_come_back_as_rankings(world, n):
    made = world(6, n)
    once = listwise(made["prompts"], made["completions"], made["strengths"])
    found = imported(
        once, "rankings", each=["completions", "ranks"],
        columns={"completion": "completions", "rank": "ranks"},
    ).tables  # fmt: skip
    ranked = dict(found["rankings"].select("prompt_id", "ranking").rows())
    assert ranked == dict(once.select("prompt_id", "completion_ids").rows())
    strengths = found["rankings"].explode("ranking", "ranks").select(
        "prompt_id", completion_id="ranking", strength=-pl.col("ranks").cast(pl.Float64),
        estimator=pl.lit("ranks"),
    )  # fmt: skip
    strengths = tables.typed(Strengths, strengths)
    again = listwise(found["prompts"], found["completions"], strengths)
    kept = ("prompt", "completions", "ranks", "completion_ids")
    assert contents(once, *kept) == contents(again, *kept)
