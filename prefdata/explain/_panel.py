"""Principles that vote on labelled comparisons through a judge, balanced by place.

In the first draw the chosen one is first in just half of the comparisons, and each later draw turns
the order round. In every draw the principles stand in another order. A draw is not asked again for
a principle and a comparison that earlier draws have settled.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from prefdata import tables
from prefdata.annotate._by_principle import ask_by_principle, with_lists
from prefdata.explain import _tally
from prefdata.explain._tally import AGAINST, FOR, UNASKED, Bools, Cells, Combine
from prefdata.judge import Judge
from prefdata.stage import Asks, Model
from prefdata.tables import digest


def first_by_seed(rows: pl.DataFrame, most: int | None, seed: int) -> pl.DataFrame:
    """The rows in an order drawn from the seed and their ids, the first `most` of them."""
    ids = rows.select("completion_a", "completion_b").rows()
    place = pl.Series("place", [digest("icai", seed, *each) for each in ids], pl.String)
    ordered = rows.with_columns(place).sort("place").drop("place")
    return ordered if most is None else ordered.head(most)


class Panel:
    """Principles that vote through a judge."""

    def __init__(
        self,
        judge: Judge,
        model: Model,
        texts: Mapping[str, str],
        per_call: int,
        reask: bool,
        seed: int,
        by_lists: bool = False,
    ) -> None:
        self.judge, self.model, self.texts = judge, model, texts
        self.per_call, self.reask, self.seed, self.by_lists = per_call, reask, seed, by_lists
        self.ids = list(texts)

    def only(self, ids: Sequence[str]) -> "Panel":
        texts = {each: self.texts[each] for each in ids}
        options = self.per_call, self.reask, self.seed, self.by_lists
        return Panel(self.judge, self.model, texts, *options)

    def vote(
        self,
        rows: pl.DataFrame,
        draws: int,
        combine: Combine,
        least: float,
        error: float,
        looks: Sequence[int],
    ) -> Asks[tuple[Cells, pl.DataFrame]]:
        """The combined cells, comparisons by principles in the order of `texts`, and all votes."""
        rows = placed(rows, self.seed)
        shape = (rows.height, len(self.ids))
        by_draw = [np.full(shape, UNASKED, np.int8) for _ in range(draws)]
        made = [tables.empty("votes")]
        open_: Bools = np.ones(len(self.ids), np.bool_)
        level = error / (len(looks) + draws - 1)
        seen = 0
        for upto in looks:
            want = np.zeros(shape, np.bool_)
            want[seen:upto, open_] = True
            cells, votes = yield from self._draw(rows, 0, want)
            by_draw[0] = np.where(cells == UNASKED, by_draw[0], cells)
            made.append(votes)
            seen = upto
            if error:
                open_ &= ~_tally.hopeless(by_draw[0], least, level)
        for draw in range(1, draws):
            so_far = _tally.combined(by_draw[:draw], combine)
            settled = (so_far != FOR) & (so_far != AGAINST) if combine == "unanimous" else False
            cells, votes = yield from self._draw(rows, draw, open_ & ~np.asarray(settled))
            by_draw[draw] = cells
            made.append(votes)
            if error and draw < draws - 1:
                open_ &= ~_tally.hopeless(
                    _tally.combined(by_draw[: draw + 1], combine), least, level
                )
        return _tally.combined(by_draw, combine), pl.concat(made)

    def _draw(self, rows: pl.DataFrame, draw: int, want: Bools) -> Asks[tuple[Cells, pl.DataFrame]]:
        """Ask for the wanted cells in one draw."""
        order = sorted(
            range(len(self.ids)), key=lambda at: digest("principles", self.seed, draw, self.ids[at])
        )
        listed: dict[tuple[int, ...], list[int]] = {}
        for row, wanted in enumerate(want[:, order]):
            if wanted.any():
                listed.setdefault(tuple(np.flatnonzero(wanted).tolist()), []).append(row)
        parts: list[pl.DataFrame] = []
        for places, members in sorted(listed.items()):
            ids = [self.ids[order[place]] for place in places]
            parts += with_lists(rows[members], ids, self.per_call)
        if not parts:
            return np.full(want.shape, UNASKED, np.int8), tables.empty("votes")
        shown = pl.concat(parts).with_columns(
            draw=pl.lit(draw, pl.Int64), a_first=pl.col("a_first") ^ pl.lit(draw % 2 == 1)
        )
        a, b = pl.col("said_a"), pl.col("said_b")
        shown = shown.with_columns(
            said_first=pl.when("a_first").then(a).otherwise(b),
            said_second=pl.when("a_first").then(b).otherwise(a),
        ).drop("said_a", "said_b")
        heard = yield from ask_by_principle(
            shown,
            self.texts,
            self.judge,
            self.model,
            reask=self.reask,
            by_lists=self.by_lists,
        )
        places = {each: at for at, each in enumerate(self.ids)}
        column = pl.col("principle_id").replace_strict(places, return_dtype=pl.Int64)
        cells = _tally.cells_of(heard.with_columns(column=column), want.shape)
        return cells, heard.select(*tables.schema("votes").columns)


def placed(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The rows in their random order with `row`, and `a_first` so that labels and places balance.

    The chosen one is first in every second row, and in one row less than the other where their
    number is odd.
    """
    ordered = first_by_seed(rows, None, seed).with_row_index("row")
    chosen_first = pl.col("row") % 2 == 1
    return ordered.with_columns(a_first=pl.col("a_chosen") == chosen_first)
