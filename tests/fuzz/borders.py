"""What comes from outside, made up: files and replies that are nearly right, and ones that are not.

A border is a strategy of inputs and a function that takes one in as prefdata would. It returns, or
raises an error of ours; whatever else comes out of it is a fault.
"""

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl
import tomli_w
from hypothesis import strategies as st

from prefdata import judge as judges
from prefdata.errors import PrefdataError
from prefdata.judge import jury as juries
from prefdata.people import exchange, rows
from prefdata.people.form import form_of
from prefdata.people.store import record
from prefdata.people.taking import take
from prefdata.people.tasks import Task
from prefdata.planning.plan import plan
from prefdata.recipe import Recipe
from prefdata.sources import read
from prefdata.stage import Model


class Border(NamedTuple):
    inputs: st.SearchStrategy[Any]
    take_in: Callable[[Any], None]
    share: float


WORDS = [
    "", " ", "yes", "no", "a", "tie", "N/A", "\ud800", "\0", "é", "\u202e", "human:1", "llm:x/y",
    "nan", "1e999", "-1", "0.5", "true", "null", "user", "assistant", "../x", "{prompt}", "a.b",
    "x" * 300,
]  # fmt: skip
texts = st.sampled_from(WORDS) | st.text(max_size=20)
numbers = st.sampled_from([0, 1, -1, 0.5, 3, 2**31, 2**63, 10**30, 1e308, -0.0]) | st.floats()
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
PLAIN = texts.filter(lambda text: text.isprintable())
toml_values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN, inner, max_size=3),
    max_leaves=5,
)
turns = st.lists(
    st.fixed_dictionaries({"role": texts, "content": json_values})
    | st.sampled_from([{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]),
    max_size=3,
)
cells = texts | turns | json_values


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in nested dictionaries and lists."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield (*at, key)
        yield from places(value[key], (*at, key))


@st.composite
def changed(draw: st.DrawFn, whole: Any, values: st.SearchStrategy[Any]) -> Any:
    """A copy in which some things are others, gone, or called otherwise."""
    made = json.loads(json.dumps(whole))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        there = list(places(made))
        if not there:
            return made
        *path, last = draw(st.sampled_from(there))
        inside = made
        for key in path:
            inside = inside[key]
        match draw(st.sampled_from(["other", "other", "gone", "named", "more"])):
            case "gone":
                del inside[last]
            case "named" if isinstance(inside, dict):
                inside[draw(PLAIN)] = inside.pop(last)
            case "more" if isinstance(inside, dict):
                inside[draw(PLAIN)] = deepcopy(draw(values))
            case _:
                inside[last] = deepcopy(draw(values))
    return made


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file of which a part is gone, doubled or other bytes."""
    at = draw(st.integers(0, len(whole)))
    upto = min(len(whole), at + draw(st.integers(0, 30)))
    between = draw(st.sampled_from([b"", whole[at:upto] * 2, b"\0", b"\xff", b'"', b"]", b"\n"]))
    return whole[:at] + (between or draw(st.binary(max_size=8))) + whole[upto:]


@contextmanager
def folder(**files: bytes) -> Iterator[Path]:
    with TemporaryDirectory() as name:
        for file, content in files.items():
            (Path(name) / file.replace("__", ".")).write_bytes(content)
        yield Path(name)


RECIPE: Mapping[str, Any] = {
    "name": "mini", "seed": 3, "description": "x", "budget": 1.5, "splits": {"test": 0.1},
    "sources": {
        "prompts": {"path": "rows.jsonl", "columns": {"prompt": "prompt"}, "group": "g",
                    "limit": 9},
        "votes": {"path": "rows.jsonl", "values": {"preference": {"1": 1.0}}, "only": "draw > 0",
                  "derive": {"rationale": "upper(annotator)"}, "licence": "MIT",
                  "annotators": {"human:1": "annotator"}},
        "ratings": {"path": "rows.jsonl", "scale": [0, 5], "higher_is_better": True},
    },
    "models": {"m": {"client": "scripted", "accuracy": 0.8, "price_in": 0.1, "max_tokens": 9,
                     "engine": {"dtype": "float32"}}},
    "stages": [
        {"use": "generate.sample", "model": "m", "n": 2},
        {"use": "annotate.pairwise", "judge": "helpfulness", "model": "m", "allow_self": True},
        {"use": "aggregate.bradley_terry", "prior": 0.1},
        {"use": "pair.best_vs_worst", "name": "p"},
        {"use": "select.margin", "min_margin": 0.5},
    ],
    "exports": [{"use": "export.pairwise", "columns": ["x"]}],
}  # fmt: skip
ROW = {
    "prompt": "a?", "completion_a": "b", "completion_b": "c", "preference": 1,
    "annotator": "human:1", "completion": "b", "rating": 3, "chosen": "b", "rejected": "c",
    "g": "1", "draw": 0, "criterion": "quality", "a_first": True, "rationale": "so",
    "tags": ["x"], "reference": "b",
}  # fmt: skip


def plan_recipe(text: bytes) -> None:
    with folder(rows__jsonl=json.dumps(ROW).encode(), recipe__toml=text) as at:
        plan(Recipe.load(at / "recipe.toml"))


recipes = changed(RECIPE, toml_values).map(lambda made: tomli_w.dumps(made).encode()) | damaged(
    tomli_w.dumps(RECIPE).encode()
)


def source(kind: str) -> dict[str, Any]:
    more = {"scale": [0, 5], "higher_is_better": True, "orientation": "trusted"}
    return more if kind in ("ratings", "pairs") else {}


def read_rows(kind: str, name: str, content: bytes, **more: Any) -> None:
    with folder(**{name.replace(".", "__"): content}) as at:
        raw = {"name": "mini", "sources": {kind: {"path": name, **source(kind), **more}}}
        made = read(Recipe.parse(raw, folder=at).sources, at)
        assert all(made.quarantined["reason"].to_list())
        for line in made.quarantined["row"]:
            json.loads(line)


kinds = st.sampled_from(["prompts", "completions", "pairs", "votes", "ratings"])
lines = (
    changed(ROW, cells).map(lambda row: json.dumps(row).encode())
    | json_values.map(lambda value: json.dumps(value).encode())
    | damaged(json.dumps(ROW).encode())
)
settings = st.just({}) | changed(
    {"values": {}, "columns": {"prompt": "prompt"}, "only": "draw = 0",
     "derive": {"rationale": "upper(annotator)"}, "turns": {"user": "prompt"}, "each": ["tags"],
     "holds": {"x": "draw >= 0"}, "limit": 2, "group": "g", "licence": "MIT"},
    toml_values,
).filter(lambda given: "hub" not in given)  # fmt: skip
jsonl = st.tuples(
    kinds,
    st.sampled_from(["rows.jsonl", "rows.json", "rows.jsonl.gz"]),
    st.lists(lines, max_size=5).map(b"\n".join),
    settings,
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, bytes]:
    """Parquet whose columns have our names and any type."""
    names = draw(st.lists(st.sampled_from(sorted(ROW)), min_size=1, max_size=8, unique=True))
    n = draw(st.integers(0, 3))
    frame = pl.DataFrame({name: [ROW[name]] * n for name in ROW}, strict=False)
    for name in names:
        kind = draw(st.sampled_from(ODD))
        with suppress(pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
            values = [draw(st.sampled_from(kind[1])) for _ in range(n)]
            frame = frame.with_columns(pl.Series(name, values, dtype=kind[0], strict=False))
    if draw(st.booleans()):
        frame = frame.select(names)
    into = io.BytesIO()
    frame.write_parquet(into)
    whole = into.getvalue()
    content = draw(st.just(whole) | st.just(whole) | damaged(whole))
    return draw(kinds), content


_turn = pl.Struct({"role": pl.String, "content": pl.String})
ODD: list[tuple[Any, list[Any]]] = [
    (pl.Null, [None]),
    (pl.Boolean, [True, None]),
    (pl.Int8, [0, 1, None]),
    (pl.UInt64, [0, 2**64 - 1, None]),
    (pl.Int128, [0, -(2**100)]),
    (pl.Float32, [math.nan, math.inf, 0.5, None]),
    (pl.Float64, [math.nan, -math.inf, 1e308, None]),
    (pl.Decimal(20, 3), [1, None]),
    (pl.Binary, [b"\xff", b"", None]),
    (pl.Date, [None, 0, 10**6]),
    (pl.Datetime("ns", "UTC"), [None, 0]),
    (pl.Duration("us"), [None, 5]),
    (pl.Time, [None, 5]),
    (pl.Categorical, ["x", None]),
    (pl.Enum(["x", "y"]), ["x", None]),
    (pl.String, ["", "b", "\0", None]),
    (pl.List(pl.Null), [[], [None], None]),
    (pl.List(pl.Int64), [[], [1, None], None]),
    (pl.List(pl.List(pl.String)), [[], [[], ["x"]], None]),
    (pl.Array(pl.Float32, 2), [[0.5, 1.0], None]),
    (pl.Struct({"x": pl.Int64}), [{"x": 1}, None]),
    (_turn, [{"role": "user", "content": None}, None]),
    (pl.List(_turn), [[], [{"role": "user", "content": "a?"}], [None], [{"role": None}], None]),
    (pl.List(pl.Struct({"role": pl.String, "content": pl.Int64})), [[{"role": "user"}], None]),
]

csv_cells = texts | st.sampled_from(['"', '""', "a,b", ";", "\n", "\r", "\t", '"a\n', "=1+1"])
sheets = st.tuples(
    kinds,
    st.sampled_from(["rows.csv", "rows.tsv", "rows.csv.gz"]),
    st.tuples(
        st.lists(st.sampled_from([*sorted(ROW), "", "x"]), max_size=9),
        st.lists(st.lists(csv_cells, max_size=9), max_size=4),
        st.sampled_from([",", "\t", ";"]),
    ).map(
        lambda made: "\n".join(made[2].join(row) for row in [made[0], *made[1]]).encode(
            "utf-8", "surrogatepass"
        )
    )
    | damaged(",".join(ROW).encode() + b"\n" + b",".join(str(v).encode() for v in ROW.values())),
)


def load_judge(text: bytes) -> None:
    with folder(own__toml=text) as at:
        found = judges.load("own.toml", at)
        turn = [{"role": "user", "content": "a?"}]
        found.render(turn, *[turn] * (1 if found.kind == "pointwise" else 2))
        assert found.schema


def load_jury(text: bytes) -> None:
    with folder(own__toml=text) as at:
        juries.load("own.toml", MODELS, folder=at)


JUDGES = [json.loads(json.dumps(judges.load(name).model_dump(mode="json", exclude={"name"})))
          for name in ("helpfulness", "helpfulness-rating", "tool-checked")]  # fmt: skip
judge_files = st.sampled_from(JUDGES).flatmap(
    lambda judge: (
        changed(judge, toml_values).map(lambda made: tomli_w.dumps(made).encode())
        | damaged(tomli_w.dumps(judge).encode())
    )
)
JURY = {"description": "x", "source": "y",
        "members": [{"judge": "helpfulness", "model": "m", "by": "logits"},
                    {"judge": "helpfulness", "model": "n", "by": "logits"}]}  # fmt: skip
MODELS = {role: Model(role, role, f"{role}@1") for role in "mn"}
jury_files = changed(JURY, toml_values).map(lambda made: tomli_w.dumps(made).encode())

FORMS = [judges.load(name).form() for name in judges.names()]
pieces = st.sampled_from(
    ["{", "}", '"verdict"', ":", '"A"', '"B"', '"tie"', ",", "[", "]", "```json\n", "```",
     "<think>", "</think>", "\\", '"', "\\u", "\\ud800", "1", "1e999", "NaN", "null",
     "N/A", '"reason"', '{"verdict": "A"}', "\n", " ", "{" * 50, "[" * 5000, "\ud800", "\0"]
)  # fmt: skip
replies = st.tuples(
    st.sampled_from(FORMS),
    st.none()
    | st.lists(pieces | texts, max_size=12).map("".join)
    | st.dictionaries(st.sampled_from(["verdict", "reason", "A", "B"]) | texts, json_values).map(
        json.dumps
    ),
    st.sampled_from([None, "stop", "length", "content_filter", "odd"]),
)


def read_reply(given: Any) -> None:
    form, reply, finish = given
    found = form.read(reply, finish)
    assert (found.unscored is None) or isinstance(found.unscored, str)


@cache
def handed_out() -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """The tasks of one question, and what comes back of it from each tool."""
    form = form_of(judges.load("helpfulness"), "pairwise")
    task = Task("t1", "a1", "b1", True, "a?", ("b", "c"), annotator="human:1")
    row = json.loads(rows.files("jsonl", form, [task])["human_1.jsonl"])
    question = form.questions[0].criterion
    answer = form.questions[0].answers[0].value
    texts_shown = {"task_id": "t1", "prompt": "a?", "first": "b", "second": "c"}
    studio = {
        "id": 1, "data": texts_shown,
        "annotations": [{
            "id": 2, "completed_by": {"id": 3}, "lead_time": 2.5, "was_cancelled": False,
            "updated_at": "2026-01-01T00:00:00Z",
            "result": [{"from_name": f"answer_{question}", "value": {"choices": [answer]}},
                       {"from_name": "rationale", "value": {"text": ["so"]}}],
        }],
    }  # fmt: skip
    argilla = {
        "id": "t1", "fields": texts_shown,
        "responses": {f"answer_{question}": [{"user_id": "u", "value": answer}]},
    }  # fmt: skip
    return {"t1": json.loads(json.dumps(record(form, task)))}, [
        ("jsonl", {**row, question: answer, "seconds": "3"}),
        ("json", [studio]),
        ("jsonl", argilla),
    ]  # fmt: skip


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, bytes]:
    suffix, whole = draw(st.sampled_from(handed_out()[1]))
    text = json.dumps(draw(st.just(whole) | changed(whole, cells))).encode()
    if suffix == "jsonl" and draw(st.booleans()):
        header = ",".join(map(str, whole))
        values = ",".join(json.dumps(str(each)) for each in whole.values())
        return "back.csv", draw(damaged(f"{header}\n{values}\n".encode("utf-8", "replace")))
    return f"back.{suffix}", draw(st.just(text) | damaged(text))


def take_answers(given: tuple[str, bytes]) -> None:
    name, content = given
    with folder(**{name.replace(".", "__"): content}) as at:
        found = take(exchange.read([at / name], "human:2", {"3": "anna"}), handed_out()[0], [])
        json.dumps([*found.rows, *(each._asdict() for each in found.quarantined)])


BORDERS: Mapping[str, Border] = {
    "recipes": Border(recipes, plan_recipe, 0.03),
    "jsonl": Border(jsonl, lambda given: read_rows(*given[:3], **given[3]), 0.02),
    "parquet": Border(tables(), lambda given: read_rows(given[0], "rows.parquet", given[1]), 0.03),
    "csv": Border(sheets, lambda given: read_rows(*given), 0.04),
    "judges": Border(judge_files, load_judge, 0.08),
    "juries": Border(jury_files, load_jury, 0.02),
    "replies": Border(replies, read_reply, 0.70),
    "answers": Border(answers(), take_answers, 0.08),
}


def is_ours(border: Border, given: Any) -> None:
    """Take an input in; an error of ours is an answer too."""
    with suppress(PrefdataError):
        border.take_in(given)
