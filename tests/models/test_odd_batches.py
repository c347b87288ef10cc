"""Odd objects of a provider: what can be read of them is, and nothing is paid twice."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from prefdata.errors import ModelError
from prefdata.models.ledger import Ledger
from tests.models.conftest import ask
from tests.models.test_batch import TEXTS, SpecOf, asked, batch_of, impatient, left_behind

__all__ = ["batch_of", "impatient"]
ABSENT = object()


def odd(what: str, times: float = math.inf, **fields: Any) -> Callable[[str, dict[str, Any]], Any]:
    """A provider that says something odd of one thing, so many times."""
    said_so = itertools.count(1)

    def shape(about: str, said: dict[str, Any]) -> Any:
        if about != what or next(said_so) > times:
            return said
        return {name: each for name, each in {**said, **fields}.items() if each is not ABSENT}

    return shape


ODD_COUNTS: list[Any] = [[1, 2], "12 of 30", 7, ABSENT, {"completed": "many", "failed": [1]}]
ODD_COUNTS += [{"completed": -4, "failed": 1e300}]


@pytest.mark.parametrize("counts", ODD_COUNTS)
def test_odd_counts_cost_only_the_figures(
    counts: Any, server: Any, batch_of: SpecOf, ledger: Ledger
):
    server.batches.looks = 2
    server.batches.shape = odd("batch", request_counts=counts)
    spec = batch_of()
    assert asked(spec, ask(spec, TEXTS[:5]), ledger)["error"].null_count() == 5
    assert server.batches.created == 1


@pytest.mark.parametrize("errors", [5, "all wrong", ["wrong"], {"data": 7}, {"data": [3, "no"]}])
def test_a_batch_that_failed_for_odd_reasons_is_made_again(
    errors: Any, server: Any, batch_of: SpecOf, ledger: Ledger
):
    failed: dict[str, Any] = {"status": "failed", "errors": errors, "output_file_id": None}
    server.batches.shape = odd("batch", times=1, **failed)
    spec = batch_of()
    assert asked(spec, ask(spec, TEXTS[:5]), ledger)["error"].null_count() == 5
    assert server.batches.created == 2


def test_a_file_may_be_called_by_a_number(server: Any, batch_of: SpecOf, ledger: Ledger):
    def shape(what: str, said: dict[str, Any]) -> Any:
        if what == "file":
            server.batches.files["17"] = server.batches.files[said["id"]]
            return {**said, "id": 17}
        if what == "batch" and said["output_file_id"]:
            server.batches.files["18"] = server.batches.files[said["output_file_id"]]
            return {**said, "output_file_id": 18}
        return said

    server.batches.shape = shape
    spec = batch_of()
    assert asked(spec, ask(spec, TEXTS[:5]), ledger)["error"].null_count() == 5
    assert set(server.seen().values()) == {1}


ODD_BATCHES: list[dict[str, Any]] = [
    *({"status": status} for status in (ABSENT, None, "", 7, ["completed"])),
    *({"output_file_id": name} for name in (["file-1"], {"id": "file-1"}, 1.5)),
]


@pytest.mark.parametrize("fields", ODD_BATCHES)
def test_what_is_no_batch_is_looked_at_again_and_not_for_ever(
    fields: dict[str, Any],
    server: Any,
    batch_of: SpecOf,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("prefdata.models.provider.POLLS", 3)
    spec = batch_of()
    server.batches.shape = odd("batch", times=3, **fields)
    assert asked(spec, ask(spec, TEXTS[:5]), ledger)["error"].null_count() == 5
    server.batches.shape = odd("batch", **fields)
    table = ask(spec, TEXTS)
    with pytest.raises(ModelError, match=r"batch batch_0002 is remembered"):
        asked(spec, table, ledger)
    server.batches.shape = odd("nothing")
    assert asked(spec, table, ledger)["error"].null_count() == 30
    assert server.batches.created == 2
    assert set(server.seen().values()) == {1}
    assert not left_behind(ledger)


@pytest.mark.parametrize("data", [ABSENT, {}, "none", 0])
def test_what_is_no_list_does_not_say_that_a_batch_is_not_there(
    data: Any, server: Any, batch_of: SpecOf, ledger: Ledger
):
    spec = batch_of()
    server.fault("lost", match="POST /v1/batches", times=1)
    server.batches.shape = odd("list", data=data)
    with pytest.raises(ModelError, match="malformed reply"):
        asked(spec, ask(spec, TEXTS), ledger)
    server.batches.shape = odd("list", data=data, times=2)
    assert asked(spec, ask(spec, TEXTS), ledger)["error"].null_count() == 30
    assert server.batches.created == 1
    assert not left_behind(ledger)


@pytest.mark.parametrize("made", [{"id": ABSENT}, {"id": None}, {"id": ""}, {"id": ["batch_1"]}])
def test_a_batch_that_is_made_without_a_name_is_found_in_the_list(
    made: dict[str, Any], server: Any, batch_of: SpecOf, ledger: Ledger
):
    """Among other people's, of whom the list says whatever it likes."""

    def shape(what: str, said: dict[str, Any]) -> Any:
        if what == "list":
            return {**said, "data": [None, "x", {"metadata": "mine"}, {}, *said["data"]]}
        return nameless(what, said)

    nameless = odd("made", **made)
    server.batches.shape = shape
    spec = batch_of()
    assert asked(spec, ask(spec, TEXTS), ledger)["error"].null_count() == 30
    assert server.batches.created == 1


@pytest.mark.parametrize("data", [None, [], [{"id": "of another", "created_at": "yesterday"}]])
def test_a_list_without_ours_ends_though_it_says_that_there_is_more(
    data: Any, server: Any, batch_of: SpecOf, ledger: Ledger
):
    server.fault("cut", match="POST /v1/batches", times=1)
    server.batches.shape = odd("list", data=data, has_more=True)
    spec = batch_of()
    assert asked(spec, ask(spec, TEXTS), ledger)["error"].null_count() == 30
    assert server.batches.created == 1
