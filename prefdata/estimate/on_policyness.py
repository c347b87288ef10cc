"""Whether completions are such as the model itself would give, and what that does to gradients.

For a completion with mean log-probability l per token, and n of the model's own samples of the same
prompt with means l_1 ... l_n, of mean m and deviation s,

    t = (l - m) / (s sqrt(1 + 1/n)),      z = Phi^-1(F_{n-1}(t))

F being Student's distribution: an own sample that was not among the n has z standard normal,
however few they are. The mean per token is compared, since the sum is a matter of length.

With log pi+ and log pi- the sums of the two sides of a pair, the gradients of DPO's loss by pi- and
pi+ stand as pi+ / pi-. Where pi- is tiny, the rejected side takes all of the gradient, the chosen
none, and mass goes to what is in neither.
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import norm, t

from prefdata import tables
from prefdata.estimate._named import of_completions, scores_of, whose
from prefdata.estimate._sides import SIDES, beside
from prefdata.measure._likelihoods import draws
from prefdata.tables import Completions, Pairs, Samples, Scores

Floats = NDArray[np.floating[Any]]

SCOPE = "all"  # a name is wrong only if no prompt has it
WHERE = "estimate.on_policyness"

# An own sample is below this in one case of 44.
OFF_POLICY = -2.0
# Beyond it a tail says nothing more than "far off", and its quantile is not finite.
FARTHEST = 8.0


def on_policyness(
    completions: Completions,
    samples: Samples,
    scores: Scores,
    pairs: Pairs | None = None,
    *,
    generator: str,
    model: str | None = None,
) -> Scores:
    """Score each completion's `on_policy_z`, in [-8, 8]; below -2 it is off policy.

    An own sample is compared with the others; without two others of its prompt, or where these
    are all equal, there is no score. Each pair of scored sides also gets `log_gradient_ratio`,
    log pi(chosen) - log pi(rejected), nats: by how much the rejected side's gradient is the larger;
    and `policy_scenario`: 1 both sides on policy, 2 the chosen only, 3 the rejected only, 4 none.

    Options:
    - `generator`: the generator of `samples` whose own they are; the model to be trained.
    - `model`: whose log-probabilities (of estimate.log_likelihood); default the one there is.

    Raises `RecipeError` for a generator or a model that is not there, and where no completion has
    log-probabilities or several models gave them.

    Source: Yan et al. (2024), 3D-Properties: Identifying Challenges in DPO and Charting a Path
    Forward, for the gradients and scenarios; the statistic is our own.
    """
    who = model or whose(scores, "logp", where=WHERE, subject="completion")
    known = completions.select("completion_id", "prompt_id").sort("completion_id")
    for name, column in (("logp", "logp"), ("logp_per_token", "per_token")):
        wanted = f"{name}@{who}" if who else name
        values = of_completions(scores, wanted, where=WHERE, maker="estimate.log_likelihood")
        values = values.rename({"value": column})
        known = known.join(values, on="completion_id", maintain_order="left")
    own = draws(samples, None, generator, where=WHERE)["completion_id"].unique()
    known = known.with_columns(is_own=pl.col("completion_id").is_in(own.implode()))
    rows = known.with_columns(z=pl.Series(_z(known), dtype=pl.Float64)).filter(
        pl.col("z").is_not_nan()
    )
    made = [scores_of("completion", rows, {"on_policy_z": "z"}, model=who)]
    if pairs is not None:
        both = beside(pairs, rows.select("completion_id", "z", "logp"))
        off = [(pl.col(f"z_{side}") < OFF_POLICY).cast(pl.Int8) for side in SIDES]
        values = {
            "log_gradient_ratio": pl.col("logp_chosen") - pl.col("logp_rejected"),
            "policy_scenario": (1 + 2 * off[0] + off[1]).cast(pl.Float64),
        }
        made.append(scores_of("pair", both, values, model=who))
    return Scores(tables.union("scores", scores, *made, where=WHERE))


def predictive_z(value: Floats, mean: Floats, deviation: Floats, n: Floats) -> Floats:
    """How unusual a value is after n others of this mean and deviation, on the normal's scale."""
    apart = (value - mean) / (deviation * np.sqrt(1 + 1 / n))
    # By the smaller tail, so that neither end is rounded to certainty.
    return np.sign(apart) * np.minimum(-norm.ppf(t.sf(np.abs(apart), n - 1)), FARTHEST)


def _z(rows: pl.DataFrame) -> Floats:
    """Each row's z against the own samples of its prompt, itself left out; NaN where unknown."""
    own = pl.col("per_token").filter("is_own")
    sums = rows.select(
        n=pl.col("is_own").sum().over("prompt_id"),
        centre=own.mean().over("prompt_id"),
        squares=((own - own.mean()) ** 2).sum().over("prompt_id"),
    )
    value, is_own = rows["per_token"].to_numpy(), rows["is_own"].to_numpy()
    n = sums["n"].to_numpy().astype(float)
    centre = sums["centre"].fill_null(np.nan).to_numpy()
    squares = sums["squares"].to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        others = n - is_own
        apart = value - centre
        mean = np.where(is_own, centre - apart / others, centre)
        left = np.where(is_own, squares - apart**2 * n / others, squares)
        deviation = np.sqrt(np.maximum(left, 0) / (others - 1))
        z = predictive_z(value, mean, deviation, others)
    return np.where((others >= 2) & (deviation > 1e-12), z, np.nan)
