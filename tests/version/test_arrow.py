import hashlib

import datasets
import polars as pl
import pyarrow as pa
import pytest

from prefdata import tables
from prefdata.errors import TableError
from prefdata.version import arrow


def rows(n, start=0):
    at = pl.int_range(start, start + n, eager=True)
    frame = pl.DataFrame({"at": at}).with_columns(
        prompt=pl.format("frage {} ü", "at"),
        f=pl.when(pl.col("at") % 3 > 0).then(pl.col("at") / 7),
        b=pl.col("at") % 2 == 0,
        tags=pl.concat_list(pl.lit("x"), pl.lit("y")),
        none=pl.lit(None, pl.String),
    )
    frame = frame.with_columns(tables.said("user", "prompt"))
    return frame.with_columns(completions=pl.concat_list(pl.col("prompt").implode().over("at")))


def test_datasets_load_what_was_written_as_a_memory_map(tmp_path):
    train, test = rows(2500), rows(7, 2500)
    arrow.write(tmp_path / "v", {"train": train, "test": test})
    loaded = datasets.load_from_disk(str(tmp_path / "v"))
    assert isinstance(loaded, datasets.DatasetDict)
    for name, frame in (("train", train), ("test", test)):
        assert loaded[name].to_list() == frame.to_dicts()
        assert loaded[name].split == name
        assert [each["filename"] for each in loaded[name].cache_files]  # not copied to memory
    prompt = {"role": datasets.Value("string"), "content": datasets.Value("string")}
    features = loaded["train"].features
    assert features["prompt"] == datasets.List(prompt)
    assert features["completions"] == datasets.List(datasets.List(prompt))
    assert features["none"] == datasets.Value("string")
    assert features["at"] == datasets.Value("int64")
    assert features["f"] == datasets.Value("float64")
    assert features["b"] == datasets.Value("bool")


def test_polars_and_pyarrow_read_the_files(tmp_path):
    frame = rows(1500)
    arrow.write(tmp_path / "v", {"train": frame})
    (file,) = (tmp_path / "v" / "train").glob("*.arrow")
    assert pl.read_ipc_stream(file).equals(frame)
    with pa.memory_map(str(file)) as source:
        table = pa.ipc.open_stream(source).read_all()
    assert table.to_pylist() == frame.to_dicts()
    assert not any("view" in str(each) or "large" in str(each) for each in table.schema.types)


def test_load_dataset_reads_the_files_as_the_hub_does(tmp_path):
    frame = rows(1100)
    arrow.write(tmp_path / "v", {"train": frame})
    loaded = datasets.load_dataset(
        "arrow",
        data_files={"train": str(tmp_path / "v" / "train" / "*.arrow")},
        cache_dir=str(tmp_path / "cache"),
    )
    assert loaded["train"].to_list() == frame.to_dicts()


def test_shards_hold_the_same_rows(tmp_path):
    frame = rows(3000)
    arrow.write(tmp_path / "v", {"train": frame}, shard_bytes=frame.estimated_size() // 4)
    assert len(list((tmp_path / "v" / "train").glob("*.arrow"))) in (4, 5)
    assert arrow.read(tmp_path / "v", "train").equals(frame)
    assert datasets.load_from_disk(str(tmp_path / "v"))["train"].to_list() == frame.to_dicts()


def test_a_split_without_rows_has_its_columns(tmp_path):
    arrow.write(tmp_path / "v", {"train": rows(3), "test": rows(3).clear()})
    loaded = datasets.load_from_disk(str(tmp_path / "v"))
    assert loaded["test"].num_rows == 0
    assert loaded["test"].features == loaded["train"].features
    assert arrow.read(tmp_path / "v").equals(rows(3))


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def test_equal_rows_give_equal_bytes_and_others_another_fingerprint(tmp_path):
    frame = rows(1200)
    other = frame.with_columns(pl.col("f") * 2)
    in_chunks = pl.concat([frame[:5], frame[5:]], rechunk=False)
    from_longer = pl.concat([other[:3], frame])[3:]
    stored = {"a": frame, "b": in_chunks, "c": from_longer, "d": other}
    for name, each in stored.items():
        arrow.write(tmp_path / name, {"train": each})
    assert files(tmp_path / "a") == files(tmp_path / "b") == files(tmp_path / "c")
    prints = {
        datasets.load_from_disk(str(tmp_path / name))["train"]._fingerprint for name in ("a", "d")
    }
    assert len(prints) == 2  # else datasets would take what it cached for one for the other


def test_a_type_that_no_view_has_is_refused(tmp_path):
    frame = pl.DataFrame({"x": ["a"]}, schema={"x": pl.Categorical})
    with pytest.raises(TableError, match="Categorical"):
        arrow.write(tmp_path / "v", {"train": frame})
