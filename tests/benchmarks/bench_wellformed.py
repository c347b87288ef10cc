"""How often a small real model gives a well-formed verdict, by kind of asking, on CPU.

    python tests/benchmarks/bench_wellformed.py [prompts]

Every kind runs end to end through the edge and its ledger, with smollm2-135m, which comes as a
package: once with the schema, to which the engine then holds the model, and once without. Only
first replies count, nothing is asked again. What is well-formed need not be sensible: a model of
this size judges no better than chance.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from prefdata import judge as judges
from prefdata import tables
from prefdata.annotate.cascade import cascade
from prefdata.annotate.checklist_votes import checklist_votes
from prefdata.annotate.combined import combined
from prefdata.annotate.constitution import constitution
from prefdata.annotate.criteria_votes import criteria_votes
from prefdata.annotate.debate import debate
from prefdata.annotate.feedback_mining import feedback_mining
from prefdata.annotate.jury import jury
from prefdata.annotate.listwise import listwise
from prefdata.annotate.logits import logits
from prefdata.annotate.pairwise import pairwise
from prefdata.annotate.pointwise import pointwise
from prefdata.annotate.tool import DISAGREED, tool
from prefdata.judge import Jury, Member
from prefdata.models.edge import Edge
from prefdata.models.ledger import Ledger
from prefdata.models.spec import ModelSpec
from prefdata.stage import Model, drive
from prefdata.tables import Requests, Responses

ASKED = [
    ("What is the capital of France?", "Paris.", "It is Lyon.", "France has a capital."),
    ("What is 7 times 8?", "56", "7 times 8 is 54.", "Multiply the two numbers."),
    ("Name a primary colour.", "Red.", "Brown is one.", "There are three of them."),
    ("Translate 'good morning' into German.", "Guten Morgen.", "Guten Abend.", "Bonjour."),
    ("Is ice lighter than water?", "Yes, it floats.", "No.", "Ice is cold."),
]
TALKS = [
    ("How long do I boil an egg?", "Until it is done.", "That does not help, how many minutes?"),
    ("Who wrote Faust?", "Goethe.", "Thank you, that is what I needed!"),
]
# Without a meaning of its own: neither an answer nor an abstention was lost.
HEARD = ["not applicable", "not an answer", DISAGREED]

Table = pl.DataFrame
Made = dict[str, Table]


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[at % 2], "content": t} for at, t in enumerate(texts)]


def world(n: int) -> Made:
    """Prompts with three completions each, two principles, and conversations with a reaction."""
    asked = [turns(each[0]) for each in ASKED[:n]]
    ids = tables.prompt_ids(asked).to_list()
    prompts = pl.DataFrame({"prompt_id": ids, "prompt": asked, "source": "bench"})
    rows = [(id, text) for id, each in zip(ids, ASKED[:n], strict=True) for text in each[1:]]
    said = [[{"role": "assistant", "content": text}] for _, text in rows]
    owners = [id for id, _ in rows]
    completions = pl.DataFrame(
        {
            "completion_id": tables.completion_ids(owners, said),
            "prompt_id": owners,
            "completion": said,
        }
    )
    blank = dict.fromkeys(("for", "against", "abstain", "invalid"), 0)
    texts = ["Prefer the reply that is right.", "Prefer the shorter reply."]
    principles = pl.DataFrame(
        [
            {"principle_id": tables.digest(t), "principle": t, **blank, "rank": 1 + i}
            for i, t in enumerate(texts)
        ]
    )
    wants = completions.unique("prompt_id", keep="first", maintain_order=True).select(
        "completion_id",
        "prompt_id",
        annotator=pl.lit("human:bench"),
        criterion=pl.lit("user_satisfaction"),
        draw=0,
        rating=0.0,
        rationale=pl.lit("- be brief"),
    )
    talks = [turns(*each) for each in TALKS]
    logs = pl.DataFrame({"prompt_id": tables.prompt_ids(talks), "prompt": talks, "source": "log"})
    made = {
        "prompts": prompts,
        "completions": completions,
        "principles": principles,
        "ratings": wants,
    }
    checked = {name: tables.check(name, table, where="bench") for name, table in made.items()}
    return {**checked, "logs": tables.check("prompts", logs, where="bench")}


def kinds(w: Any, m: Model) -> dict[str, Callable[[], Any]]:
    """Every way of asking in words, as a stage ready to run."""
    both = (w["prompts"], w["completions"])
    few = {"model": m, "reask": False}
    one = {"max_pairs": 1, **few}
    ultra = judges.load("ultrafeedback").model_copy(update={"reason": "none", "max_tokens": 64})
    plain = judges.load("combined-10").model_copy(update={"reason": "none", "max_tokens": 48})
    roles = judges.load("debate").model_copy(update={"reason": "none", "max_tokens": 48})
    reasoned = judges.load("direct").model_copy(update={"max_tokens": 96})
    checked = judges.load("tool-checked").model_copy(update={"reason": "none", "max_tokens": 24})
    debating = {"rounds": 1, "argument_tokens": 32, "orders": "a_first", "max_pairs": 1}
    seats = [Member(judges.load(name), m) for name in ("helpfulness", "honesty", "harmlessness")]
    panel = Jury("panel", tuple(seats))
    mixed = Jury("mixed", (*seats[:2], Member(seats[0].judge, m, "logits")))
    return {
        "logits": lambda: logits(*both, judge=judges.load("helpfulness"), model=m, max_pairs=1),
        "pairwise": lambda: pairwise(*both, judge=judges.load("helpfulness"), **one),
        "pairwise, reason first": lambda: pairwise(*both, judge=reasoned, **one),
        "pointwise, 4 criteria": lambda: pointwise(*both, judge=ultra, **few),
        "listwise, ranks": lambda: listwise(*both, judge=judges.load("ranking"), **few),
        "listwise, best": lambda: listwise(*both, judge=judges.load("best"), **few),
        "combined, pairs": lambda: combined(*both, judge=plain, **one),
        "combined, all": lambda: combined(*both, judge=plain, together="all", **few),
        "criteria_votes": lambda: criteria_votes(
            *both, w["principles"], judge=judges.load("principles"), **one
        ),
        "constitution": lambda: constitution(
            *both, w["principles"], judge=judges.load("constitution"), **one
        ),
        "jury": lambda: jury(*both, jury=mixed, max_pairs=1, reask=False),
        "cascade": lambda: cascade(*both, jury=panel, max_pairs=1, reask=False, budget=1.0),
        "tool": lambda: tool(
            *both, judge=checked, model=m, tools=("calculator",), max_calls=2, reask=False
        ),
        "debate": lambda: debate(*both, judge=roles, models=(m,), reask=False, **debating),
        "feedback_mining": lambda: feedback_mining(w["logs"], max_wishes=2, **few),
        "checklist_votes": lambda: checklist_votes(
            *both, w["ratings"], judge=judges.load("checklist"), **one
        ),
    }


def well_formed(made: Any) -> tuple[int, int]:
    """How many rows of a stage's last table with verdicts there are, and how many were read."""
    found = made if isinstance(made, tuple) else (made,)
    if "measure" in found[-1].columns:  # the reactions that show nothing have no row
        for share in found[-1].filter(pl.col("measure") == "unscored_share").to_dicts():
            return share["n"], round(share["n"] * (1 - share["value"]))
    unscored = next(table for table in reversed(found) if "unscored" in table.columns)["unscored"]
    # A tool that cannot take what it was given was given it in a well-formed reply.
    read = unscored.is_null() | unscored.is_in(HEARD) | unscored.str.contains(r"^error: calculator")
    return len(unscored), int(read.sum())


