"""Ask a judge to rank several completions of a prompt at once, or to name the best of them.

A list longer than `window` is ranked by a window that slides from its end to its beginning: what
stands in the window is put in the order the judge gives it, the window moves up by `step`, and so
the best `window - step` completions rise to the front in one pass. A second pass puts as many more
in their places. Of a judge that names the best, the best so far meets `window - 1` others, until
it has met all.

The order shown at first is drawn; every second draw begins with the order of the one before it
turned round, so that a judge that likes early places does not move the sum of both.

Source: the sliding window follows Sun et al. 2023, "Is ChatGPT Good at Search? Investigating Large
Language Models as Re-Ranking Agents"; both directions are our own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import polars as pl

from prefdata import tables
from prefdata.annotate._showing import lists
from prefdata.errors import RecipeError
from prefdata.judge import LETTERS, Judge, ask
from prefdata.stage import Asks, Model
from prefdata.tables import Completions, Messages, Prompts, Rankings


@dataclass
class _List:
    """One ranking in the making: ids, the best so far first; is each equal to the one before it?"""

    prompt_id: str
    draw: int
    ids: list[str]
    equal: list[bool]
    reasons: list[str] = field(default_factory=list[str])
    request_id: str | None = None
    unscored: str | None = None


def listwise(
    prompts: Prompts,
    completions: Completions,
    *,
    judge: Judge,
    model: Model,
    draws: int = 2,
    window: int = 8,
    step: int | None = None,
    passes: int = 1,
    reask: bool = True,
    seed: int = 0,
) -> Asks[Rankings]:
    """One ranking by `llm:<model>/<judge>` of all completions of each prompt, for each draw.

    `ranks` begin at 1 for the best; equal ones share the smaller rank, as in 1, 2, 2, 4. Of a
    judge that names the best, the others all have rank 2. Two completions that never stood in one
    window after the last change are taken in the order of the list. A prompt with one completion
    has no ranking. A window without a well-formed verdict leaves the ranking unscored with the
    reason, and is kept as its rationale; a failed request leaves it unscored with "error: ...".
    Of several windows `rationale` has all reasons, a line each, and `request_id` the last.

    judge: a listwise judge: what is asked, and whether ranks or the best.
    model: who is asked.
    draws: rankings of each prompt; with two, each order is shown once forwards, once backwards.
    window: at most so many completions are shown at once, 2 to 26.
    step: the window moves by so many, 1 to `window` - 1; null: half of it. A judge that names the
        best heeds neither it nor `passes`.
    passes: how often the window slides over the list.
    reask: ask once more, with the complaint, where the first reply has no verdict.
    seed: what the orders shown come from.

    Raises `RecipeError` for a judge that is not listwise and for an option out of range.
    """
    judge.must_be("listwise", "annotate.listwise")
    step = step if step is not None else max(1, window // 2)
    for option, value, least, most in (
        ("draws", draws, 1, None),
        ("window", window, 2, len(LETTERS)),
        ("step", step, 1, max(1, window - 1)),
        ("passes", passes, 1, None),
    ):
        if value < least or (most is not None and value > most):
            bound = f"at least {least}" + (f", at most {most}" if most is not None else "")
            raise RecipeError(f"annotate.listwise: {option} = {value}; it is {bound}")
    wants_best = judge.criteria[0].scale.values == ("best",)
    if wants_best:
        step, passes = window - 1, 1
    asked = prompts.select("prompt_id", "prompt")
    said = completions.join(asked.select("prompt_id"), on="prompt_id", how="semi")
    texts = dict(said.select("completion_id", "completion").rows())
    prompt = dict(asked.rows())
    ranked = list(_begun(Completions(said), draws, seed))
    plans = [list(_starts(len(each.ids), window, step)) * passes for each in ranked]
    for turn in range(max(map(len, plans), default=0)):
        now = [
            (each, starts[turn])
            for each, starts in zip(ranked, plans, strict=True)
            if turn < len(starts) and each.unscored is None
        ]
        yield from _turn(now, judge, model, window, reask, prompt, texts)
    return _rankings(ranked, wants_best, judge, model)


def _begun(completions: Completions, draws: int, seed: int) -> Iterator[_List]:
    both = lists(completions, orders="both", draws=(draws + 1) // 2, seed=seed)
    for prompt_id, draw, forward, ids in both.iter_rows():
        at = 2 * draw + (not forward)
        if at < draws:
            yield _List(prompt_id, at, ids, [False] * len(ids))


def _starts(n: int, window: int, step: int) -> Iterator[int]:
    """Where the window begins, from the end of the list to its beginning."""
    start = max(0, n - window)
    yield start
    while start > 0:
        start = max(0, start - step)
        yield start


def _turn(
    now: Sequence[tuple[_List, int]],
    judge: Judge,
    model: Model,
    window: int,
    reask: bool,
    prompt: dict[str, Messages],
    texts: dict[str, Messages],
) -> Asks[None]:
    """Ask about one window of each list, and put its completions in the order given."""
    if not now:
        return
    frames: dict[int, list[tuple[int, Messages]]] = {}
    for at, (each, start) in enumerate(now):
        shown = each.ids[start : start + window]
        messages = judge.render(prompt[each.prompt_id], *(texts[id] for id in shown))
        frames.setdefault(len(shown), []).append((at, messages))
    asked = [
        (
            judge.form(size),
            pl.DataFrame(
                {
                    "at": [at for at, _ in rows],
                    "draw": [now[at][0].draw for at, _ in rows],
                    "messages": tables.conversations("messages", [said for _, said in rows]),
                },
                {"at": pl.Int64, "draw": pl.Int64, "messages": tables.MESSAGES},
            ),
        )
        for size, rows in frames.items()
    ]
    heard = yield from ask(asked, model, reask=reask)
    for (at,), group in heard.group_by("at", maintain_order=True):
        each, start = now[int(str(at))]
        _heard(each, start, min(start + window, len(each.ids)), group)


def _heard(ranked: _List, start: int, end: int, verdict: pl.DataFrame) -> None:
    """Bring a verdict on the completions from `start` to before `end` into the list."""
    said = verdict.select("request_id", "rationale", "unscored", "key", "raw").row(0)
    ranked.request_id, reason, ranked.unscored, key, raw = said
    if ranked.unscored is not None:
        ranked.reasons = []  # what is kept is the reply that says nothing
    if reason is not None:
        ranked.reasons.append(reason)
    if ranked.unscored is not None:
        return
    if key == "verdict":
        worth = [float(letter == raw) for letter in LETTERS[: end - start]]
    else:
        worth = verdict["worth"].to_list()
    places = sorted(range(end - start), key=lambda at: -worth[at])  # equal ones stay as they stood
    last = ranked.ids[end - 1]
    ranked.ids[start:end] = [ranked.ids[start + at] for at in places]
    after = [False, *(worth[b] == worth[a] for a, b in pairwise(places))]
    ranked.equal[start:end] = after
    if end < len(ranked.ids) and ranked.ids[end - 1] != last:
        ranked.equal[end] = False  # it never met the one before it


def _rankings(ranked: Sequence[_List], wants_best: bool, judge: Judge, model: Model) -> Rankings:
    rows: list[tuple[object, ...]] = []
    for each in ranked:
        ids, equal = list(each.ids), list(each.equal)
        if wants_best:
            ids = [ids[0], *sorted(ids[1:])]
            equal = [False, False, *([True] * (len(ids) - 2))]
        ranks: list[int] = []
        for at, same in enumerate(equal):
            ranks.append(ranks[-1] if same else at + 1)
        scored = each.unscored is None
        rows.append(
            (
                each.prompt_id,
                f"llm:{model.name}/{judge.name}",
                judge.criteria[0].name,
                each.draw,
                ids if scored else None,
                ranks if scored else None,
                "\n".join(each.reasons) or None,
                each.unscored,
                each.request_id,
            )
        )
    stated = tables.schema("rankings")
    return Rankings(pl.DataFrame(rows, stated.dtypes, orient="row"))
