"""Intervals of agreement: planted worlds covered, draws reproduced, and what gives none."""

import numpy as np
import polars as pl
import pytest
from scipy.special import ndtr

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.measure.agreement import agreement
from prefdata.tables import Prompts, Ratings, Votes

WORLDS = 200
OF_CRITERION = pl.col("subject").str.starts_with("criterion:")
OF_TWO = pl.col("subject").str.contains("h0of.*h1of")


def framed(said, kind, names, prompts, seed):
    """A table of what annotators said, (annotators, rows); a world is a criterion of its own."""
    sides = ["completion_a", "completion_b"] if kind is Votes else ["completion_id"]
    columns = {side: [f"{side}{name}" for name in names] for side in sides}
    value = "preference" if kind is Votes else "rating"
    frames = [
        pl.DataFrame({**columns, "prompt_id": prompts, value: each}).with_columns(
            annotator=pl.lit(f"human:h{who}of{seed:03}"),
            criterion=pl.lit(f"world{seed:03}"),
            draw=pl.lit(0),
        )
        for who, each in enumerate(said)
    ]
    return pl.concat(frames)


def voted(seed, q=0.85, n_prompts=60, each=3):
    """Three annotators who are right with probability q, on all pairs of a prompt or on none.

    As errors of one prompt go together, its votes are far from independent.
    """
    draw = np.random.default_rng(seed)
    truth = draw.random((n_prompts, each)) < 0.5
    right = draw.random((3, n_prompts, 1)) < q
    said = (truth == right).astype(float).reshape(3, -1)
    names = [f"{seed:03}-{at:04}" for at in range(truth.size)]
    prompts = [f"{seed:03}-{at // each:04}" for at in range(truth.size)]
    return framed(said, Votes, names, prompts, seed).with_columns(
        a_first=pl.lit(None, pl.Boolean), unscored=pl.lit(None, pl.String)
    )


def rated(seed, rho=0.7, n_prompts=30, each=4):
    """Three annotators whose ratings are uniform, with normal scores of correlation rho."""
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(n_prompts, each))
    noise = draw.normal(size=(3, n_prompts, each))
    said = ndtr(np.sqrt(rho) * z + np.sqrt(1 - rho) * noise).reshape(3, -1)
    names = [f"{seed:03}-{at:04}" for at in range(z.size)]
    prompts = [f"{seed:03}-{at // each:04}" for at in range(z.size)]
    return framed(said, Ratings, names, prompts, seed)


def worlds(make, kind, **options):
    return tables.typed(kind, pl.concat(make(seed, **options) for seed in range(WORLDS)))


def check_cover(made, truths, of):
    """At least 92 and at most 98 of a hundred intervals hold the truth, over seeds 0 to 199."""
    for measure, truth in truths.items():
        found = made.filter((pl.col("measure") == measure) & of)
        assert found.height == WORLDS
        inside = found.filter(pl.lit(truth).is_between("low", "high")).height
        assert 0.92 * WORLDS <= inside <= 0.98 * WORLDS, (measure, inside)
        assert 0.85 < found["stderr"].mean() / found["value"].std() < 1.15


@pytest.mark.parametrize("q", [0.85, 0.95])
def test_intervals_of_votes_cover_over_seeds_0_to_199(q):
    """With fair truths every coefficient is (2 q - 1) ** 2."""
    made = agreement(worlds(voted, Votes, q=q))
    names = ("fleiss_kappa", "gwet_ac1", "krippendorff_alpha")
    truth = (2 * q - 1) ** 2
    check_cover(made, {f"{name}_votes": truth for name in names}, OF_CRITERION)
    check_cover(made, {"cohen_kappa_votes": truth}, OF_TWO)


def test_intervals_of_ratings_cover_over_seeds_0_to_199():
    """Of normal scores tau is 2 / pi asin(rho), of uniform ratings alpha 6 / pi asin(rho / 2)."""
    rho = 0.7
    made = agreement(None, worlds(rated, Ratings, rho=rho))
    of_pairs, of_places = 2 / np.pi * np.arcsin(rho), 6 / np.pi * np.arcsin(rho / 2)
    alphas = {f"krippendorff_alpha_{kind}_ratings": of_places for kind in ("interval", "ordinal")}
    check_cover(made, {"kendall_tau_ratings": of_pairs, **alphas}, OF_CRITERION)
    check_cover(made, {"kendall_tau_ratings": of_pairs}, OF_TWO)


