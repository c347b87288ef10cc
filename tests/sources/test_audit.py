import json
from pathlib import Path
from typing import Any

import pytest

from prefdata.errors import SourceError
from prefdata.sources import Imported, Sources, read


def pairs(better: float, worse: float, n: int = 10, swapped: int = 0) -> list[dict[str, Any]]:
    """Pairs whose chosen has the rating `better`; in the first `swapped` it is the other's."""
    rated = [(worse, better) if i < swapped else (better, worse) for i in range(n)]
    return [
        {"prompt": f"p{i}", "chosen": "long one", "rejected": "short", "up": up, "down": down}
        for i, (up, down) in enumerate(rated)
    ]


RATED = {
    "columns": {"rating_chosen": "up", "rating_rejected": "down"},
    "scale": [1, 5],
    "higher_is_better": True,
}


def test_ratings_beside_a_pair_agree_with_it(imported: Any) -> None:
    made = imported("pairs", pairs(5, 1, swapped=2), **RATED)
    [found] = [each for each in made.audit if each.check == "agreement"]
    assert (found.part, found.share, found.n, found.of) == ("rows", 0.8, 8, 10)
    assert "80% of 10 pairs" in found.says
    assert made.tables["ratings"]["rating"].sum() == 10


def test_ratings_against_their_pairs_are_refused(imported: Any) -> None:
    says = "(?s)sources.pairs.*0% of 10.*'up' and 'down'.*higher_is_better = false"
    with pytest.raises(SourceError, match=says):
        imported("pairs", pairs(1, 5), **RATED)


@pytest.mark.parametrize(("swapped", "refused"), [(4, False), (5, False), (6, True)])
def test_one_half_is_the_border(imported: Any, swapped: int, refused: bool) -> None:
    rows = pairs(5, 1, swapped=swapped) + pairs(3, 3)[:0]
    if refused:
        with pytest.raises(SourceError, match="40% of 10"):
            imported("pairs", rows, **RATED)
    else:
        imported("pairs", rows, **RATED)


def test_what_one_trusts_is_not_refused(imported: Any) -> None:
    made = imported("pairs", pairs(1, 5), orientation="trusted", **RATED)
    assert [each.share for each in made.audit if each.check == "agreement"] == [0.0]


def test_equal_ratings_say_nothing(imported: Any) -> None:
    made = imported("pairs", pairs(3, 3), **RATED)
    assert all(each.check != "agreement" for each in made.audit)


def together(folder: Path, *, higher_is_better: bool, preference: dict[str, float]) -> Imported:
    """Ratings where "good" has 5 and "bad" 1, and votes that say which side won."""
    texts = ["good", "bad"]
    ratings = [
        {"prompt": f"p{i}", "completion": text, "stars": 5 if text == "good" else 1}
        for i in range(6)
        for text in texts
    ]
    votes = [
        {"prompt": f"p{i}", "completion_a": texts[i % 2], "completion_b": texts[1 - i % 2],
         "winner": "A" if i % 2 == 0 else "B"}
        for i in range(6)
    ]  # fmt: skip
    for name, rows in (("ratings", ratings), ("votes", votes)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    raw = {
        "ratings": {"path": "ratings.jsonl", "columns": {"rating": "stars"}, "scale": [1, 5],
                    "higher_is_better": higher_is_better},
        "votes": {"path": "votes.jsonl", "columns": {"preference": "winner"},
                  "values": {"preference": preference}},
    }  # fmt: skip
    return read(Sources.model_validate(raw), folder)


RIGHT, WRONG = {"A": 1.0, "B": 0.0}, {"A": 0.0, "B": 1.0}


@pytest.mark.parametrize(("higher", "preference"), [(True, RIGHT), (False, WRONG)])
def test_ratings_and_votes_of_two_files_agree(
    tmp_path: Path, higher: bool, preference: dict[str, float]
) -> None:
    made = together(tmp_path, higher_is_better=higher, preference=preference)
    assert [each.share for each in made.audit if each.check == "agreement"] == [1.0]
    ratings = [each.says for each in made.audit if each.part == "ratings"]
    assert f"{5 if higher else 1} on the scale from 1 to 5 is best in column 'stars'" in ratings[0]


@pytest.mark.parametrize(("higher", "preference"), [(False, RIGHT), (True, WRONG)])
def test_ratings_against_the_votes_of_another_file_are_refused(
    tmp_path: Path, higher: bool, preference: dict[str, float]
) -> None:
    says = f"(?s)'votes' in 0% of 6.*'stars'.*higher_is_better = {str(not higher).lower()}"
    with pytest.raises(SourceError, match=says):
        together(tmp_path, higher_is_better=higher, preference=preference)


def test_every_import_of_labels_says_which_way_is_up(imported: Any) -> None:
    [found] = imported("pairs", pairs(5, 1, n=4)).audit
    assert "column 'chosen' is preferred to column 'rejected' in 4 pairs" in found.says
    assert "chosen is the longer one in 100%" in found.says
    mapped = [{"p": "x", "win": "a", "lose": "bbb"}]
    columns = {"prompt": "p", "chosen": "win", "rejected": "lose"}
    [found] = imported("pairs", mapped, columns=columns).audit
    assert "'win' is preferred to column 'lose'" in found.says
    assert "in 0% of the 1" in found.says


def test_labels_that_an_annotator_repeats_without_a_draw_are_told(imported: Any) -> None:
    def vote(who: str, preference: float, **more: Any) -> dict[str, Any]:
        shown = {"prompt": "p", "completion_a": "x", "completion_b": "y"}
        return {**shown, "annotator": who, "preference": preference, **more}

    turned = {"completion_a": "y", "completion_b": "x"}
    rows = [vote("human:u", 1.0), vote("human:w", 1.0), vote("human:u", 1.0), vote("human:u", 0.0)]
    rows.append(vote("human:w", 0.0, **turned))  # the same once more, the other way round
    made = imported("votes", rows, name="file")
    assert made.tables["votes"]["draw"].to_list().count(0) == 2
    (said,) = (str(each) for each in made.audit if "already" in str(each))
    assert said == (
        "file: 3 votes are of an annotator who has judged the same already, 2 saying the same "
        "again; without a draw each counts as the next, first line 3 (human:u, as in line 1)"
    )
    apart = [{**row, "draw": at} for at, row in enumerate(rows)]
    assert not [each for each in imported("votes", apart).audit if "already" in str(each)]
    rated = [
        {"prompt": "p", "completion": "x", "annotator": "human:u", "rating": rating}
        for rating in (1, 5, 5)
    ]
    (_, said) = imported("ratings", rated, scale=[1, 5], higher_is_better=True).audit
    assert "2 ratings are of an annotator who has judged the same already, 0 saying" in str(said)
