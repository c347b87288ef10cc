"""Whatever comes from outside is taken in, quarantined, or refused by an error of ours.

The short form is the same in every run; the long one draws anew, 100,000 inputs (`make fuzz`).
"""

import json
from contextlib import nullcontext

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as trying

from prefdata.errors import RecipeError, SourceError
from prefdata.judge.scale import Scale
from tests.fuzz.borders import BORDERS, ROW, is_ours, plan_recipe, read_rows

SHORT, LONG = 200, 100_000


def attempts(name: str, n: int, *, is_same: bool) -> int:
    """How many inputs were tried at a border."""
    border, count = BORDERS[name], 0

    @trying(
        max_examples=n,
        deadline=None,
        derandomize=is_same,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(border.inputs)
    def attempt(made: object) -> None:
        nonlocal count
        count += 1
        is_ours(border, made)

    attempt()
    return count


@pytest.mark.parametrize("name", BORDERS)
def test_a_few_inputs_at_each_border(name: str):
    assert attempts(name, max(10, round(SHORT * BORDERS[name].share)), is_same=True)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", BORDERS)
def test_many_inputs_at_each_border(name: str):
    wanted = round(LONG * BORDERS[name].share)
    count = attempts(name, wanted, is_same=False)
    print(f"{name}: {count:,} inputs")
    assert count >= wanted


def test_the_borders_make_up_the_long_form():
    assert sum(border.share for border in BORDERS.values()) == pytest.approx(1)


FOUND = {
    "a list of columns beside a group": """
        sources.prompts = {path = "rows.jsonl", columns = [], group = "g"}
    """,
    "a role that is a list": """
        sources.prompts = "rows.jsonl"
        models.m.client = "scripted"
        stages = [{use = "generate.sample", model = []}]
    """,
}


def test_a_scale_with_a_huge_number_is_worded_in_no_time_and_memory():
    values = [1, 2, 10**12]
    assert Scale(values=values).wording == "1, 2 or 1000000000000"


@pytest.mark.parametrize("column", ["rating", "annotator", "absent"])
@pytest.mark.parametrize("key", ["only", "holds"])
def test_a_column_is_no_condition(key: str, column: str):
    settings = {key: {"it": column} if key == "holds" else column}
    content = f"{json.dumps(ROW)}\n".encode() * 2
    said = "not so" if column == "absent" else "true or false"
    is_none = (key, column) == ("only", "absent")  # a condition that no row says to meet
    with nullcontext() if is_none else pytest.raises(SourceError, match=said):
        read_rows("prompts", "rows.jsonl", content, **settings)


@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND)
def test_what_was_found_is_an_error_of_ours(text: str):
    with pytest.raises(RecipeError):
        plan_recipe(f'name = "mini"\n{text}\n'.encode())
