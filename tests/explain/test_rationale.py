import json
import re
from typing import Any

import polars as pl
import pytest

from prefdata import judge as judges
from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.explain._wording import fault, masked, overlaps, retagged
from prefdata.explain.rationale import rationale
from prefdata.tables import Ratings
from tests.annotate.replying import first
from tests.explain.planted import MODEL, WORDS, blocks, run, world

JUDGE = judges.load("reason")
WEIGHTS = dict.fromkeys(WORDS[:3], 5.0)


def is_writing(request: dict[str, Any]) -> bool:
    return "rationale" in json.loads(request["options"])["schema"]["properties"]


def sides(request: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The words of the chosen and of the rejected, wherever they stand."""
    text = first(request)
    _, one, other = blocks(request)
    chosen_first = text.index("Reply [CHOSEN]") < text.index("Reply [REJECTED]")
    return (one, other) if chosen_first else (other, one)


def good(request: dict[str, Any]) -> str:
    chosen, rejected = sides(request)
    word = min((chosen - rejected) & set(WORDS))
    return f"[CHOSEN] says {word}, which [REJECTED] does not."


def opposite(request: dict[str, Any]) -> str:
    chosen, rejected = sides(request)
    word = min((rejected - chosen) & set(WORDS))
    return f"[CHOSEN] is better as it says {word}, and [REJECTED] does not."


def empty(request: dict[str, Any]) -> str:
    return "[CHOSEN] is better because it is more helpful."


def by_place(request: dict[str, Any]) -> str:
    text = first(request)
    chosen_first = text.index("Reply [CHOSEN]") < text.index("Reply [REJECTED]")
    return f"[CHOSEN] is better: the {'first' if chosen_first else 'second'} reply is clearer."


def recovers(request: dict[str, Any]) -> str:
    """A judge who takes the reply with the word that the reason names, and else says A."""
    reason = first(request).split("\nWhich reply")[0]
    _, a, b = blocks(request)
    named = set(re.findall(r"word\d\d", reason))
    return json.dumps({"verdict": "B" if named & b and not named & a else "A"})


def writer(write):
    def reply(request: dict[str, Any]) -> str:
        return (
            json.dumps({"rationale": write(request)}) if is_writing(request) else recovers(request)
        )

    return reply


def made(write, *, n: int = 20, reply=None, ratings=None, heard=None, **options):
    prompts, completions, pairs = world(n, WEIGHTS)
    given = {"judge": JUDGE, "model": MODEL, "kinds": ["specific"], **options}
    out = run(
        rationale(prompts, completions, pairs, ratings, **given), reply or writer(write), heard
    )
    names = ("rationales", "measures", "dropped")
    return {k: tables.check(k, frame, where="test") for k, frame in zip(names, out, strict=True)}


def value(out, measure: str, kind: str = "specific") -> float:
    rows = out["measures"].filter(pl.col("measure") == measure, pl.col("subject") == kind)
    return rows["value"].item()


def test_reasons_that_tell_the_label_are_kept():
    out = made(good)
    assert out["rationales"].height == 20
    assert value(out, "recovery") == 1.0
    assert value(out, "recovery_without") == value(out, "recovery_gain") == 0.5
    assert value(out, "kept_rationales") == 1.0
    assert out["dropped"].is_empty()


def test_opposite_reasons_recover_nothing_and_are_dropped():
    out = made(opposite)
    assert value(out, "recovery") <= 0.1
    assert out["rationales"].is_empty()
    assert out["dropped"]["reason"].str.starts_with("the label is not recovered").all()


def test_a_reason_that_fits_any_pair_is_no_better_than_none():
    """Sheet 25: with the tags in it, a template would pass."""
    out = made(empty)
    assert value(out, "recovery") == value(out, "recovery_without") == 0.5
    assert out["rationales"].is_empty()
    assert value(out, "distinct_rationales") == 0.0


def test_reasons_of_other_pairs_recover_as_often_as_none():
    """Sheet 25: permuted reasons are at the rate of the judge without a reason."""
    told = [good(r) for r in _asked()]
    turned = dict(zip((first(r) for r in _asked()), told[7:] + told[:7], strict=True))
    out = made(lambda request: turned[first(request)], n=40)
    assert abs(value(out, "recovery") - 0.5) < 0.25


def _asked() -> list[dict[str, Any]]:
    heard: list[dict[str, Any]] = []
    made(empty, n=40, heard=heard)
    return [each for each in heard if is_writing(each)]


@pytest.mark.parametrize("n", [40])
def test_planted_reasons_by_place_are_all_caught(n: int):
    out = made(by_place, n=n)
    assert out["rationales"].is_empty()
    assert out["dropped"].height == n
    assert out["dropped"]["reason"].str.starts_with("says where a completion stood").all()


@pytest.mark.parametrize(
    "text",
    ["Die erste Antwort ist klarer als [REJECTED].", "[CHOSEN] is better. [[A]]",
     "回答A比[REJECTED]好", "[CHOSEN] (Response A) is clearer."],
)  # fmt: skip
def test_a_place_is_caught_though_the_rest_would_tell_the_label(text: str):
    out = made(lambda request: f"{good(request)} {text}", n=5)
    assert out["rationales"].is_empty()
    assert out["dropped"]["reason"].str.starts_with("says where a completion stood").all()


def test_the_label_may_not_be_spoken_of_and_a_tag_must_be_there():
    assert "speaks of the label" in str(fault("[CHOSEN] was preferred by the annotators."))
    assert "neither completion" in str(fault("It is clearer."))
    assert fault("[CHOSEN] annotates the parameters and labels the axes.") is None


@pytest.mark.parametrize("tag", ["[chosen]", "[[CHOSEN]]", "CHOSEN", "[ Chosen ]"])
def test_a_tag_that_is_written_otherwise_is_the_same_tag(tag: str):
    """Left as it is the judge and the reader would see which one was chosen."""
    out = made(lambda request: good(request).replace("[CHOSEN]", tag), n=5)
    assert out["rationales"].height == 5
    assert out["rationales"]["rationale"].str.starts_with("[CHOSEN] says").all()
    assert retagged("The chosen path was rejected.") == "The chosen path was rejected."


def test_places_are_drawn_and_stored_and_the_judge_sees_neither_tag_nor_label():
    heard: list[dict[str, Any]] = []
    out = made(good, n=100, heard=heard)
    shown_first = {
        r["request_id"]: first(r).index("Reply [CHOSEN]") < first(r).index("Reply [REJECTED]")
        for r in heard
        if is_writing(r)
    }
    stored = dict(out["rationales"].select("request_id", "chosen_first").rows())
    assert stored == shown_first
    judging = [first(r) for r in heard if not is_writing(r)]
    assert not any("CHOSEN" in text or "REJECTED" in text for text in judging)
    assert masked("[CHOSEN] beats [REJECTED]") == "the better one beats the other one"


def test_the_chosen_one_is_shown_first_in_half_of_the_questions():
    """Sheet 25: 50 +- 3 %."""
    out = made(good, n=1200, check=False)
    assert 0.47 < out["rationales"]["chosen_first"].mean() < 0.53


def test_a_judge_that_always_says_a_recovers_nothing():
    out = made(None, reply=lambda r: json.dumps(
        {"rationale": good(r)} if is_writing(r) else {"verdict": "A"}
    ))  # fmt: skip
    assert value(out, "recovery") == 0.5
    assert out["rationales"].is_empty()


def test_what_cannot_be_read_is_a_row_with_its_reason():
    out = made(None, n=5, reply=lambda _: "no JSON at all")
    assert out["rationales"].is_empty()
    assert out["dropped"].height == 5
    assert out["dropped"]["reason"].str.starts_with("no rationale: ").all()


def test_specific_reasons_share_more_with_one_side_than_general_ones():
    rows = pl.DataFrame(
        {
            "rationale": ["it names the red fox in the snow", "it is simply much clearer", "short"],
            "chosen": ["there is the red fox in the snow"] * 3,
            "rejected": ["there is a dog"] * 3,
        }
    )
    found = overlaps(rows)
    # "the red fox", "red fox in", "fox in the", "in the snow" of the six runs.
    assert found["specific"].to_list() == [pytest.approx(4 / 6), 0.0, None]
    assert found["n_words"].to_list() == [8, 5, 1]
    assert found["copied"].to_list() == [pytest.approx(4 / 6), 0.0, 0.0]


def test_copies_are_dropped():
    out = made(lambda r: "[CHOSEN] " + " ".join(re.findall(r"```\n(.*?)\n```", first(r), re.S)[1]))
    assert out["rationales"].is_empty()

    def quotes(request: dict[str, Any]) -> str:
        texts = re.findall(r"```\n(.*?)\n```", first(request), re.DOTALL)
        return f"[CHOSEN] says: {texts[1]}"

    out = made(quotes)
    assert out["dropped"]["reason"].str.starts_with("copies more than 50%").all()


def test_a_copy_is_found_where_words_are_not_parted():
    rows = pl.DataFrame(
        {
            "rationale": ["[CHOSEN] 说猫在红色的屋顶上睡觉"],
            "chosen": ["猫在红色的屋顶上睡觉"],
            "rejected": ["狗在花园里"],
        }
    )
    found = overlaps(rows)
    assert found["copied"].item() == 1.0
    assert found["n_words"].item() == 12


def test_critiques_are_rewritten_where_there_are_some():
    _, completions, _ = world(4, WEIGHTS)
    rated = completions.head(1).select("completion_id", "prompt_id").with_columns(
        annotator=pl.lit("llm:m/critique"), criterion=pl.lit("overall"), draw=pl.lit(0),
        rating=pl.lit(0.5), rationale=pl.lit("It misses the point.\n```<|im_end|>"),
    )  # fmt: skip
    heard: list[dict[str, Any]] = []
    ratings = tables.typed(Ratings, rated)
    out = made(good, n=4, kinds=["critique"], ratings=ratings, heard=heard)
    assert out["rationales"]["kind"].to_list() == ["critique"]
    asked = [first(r) for r in heard if is_writing(r)]
    assert len(asked) == 1
    assert "It misses the point. ```" in asked[0]
    assert "<|im_end|>" not in asked[0]


def test_several_of_a_kind_differ_by_draw_and_equal_ones_are_one():
    out = made(good, n=6, per_kind=3)
    assert out["rationales"].height == 6
    numbered = made(lambda r: f"{good(r)} {r['draw']}", n=6, per_kind=3)
    assert numbered["rationales"].height == 18


def test_row_order_changes_nothing():
    prompts, completions, pairs = world(12, WEIGHTS)
    given = {"judge": JUDGE, "model": MODEL}
    one = run(rationale(prompts, completions, pairs, None, **given), writer(good))
    mixed = (
        each.sample(fraction=1, shuffle=True, seed=2) for each in (prompts, completions, pairs)
    )
    other = run(rationale(*mixed, None, **given), writer(good))
    for a, b, key in zip(
        one, other, (["pair_id", "kind"], ["measure", "subject"], ["key"]), strict=True
    ):
        assert a.sort(key).equals(b.sort(key))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kinds": []}, "name at least one"),
        ({"per_kind": 0}, "per_kind = 0"),
        ({"kinds": ["critique"]}, "there are no ratings"),
        ({"judge": judges.load("ultrafeedback")}, "name a pairwise one"),
    ],
)
def test_mistakes_are_refused_before_anything_is_asked(options, says):
    with pytest.raises(RecipeError, match=says):
        made(good, **options)
