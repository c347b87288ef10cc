import polars as pl
import pytest
import yaml
from huggingface_hub import DatasetCard
from markdown_it import MarkdownIt
from scipy import stats

from prefdata import tables, version
from prefdata.export.binary import binary
from prefdata.export.pairwise import pairwise
from prefdata.version.constitution import LONGEST, standing
from prefdata.version.glance import agreement, first_preferred
from prefdata.version.page import page
from prefdata.version.trust import unscored

MODEL = {"label": "m", "identity": "m@1", "options": {"temperature": 0.5}}


@pytest.fixture
def carded(tmp_path, world):
    def carded(extra=(), **changes):
        made = {**world(20), **dict(extra)}
        texts = made["prompts"], made["completions"]
        written = version.write(
            tmp_path,
            "mini",
            tables=made,
            exports={
                "pairwise": pairwise(*texts, made["pairs"]),
                "binary": binary(*texts, made["pairs"]),
            },
            resolved={"models": {"judge": MODEL}},
            judges={"helpfulness": "be helpful"},
            splits={"test": 0.2},
            **{"recipe_text": "", **changes},
        )
        return written, (written.path / "README.md").read_text()

    return carded


def test_its_metadata_is_what_the_hub_reads(carded):
    written, text = carded(licenses={"seeds": "CC-BY-4.0"})
    found = DatasetCard(text)
    data = found.data.to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["size_categories"] == ["n<1K"]
    assert [each["config_name"] for each in data["configs"]] == ["pairwise", "binary"]
    assert [each.get("default") for each in data["configs"]] == [True, None]
    for config in data["configs"]:
        assert [each["split"] for each in config["data_files"]] == ["train", "test"]
        assert all(list(written.path.glob(each["path"])) for each in config["data_files"])


@pytest.mark.parametrize(
    ("licenses", "said"),
    [
        ({}, {}),
        ({"a": "mit", "b": "apache-2.0"}, {"license": ["apache-2.0", "mit"]}),
        ({"a": "of: its own"}, {"license": "other", "license_name": "of-its-own"}),
    ],
)
def test_licences(carded, licenses, said):
    _, text = carded(licenses=licenses)
    data = yaml.safe_load(text.split("---")[1])
    assert {key: value for key, value in data.items() if key.startswith("license")} == said


def test_the_load_line_is_true(carded, tmp_path):
    written, text = carded()
    line = next(line for line in text.splitlines() if line.startswith("rows = "))
    ref, view = (part.strip('")') for part in line.partition("(")[2].split(", "))
    assert version.find(tmp_path, ref).path == written.path
    assert version.load(ref, view, tmp_path)["train"].num_rows


def test_the_funnel_and_what_was_dropped(carded):
    stages = [{"use": "select.margin", "table": "pairs", "in": 80, "out": 60, "dropped": 20}]
    dropped = pl.DataFrame(
        {"table": "pairs", "key": ["x", "y"], "stage": "select.margin", "reason": "below | 0.1"}
    )
    dropped = tables.check("dropped", dropped, where="t")
    _, text = carded(
        {"dropped": dropped},
        counts={"stages": stages, "requests": {"asked": 7, "cached": 3, "failed": 0, "unsent": 0}},
        quarantined=[{"line": 1}],
    )
    assert "| select.margin | pairs | 80 | 60 | 20 |" in text
    assert "| select.margin | pairs | below \\| 0.1 | 2 |" in text
    assert "requests asked 7, cached 3, failed 0" in text
    assert "1 source row could not be read" in text


def test_measures_and_unscored_shares(carded, world):
    votes = world(20)["votes"]
    lost = pl.int_range(pl.len()) < votes.height // 4
    votes = votes.with_columns(
        preference=pl.when(~lost).then("preference"), unscored=pl.when(lost).then(pl.lit("none"))
    )
    measures = pl.DataFrame({"measure": "position_bias", "subject": "llm:judge/helpfulness"})
    measures = measures.with_columns(value=pl.lit(0.125), n=pl.lit(60, pl.Int64))
    measures = tables.check("measures", measures, where="t")
    _, text = carded({"votes": votes, "measures": measures})
    assert "| votes | llm:judge/helpfulness | 60 | 15 | 25.0% |" in text
    assert "| position_bias | llm:judge/helpfulness | 0.125 |  | 60 |  |" in text