def free(requests: Requests) -> Requests:
    """The same requests without the schema that would bind the model."""
    options = [json.loads(each) for each in requests["options"]]
    loose = [json.dumps({k: v for k, v in each.items() if k != "schema"}) for each in options]
    return Requests(requests.with_columns(pl.Series("options", loose, pl.String)))


@contextmanager
def small_model(ledger: Path) -> Iterator[tuple[Edge, Model]]:
    spec = ModelSpec(
        client="embedded",
        model="smollm2-135m",
        temperature=0.0,
        engine={"n_ctx": 2048, "n_parallel": 2},
    )
    with Ledger(ledger) as kept, Edge({"m": spec}, kept) as edge:
        yield edge, spec.resolve("m")


def main(n: int) -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {n} prompts, smollm2-135m")
    print(f"{'':6} {'kind':24} {'well-formed':>14} {'seconds':>8}")
    w = world(n)
    with tempfile.TemporaryDirectory() as folder:
        for how, loosen in (("bound", False), ("free", True)):
            with small_model(Path(folder) / how) as (edge, model):

                def answered(
                    requests: Requests, edge: Edge = edge, loosen: bool = loosen
                ) -> Responses:
                    return edge(free(requests) if loosen else requests)

                for name, stage in kinds(w, model).items():
                    start = time.perf_counter()
                    rows, read = well_formed(drive(stage(), answered))
                    took = time.perf_counter() - start
                    said = f"{read}/{rows} = {read / rows:.0%}"
                    print(f"{how:6} {name:24} {said:>14} {took:8.1f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
