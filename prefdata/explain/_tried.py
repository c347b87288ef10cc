"""What workers said by each criterion on labelled comparisons, and how it fares by that."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from prefdata import tables
from prefdata.explain import _tally
from prefdata.explain._panel import Panel
from prefdata.explain._standing import as_principles
from prefdata.explain._tally import AGAINST, FOR, INVALID, SILENT, Cells
from prefdata.judge import Judge
from prefdata.measure._means import means
from prefdata.measure._wilson import wilson
from prefdata.stage import Asks, Model
from prefdata.tables import digest

Status = Literal["good", "mid", "low"]


class Tried:
    """What the workers said by each criterion that they were asked about, once for each text."""

    def __init__(
        self,
        judge: Judge,
        model: Model,
        rows: pl.DataFrame,
        both_orders: bool,
        per_call: int,
        reask: bool,
        seed: int,
    ) -> None:
        self.judge, self.model, self.rows = judge, model, rows
        self.draws, self.per_call, self.reask, self.seed = 1 + both_orders, per_call, reask, seed
        self.cells: dict[str, Cells] = {}
        self.votes = [tables.empty("votes")]

    def on(self, texts: Sequence[str]) -> Asks[None]:
        ids = {digest("principle", text): text for text in texts if text not in self.cells}
        panel = Panel(self.judge, self.model, ids, self.per_call, self.reask, self.seed)
        cells, votes = yield from panel.vote(
            self.rows, self.draws, "unanimous", 0.0, 0.0, [self.rows.height]
        )
        self.cells |= {text: cells[:, at] for at, text in enumerate(ids.values())}
        self.votes.append(votes)

    def counts(self, text: str) -> tuple[int, int]:
        """How many were right, and how many were right or wrong."""
        cells = self.cells[text]
        return int((cells == FOR).sum()), int(np.isin(cells, (FOR, AGAINST, INVALID)).sum())

    def accuracy(self, text: str) -> float:
        right, n = self.counts(text)
        return right / n if n else 0.0

    def coverage(self, text: str) -> float:
        cells = self.cells[text]
        return float(np.isin(cells, (FOR, AGAINST)).mean()) if len(cells) else 0.0

    def score(self, text: str, min_coverage: float) -> float:
        """The accuracy, if it is one of enough comparisons."""
        return self.accuracy(text) if self.coverage(text) >= min_coverage else 0.0

    def lower(self, text: str) -> float:
        """The lower end of Wilson's 95 % interval of the accuracy."""
        right, n = self.counts(text)
        return wilson(right / n, float(n))[0] if n else 0.0

    def status(self, text: str, good: float, bad: float, min_coverage: float) -> Status:
        if self.accuracy(text) <= bad:
            return "low"
        return "good" if self.score(text, min_coverage) >= good else "mid"

    def why(self, text: str) -> str:
        right, n = self.counts(text)
        return f"right in {right} of {n}, of {len(self.rows)} comparisons"

    def wrong(self, text: str, most: int) -> list[int]:
        """The comparisons to learn from: decided wrongly or, where none is, not at all."""
        cells = self.cells[text]
        misled = np.flatnonzero(np.isin(cells, (AGAINST, INVALID)))
        return (misled if len(misled) else np.flatnonzero(cells == SILENT))[:most].tolist()

    def principles(self, texts: Sequence[str]) -> pl.DataFrame:
        cells = np.stack([self.cells[t] for t in texts], 1) if texts else np.zeros((0, 0), np.int8)
        named = pl.DataFrame(
            {"principle_id": [digest("principle", t) for t in texts], "principle": list(texts)},
            {"principle_id": pl.String, "principle": pl.String},
        )
        return as_principles(pl.concat([named, _tally.counts(cells)], how="horizontal"))

    def measures(self, texts: Sequence[str]) -> pl.DataFrame:
        """Accuracy and coverage with intervals, over prompt groups."""
        frames = [
            self.rows.select(
                "group",
                subject=pl.lit(f"principle:{digest('principle', text)}/{self.model.name}"),
                cell=pl.Series(self.cells[text]),
            )
            for text in texts
        ]
        types = {"group": pl.String, "subject": pl.String, "cell": pl.Int8}
        told = pl.concat([pl.DataFrame(schema=types), *frames])
        told = told.with_columns(
            right=pl.when(pl.col("cell") != SILENT).then((pl.col("cell") == FOR).cast(pl.Float64)),
            decided=pl.col("cell").is_in([FOR, AGAINST]).cast(pl.Float64),
        )
        return pl.concat(
            [
                means(told, "right", "criterion_accuracy", note="of what chose it"),
                means(told, "decided", "criterion_coverage"),
            ]
        )