def test_measures_have_intervals_and_notes(carded):
    rows = [
        ("of_two_ends", 0.5, 0.1, 0.25, 0.875, "3 groups"),
        ("of_an_error", 0.5, 0.1, None, None, None),
        ("of_nothing", None, None, None, None, "no | votes"),
    ]
    names = ["measure", "value", "stderr", "low", "high", "note"]
    measures = pl.DataFrame(rows, schema=names, orient="row").with_columns(subject=pl.lit("all"))
    measures = measures.with_columns(n=pl.lit(7, pl.Int64))
    _, text = carded({"measures": tables.check("measures", measures, where="t")})
    assert "| measure | of | value | 95 % interval | rows | note |" in text
    assert "| of_two_ends | all | 0.5 | 0.25 to 0.875 | 7 | 3 groups |" in text
    assert "| of_an_error | all | 0.5 | 0.304 to 0.696 | 7 |  |" in text
    assert "| of_nothing | all |  |  | 7 | no \\| votes |" in text


def test_what_was_not_measured_or_judged_by_people_is_said(carded):
    _, text = carded()
    assert "Nothing was measured" in text
    assert "No person judged any of it" in text


def test_models_and_judges_with_their_digests(carded, tmp_path):
    _, text = carded()
    stated = version.find(tmp_path, "mini").manifest["judges"]["helpfulness"]
    assert f"| helpfulness | `{stated}` |" in text
    assert "| judge | m | `m@1` | temperature 0.5 |" in text


def noted(*rows):
    names = ["measure", "subject", "value", "low", "high", "n", "note"]
    frame = pl.DataFrame(rows, schema=names, orient="row", strict=False)
    return {"measures": tables.check("measures", frame, where="t")}


GOLD = ("flip_rate", "gold: pairs", 0.125, 0.1, 0.15, 80, None)
UNKNOWN = ("flip_rate", "margins", None, 0.0, 0.5, 80, "not identifiable: too small")
SOFTENED = ("label_smoothing", "order.soften", 0.125, 0.1, 0.15, 80, "by flip_rate gold: pairs")
WEIGHED = ("label_smoothing", "order.robust_weights", 0.2, None, None, 80, "by rate 0.2")


def test_the_noise_is_stated_with_its_interval_and_the_smoothing_that_followed(carded):
    written, text = carded(noted(GOLD, UNKNOWN, SOFTENED, WEIGHED))
    said = "by gold: pairs: 12.5% (95 % interval 10.0% to 15.0%)."
    assert said in text
    assert "by margins: not known (95 % interval 0.0% to 50.0%); not identifiable" in text
    assert "smoothed by 12.5% (95 % interval 10.0% to 15.0%), by flip_rate gold: pairs: a" in text
    assert "are those of a rate of 20.0%, by rate 0.2." in text
    assert "Nothing was smoothed" not in text
    stated = version.verify(written.path).manifest["noise"]
    names = ("subject", "value", "low", "high", "n", "note")
    assert stated["flip_rate"] == [
        dict(zip(names, row[1:], strict=True)) for row in (GOLD, UNKNOWN)
    ]
    assert [each["value"] for each in stated["label_smoothing"]] == [0.2, 0.125]


def test_a_rate_that_nothing_followed_says_what_to_do_with_it(carded):
    _, text = carded(noted(GOLD))
    assert "Nothing was smoothed by it: give a loss the rate as its `label_smoothing`." in text
    _, text = carded(noted(UNKNOWN))
    assert "label_smoothing" not in text
    written, text = carded()
    assert "wrong way round" not in text
    assert version.verify(written.path).manifest["noise"] == {}


def test_pairs_that_were_turned_round_are_counted_while_they_are_there(carded, world):
    pairs = world(20)["pairs"]["pair_id"]
    scores = pl.DataFrame({"subject_id": [*pairs[:3], "gone"], "value": [1.0, 1.0, 0.0, 1.0]})
    scores = scores.with_columns(subject=pl.lit("pair"), score=pl.lit("flipped"))
    _, text = carded({"scores": tables.check("scores", scores, where="t")})
    assert "2 pairs had the label turned round." in text


