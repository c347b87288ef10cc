"""What principles cost here and in inverse-cai 0.4.8: calls, tokens, and what they are worth.

    python tests/benchmarks/bench_icai.py [--n 286] [--seeds 10] [--preset lean] [--home FOLDER]

Both search the same labelled pairs and ask the same server, whose planted annotator knows a rule
for each of 120 words, three of which the labels follow. It errs: one vote in ten is turned, and one
in ten goes to whichever reply is first. Both keep their five best principles. What these are worth
is told by one judge who follows them, on `--fresh` pairs of the same world that neither saw. Every
seed is another world; the difference of the two is taken seed by seed, with a 95 % interval of t.

inverse-cai runs in an environment of its own, made once in `--home`; its votes on the pairs kept
aside, which it makes only where it is told to, are counted apart, as are ours. Tokens are words and
marks, of messages and replies, without and with the JSON schemas that are sent along, which some
providers bill. Not a test: figures of one run, though no times.
"""

import argparse
import csv
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

sys.path.append(str(Path(__file__).parents[2]))
import prefdata
from prefdata import judge as judges
from prefdata import tables
from prefdata.annotate.constitution import constitution
from prefdata.tables import Completions, Pairs, Principles, Prompts
from tests.explain import planted
from tests.models.server import Server

PEER = "inverse-cai==0.4.8"
WORDS = [f"word{at:03d}" for at in range(120)]
FILLER = [f"so{at:03d}" for at in range(120)]
TRUE = dict.fromkeys(WORDS[:3], 2.0)
KEPT = 5
ERRS, FOLLOWS_PLACE = 0.1, 0.1
RECIPE = """
name = "principles"
sources.pairs = "pairs.jsonl"

[models.planted]
client = "openai"
model = "planted"
base_url = "{url}"

[[stages]]
use = "explain.icai"
judge = "principles"
model = "planted"
preset = "{preset}"
max_principles = {kept}
seed = {seed}
"""


def words(text: str) -> set[str]:
    return set(re.findall(r"word\d+", text))


def said_by(rule: str, a: str, b: str) -> float:
    """1 where the rule speaks for a, 0 for b, 1/2 where it tells neither from the other."""
    (word,) = words(rule) or {""}
    return ((word in words(a)) - (word in words(b)) + 1) / 2


def votes(rules: dict[str, str], a: str, b: str, neither: str) -> dict[str, str]:
    """A vote by each rule, with errors drawn from all that was asked."""
    draw = random.Random(json.dumps([rules, a, b]))
    made: dict[str, str] = {}
    for name, rule in rules.items():
        worth = said_by(rule, a, b)
        if worth != 0.5 and draw.random() < ERRS:
            worth = 1 - worth
        if draw.random() < FOLLOWS_PLACE:
            worth = 1.0
        made[name] = {1.0: "A", 0.0: "B"}.get(worth, neither)
    return made


def proposals(chosen: str, other: str, n: int) -> dict[str, list[str]]:
    """Rules about n of the words that only the chosen one has, the first of one random order."""
    only = sorted(words(chosen) - words(other))
    random.Random(chosen).shuffle(only)
    return {"principles": [planted.rule(word) for word in only[:n]] or ["Select the reply."]}


def answers(body: dict[str, Any]) -> str:
    """What the planted annotator says to either of the two."""
    text = "\n".join(message["content"] for message in body["messages"])
    if found := re.search(
        r"Selected sample:\n(.*)\n\nOther sample:\n(.*)\n\nGiven.*Reply with (\d+)", text, re.DOTALL
    ):
        return json.dumps(proposals(found[1], found[2], int(found[3])))
    if found := re.search(
        r"Sample A:\n(.*)\n\nSample B:\n(.*)\n\nGiven.*?\n({.*?})\n", text, re.DOTALL
    ):
        rules = dict(re.findall(r"(\d+): '(.*?)'", found[3]))
        said = votes(rules, found[1], found[2], "None")
        return "{" + ", ".join(f'{name}: "{vote}"' for name, vote in said.items()) + "}"
    _, one, other = re.findall(r"```\n(.*?)\n```", text, re.DOTALL)
    schema = body["response_format"]["json_schema"]["schema"]
    if "Preferred reply:" in text:
        return json.dumps(proposals(one, other, schema["properties"]["principles"]["maxItems"]))
    rules = dict(re.findall(r"^(\d+)\. (.*)$", text, re.MULTILINE))
    return planted.written(votes(rules, one, other, "N/A"), schema)


