import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.sources import Imported, Sources, kinds, read

OK: dict[str, dict[str, Any]] = {
    "prompts": {"prompt": "fine"},
    "completions": {"prompt": "fine", "completion": "yes"},
    "pairs": {"prompt": "fine", "chosen": "it is yes", "rejected": "it is no"},
    "implicit": {"chosen": "it is yes", "rejected": "it is no"},
    "votes": {"prompt": "fine", "completion_a": "y", "completion_b": "n", "preference": 1},
    "ratings": {"prompt": "fine", "completion": "yes", "rating": 3},
}
KINDS = {
    "prompts": kinds.PromptSource,
    "completions": kinds.CompletionSource,
    "pairs": kinds.PairSource,
    "implicit": kinds.PairSource,
    "votes": kinds.VoteSource,
    "ratings": kinds.RatingSource,
}
RATED = {"scale": [0, 5], "higher_is_better": True, "orientation": "trusted"}

roles = st.sampled_from(["user", "assistant", "system", "tool", "human"])
texts = st.sampled_from(["", " ", "yes", "no", "it is so", "\ud800", "é", "human:1"]) | st.text()
turn = st.fixed_dictionaries({"role": roles, "content": texts}) | st.dictionaries(roles, texts)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
cells = texts | st.lists(turn, max_size=4) | json_values | st.sampled_from([0, 1, 0.5, 3])


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    kind = draw(st.sampled_from(list(OK)))
    known = {*KINDS[kind].needs, *KINDS[kind].takes} - ({"prompt"} if kind == "implicit" else set())
    columns = st.dictionaries(st.sampled_from(sorted(known)), cells)
    changed = columns.map(lambda row: json.dumps(OK[kind] | row).encode())
    other = json_values.map(lambda value: json.dumps(value).encode())
    return kind, draw(st.lists(changed | other | st.binary(max_size=20), max_size=12))


def imported(kind: str, lines: list[bytes]) -> Imported:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(b"\n".join([json.dumps(OK[kind]).encode(), *lines]))
        name = KINDS[kind].kind
        table = {"path": "rows.jsonl", **(RATED if name in ("ratings", "pairs") else {})}
        return read(Sources.model_validate({name: table}), path.parent)


@settings(max_examples=200, deadline=None)
@given(files())
def test_whatever_a_row_is_it_is_read_or_quarantined(file: tuple[str, list[bytes]]) -> None:
    """The tables pass their schemas (`read` checks them), and each row is counted once."""
    kind, lines = file
    made = imported(kind, lines)
    lost = made.quarantined
    assert lost["line"].is_unique().all()
    assert all(reason for reason in lost["reason"])
    assert all(json.loads(row) is not ... for row in lost["row"])
    if KINDS[kind].kind in ("votes", "pairs"):
        assert made.tables["votes"].height <= made.rows["rows"] - lost.height
    first = lost.filter(line=1)["reason"]
    assert all("other" in reason for reason in first), "the first row is good by itself"
