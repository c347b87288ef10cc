"""What axolotl reads for DPO, IPO and ORPO: JSONL of messages, and the `datasets` of its config.

`messages` are the prompt's, `chosen` and `rejected` one message each: the defaults of its type
`chat_template.default`, which takes the last message of a longer completion and drops the others.

It cuts a completion out of the conversation "[[dummy_message]]", completion, by searching for its
text. Room at both ends is therefore left out here, for a template that trims would hide the text,
of which one letter remained; and a completion that stands in the words before it is an error. What
else a template says first (a system message of its own, with a date) is not known here: with such
ones, look at what axolotl makes of answers of a letter or a number.

Source: axolotl 0.19, `src/axolotl/prompt_strategies/dpo/chat_template.py`.
"""

from collections.abc import Mapping

import polars as pl

from prefdata.errors import TableError
from prefdata.export._texts import one_message, refuse_joint
from prefdata.export.pairwise import pairwise
from prefdata.tables import Completions, Pairs, Prompts, Rows

SCOPE = "all"  # its rows are those of an export that sees all prompts
SAVED_AS = "jsonl"
BEFORE = ("user", "[[dummy_message]]", "assistant")
FOUND_TOO_EARLY = {
    word[start:end] for word in BEFORE for start in range(len(word) + 1)
    for end in range(start, len(word) + 1)
}  # fmt: skip


def axolotl(prompts: Prompts, completions: Completions, pairs: Pairs) -> Rows:
    """One row a pair.

    Raises `TableError` for completions of several messages, and for empty ones and others that
    axolotl would find too early, as "m" and "user".
    """
    where = "export.axolotl"
    refuse_joint(pairs, where=where)
    made = pairwise(prompts, completions, pairs)
    rows = one_message(made, "chosen", "rejected", where=where)
    for side in ("chosen", "rejected"):
        text = pl.col(side).struct.field("content").str.strip_chars()
        lost = rows.filter(text.is_in(list(FOUND_TOO_EARLY)))
        if lost.height:
            raise TableError(
                f"{where}: axolotl would misread {lost.height} {side} completions, whose text it "
                f"finds in the template before them, first {lost[side][0]['content']!r} of pair "
                f"{lost['pair_id'][0]}; leave them out, or use export.pairwise with another trainer"
            )
        rows = rows.with_columns(pl.col(side).struct.with_fields(content=text))
    return Rows(
        rows.select(
            pl.col("prompt").alias("messages"), "chosen", "rejected", "pair_id", "prompt_id"
        )
    )


def beside(parts: Mapping[str, Rows]) -> Mapping[str, str]:
    """The part of a config that reads the rows, of splits that have some.

    `path` is relative to where axolotl runs.
    """
    there = [name for name, rows in parts.items() if rows.height]
    entries = [
        f"  - path: {name}.jsonl\n    ds_type: json\n    split: train\n"
        "    type: chat_template.default\n"
        for name in there
    ]
    test = [entry for name, entry in zip(there, entries, strict=True) if name != "train"]
    train = [entry for name, entry in zip(there, entries, strict=True) if name == "train"]
    text = "rl: dpo\ndatasets:\n" + "".join(train)
    return {"axolotl.yml": text + ("test_datasets:\n" + "".join(test) if test else "")}
