"""A method is one file and one test; what is missing of it fails here."""

import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

from prefdata.recipe import VERBS, find_stage, stages
from prefdata.stage import contract

TESTS = Path(__file__).parent
STAGES = sorted(stages())


def test_every_verb_of_the_pipeline_is_a_package_or_not_there_yet():
    import prefdata

    packages = {m.name for m in pkgutil.iter_modules(prefdata.__path__) if m.ispkg}
    others = "commands models flows judges schemas data sources screen version judge people check"
    others += " sandbox doctor hub planning disk"
    assert packages - set(VERBS) <= set(others.split())


@pytest.mark.parametrize("use", STAGES)
def test_a_stage_is_a_documented_function_of_tables_with_a_test(use: str):
    verb, method = use.split(".")
    function = find_stage(use)
    assert inspect.isfunction(function), f"{use} is the function {method} in its file"
    terms = contract(function)  # raises if a positional parameter or the result is no table
    doc = inspect.getdoc(function) or ""
    module_doc = import_module(function.__module__).__doc__ or ""
    assert "Source:" in doc + module_doc, f"{use} names its source"
    undescribed = [o for o in terms.options if not re.search(rf"`{o}`|^ *{o}:", doc, re.M)]
    assert not undescribed, f"{use} describes its options: {undescribed}"
    assert (TESTS / verb / f"test_{method}.py").is_file(), f"tests/{verb}/test_{method}.py"


@pytest.mark.parametrize("use", STAGES)
def test_a_stage_that_measures_sees_all_prompts(use: str):
    """Else each shard has a number of its own under the same name."""
    terms = contract(find_stage(use))
    assert terms.needs_all or "measures" not in terms.writes


@pytest.mark.parametrize("use", STAGES)
def test_options_have_annotations(use: str):
    for option in contract(find_stage(use)).options.values():
        assert option.annotation is not inspect.Parameter.empty
