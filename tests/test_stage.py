import sys
import types

import polars as pl
import pytest

from prefdata import tables as t
from prefdata.errors import RecipeError, TableError
from prefdata.stage import (
    Asks,
    Model,
    Parts,
    contract,
    drive,
    drive_parts,
    keys,
    requests,
    together,
    whole,
)
from prefdata.tables import (
    Completions,
    Dropped,
    Pairs,
    Prompts,
    Requests,
    Responses,
    Scores,
    Votes,
    digest,
)

MODEL = Model("writer", "smol", "smol@1", {"temperature": 0.9})
HI = pl.Series([[{"role": "user", "content": "hi"}], [{"role": "user", "content": "ho"}]])


def answer(asked: Requests) -> Responses:
    told = asked.select("request_id", text=pl.col("messages").list.first().struct.field("content"))
    return Responses(told.with_columns(tokens_in=pl.lit(1), tokens_out=pl.lit(1)))


def ids(model: Model = MODEL, **changes: object) -> list[str]:
    arguments: dict[str, object] = {"want": "text", "messages": HI} | changes
    return requests(model, **arguments)["request_id"].to_list()  # pyright: ignore


def test_equal_requests_share_their_id_and_all_that_changes_the_answer_changes_it():
    assert ids() == ids()
    assert len(set(ids())) == 2
    for changed in (
        ids(Model("writer", "smol", "smol@2", MODEL.options)),
        ids(Model("writer", "smol", "smol@1", {"temperature": 0.8})),
        ids(want="logprobs"),
        ids(draw=1),
        ids(options={"schema": {}}),
        ids(completion=HI),
    ):
        assert not set(ids()) & set(changed)


@pytest.mark.parametrize("want", ["logprobs", "hidden", "embedding", "reward", "tokens"])
def test_what_is_only_read_does_not_depend_on_how_a_model_writes(want: str):
    template = {"chat_template_kwargs": {"thinking": False}}
    plain = Model("writer", "smol", "smol@1", template)
    sampling = {"temperature": 0.8, "top_p": 0.5, "max_tokens": 9, "seed": 1, "stop": ["x"]}
    drawing = Model("writer", "smol", "smol@1", {**template, **sampling}, {"max_tokens": 7})
    assert ids(plain, want=want) == ids(drawing, want=want)
    assert not set(ids(plain, want=want)) & set(ids(MODEL, want=want))


def test_the_names_in_a_recipe_do_not_change_a_request():
    assert ids() == ids(Model("judge", "another name", "smol@1", {"temperature": 0.9}))


def test_a_default_holds_where_neither_the_model_nor_who_asks_says_more():
    bounded = Model("writer", options={"top_p": 0.5}, defaults={"max_tokens": 9, "top_p": 1.0})
    said = [
        requests(bounded, "text", HI, options=options)["options"][0]
        for options in ({}, {"max_tokens": 3})
    ]
    assert said == ['{"max_tokens": 9, "top_p": 0.5}', '{"max_tokens": 3, "top_p": 0.5}']


def test_a_seed_differs_from_draw_to_draw():
    seeded = Model("writer", options={"seed": 7})
    asked = requests(seeded, "text", HI, draw=pl.Series([0, 3]))
    assert asked["options"].to_list() == ['{"seed": 7}', '{"seed": 10}']


def test_drive_sends_equal_requests_once_and_returns_what_the_stage_returns():
    seen: list[int] = []

    def twice():
        first = yield requests(MODEL, "text", HI.append(HI))
        second = yield requests(
            MODEL,
            "text",
            first["text"]
            .sort()
            .head(1)
            .map_elements(lambda text: [{"role": "user", "content": text}], t.MESSAGES),
        )
        return first.height, second["text"].to_list()

    def counting(asked: Requests) -> Responses:
        seen.append(asked.height)
        return answer(asked)

    assert drive(twice(), counting) == (2, ["hi"])
    assert seen == [2, 1]


def test_drive_passes_on_what_a_stage_without_a_model_returned():
    frame = pl.DataFrame({"x": [1]})
    assert drive(frame, answer) is frame


