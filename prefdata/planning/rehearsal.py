"""The options of all stages, tried on tables without a row before any source is read.

A stage checks its options when it runs, and on no rows it has nothing else to do: it returns
tables without a row, or says what is wrong with its options. Names that only rows can tell, such as
a criterion's, are not known then and no fault.
"""

from prefdata import sources
from prefdata import tables as t
from prefdata.errors import JudgeError, PrefdataError, RecipeError, TableError
from prefdata.loop import run_stage
from prefdata.planning.plan import Plan
from prefdata.tables import Requests, Responses


def rehearse(plan: Plan) -> None:
    """Raise the `RecipeError`, `TableError` or `JudgeError` of a stage or export on no rows.

    What a stage does not foresee is no mistake of the recipe, and shows when it runs on rows.
    """
    have = {*sources.tables_made(plan.recipe.sources, plan.recipe.folder), "dropped"}
    if plan.pairs_are_imported:
        have.add("pairs")
    for stage in (*plan.stages, *plan.exports):
        try:
            run_stage(stage, {name: t.empty(name) for name in have}, _nobody)
        except (RecipeError, TableError, JudgeError):
            raise
        except PrefdataError:
            pass
        have |= {*stage.contract.writes} - {"rows"}


def _nobody(requests: Requests) -> Responses:
    """Nothing is asked; a stage that asks before it has a row is not tried further."""
    raise NotImplementedError
