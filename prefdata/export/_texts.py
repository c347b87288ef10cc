"""The texts that rows refer to, beside them."""

import polars as pl

from prefdata.errors import TableError
from prefdata.tables import MESSAGES, Completions, Pairs, Prompts


def with_texts(
    rows: pl.DataFrame, prompts: Prompts, completions: Completions, *sides: str
) -> pl.DataFrame:
    """Rows with the messages of their prompt and, for `<side>_id`, those of each side."""
    rows = rows.join(
        prompts.select("prompt_id", "prompt"), on="prompt_id", how="left", maintain_order="left"
    )
    for side in sides:
        said = completions.select(
            pl.col("completion_id").alias(f"{side}_id"), completion="completion"
        )
        rows = rows.join(said, on=f"{side}_id", how="left", maintain_order="left")
        rows = rows.rename({"completion": side})
    return rows


def refuse_joint(pairs: Pairs, *, where: str, instead: str = "use export.joint") -> None:
    """`TableError` for pairs of answers to different prompts, with what to do `instead`."""
    joint = pairs.filter(pl.col("prompt_id").is_null())
    if joint.height:
        raise TableError(
            f"{where}: {joint.height} pairs compare answers to different prompts, which a row with "
            f"one prompt cannot hold, first {joint['pair_id'][0]}; {instead}"
        )


def one_message(frame: pl.DataFrame, *columns: str, where: str) -> pl.DataFrame:
    """Conversations of one message as that message; `TableError` where there are several."""
    for column in columns:
        several = frame.filter(pl.col(column).list.len() != 1)
        if several.height:
            raise TableError(
                f"{where}: {several.height} rows have a {column} of several messages, of which "
                f"this layout holds one, first {several.row(0)}"
            )
        frame = frame.with_columns(pl.col(column).list.first())
    return frame


def message(role: str, content: pl.Expr) -> pl.Expr:
    """A conversation of one message."""
    return pl.concat_list(pl.struct(pl.lit(role).alias("role"), content.alias("content"))).cast(
        MESSAGES
    )
