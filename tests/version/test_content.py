import random
from itertools import pairwise

import polars as pl
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from prefdata import tables
from prefdata.version.content import Content, table_digest

MESSAGES = [[{"role": "user", "content": "é"}], [], [{"role": "a", "content": "b"}] * 2]


def votes_of(preference):
    ids = [f"{at:020x}" for at in range(len(preference))]
    frame = pl.DataFrame({"completion_a": ids, "preference": preference})
    return tables.check(
        "votes",
        frame.with_columns(
            completion_b=pl.lit("f" * 20),
            annotator=pl.lit("human:u"),
            criterion=pl.lit("c"),
            draw=0,
            unscored=pl.when(pl.col("preference").is_null()).then(pl.lit("no verdict")),
        ),
        where="test",
    )


def test_how_a_table_is_stored_does_not_matter():
    frame = pl.DataFrame({"t": ["a", None, "ö"], "m": MESSAGES, "i": [1, None, 3], "b": [True] * 3})
    same = table_digest(frame)
    assert table_digest(frame.select("b", "i", "m", "t")) == same
    in_chunks = pl.concat([frame[:1], frame[1:]], rechunk=False)
    assert table_digest(in_chunks) == same
    longer = pl.concat([frame, frame])
    assert table_digest(longer[3:]) == same  # a slice that starts within its buffers
    assert table_digest(frame.with_columns(pl.col("i").cast(pl.Int32))) == same
    assert (
        table_digest(frame.with_columns(pl.col("t").cast(pl.Categorical).cast(pl.String))) == same
    )
    views = frame.to_arrow(compat_level=pl.CompatLevel.newest())
    assert table_digest(pl.DataFrame(pa.table(views))) == same


def test_what_stands_in_a_null_does_not_matter():
    validity = pa.py_buffer(bytes([0b101]))
    masked = [
        pa.Array.from_buffers(pa.float64(), 3, [validity, pa.array([1.0, junk, 3.0]).buffers()[1]])
        for junk in (7.0, 9.0)
    ]
    one, other = (pl.DataFrame({"x": pl.from_arrow(each)}) for each in masked)
    assert one["x"].to_list() == [1.0, None, 3.0]
    assert table_digest(one) == table_digest(other)


@given(st.lists(st.floats(1e-8, 1.0), min_size=1, max_size=20), st.randoms())
def test_noise_below_the_ninth_digit_does_not_matter(values, rng):
    exact = [float(f"{value:.8e}") for value in values]
    noisy = [value * (1 + rng.uniform(-1, 1) * 1e-12) for value in exact]
    frames = [pl.DataFrame({"x": each}) for each in (exact, noisy)]
    assert table_digest(frames[0]) == table_digest(frames[1])


@given(st.floats(1e-6, 1e6))
def test_a_change_in_the_eighth_digit_matters(value):
    frames = [pl.DataFrame({"x": [each]}) for each in (value, value * (1 + 1e-7))]
    assert table_digest(frames[0]) != table_digest(frames[1])


def test_zero_has_no_sign():
    assert table_digest(pl.DataFrame({"x": [0.0]})) == table_digest(pl.DataFrame({"x": [-0.0]}))


def test_order_of_rows_does_not_matter_after_check(shuffled):
    rng = random.Random(0)
    votes = votes_of([rng.choice([0.0, 0.5, 1.0, None]) for _ in range(50)])
    for seed in range(3):
        again = tables.check("votes", shuffled(votes, seed), where="test")
        assert table_digest(again) == table_digest(votes)


def test_every_cell_matters():
    votes = votes_of([1.0, 0.0, None])
    seen = {table_digest(votes)}
    other = {
        pl.String: pl.lit("other"),
        pl.Int64: pl.lit(5, pl.Int64),
        pl.Float64: pl.lit(0.75),
        pl.Boolean: pl.lit(False),
    }
    for column, dtype in votes.schema.items():
        for row in range(3):
            here = pl.int_range(pl.len()) == row
            changed = pl.when(here).then(other[type(dtype)]).otherwise(pl.col(column))
            seen.add(table_digest(votes.with_columns(changed.alias(column))))
    assert len(seen) == 1 + 3 * votes.width


def test_neighbours_do_not_run_together():
    frames = [
        {"x": ["ab", "c"]},
        {"x": ["a", "bc"]},
        {"x": ["abc", ""]},
        {"x": ["abc", None]},
        {"x": [["a", "b"], ["c"]]},
        {"x": [["a"], ["b", "c"]]},
        {"x": [["a"], ["b", "c"], []]},
        {"x": [["a"], ["b", "c"], None]},
        {"y": ["ab", "c"]},
        {"x": ["a"], "y": ["b"]},
        {"x": ["b"], "y": ["a"]},
        {"x": [1, 2]},
        {"x": [1.0, 2.0]},
        {"x": [True, False]},
        {"x": [1, 0]},
        {"x": [1, None]},
    ]
    assert len({table_digest(pl.DataFrame(each)) for each in frames}) == len(frames)


def test_a_column_of_nulls_says_nothing():
    frame = pl.DataFrame({"x": [1.0]})
    wider = frame.with_columns(pl.lit(None, pl.String).alias("new"))
    assert table_digest(wider) == table_digest(frame)


def test_the_digest_is_the_stated_serialisation():
    """Written out by hand, so that no release of polars or pyarrow can change it unseen."""
    import hashlib
    import json
    import struct

    def of(data: bytes) -> str:
        return hashlib.blake2b(data, digest_size=16).hexdigest()

    frame = pl.DataFrame({"x": [0.1 + 0.2, None], "t": ["é", ""], "m": [["a"], []]})
    mask, one, two = b"\x01\x01", struct.pack("<q", 1), struct.pack("<qq", 2, 0)
    lines = [
        ["m", "array", f"mask {of(mask)}", f"lengths {of(struct.pack('<qq', 1, 0))}"],
        ["m", "[]", "string", f"mask {of(mask[:1])}", f"lengths {of(one)}", f"values {of(b'a')}"],
        ["t", "string", f"mask {of(mask)}", f"lengths {of(two)}", f"values {of('é'.encode())}"],
        [
            *("x", "number", f"mask {of(bytes([1, 0]))}"),
            f"values {of(struct.pack('<dd', 0.3, 0.0))}",
        ],
    ]
    said = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    assert table_digest(frame) == hashlib.blake2b(said, digest_size=10).hexdigest()


@given(st.lists(st.integers(0, 12), max_size=4))
def test_a_table_may_come_in_pieces(cuts):
    rng = random.Random(0)
    votes = votes_of([rng.choice([0.0, 0.3, None]) for _ in range(12)])
    said = pl.Series([[{"role": "user", "content": "é" * at}] * (at % 3) for at in range(12)])
    table = votes.with_columns(said=said, gap=pl.when(pl.int_range(12) > 7).then(pl.lit("x")))
    content = Content()
    for start, end in pairwise([0, *sorted(cuts), 12]):
        content.add(table[start:end])
    assert content.hexdigest() == table_digest(table)
