import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from prefdata.sources import Imported, Sources, read

Import = Callable[..., Imported]


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    """Import rows as one JSONL file: `imported("votes", rows, values=...)`."""

    def run(kind: str, rows: Iterable[Any], *, strict: bool = False, **spec: Any) -> Imported:
        lines = (row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)
        (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
        sources = Sources.model_validate({kind: {"path": "rows.jsonl", **spec}})
        return read(sources, tmp_path, strict=strict)

    return run