def test_draws_are_reproduced_and_the_order_of_rows_does_not_matter(shuffled):
    votes, ratings = tables.typed(Votes, voted(0)), tables.typed(Ratings, rated(0))
    made = agreement(votes, ratings)
    assert agreement(Votes(shuffled(votes, 1)), Ratings(shuffled(ratings, 2))).equals(made)
    other = agreement(votes, ratings, seed=1)
    assert other["value"].equals(made["value"])
    assert not other["low"].equals(made["low"])
    few = pl.col("low").is_not_null()
    assert np.allclose(other.filter(few)["low"], made.filter(few)["low"], atol=0.06)
    assert made.filter(few)["note"].unique().to_list() == ["1000 draws of prompt groups"]
    tables.check("measures", made, where="here")


def test_swapped_sides_and_other_names_have_the_same_intervals():
    votes = voted(1)
    made = agreement(tables.typed(Votes, votes))
    swapped = votes.with_columns(preference=1 - pl.col("preference"))
    renamed = votes.with_columns(
        annotator=pl.col("annotator").replace({"human:h0of001": "human:h9of001"})
    )
    columns = ["value", "stderr", "low", "high"]
    for other in (swapped, renamed):
        again = agreement(tables.typed(Votes, other))
        order = [made.sort("measure", "n", "value"), again.sort("measure", "n", "value")]
        assert np.allclose(*(each.select(columns).to_numpy() for each in order))


def test_groups_are_drawn_whole_and_one_has_no_interval():
    """The same rows again in each prompt make nobody surer; prompts of one group are one."""
    votes = voted(2, each=1)
    again = [votes.with_columns(draw=pl.lit(at)) for at in range(2)]
    one, two = (agreement(tables.typed(Votes, v)) for v in (votes, pl.concat(again)))
    kappa = pl.col("measure") == "cohen_kappa_votes"
    for column in ("value", "stderr", "low", "high"):
        assert np.allclose(one.filter(kappa)[column], two.filter(kappa)[column])
    ids = votes["prompt_id"].unique().sort()
    asked = [[{"role": "user", "content": each}] for each in ids]
    prompts = pl.DataFrame({"prompt_id": ids, "prompt": asked, "source": "s", "group": "g"})
    single = agreement(tables.typed(Votes, votes), prompts=tables.typed(Prompts, prompts))
    assert np.allclose(single["value"], one["value"])
    assert single.select("stderr", "low", "high").null_count().row(0) == (single.height,) * 3
    assert (single["note"] == "one prompt group: no interval").all()


def test_who_never_disagreed_is_not_certain_to_agree():
    made = agreement(tables.typed(Votes, voted(3, q=1.0)))
    assert (made["value"] == 1).all()
    assert made["low"].is_null().all()
    assert made["note"].str.contains("draws of prompt groups do not differ").all()


def test_more_groups_than_are_drawn_apart():
    """Of 3,000 prompts every thousandth go together, which leaves the errors what they are."""
    made = agreement(tables.typed(Votes, voted(4, n_prompts=3000, each=1)))
    kappa = made.filter(pl.col("measure") == "cohen_kappa_votes")
    # Of two who are right with q: the error of 2 P - 1 with P = q ** 2 + (1 - q) ** 2.
    p = 0.85**2 + 0.15**2
    assert np.allclose(kappa["stderr"], 2 * np.sqrt(p * (1 - p) / 3000), rtol=0.1)
    assert kappa.filter(pl.lit(0.49).is_between("low", "high")).height >= 2


def test_values_that_hardly_come_twice_are_no_classes():
    made = agreement(None, tables.typed(Ratings, rated(5)))
    kinds = ("cohen_kappa", "fleiss_kappa", "gwet_ac1", "krippendorff_alpha")
    nominal = made.filter(pl.col("measure").is_in([f"{kind}_ratings" for kind in kinds]))
    assert nominal.height == 6
    assert nominal["value"].is_null().all()
    assert (nominal["n"] == 120).all()
    assert (nominal["note"] == "more than 101 classes").all()
    rest = made.join(nominal, on=["measure", "subject"], how="anti")
    assert rest.height == 6
    assert rest["low"].is_not_null().all()
    whole = rated(5).with_columns(rating=(pl.col("rating") * 100).round() / 100)
    assert agreement(None, tables.typed(Ratings, whole))["value"].is_not_null().all()


def test_less_than_one_draw_is_refused():
    with pytest.raises(RecipeError, match="draws is 0"):
        agreement(tables.typed(Votes, voted(0)), draws=0)
