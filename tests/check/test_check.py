"""Every planted fault is found, where it was planted; a clean set raises no alarm."""

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from prefdata import tables, version
from prefdata.check import Options, of_frames, run
from prefdata.check.contamination import contamination, grams
from prefdata.check.run import over
from prefdata.check.template import template
from prefdata.errors import SourceError
from prefdata.select._near import across, beside, hashed, jaccard, runs

Rows = list[dict[str, Any]]
SYLLABLES = "ba de ki lo mu ne pa ri so tu va we xi yo za che sha".split()
N = 120


def words(random: Random, n: int) -> list[str]:
    return ["".join(random.choices(SYLLABLES, k=random.randint(1, 3))) for _ in range(n)]


def sentence(random: Random, n: int) -> str:
    return f"{' '.join(words(random, n)).capitalize()}."


def answer(random: Random) -> str:
    return " ".join(sentence(random, random.randint(5, 12)) for _ in range(random.randint(2, 5)))


def clean(n: int = N, seed: int = 0) -> Rows:
    """Pairs of made-up words: nothing is said twice, sides are of one length on average."""
    random = Random(seed)
    return [
        {
            "prompt": f"{sentence(random, random.randint(8, 16))[:-1]}?",
            "chosen": answer(random),
            "rejected": answer(random),
            "score_chosen": 2.0 + random.random(),
            "score_rejected": random.random(),
        }
        for _ in range(n)
    ]


def found(train: Rows, test: Rows | None = None, options: Options | None = None):
    frames = {"train": pl.DataFrame(train, infer_schema_length=None)}
    if test is not None:
        frames["test"] = pl.DataFrame(test, infer_schema_length=None)
    report = run(of_frames("made up", frames), options)
    return {each.check: each for each in report.findings}, report


def alarms(findings: dict[str, Any]) -> dict[str, str]:
    return {
        name: each.level for name, each in findings.items() if each.level not in ("ok", "skipped")
    }


def as_messages(rows: Rows) -> Rows:
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return [
        {k: [{"role": roles[k], "content": v}] if k in roles else v for k, v in row.items()}
        for row in rows
    ]


def as_implicit(rows: Rows) -> Rows:
    """Whole conversations on both sides, as in many datasets of the Hub."""
    made = as_messages(rows)
    for row in made:
        prompt = row.pop("prompt")
        row["chosen"], row["rejected"] = prompt + row["chosen"], prompt + row["rejected"]
    return made


@pytest.mark.parametrize("shape", [list, as_messages, as_implicit])
@pytest.mark.parametrize("seed", range(3))
def test_a_clean_set_raises_no_alarm(shape: Callable[[Rows], Rows], seed: int):
    findings, report = found(shape(clean(seed=seed)), shape(clean(30, seed=seed + 100)))
    assert alarms(findings) == {}
    assert report.passes("warning")
    assert report.splits == {"test": 30, "train": N}


def at(rows: Rows, places: range, **changes: Callable[[dict[str, Any], Random], Any]) -> Rows:
    random = Random(9)
    for place in places:
        rows[place] = {**rows[place], **{k: f(rows[place], random) for k, f in changes.items()}}
    return rows


