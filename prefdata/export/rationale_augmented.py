"""Pairs with the reason for each, for training that also learns to say it.

One row a rationale: `prompt`, `chosen`, `rejected`, `rationale`, and `prompt_rat`, which shows
prompt and both completions and asks which is better and why: the rationale is the answer to it.
In `prompt_rat` the chosen one stands first or second by a coin (`chosen_first`), so that its place
tells nothing; the tags of the rationale become the names that stand there.

Source: Just et al. 2024, "Data-Centric Human Preference with Rationales for Direct Preference
Alignment": the columns of its datasets, whose loaders always put the chosen one first.
"""

import polars as pl

from prefdata.explain._wording import CHOSEN, REJECTED
from prefdata.judge.transcript import fence, transcript
from prefdata.tables import Completions, Format, Pairs, Prompts, Rationales, Rows, digest, plain

SCOPE = "all"


def rationale_augmented(
    prompts: Prompts,
    completions: Completions,
    pairs: Pairs,
    rationales: Rationales,
    *,
    format: Format = "conversational",
    seed: int = 0,
) -> Rows:
    """One row a rationale, by `pair_id`, `annotator` and `kind`; pairs without one have no row.

    Pairs that answer different prompts are left out.

    - `format`: "conversational" keeps messages, "standard" gives plain strings; see
      `export.pairwise`. `prompt_rat` and `rationale` are plain in both.
    - `seed`: what `chosen_first` comes from, with the pair and the text.
    """
    said = completions.select("completion_id", "completion")
    rows = (
        rationales.select("pair_id", "annotator", "kind", "rationale")
        .join(pairs.select("pair_id", "prompt_id", "chosen_id", "rejected_id"), on="pair_id")
        .join(prompts.select("prompt_id", "prompt"), on="prompt_id")
        .join(said.rename({"completion_id": "chosen_id", "completion": "chosen"}), on="chosen_id")
        .join(
            said.rename({"completion_id": "rejected_id", "completion": "rejected"}),
            on="rejected_id",
        )
        .sort("pair_id", "annotator", "kind", "rationale")
    )
    first: list[bool] = []
    asked: list[str] = []
    texts: list[str] = []
    for pair_id, text, prompt, chosen, rejected in rows.select(
        "pair_id", "rationale", "prompt", "chosen", "rejected"
    ).rows():
        coin = int(digest("rationale export", seed, pair_id, text), 16) % 2 == 0
        names = ("A", "B") if coin else ("B", "A")
        marks = fence(prompt, chosen, rejected)
        shown = (chosen, rejected) if coin else (rejected, chosen)
        first.append(coin)
        asked.append(
            f"Prompt:\n{transcript(prompt, marks)}\nReply A:\n{transcript(shown[0], marks)}\n"
            f"Reply B:\n{transcript(shown[1], marks)}\n"
            "Which of the two replies follows the prompt better, and why?"
        )
        texts.append(
            text.replace(CHOSEN, f"Reply {names[0]}").replace(REJECTED, f"Reply {names[1]}")
        )
    made = rows.select(
        *("prompt", "chosen", "rejected"),
        pl.Series("rationale", texts, pl.String),
        pl.Series("prompt_rat", asked, pl.String),
        pl.Series("chosen_first", first, pl.Boolean),
        "kind",
        "annotator",
        "pair_id",
        "prompt_id",
        "chosen_id",
        "rejected_id",
    )
    if format == "standard":
        made = plain(made, "prompt", "chosen", "rejected", where="export.rationale_augmented")
    return Rows(made)