def test_a_constitution_is_a_table_with_intervals_and_how_it_holds_on_pairs_not_seen(carded):
    rows = [
        ("p1", "Select the | longer reply.", 30, 10, 20, 0, 1),
        ("p2", "Select the politer reply.", 5, 0, 55, 0, 2),
    ]
    names = ["principle_id", "principle", "for", "against", "abstain", "invalid", "rank"]
    principles = pl.DataFrame(rows, names, orient="row")
    measures = pl.DataFrame(
        {
            "measure": ["principle_accuracy_held_out"],
            "subject": ["principle:p1/m"],
            "value": [0.7],
            "low": [0.5],
            "high": [0.85],
            "n": [20],
        }
    )
    extra = {
        "principles": tables.typed(tables.Principles, principles),
        "measures": tables.typed(tables.Measures, measures),
    }
    _, text = carded(extra)
    section = text.partition("## Constitution")[2].partition("\n## ")[0]
    lines = [
        [c.strip() for c in line.split(" | ")] for line in section.splitlines() if "Select" in line
    ]
    low, high = wilson(30, 40)
    assert f"0.75 ({low:.4g} to {high:.4g})" in section
    assert "Select the \\| longer reply." in section
    assert lines[0][-1].startswith("0.7 (0.5 to 0.85)")
    assert "## Constitution" not in carded()[1]


def ruled(world, *said):
    """A principle that is for the first pairs and against the last one, with what stands there."""
    made = world(3, 2)
    pairs = made["pairs"].sort("pair_id")
    small = pl.min_horizontal("chosen_id", "rejected_id")
    votes = pairs.select(
        "prompt_id",
        completion_a=small,
        completion_b=pl.max_horizontal("chosen_id", "rejected_id"),
        annotator=pl.lit("principle:p1/m"),
        criterion=pl.lit("principle"),
        draw=pl.lit(0, pl.Int64),
        a_first=pl.lit(True),
        preference=((pl.col("chosen_id") == small) == (pl.int_range(pl.len()) < 2)).cast(float),
    )
    texts = dict(zip(pairs["chosen_id"], said, strict=False))
    turns = [
        [{**turn[0], "content": texts.get(id, turn[0]["content"])}]
        for id, turn in made["completions"].select("completion_id", "completion").rows()
    ]
    completions = made["completions"].with_columns(tables.conversations("completion", turns))
    counts = {"for": 2, "against": 1, "abstain": 0, "invalid": 0, "rank": 1}
    shares = {"agreement": 2 / 3, "accuracy": 2 / 3, "relevance": 1.0}
    row = {"principle_id": "p1", "principle": "Be `kind`.", **counts, **shares}
    return {
        **made,
        "pairs": pairs,
        "completions": tables.check("completions", completions, where="test"),
        "votes": tables.check("votes", votes, where="test"),
        "principles": tables.check("principles", pl.DataFrame([row]), where="test"),
    }


def test_a_principle_is_shown_by_what_it_is_for_and_against(carded, world):
    long = "word " * 100
    frames = ruled(world, long, "<img src=x> [click](http://x) `code`\n# head", "the worse one")
    (each,) = standing(frames)
    assert each.examples["for"][0].startswith("<img")  # of two it is the shorter comparison
    assert each.examples["against"][0] == "the worse one"
    _, text = carded(frames)
    section = text.partition("## Constitution")[2].partition("\n## ")[0]
    shown = [line for line in section.splitlines() if line.startswith("- ")]
    assert [line.partition(":")[0] for line in shown] == ["- 1, for", "- 1, against"]
    assert "\\<img src=x\\> \\[click\\](http://x) \\`code\\` # head *over* answer 0" in shown[0]
    assert "| 1 | Be \\`kind\\`. |" in section
    cut = standing(ruled(world, long, long, long))[0].examples["for"][0]
    assert len(cut) <= LONGEST
    assert cut.endswith("word…")


def test_principles_are_one_among_annotators_and_do_not_crowd_out_the_others(carded, world):
    frames = ruled(world)
    votes = frames["votes"]
    many = [votes.with_columns(annotator=pl.lit(f"principle:p{at}/m")) for at in range(30)]
    judge = votes.with_columns(annotator=pl.lit("llm:j"), preference=pl.lit(1.0))
    frames["votes"] = tables.check("votes", pl.concat([*many, judge]), where="test")
    shares = {each.of: each.n for each in first_preferred(frames)}
    assert shares == {"llm:j": votes.height, "all principles": 30 * votes.height}
    assert agreement(frames).names[0] == "llm:j"
    assert not [name for name in agreement(frames).names if "principle" in name]
    assert [each["annotator"] for each in unscored(frames) if each["table"] == "votes"] == [
        "all principles", "llm:j",
    ]  # fmt: skip
    _, text = carded(frames)
    assert "principle:p7" not in text
    seen = page({"name": "mini", "id": "0" * 12, "description": ""}, frames)
    assert "<b>1</b>annotators" in seen
    assert "<b>30</b>principles voted on" in seen