def test_drive_refuses_a_client_that_loses_or_invents_an_answer():
    def once():
        return (yield requests(MODEL, "text", HI))

    with pytest.raises(TableError, match="2 requests got 1 responses"):
        drive(once(), lambda asked: Responses(answer(asked).head(1)))
    with pytest.raises(TableError, match="appears once"):
        drive(once(), lambda asked: Responses(pl.concat([answer(asked), answer(asked)])))


def test_nothing_to_ask_asks_nothing():
    def none():
        return (yield requests(MODEL, "text", HI.head(0)))

    def fail(asked: Requests) -> Responses:
        raise AssertionError("asked")

    assert drive(none(), fail).is_empty()


def asking(
    prompts: Prompts, completions: Completions, scores: Scores | None = None, *, n: int = 1
) -> Asks[tuple[Votes, Dropped]]:
    raise AssertionError


def plain(pairs: Pairs, *, low: float) -> Pairs:
    return pairs


def stray(pairs: Pairs, threshold: float) -> Pairs:
    return pairs


def untyped(pairs: Pairs):
    return pairs


def test_a_contract_is_what_the_signature_says():
    terms = contract(asking)
    assert terms.reads == ("prompts", "completions")
    assert terms.reads_if_there == ("scores",)
    assert terms.writes == ("votes", "dropped")
    assert terms.asks
    assert list(terms.options) == ["n"]
    assert not terms.needs_all
    terms = contract(plain)
    assert (terms.reads, terms.writes, terms.asks) == (("pairs",), ("pairs",), False)


@pytest.mark.parametrize("function", [stray, untyped])
def test_what_is_no_stage_says_why(function):
    with pytest.raises(RecipeError, match=f"{function.__name__} is not a stage"):
        contract(function)


def test_a_file_says_that_its_stage_needs_all_prompts(monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("needs_all")
    module.SCOPE = "all"  # pyright: ignore
    monkeypatch.setitem(sys.modules, "needs_all", module)
    monkeypatch.setattr(plain, "__module__", "needs_all")
    assert contract(plain).needs_all


def test_stages_that_run_together_ask_in_common_rounds_and_return_what_each_would():
    seen: list[int] = []

    def asking_of(n: int):
        heard: list[str] = []
        for at in range(n):
            turns = pl.Series([[{"role": "user", "content": f"{n}, {at}"}]])
            heard += (yield requests(MODEL, "text", turns))["text"].to_list()
        return heard

    def counting(asked: Requests) -> Responses:
        seen.append(asked.height)
        return Responses(answer(asked).reverse())

    lengths = [2, 0, 3, 1, 2]
    alone = [drive(asking_of(n), answer) for n in lengths]
    assert drive(together([asking_of(n) for n in lengths]), counting) == alone
    assert seen == [3, 2, 1]  # the two of length 2 ask the same, which is sent once
    assert drive(together([]), counting) == []


def counting() -> Parts[pl.DataFrame]:
    """Each pair with the number of all: two passes over the shards and one that makes."""
    counts = yield lambda pairs, _: pairs.select(n=pl.len())
    again = yield lambda pairs, _: pairs.select(n=pl.len() * 2)
    n = counts["n"].sum() + again["n"].sum()
    return lambda pairs, _: pairs.with_columns(n=pl.lit(n))


def test_what_is_done_in_parts_is_what_is_done_on_all_at_once():
    pairs = pl.DataFrame({"pair_id": ["a", "b", "c", "d", "e"]})
    at_once = whole(counting(), pairs, None)
    apart = list(drive_parts(counting(), lambda: [(pairs[:2], None), (pairs[2:], None)]))
    assert at_once["n"].to_list() == [15] * 5
    assert [each.height for each in apart] == [2, 3]
    assert pl.concat(apart).equals(at_once)


def test_keys_of_ids_are_in_their_order_and_others_have_their_own():
    names = [digest("some", at) for at in range(1000)]
    made = keys(pl.Series(names))
    assert made.n_unique() == 1000
    assert made.arg_sort().to_list() == pl.Series(names).arg_sort().to_list()
    mixed = keys(pl.Series(["p1", None, names[0], "p2", "g" * 20, "p1", "12"]))
    assert mixed[1] is None
    assert mixed[2] == made[0]
    assert mixed[0] == mixed[5]
    assert mixed.drop_nulls().n_unique() == 5
