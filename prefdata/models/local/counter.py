"""How many tokens a text has, and which: the tokenizer without its model."""

import json
from collections.abc import Iterator, Sequence

from prefdata.models.client import response
from prefdata.models.local.loading import tokenizer
from prefdata.models.local.texts import Answer, Row, placed
from prefdata.models.spec import ModelSpec
from prefdata.models.template import Placed, Template, Unreadable, counted


class Counter:
    """A tokenizer."""

    def __init__(self, spec: ModelSpec) -> None:
        self._template = Template(tokenizer(spec))

    def answer(self, rows: Sequence[Row]) -> Iterator[list[Answer]]:
        yield [self._count(row) for row in rows]

    def _count(self, row: Row) -> Answer:
        try:
            text = placed(self._template, row)
        except Unreadable as error:
            return response(row["request_id"], error=f"bad request: {error}")
        said = counted(Placed(text.ids, text.start), json.loads(row["options"]))
        return response(row["request_id"], **said)