FEW = range(10, 17)
OPENING = "Bade kilo mu nepa rishe sovi"
PLANTS: dict[str, tuple[str, Callable[[Rows], Rows], int]] = {
    "identical": ("identical", lambda r: at(r, FEW, rejected=lambda row, _: row["chosen"]), 7),
    "identical but for case": (
        "identical",
        lambda r: at(r, FEW, rejected=lambda row, _: f"  {row['chosen'].upper()} \u200b"),
        7,
    ),
    "near": (
        "near_identical",
        lambda r: at(r, FEW, rejected=lambda row, _: f"{row['chosen'][:-1]}!"),
        7,
    ),
    "ties": ("ties", lambda r: at(r, FEW, score_rejected=lambda row, _: row["score_chosen"]), 7),
    "turned scores": (
        "orientation",
        lambda r: at(r, FEW, score_rejected=lambda row, _: row["score_chosen"] + 1),
        7,
    ),
    "scores as texts": (
        "orientation",
        lambda r: at(r, range(N), score_chosen=lambda *_: "10", score_rejected=lambda *_: "9"),
        N,
    ),
    "no answer": ("malformed", lambda r: at(r, FEW, chosen=lambda *_: "  "), 7),
    "no prompt": ("malformed", lambda r: at(r, FEW, prompt=lambda *_: ""), 7),
    "twice": ("duplicates", lambda r: r + r[10:17], 7),
    "cut off": (
        "truncation",
        lambda r: at(r, FEW, chosen=lambda row, d: f"{answer(d)} {sentence(d, 12)[:-1].lower()}"),
        7,
    ),
    "open code": (
        "truncation",
        lambda r: at(r, FEW, rejected=lambda row, _: f"{row['rejected']}\n```python\nx = 1\n"),
        7,
    ),
    "refusals": (
        "refusals",
        lambda r: at(r, FEW, chosen=lambda row, _: f"I'm sorry, but I can't. {row['chosen']}"),
        7,
    ),
    "refusals otherwise": (
        "refusals",
        lambda r: at(r, FEW, rejected=lambda row, _: f"I cannot help with it. {row['rejected']}"),
        7,
    ),
    "stock phrases": (
        "boilerplate",
        lambda r: at(r, FEW, chosen=lambda row, _: f"{row['chosen']} I hope this helps!"),
        7,
    ),
    "one opening": (
        "boilerplate",
        lambda r: at(r, range(20), rejected=lambda row, _: f"{OPENING} {row['rejected']}"),
        20,
    ),
    "marks": (
        "leftovers",
        lambda r: at(r, FEW, chosen=lambda row, _: f"{row['chosen']}<|im_end|>"),
        7,
    ),
    "speakers": (
        "leftovers",
        lambda r: at(r, FEW, rejected=lambda row, _: f"{row['rejected']}\n\nHuman: more"),
        7,
    ),
    "length": (
        "length_bias",
        lambda r: at(r, range(N), chosen=lambda row, d: f"{answer(d)} {answer(d)} {row['chosen']}"),
        N,
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", [list, as_messages])
@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_fault_is_found_where_it_is_and_nothing_else(
    plant: str, shape: Callable[[Rows], Rows]
):
    check, put, n = PLANTS[plant]
    findings, _ = found(shape(put(clean())))
    assert list(alarms(findings)) == [check]
    assert findings[check].n == n
    assert findings[check].advice
    if n == 7 and plant != "twice":
        planted = {f"train row {place}" for place in FEW}
        assert {each["place"].split(",")[0] for each in findings[check].examples} <= planted


def test_the_opposite_of_a_pair_is_a_contradiction_of_both():
    rows = clean()
    turned = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows[10:17]]
    findings, report = found(rows + turned)
    assert findings["contradictions"].n == 14
    assert findings["contradictions"].level == "error"
    assert not report.passes()


def test_prompts_that_leak_are_found_the_same_and_nearly_the_same():
    train, test = clean(), clean(40, seed=100)
    for place in range(5):
        test[place]["prompt"] = f" {train[place]['prompt'].upper()}"
    for place in range(5, 9):
        long = " ".join(words(Random(place), 40))
        train[place]["prompt"], test[place]["prompt"] = f"{long}?", f"{long} now?"
    findings, _ = found(train, test)
    leak = findings["leakage"]
    assert (leak.level, leak.n, leak.of) == ("error", 9, 40)
    assert leak.figures == {"same": 5, "near": 4}
    assert list(alarms(findings)) == ["leakage"]
    only_near, _ = found(train[5:], test[5:])
    assert only_near["leakage"].level == "warning"


def test_a_group_that_is_parted_leaks():
    train, test = clean(), clean(30, seed=100)
    for at_, row in enumerate([*train, *test]):
        row["group"] = f"g{at_}"
    assert alarms(found(train, test)[0]) == {}
    test[3]["group"] = train[3]["group"]
    assert found(train, test)[0]["leakage"].n == 1


@pytest.fixture
def benchmark(tmp_path: Any) -> tuple[str, Rows]:
    rows = [{"question": row["prompt"], "answer": row["chosen"]} for row in clean(50, seed=500)]
    rows.append({"question": "What is 2 + 2?", "answer": "4"})
    (tmp_path / "bench.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path / "bench.jsonl"), rows


def test_a_benchmark_in_the_data_is_found_by_words_and_nearness(benchmark: tuple[str, Rows]):
    path, bench = benchmark
    options = Options(against=[path])
    assert alarms(found(clean(), options=options)[0]) == {}
    rows = clean()
    rows[3]["chosen"] += f" {bench[0]['answer']}"  # an answer within a completion
    rows[4]["prompt"] = "what is 2 + 2?"  # a short one as a whole
    long = " ".join(words(Random(1), 60))
    with open(path, "a") as file:
        file.write("\n" + json.dumps({"question": long, "answer": "x"}))
    near = long.split()
    for place in range(6, 60, 12):  # never thirteen words in a row
        near[place] = f"{near[place][:-1]}q"
    rows[5]["prompt"] = " ".join(near)
    findings, _ = found(rows, options=options)
    contaminated = findings["contamination"]
    assert contaminated.level == "error"
    assert contaminated.figures["n-gram"] == 2
    assert contaminated.figures["near"] == 2  # the short one too
    places = {each["place"] for each in contaminated.examples}
    assert places == {f"train row {place}" for place in (3, 4, 5)}


def test_meanings_are_compared_where_a_model_is_given():
    """Vectors of planted meaning: a prompt that says the same in other words is found."""
    rows = clean(30)
    texts = [row["prompt"] for row in rows]

    def embed(given: list[str]):
        vectors = np.random.default_rng(len(given)).normal(size=(len(given), 16))
        for place, text in enumerate(given):
            if text in ("rephrased", texts[7].lower()):
                vectors[place] = np.arange(16)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    data = of_frames("x", {"train": pl.DataFrame(rows)})
    without, found = over(
        data,
        [
            contamination(data, pl.Series(["rephrased"])),
            contamination(data, pl.Series(["rephrased"]), embed),
        ],
    )
    assert without.level == "ok"
    assert [each["place"] for each in found.examples] == ["train row 7"]
    assert found.figures == {"n-gram": 0, "near": 0, "embedding": 1}


@pytest.mark.parametrize("least", [0.7, 0.8, 0.9])
def test_near_texts_are_those_that_comparing_all_with_all_finds(least: float):
    random = Random(3)
    one = [" ".join(words(random, 30)) for _ in range(60)]
    other = []
    for text in one:
        said = text.split()
        for place in random.sample(range(30), random.randint(0, 4)):
            said[place] = "changed"
        other.append(" ".join(said))
    every = {
        (a, b) for a, x in enumerate(one) for b, y in enumerate(other) if jaccard(x, y) >= least
    }
    assert 5 < len(every) < 61
    assert {(a, b) for a, b, _ in across(pl.Series(one), pl.Series(other), least)} == every


def test_near_sides_are_those_that_comparing_set_with_set_finds():
    random = Random(4)
    one = [" ".join(words(random, random.randint(0, 60))) for _ in range(200)]
    one += ["", "a", "abcd", "abcde", "aaaaaaaaaaaa", "日本語のとても長い文章です", "x\0y\0z"]
    other = [
        "".join(c if random.random() > 0.01 * (at % 4) else "z" for c in text)
        for at, text in enumerate(one)
    ]
    exact = [jaccard(a, b) if a and b else 0.0 for a, b in zip(one, other, strict=True)]
    wanted = [value if value >= 0.9 else None for value in exact]
    assert 20 < sum(value is not None for value in wanted) < 190
    found = beside(pl.Series(one), pl.Series(other), 0.9)
    assert found.to_list() == wanted
    hashes = hashed(pl.Series(one))
    for at, text in enumerate(one):
        mine = hashes.hashes[hashes.ends[at] : hashes.ends[at + 1]]
        assert len(set(mine.tolist())) == len(runs(text))


class Words:
    """A tokenizer of words with the blank before them, and a template for conversations."""

    def __init__(self, ask: str = "<a>") -> None:
        self.known: dict[str, int] = {}
        self.chat_template, self.ask = "own", ask

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        pieces = re.findall(r"<\w+>| ?[^\s<]+|\s", text)
        return [self.known.setdefault(piece, len(self.known)) for piece in pieces]

    def decode(self, ids: list[int]) -> str:
        names = list(self.known)
        return "".join(names[at] for at in ids)

    def apply_chat_template(self, turns: Any, add_generation_prompt: bool, **_: Any) -> str:
        text = "".join(f"<{turn['role'][0]}>{turn['content']}" for turn in turns)
        return text + (self.ask if add_generation_prompt else "")


def test_a_blank_at_the_end_of_a_prompt_and_a_template_that_changes_its_mind_are_unstable():
    rows = clean(20)
    data = of_frames("x", {"train": pl.DataFrame(rows)})
    prefix, long = over(data, [template(data, Words(), max_length=10)])
    assert (prefix.level, prefix.n, prefix.of) == ("error", 40, 40)  # "...?" runs into the answer
    for row in rows:
        row["chosen"], row["rejected"] = f" {row['chosen']}", f" {row['rejected']}"
    data = of_frames("x", {"train": pl.DataFrame(rows)})
    prefix, long = over(data, [template(data, Words(), max_length=10)])
    assert (prefix.level, prefix.n) == ("ok", 0)
    assert (long.level, long.n) == ("warning", 40)
    for side, change in (("prompt", " "), ("chosen", ""), ("rejected", "")):
        rows[3][side] = rows[3][side].strip() + change
    data = of_frames("x", {"train": pl.DataFrame(rows)})
    prefix, _ = over(data, [template(data, Words())])
    assert [each["place"] for each in prefix.examples] == [
        "train row 3, chosen",
        "train row 3, rejected",
    ]
    chat = of_frames("x", {"train": pl.DataFrame(as_messages(clean(20)))})
    assert over(chat, [template(chat, Words())])[0].level == "ok"
    thinking = over(chat, [template(chat, Words(ask="<a><think>"))])[0]
    assert (thinking.level, thinking.n) == ("error", 40)


def test_thirteen_words_in_a_row_are_what_grams_share():
    one, other = "a b c d e f g h i j k l m n".split(), "x y".split()
    texts = [one, other + one[:13], one[:12] + other, other * 10]
    first, *others = (set(grams(pl.Series([" ".join(text)]))["gram"]) for text in texts)
    assert [len(first), *map(len, others)] == [2, 3, 2, 2]
    assert [len(first & each) for each in others] == [1, 0, 0]


def test_without_what_it_needs_a_check_is_skipped_and_says_why():
    bare = [{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in clean()]
    findings, _ = found(bare)
    skipped = {name for name, each in findings.items() if each.level == "skipped"}
    assert skipped == {
        "orientation",
        "ties",
        "leakage",
        "contamination",
        "template_prefix",
        "too_long",
    }
    assert all(findings[name].says for name in skipped)


def test_unpaired_preferences_are_checked_too():
    rows = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in clean()
        for side in ("chosen", "rejected")
    ]
    findings, report = found(rows)
    assert report.kind == "unpaired_preference"
    assert alarms(findings) == {}
    rows[20] = {**rows[20], "completion": "I'm sorry, but I can't."}
    rows += [{**rows[30], "label": not rows[30]["label"]}, {**rows[31], "completion": ""}]
    findings, _ = found(rows)
    assert findings["contradictions"].n == 2
    assert findings["malformed"].n == 1
    assert findings["refusals"].n == 1


def test_what_no_trainer_takes_is_refused():
    with pytest.raises(SourceError, match="has the columns question, answer; TRL"):
        of_frames("x", {"train": pl.DataFrame({"question": ["a"], "answer": ["b"]})})
    with pytest.raises(SourceError, match="wants booleans"):
        of_frames(
            "x", {"train": pl.DataFrame({"prompt": ["a"], "completion": ["b"], "label": [1]})}
        )
    with pytest.raises(SourceError, match="neither a file"):
        run("no such/thing at all")


def test_the_order_of_rows_changes_no_count(shuffled: Any):
    rows = PLANTS["near"][1](PLANTS["ties"][1](clean()))
    frame = pl.DataFrame(rows)
    one, other = (
        run(of_frames("x", {"train": each})).findings for each in (frame, shuffled(frame, 3))
    )
    assert [(f.check, f.level, f.n, f.of) for f in one] == [
        (f.check, f.level, f.n, f.of) for f in other
    ]


@pytest.fixture
def folders(tmp_path: Any) -> dict[str, str]:
    """One clean set in every form that can be read."""
    import datasets

    frame = pl.DataFrame(as_messages(clean()))
    frame.write_ndjson(tmp_path / "a.jsonl")
    frame.write_parquet(tmp_path / "a.parquet")
    (tmp_path / "split").mkdir()
    frame[:80].write_parquet(tmp_path / "split" / "train-00000-of-00001.parquet")
    frame[80:].write_parquet(tmp_path / "split" / "test-00000-of-00001.parquet")
    whole = datasets.Dataset.from_list(as_messages(clean()))
    datasets.DatasetDict(train=whole).save_to_disk(str(tmp_path / "dict"))
    whole.save_to_disk(str(tmp_path / "one"))
    return {name: str(tmp_path / name) for name in ("a.jsonl", "a.parquet", "split", "dict", "one")}


def test_files_and_folders_are_read_alike(folders: dict[str, str]):
    reports = {name: run(path) for name, path in folders.items()}
    for name, report in reports.items():
        assert sum(report.splits.values()) == N, name
        assert report.passes("warning"), name
    assert reports["split"].splits == {"test": 40, "train": 80}


def test_a_version_is_checked_by_its_pairs_votes_and_samples(tmp_path: Any, world: Any):
    frames = world(40)
    random = Random(5)
    texts = [answer(random) for _ in range(frames["completions"].height)]
    ids = dict(zip(frames["completions"]["completion_id"], texts, strict=True))
    frames["completions"] = frames["completions"].with_columns(
        pl.Series(
            "completion",
            [[{"role": "assistant", "content": text}] for text in texts],
            tables.MESSAGES,
        )
    )
    written = version.write(
        tmp_path, "mini", tables=frames, exports={}, recipe_text="", resolved={}
    )
    findings = {each.check: each for each in run("mini", data=tmp_path).findings}
    assert alarms(findings) == {}
    assert findings["orientation"].level == "ok"
    assert run(str(written.path)).name == f"mini@{written.id}"
    turned = frames["votes"].with_columns(preference=1 - pl.col("preference"))
    cut = pl.DataFrame({"completion_id": list(ids)[:9], "generator": "w", "draw": 0})
    cut = cut.join(frames["completions"].select("completion_id", "prompt_id"), on="completion_id")
    cut = cut.with_columns(finish_reason=pl.lit("length"))
    frames = {**frames, "votes": turned, "samples": tables.check("samples", cut, where="t")}
    version.write(tmp_path, "turned", tables=frames, exports={}, recipe_text="", resolved={})
    findings = {each.check: each for each in run("turned", data=tmp_path).findings}
    assert set(alarms(findings)) == {"orientation", "truncation"}
    assert findings["orientation"].n == frames["pairs"].height


def test_balanced_votes_are_a_tie_only_where_no_strengths_decide(tmp_path: Any, world: Any):
    """Two judges, of whom one is trusted more: an aggregate decides what their votes do not."""
    frames = world(20)
    other = frames["votes"].with_columns(
        annotator=pl.lit("llm:other/helpfulness"), preference=1 - pl.col("preference")
    )
    frames["votes"] = tables.union("votes", frames["votes"], other, where="t")
    how: dict[str, Any] = {"exports": {}, "recipe_text": "", "resolved": {}}
    version.write(tmp_path, "weighed", tables=frames, **how)
    frames["pairs"] = frames["pairs"].with_columns(margin=pl.lit(None, pl.Float64))
    version.write(tmp_path, "stated", tables=frames, **how)
    weighed, stated = (
        next(each for each in run(name, data=tmp_path).findings if each.check == "ties")
        for name in ("weighed", "stated")
    )
    assert (weighed.level, weighed.n) == ("ok", 0)
    assert (stated.level, stated.n) == ("error", frames["pairs"].height)


def test_every_check_has_a_planted_fault():
    findings, _ = found(clean())
    by_hand = {"contradictions", "leakage", "contamination", "template_prefix", "too_long"}
    assert {check for check, _, _ in PLANTS.values()} | by_hand == findings.keys()