def follows(request: dict[str, Any]) -> str:
    """The judge who applies a constitution: most of its rules decide, a coin where none does."""
    text = planted.first(request)
    _, a, b = re.findall(r"```\n(.*?)\n```", text, re.DOTALL)
    rules = re.findall(r"^\d+\. (.*)$", text, re.MULTILINE)
    ahead = sum(said_by(rule, a, b) - 0.5 for rule in rules) or random.Random(text).random() - 0.5
    return json.dumps({"verdict": "A" if ahead > 0 else "B"})


@dataclass
class Spent:
    calls: Counter[str] = field(default_factory=Counter[str])
    tokens: Counter[str] = field(default_factory=Counter[str])
    schema: Counter[str] = field(default_factory=Counter[str])
    rules: set[str] = field(default_factory=set[str])

    def count(self, bodies: Iterable[dict[str, Any]], aside: set[str]) -> None:
        for body in bodies:
            text = "\n".join(message["content"] for message in body["messages"])
            part = "aside" if aside & set(re.findall(r"question \d+ \d+", text)) else "search"
            self.calls[part] += 1
            self.rules |= set(re.findall(r"\d+(?:: '|\. )(Select .*?\.)", text))
            self.tokens[part] += n_tokens(text) + n_tokens(answers(body))
            schema = body.get("response_format")
            self.schema[part] += n_tokens(json.dumps(schema)) if schema else 0


def n_tokens(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


def ours(folder: Path, pairs: list[dict[str, str]], preset: str, seed: int, url: str) -> Any:
    """Our principles, and the ids of the prompts that were kept aside."""
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(url=url, preset=preset, kept=KEPT, seed=seed))
    made = prefdata.build(recipe, data=folder / "data")
    read = {name: prefdata.load(made.name, name, data=folder / "data") for name in
            ("principles", "scores", "pairs")}  # fmt: skip
    aside = read["scores"].filter(pl.col("score") == "icai_held_out", pl.col("value") == 1)
    told = read["pairs"].join(aside, left_on="pair_id", right_on="subject_id")
    return read["principles"].sort("rank")["principle"].to_list(), set(told["prompt_id"])


def theirs(
    python: str, folder: Path, train: list[Any], test: list[Any], seed: int, url: str
) -> list[str]:
    for name, rows in (("train", train), ("test", test)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ("prompt", "text_a", "text_b", "preferred_text"))
            writer.writeheader()
            draw = random.Random(seed)
            for row in rows:
                texts = [("text_a", "text_b"), ("text_b", "text_a")][draw.random() < 0.5]
                sides = dict(zip(texts, (row["chosen"], row["rejected"]), strict=True))
                writer.writerow({"prompt": row["prompt"], **sides, "preferred_text": texts[0]})
    script = Path(__file__).parent / "peers" / "with_icai.py"
    command = [python, str(script), url, str(folder / "train.csv"), str(folder / "test.csv"),
               str(folder / "theirs"), "400", str(seed)]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if run.returncode:
        raise SystemExit(f"{PEER} did not finish:\n{run.stderr[-3000:]}")
    return json.loads(run.stdout.strip().splitlines()[-1])[:KEPT]


def worth(texts: list[str], prompts: Prompts, completions: Completions, aside: Pairs) -> float:
    """How often the judge who follows the principles prefers the chosen one of pairs kept aside."""
    ids = [tables.digest("principle", text) for text in texts]
    zeros = dict.fromkeys(("for", "against", "abstain", "invalid"), 0)
    named = pl.DataFrame({"principle_id": ids, "principle": texts, "rank": range(1, len(ids) + 1)})
    rules = tables.typed(
        Principles,
        named.with_columns(
            **{name: pl.lit(n) for name, n in zeros.items()},
            agreement=pl.lit(None, pl.Float64),
            accuracy=pl.lit(None, pl.Float64),
            relevance=pl.lit(None, pl.Float64),
        ),
    )
    given = {"judge": judges.load("constitution"), "model": planted.MODEL}
    found = planted.run(constitution(prompts, completions, rules, aside, **given), follows)
    told = found.join(aside, on="prompt_id")
    a_chosen = pl.col("chosen_id") == pl.col("completion_a")
    hit = pl.when(a_chosen).then("preference").otherwise(1 - pl.col("preference"))
    return float(told.select(hit.mean()).item())


