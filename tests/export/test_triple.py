from random import Random

import polars as pl

from prefdata.export.triple import triple


def test_against_every_way_of_taking_three(world):
    """On random strengths with ties, what sorting by (score, id) by hand gives."""
    made = world(200, 5)
    random = Random(1)
    values = [float(random.randint(0, 3)) for _ in range(made["strengths"].height)]
    strengths = made["strengths"].with_columns(strength=pl.Series(values))
    rows = triple(made["prompts"], made["completions"], strengths)
    by_prompt = {}
    for id, prompt, value in strengths.select("completion_id", "prompt_id", "strength").rows():
        by_prompt.setdefault(prompt, []).append((-value, id))
    expected = {}
    for prompt, ranked in by_prompt.items():
        (_, one), (second, two), *_, (last, worst) = sorted(ranked)
        if last > second:
            expected[prompt] = (one, two, worst, -second, -last)
    found = {row["prompt_id"]: row for row in rows.rows(named=True)}
    assert found.keys() == expected.keys()
    assert 0 < len(found) < 200
    for prompt, (one, two, worst, second, last) in expected.items():
        row = found[prompt]
        assert (row["reference_id"], row["chosen_id"]) == (one, two)
        assert len({one, two, row["rejected_id"]}) == 3
        assert (row["score_chosen"], row["score_rejected"]) == (second, last)
        # of the last ones the greatest id stands last
        assert row["rejected_id"] == worst


def test_two_completions_are_too_few(world):
    made = world(3, 2)
    assert triple(made["prompts"], made["completions"], made["strengths"]).is_empty()
