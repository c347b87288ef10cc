import tomllib
from importlib.resources import files
from itertools import combinations
from pathlib import Path

import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score

from prefdata.sources import Imported, Sources, read

RECIPES = Path(str(files("prefdata.flows.recipes")))
DATA = RECIPES / "../../data/sources"
PEOPLE = ["human1", "human2", "human3"]


@pytest.fixture(scope="module")
def pandalm() -> Imported:
    recipe = tomllib.loads((RECIPES / "pandalm-humans.toml").read_text(encoding="utf-8"))
    return read(Sources.model_validate(recipe["sources"]), RECIPES, strict=True)


def test_pandalm_kappas_are_those_of_the_raw_columns(pandalm: Imported) -> None:
    """Counted in both orders of the sides: which one the file names first is not kept, and the
    marginals of Cohen's kappa depend on it. A row's labels keep one draw, so the rows are known.
    """
    raw = pl.read_parquet(DATA / "pandalm.parquet").select(PEOPLE)
    raw = pl.concat([raw, raw.select(pl.all().replace({1: 2, 2: 1}))])
    votes = pandalm.tables["votes"]
    unit = ["completion_a", "completion_b", "draw"]
    wide = votes.pivot("annotator", index=unit, values="preference")
    assert wide.height * 2 == raw.height == 2 * 624
    for one, other in combinations(range(1, 4), 2):
        labels = [(wide[f"human:{n}"] * 2).cast(pl.Int64) for n in (one, other)]
        imported = [[*label, *(2 - label)] for label in labels]
        expected = cohen_kappa_score(raw[f"human{one}"], raw[f"human{other}"])
        assert cohen_kappa_score(*imported) == pytest.approx(expected, abs=1e-12)


def test_pandalm_counts_are_those_of_the_raw_columns(pandalm: Imported) -> None:
    raw = pl.read_parquet(DATA / "pandalm.parquet")
    votes = pandalm.tables["votes"]
    assert votes.height == 5 * raw.height
    for n, person in enumerate(PEOPLE, start=1):
        ties = votes.filter(annotator=f"human:{n}", preference=0.5).height
        assert ties == raw.filter(pl.col(person) == 0).height
    lost = votes.filter(pl.col("unscored").is_not_null())
    assert lost["unscored"].unique().to_list() == ["unparsable"]
    assert lost.height == raw.filter(gpt35="garbage").height


def test_pandalm_votes_are_for_the_texts_that_won(pandalm: Imported) -> None:
    """Over all of a person's votes, as often as in the file, the text of completion_a won."""
    texts = pandalm.tables["completions"].select(
        "completion_id", text=pl.col("completion").list.first().struct.field("content")
    )
    votes = pandalm.tables["votes"].filter(annotator="human:1").filter(preference=1.0)
    turned = pandalm.tables["votes"].filter(annotator="human:1").filter(preference=0.0)
    won = pl.concat([votes["completion_a"], turned["completion_b"]]).alias("completion_id")
    imported = won.to_frame().join(texts, on="completion_id")["text"].sort()
    raw = pl.read_parquet(DATA / "pandalm.parquet")
    one, two = raw.filter(human1=1)["completion_a"], raw.filter(human1=2)["completion_b"]
    assert imported.to_list() == pl.concat([one, two]).sort().to_list()


def test_the_quickstart_has_short_prompts_of_which_half_can_be_checked() -> None:
    sources = Sources.model_validate({"prompts": "quickstart.jsonl"})
    prompts = read(sources, DATA, strict=True).tables["prompts"]
    assert 24 <= prompts.height <= 40
    assert prompts["reference"].count() * 2 >= prompts.height
    texts = [messages[0]["content"] for messages in prompts["prompt"]]
    assert all(len(text.split()) < 60 for text in texts)
    checkable = prompts.filter(pl.col("tags").list.contains("checkable"))
    assert checkable["reference"].null_count() == 0
    assert checkable.height == prompts["reference"].count()


def test_every_bundled_source_has_its_licence() -> None:
    licences = (DATA / "LICENSES.md").read_text(encoding="utf-8")
    bundled = [each.name for each in DATA.iterdir() if each.suffix != ".md"]
    assert bundled
    assert all(f"## {name}" in licences for name in bundled)
    sources = Sources.model_validate({"prompts": "quickstart.jsonl"})
    tags = read(sources, DATA).tables["prompts"]["tags"].explode().unique()
    assert all(f"`{tag}`" in licences for tag in tags if tag not in ("checkable", "open"))