def environment(home: Path) -> str:
    """The Python that has inverse-cai, installed once."""
    python = home / "bin" / "python"
    if not (home / "installed").exists():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PEER], check=True)
        (home / "installed").touch()
    return str(python)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=286, help="pairs, of which 0.3 are kept aside")
    parser.add_argument("--fresh", type=int, default=1000, help="pairs of the world, for both")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--preset", default="lean")
    parser.add_argument("--home", type=Path, default=Path(sys.prefix, "peers", "inverse-cai"))
    given = parser.parse_args()
    python = environment(given.home)
    who = (f"ours, {given.preset}", PEER)
    spent = {name: Spent() for name in who}
    found: dict[str, list[float]] = {name: [] for name in who}
    kept: dict[str, list[int]] = {name: [] for name in who}
    planted_found: Counter[str] = Counter()
    for seed in range(given.first, given.first + given.seeds):
        prompts, completions, pairs = planted.world(
            given.n + given.fresh, TRUE, seed=seed, words=WORDS + FILLER
        )
        text = dict(
            completions.select(
                "completion_id", pl.col("completion").list[0].struct["content"]
            ).rows()
        )
        asked = dict(prompts.select("prompt_id", pl.col("prompt").list[0].struct["content"]).rows())
        rows = {
            row["prompt_id"]: {"prompt": asked[row["prompt_id"]], "chosen": text[row["chosen_id"]],
                               "rejected": text[row["rejected_id"]]}
            for row in pairs.head(given.n).to_dicts()
        }  # fmt: skip
        with Server(answers=answers) as server, tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            mine, aside = ours(folder, list(rows.values()), given.preset, seed, server.url)
            kept_aside = {asked[each] for each in aside}
            spent[who[0]].count((each["body"] for each in server.requests), kept_aside)
            server.reset()
            train = [row for key, row in rows.items() if key not in aside]
            test = [row for key, row in rows.items() if key in aside]
            other = theirs(python, folder, train, test, seed, server.url)
            spent[who[1]].count((each["body"] for each in server.requests), kept_aside)
        fresh = pairs.tail(given.fresh)
        new = [frame.join(fresh, on="prompt_id", how="semi") for frame in (prompts, completions)]
        for name, texts in zip(who, (mine, other), strict=True):
            found[name].append(worth(texts, Prompts(new[0]), Completions(new[1]), Pairs(fresh)))
            planted_found[name] += len(set(map(planted.rule, TRUE)) & set(texts))
            kept[name].append(len(texts))
        print(f"seed {seed}:", *(f"{found[name][-1]:.3f}" for name in who), flush=True)
    seeds = f"seeds {given.first} to {given.first + given.seeds - 1}"
    print(f"{given.n} pairs, {seeds}, load {os.getloadavg()[0]:.1f}")
    for part in ("search", "aside"):
        for name in who:
            one = spent[name]
            print(f"{part:8}{name:20}{one.calls[part] / given.seeds:8.0f} calls"
                  f"{one.tokens[part] / given.seeds:12,.0f} tokens"
                  f"{one.schema[part] / given.seeds:12,.0f} more in schemas")  # fmt: skip
        one, other = (spent[name] for name in who)
        tokens, peers = ([each.tokens[part], each.schema[part]] for each in (one, other))
        print(f"{part:8}ratio: {one.calls[part] / other.calls[part]:.2f} of the calls, "
              f"{tokens[0] / peers[0]:.2f} of the tokens, {sum(tokens) / sum(peers):.2f} with "
              "schemas")  # fmt: skip
    for name in who:
        true = f"{planted_found[name]} of {len(TRUE) * given.seeds} planted ones"
        print(
            f"{name:20} voted by {len(spent[name].rules)} different principles in all, kept "
            f"{np.mean(kept[name]):.1f}; {true}; reconstruction {np.mean(found[name]):.3f}"
        )
    apart = np.subtract(*found.values())
    half = stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / len(apart) ** 0.5
    print(
        f"difference {apart.mean():+.3f} ({apart.mean() - half:+.3f} to {apart.mean() + half:+.3f})"
    )


if __name__ == "__main__":
    main()