def test_commands_of_a_description_stand_by_themselves(carded):
    _, text = carded(
        description="Reasons for pairs. Name a better one:\n  prefdata build x\nand so"
    )
    assert "Name a better one:\n\n    prefdata build x\n\nand so" in text


def wilson(k, n):
    found = stats.binomtest(k, n).proportion_ci(method="wilson")
    return found.low, found.high


def test_of_many_measures_each_is_shown(carded):
    rows = [(f"m{at:02}", f"s{k}", None if k < 3 else k / 10) for at in range(30) for k in range(9)]
    frame = pl.DataFrame(rows, schema=["measure", "subject", "value"], orient="row")
    frame = frame.with_columns(stderr=pl.lit(0.01), n=pl.lit(7, pl.Int64))
    _, text = carded({"measures": tables.check("measures", frame, where="t")})
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| m")][1:]
    shown = [(cells[0].removeprefix("| "), cells[1]) for cells in lines]
    assert shown == sorted(
        [(f"m{at:02}", "s3") for at in range(30)] + [(f"m{at:02}", "s4") for at in range(10)]
    )
    assert all(cells[3] == "0.2804 to 0.3196" for cells in lines if cells[1] == "s3")
    assert "230 more in `measures.parquet`" in text


def test_licences_that_conflict_and_sources_without_one_are_warned_of(carded):
    _, text = carded(
        licenses={"a": "cc-by-sa-4.0", "b": "odbl"}, counts={"sources": {"a": 1, "b": 1, "c": 2}}
    )
    assert "**Licences conflict.**" in text
    assert "**No licence** is stated for `c`" in text


def test_licences_that_can_be_kept_are_not_warned_of(carded):
    _, text = carded(licenses={"a": "mit", "b": "cc-by-4.0"}, counts={"sources": {"a": 1, "b": 1}})
    assert "conflict" not in text
    assert "No licence" not in text


def test_the_recipe_is_in_it_and_stays_in_its_fence(carded):
    recipe = 'name = "mini"\nx = """\n```\n# not a heading\n```\n"""'
    written, text = carded(recipe_text=recipe)
    fence = text.partition("## Recipe\n\n")[2]
    assert fence.startswith("````toml\n")
    assert fence.rstrip().endswith("\n````")
    assert recipe in fence
    assert (written.path / "recipe.toml").read_text() == recipe


def test_position_is_counted_where_nobody_measured_it(carded, world):
    votes = world(20)["votes"]
    first = (votes["preference"] > 0.5).sum()  # a was always shown first
    _, text = carded()
    row = next(line for line in text.splitlines() if "the side shown first |" in line)
    assert f"| {first / votes.height:.1%} |" in row
    assert f"| {votes.height} |" in row


EVIL = "</td><script>alert(1)</script><img src=x onerror=alert(1)>![i](http://x.y/z) `a` \u202eb |"


def test_names_and_texts_of_others_are_no_markup(carded, world):
    """Wherever others fill the card, read as Markdown it has no HTML, image or link of theirs."""
    frames = world(20)
    votes = frames["votes"].with_columns(annotator=pl.lit(f"llm:{EVIL}"))
    measures = pl.DataFrame({"measure": "agreement", "subject": EVIL, "value": 0.5, "note": EVIL})
    measures = measures.with_columns(n=pl.lit(3, pl.Int64))
    dropped = pl.DataFrame({"table": "pairs", "key": "x", "stage": EVIL, "reason": EVIL})
    _, text = carded(
        {
            "votes": votes,
            "measures": tables.check("measures", measures, where="t"),
            "dropped": tables.check("dropped", dropped, where="t"),
        },
        licenses={EVIL: "cc-by-sa-4.0", "b": f"odbl {EVIL}"},
        counts={"sources": {f"{EVIL}2": 3}, "nothing_made": {EVIL: EVIL}},
    )
    body = text.partition("# mini")[2]
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    whole = [each for token in tokens for each in (token, *(token.children or ()))]
    assert {"table_open", "text", "code_inline"} <= {each.type for each in whole}
    theirs = {"html_block", "html_inline", "image", "link_open"}
    assert [t.content for t in tokens if theirs & {c.type for c in t.children or ()}] == []
    assert not theirs & {each.type for each in whole}
    assert "alert(1)" in body
    assert "\u202e" not in body
