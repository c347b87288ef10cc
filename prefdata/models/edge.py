"""The edge: the one place where a build meets its models.

An `Edge` is what `prefdata.stage.drive` calls with a table of requests. It answers from the ledger
what was ever answered, asks the models for the rest, all of them at once, and has every response
on disk before it counts it.
"""

import itertools
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import polars as pl

from prefdata import tables
from prefdata.errors import ModelError, nearest
from prefdata.models.account import Account, Counts, Progress
from prefdata.models.claims import Claims
from prefdata.models.client import response, responses
from prefdata.models.clients import Clients, Opens
from prefdata.models.costs import cost, worst
from prefdata.models.ledger import Ledger
from prefdata.models.prices import priceless
from prefdata.models.purse import LIMITS, Purse
from prefdata.models.spec import ModelSpec
from prefdata.stage import request_id
from prefdata.tables import Requests, Responses

# So many requests without a single answer are no coincidence.
SILENT = 3


class Edge:
    """Answers requests by `model`, a role among `specs`; to be closed, best by `with`.

    `ledger` keeps the responses. `fresh` asks again what the ledger answers, once an edge; the
    newer answer is the one that is read from then on. The budget of its `purse` (in USD, as the
    prices) is not exceeded: a request is sent only where it could be paid at its worst, that is
    with a token for every byte read and `max_tokens` written; the others get the error "budget
    reached", which is not kept. `BudgetError` where a model has no price, or a reply that costs no
    bound. Likewise no more than the purse's requests are sent, those that fail among them ("request
    limit reached"); trying one again does not count. `watch` is called, from any thread, with the
    `Progress` of a running call; `opens` opens the clients of models. Calls from several threads
    share `clients`; `close` ends those that run, with a `ModelError`.
    """

    def __init__(
        self,
        specs: Mapping[str, ModelSpec],
        ledger: Ledger,
        *,
        fresh: bool = False,
        purse: Purse | None = None,
        watch: Callable[[Progress], None] | None = None,
        opens: Opens | None = None,
    ) -> None:
        self.specs = specs
        self.ledger = ledger
        self.clients = Clients(specs, ledger, opens, fresh=fresh)
        self._fresh = fresh
        self._purse = purse or Purse()
        self._claims = Claims(ledger.folder)
        self._account = Account(watch)
        self._identities: dict[str, str] = {}
        self._refreshed: set[str] = set()
        self._speaking: set[str] = set()
        self._numbers = itertools.count()
        self._wanted = 0
        self._busy: set[str] = set()
        self._freed = threading.Condition()

    @property
    def counts(self) -> Counts:
        """What all calls together have asked, found, lost and spent."""
        return self._account.counts

    @property
    def unanswered(self) -> int:
        """How many requests have no answer, of calls that run or were broken off."""
        done = self.counts
        return self._wanted - done.asked - done.cached - done.unsent

    @property
    def limit(self) -> str:
        """Which limit was reached, where one was."""
        return self._purse.limit

    @property
    def advice(self) -> str:
        """How to use the limit better, where there is something to say."""
        return self._purse.advice

    def __call__(self, requests: Requests) -> Responses:
        """One response for each id that is asked about, in the order of the ids' first places.

        What failed is a row with its `error`. `ModelError` where nothing of it can be answered: a
        role that is unknown, a model that cannot be used and has no others beside it, one that
        answers none of several requests, a ledger that cannot be written, an edge that was
        stopped. What was answered before is kept.
        """
        self.clients.refuse_stopped()
        wanted = Requests(requests.unique("request_id", maintain_order=True))
        self._check(wanted)
        with self._freed:
            self._wanted += wanted.height
        call = _Call(
            Progress(call=next(self._numbers), total=wanted.height),
            is_shared=len(self._parts(wanted)) > 1,
        )
        answers = [pl.DataFrame(tables.empty("responses"))]
        # What another call is busy with is waited for, and is then in the ledger.
        left = wanted
        while left.height:
            with self._claimed(left) as mine:
                found = self._find(mine)
                self._account.add(call.progress, Counts(cached=found.height), found.height)
                rest = Requests(mine.join(found, on="request_id", how="anti"))
                said, others = self._ask_unasked(rest, call)
                answers += [found, *said]
            left = left.join(mine, on="request_id", how="anti")
            if others.height:
                self._await(others, call)
                left = pl.concat([left, others])
            left = Requests(left)
        self._account.show(call.progress)
        ids, said = wanted.select("request_id"), pl.concat(answers)
        if call.broken and said["error"].count() == said.height:
            raise call.broken[0]
        self._refuse_silence(wanted.join(said, on="request_id"))
        return Responses(ids.join(said, on="request_id", maintain_order="left"))

    def would_ask(self, requests: Requests) -> set[str]:
        """The roles among these requests of which the ledger does not answer all."""
        parts = {str(role): set(part["request_id"]) for (role,), part in requests.group_by("model")}
        if self._fresh:
            return {role for role, ids in parts.items() if not ids <= self._refreshed}
        return {role for role, ids in parts.items() if self.ledger.count(ids) < len(ids)}

    def prepare(self, roles: Iterable[str]) -> None:
        """Open the clients of these roles, so that a missing key is found before anything is paid.

        What has to load weights does so with its first request. `BudgetError` as for requests.
        """
        for role in roles:
            self._refuse_priceless(role)
            self.clients.of(role)

    def _refuse_silence(self, answered: pl.DataFrame) -> None:
        """`ModelError` where a model answers none of several requests: that is no row's fault.

        Where another model answered, as in a jury, what is lacking is one of several opinions.
        """
        failed = pl.col("error").is_not_null()
        heard = set(answered.filter(~failed)["model"].to_list())
        self._speaking |= heard
        for (role,), rows in () if heard else answered.group_by("model"):
            reasons = rows.filter(failed & ~pl.col("error").is_in(LIMITS))["error"]
            if str(role) in self._speaking or not SILENT <= len(reasons) == rows.height:
                continue
            raise ModelError(
                f"the model {role!r} answered none of {rows.height} requests, most with "
                f"{reasons.mode().sort()[0]!r}; nothing is lost: mend it and build again"
            )

    def _find(self, wanted: Requests) -> Responses:
        ids = wanted["request_id"].to_list()
        return self.ledger.find(i for i in ids if not self._fresh or i in self._refreshed)

    def _ask_unasked(self, rest: Requests, call: "_Call") -> tuple[list[Responses], pl.DataFrame]:
        """Ask what no other process asks; and the requests that others do, to be waited for.

        Engines of this machine cost nobody money, and batches have a journal of their own.
        """
        paid = [r for r, s in self.specs.items() if s.client == "openai" and s.mode == "live"]
        shared = rest.filter(pl.col("model").is_in(paid))["request_id"]
        if self._fresh or not len(shared):
            return self._ask(rest, call), rest.clear()
        with self._claims.claimed(shared.to_list()) as mine:
            each = pl.col("request_id")
            is_others = each.is_in(shared.to_list()) & ~each.is_in(list(mine))
            others, ours = rest.filter(is_others), Requests(rest.filter(~is_others))
            found = self.ledger.find(mine)  # what was answered before the others let go
            self._account.add(call.progress, Counts(cached=found.height), found.height)
            ours = Requests(ours.join(found, on="request_id", how="anti"))
            return [found, *self._ask(ours, call)], others

    def _await(self, others: pl.DataFrame, call: "_Call") -> None:
        """Wait for what other processes ask, but not for one that is halted."""
        ids = others["request_id"].to_list()

        def tell(awaited: int, by: str) -> None:
            call.progress.awaited, call.progress.by = awaited, by
            self._account.show(call.progress)

        self._claims.wait(
            ids,
            answered=lambda: self.ledger.count(ids),
            check=self.clients.refuse_stopped,
            tell=tell,
        )
        tell(0, "")

    def _ask(self, rest: Requests, call: "_Call") -> list[Responses]:
        """Ask every client its part at once."""
        parts = self._parts(rest)
        if len(parts) <= 1:
            return [batch for part in parts for batch in self._hear(part, call)]
        with ThreadPoolExecutor(len(parts), thread_name_prefix="prefdata-model") as pool:
            running = [pool.submit(self._hear, part, call) for part in parts]
            try:
                wait(running, return_when=FIRST_EXCEPTION)
                call.stopped = any(each.done() and each.exception() for each in running)
            except BaseException:
                call.stopped = True
                raise
        return [batch for each in running for batch in each.result()]

    def _parts(self, rest: Requests) -> list[Requests]:
        """The requests of each client; roles that are served alike share one."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for role in rest["model"].unique(maintain_order=True):
            groups.setdefault(self.specs[role].served(), []).append(role)
        return [Requests(rest.filter(pl.col("model").is_in(roles))) for roles in groups.values()]

    def _hear(self, part: Requests, call: "_Call") -> list[Responses]:
        """The answers of one client. One that cannot be used fails its requests, and no others.

        Where there are no others, that is a `ModelError`.
        """
        answers: list[Responses] = []
        try:
            self._converse(part, call, answers)
        except ModelError as error:
            if not call.is_shared or self.clients.is_closed or self.clients.is_stopping:
                raise
            call.broken.append(error)
            heard = pl.concat([tables.empty("responses"), *answers])
            lost = part.join(heard, on="request_id", how="anti")["request_id"]
            counts = Counts(asked=len(lost), failed=len(lost))
            self._account.add(call.progress, counts, len(lost))
            answers.append(responses(response(each, error=str(error)) for each in lost))
        return answers

    def _converse(self, part: Requests, call: "_Call", answers: list[Responses]) -> None:
        """Put one client's requests to it, what is free first, as far as the money goes."""
        priced = [r for r, spec in self.specs.items() if spec.prices and not spec.prices.is_free]
        part = Requests(part.sort(pl.col("model").is_in(priced), maintain_order=True))
        while part.height and not call.stopped:
            self.clients.refuse_stopped()
            held = self._worst(part)
            n = self._purse.reserve([*held.values()])
            sent, part = Requests(part.head(n)), Requests(part.slice(n))
            if not n:
                answers.append(self._refuse(part, call))
                break
            self.ledger.open()
            held = {each: held[each] for each in sent["request_id"]}
            places = {each: at for at, each in enumerate(held)}
            try:
                with closing(self.clients.answers(sent["model"][0], sent, held)) as batches:
                    for batch in batches:
                        if batch.height:
                            asked = Requests(sent[[places[each] for each in batch["request_id"]]])
                            answers.append(self._take(asked, batch, call, held))
                        else:
                            self._account.add(call.progress, Counts(), 0)
                        if call.stopped:
                            break
                if held and not call.stopped:
                    answers.append(self._taken_from_others(held, call))
            finally:
                self._purse.settle(sum(held.values()), 0.0)

    def _taken_from_others(self, ids: Collection[str], call: "_Call") -> Responses:
        """What a client has left out, because another build has brought it meanwhile."""
        found = self.ledger.find(ids)
        self._refreshed.update(found["request_id"] if self._fresh else ())
        self._account.add(call.progress, Counts(cached=found.height), found.height)
        return found

    def _worst(self, part: Requests) -> dict[str, float]:
        """The most that each request can cost, where that matters."""
        if self._purse.is_budgeted:
            return worst(part, self.specs)
        return dict.fromkeys(part["request_id"], 0.0)

    def _take(
        self, asked: Requests, batch: Responses, call: "_Call", held: dict[str, float]
    ) -> Responses:
        """Have a batch on disk, then pay and count it. `asked` are its requests, row for row."""
        served = pl.Series("model", [self._identities[role] for role in asked["model"]], pl.String)
        self.ledger.append(
            Requests(asked.clone().replace_column(asked.columns.index("model"), served)),
            batch,
            again=self._fresh,
        )
        self._refreshed.update(batch["request_id"] if self._fresh else ())
        spent = cost(asked, batch, self.specs)
        reserved = sum(held.pop(each) for each in batch["request_id"])
        self._purse.settle(reserved, spent)
        counts = Counts(
            asked=batch.height,
            failed=batch["error"].count(),
            tokens_in=int(batch["tokens_in"].sum()),
            tokens_out=int(batch["tokens_out"].sum()),
            cost=spent,
        )
        self._account.add(call.progress, counts, batch.height)
        return batch

    def _refuse(self, part: Requests, call: "_Call") -> Responses:
        self._account.add(call.progress, Counts(unsent=part.height), part.height)
        return responses(response(each, error=self.limit) for each in part["request_id"])

    def _check(self, wanted: Requests) -> None:
        for role in wanted["model"].unique():
            if role not in self.specs:
                raise ModelError(
                    f"no model {role!r} among those of the recipe; {nearest(role, self.specs)}"
                )
            self._refuse_priceless(role)
            if role not in self._identities:
                self._identities[role] = self.specs[role].identity()
                self._refuse_changed(role, wanted)

    def _refuse_changed(self, role: str, wanted: Requests) -> None:
        """`ModelError` where requests are for other weights than those that are there now.

        Their answers would be kept, and found ever after, as those of the weights before.
        """
        one = wanted.filter(pl.col("model") == role).row(0, named=True)
        what = (one[name] for name in ("want", "messages", "completion", "options", "draw"))
        if request_id(self._identities[role], *what) != one["request_id"]:
            raise ModelError(
                f"the model {role!r} is not the one that was planned for: its weights or settings "
                "changed meanwhile; build again"
            )

    def _refuse_priceless(self, role: str) -> None:
        if self._purse.is_budgeted and self.specs[role].prices is None:
            raise priceless(role)

    @contextmanager
    def _claimed(self, wanted: Requests) -> Generator[Requests]:
        """Those requests that no other call is busy with; waits until there are some."""
        ids = wanted["request_id"].to_list()
        with self._freed:
            self._freed.wait_for(lambda: any(each not in self._busy for each in ids))
            mine = [each for each in ids if each not in self._busy]
            self._busy.update(mine)
        try:
            yield Requests(wanted.filter(pl.col("request_id").is_in(mine)))
        finally:
            with self._freed:
                self._busy.difference_update(mine)
                self._freed.notify_all()

    def close(self) -> None:
        self.clients.close()

    def __enter__(self) -> "Edge":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class _Call:
    """One call of an edge, while it runs; `broken` says what some of several clients lack."""

    progress: Progress
    is_shared: bool = False
    stopped: bool = False
    broken: list[ModelError] = field(default_factory=list[ModelError])
