"""Label completions by the reward that a policy's own probabilities imply.

A policy that was trained by direct preference optimisation from a reference is the best one for

    r(x, y) = beta (log p_policy(y | x) - log p_reference(y | x)) + something of x alone,

so its own probabilities say which of its answers it was taught to prefer: labels for prompts that
nobody labelled. It is the ratio that counts: the probability alone prefers what is short and
usual. The reference for labelling is the model before any preferences, not the policy of the
round before.

Source: Rafailov et al. 2023, "Direct preference optimization: Your language model is secretly a
reward model"; labels by it follow Kim et al. 2025, "Spread preference annotation: Direct
preference judgment for efficient LLM alignment".
"""

import polars as pl

from prefdata.annotate._implied import implied
from prefdata.annotate._rewards import above_zero, answered, scores, votes
from prefdata.errors import RecipeError
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Prompts, Scores, Votes


def implicit_reward(
    prompts: Prompts,
    completions: Completions,
    *,
    policy: Model,
    reference: Model,
    beta: float = 0.1,
    per_token: bool = False,
    hard: bool = False,
    criterion: str = "implicit_reward",
) -> Asks[tuple[Scores, Votes]]:
    """Each completion's `implicit_reward`, in nats times beta, and votes from the differences.

    The score is about a completion, under the policy's name; only differences within a prompt mean
    something. Votes are by `reward:<policy>/implicit`, P(a preferred) = sigmoid(r_a - r_b), without
    an order. Where either model gave no probabilities there is no score, and the votes are unscored
    with "error: ...".

    policy: the model whose preferences are read.
    reference: the model that the policy was trained from.
    beta: the strength of the divergence in that training.
    per_token: the mean log-ratio of a completion's tokens, each model by its own count, in place
        of the sum: a reward that does not grow with length, but not the one of the theorem.
    hard: votes are 1, 1/2 or 0.
    criterion: what the votes are said to be about.

    Raises `RecipeError` where policy and reference are one model, which prefers nothing to
    anything, and for a beta that is not above 0.
    """
    above_zero("implicit_reward", beta=beta)
    if (policy.identity or policy.name) == (reference.identity or reference.name):
        raise RecipeError(
            f"annotate.implicit_reward: policy and reference are both {policy.name!r}; their ratio "
            "is 1 for every text: name the model that the policy was trained from"
        )
    rows = answered(completions, prompts)
    heard = yield from implied(rows, policy, reference, per_token=per_token)
    heard = heard.with_columns(value=beta * pl.col("log_ratio"))
    voted = votes(
        heard,
        annotator=f"reward:{policy.name}/implicit",
        criterion=criterion,
        temperature=None if hard else 1.0,
    )
    return Scores(scores(heard, "implicit_reward", policy.name)), Votes(voted)
