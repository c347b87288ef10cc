"""What a build refuses before anything is spent, so that whoever plans one knows it too.

A build, a plan, a deployment and `prefdata doctor` ask here. What only the sources or the ledger
can tell is not here; nor are keys, which a deployment has where its workers are.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from prefdata.errors import BudgetError, ModelError, PrefdataError, PushError
from prefdata.models.packages import is_installed, lacking
from prefdata.models.prices import boundless, priceless
from prefdata.models.spec import ModelSpec
from prefdata.planning.forecast import Forecast
from prefdata.planning.plan import Plan
from prefdata.planning.rehearsal import rehearse

# By what the texts of a version are looked through before it leaves; the extra `hub` brings it.
LOOKS_THROUGH = ("huggingface_hub", "detect_secrets", "phonenumbers", "stdnum")


def refuse(
    planned: Plan,
    *,
    budget: float | None = None,
    push: str | None = None,
    away: Collection[str] = (),
) -> None:
    """Raise the first of the `refusals`, if there is one."""
    for error in refusals(planned, budget=budget, push=push, away=away):
        raise error


def refusals(
    planned: Plan,
    *,
    budget: float | None = None,
    push: str | None = None,
    away: Collection[str] = (),
) -> Iterator[PrefdataError]:
    """Each error with which a build of this plan would end before it has spent anything.

    `budget` is by default the recipe's, `push` a repository that the version is for. Clients that
    are `away` run on other machines, which have what they need.
    """
    try:
        rehearse(planned)
    except PrefdataError as error:
        yield error
    budget = planned.recipe.budget if budget is None else budget
    specs = of_roles(planned)
    yield from unpriced(specs, budget)
    yield from absent({role: spec for role, spec in specs.items() if spec.client not in away})
    if push is not None:
        yield from unpushable(push)


def of_roles(planned: Plan, roles: Iterable[str] | None = None) -> dict[str, ModelSpec]:
    """The models that the stages and exports of a plan ask; of those, these `roles`."""
    stages = (*planned.stages, *planned.exports)
    found = {model.role for stage in stages for model in stage.models}
    if roles is not None:
        found &= set(roles)
    return {role: planned.recipe.specs[role] for role in sorted(found)}


def to_ask(planned: Plan, expected: Iterable[Forecast]) -> list[str]:
    """The models that will be asked something that the ledger does not answer."""
    asking = {each.stage for each in expected if each.unknown or each.requests > each.answered}
    stages = [stage for stage in planned.stages if stage.name in asking]
    return sorted({model.role for stage in stages for model in stage.models})


def unpriced(specs: Mapping[str, ModelSpec], budget: float | None) -> Iterator[BudgetError]:
    """Of models without a price, where there is a budget."""
    if budget is not None:
        yield from (priceless(role) for role, spec in specs.items() if spec.prices is None)


def unbounded(planned: Plan, expected: Iterable[Forecast]) -> Iterator[BudgetError]:
    """Of models whose replies cost and may be of any length, which no budget allows."""
    for role in sorted({role for each in expected for role in each.boundless}):
        prices = planned.recipe.specs[role].prices
        if prices is not None and prices.written:
            yield boundless(role)


def absent(specs: Mapping[str, ModelSpec]) -> Iterator[ModelError]:
    """Of models whose client needs packages that are not installed."""
    yield from filter(None, (lacking(role, spec) for role, spec in specs.items()))


def unpushable(repo: str) -> Iterator[PushError]:
    """Of a repository that is none, and of what a push needs and this Python has not."""
    if missing := [each for each in LOOKS_THROUGH if not is_installed(each)]:
        yield PushError(
            f"a push looks through what leaves by {', '.join(missing)}, which this Python has not; "
            "install it with: pip install 'prefdata[hub]'"
        )
        return
    from prefdata.hub.repository import Repository

    try:
        Repository(repo)
    except PushError as error:
        yield error
