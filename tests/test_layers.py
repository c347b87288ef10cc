"""Who may import what: stages are pure, models are asked in one place, start-up is light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import prefdata
from prefdata.recipe import VERBS

PACKAGE = Path(prefdata.__file__).parent
STAGE_MAY_IMPORT = {
    *("numpy", "scipy", "polars", "sklearn", "torch", "typing_extensions"),
    *("jsonschema", "referencing", "py3langid"),  # of annotate._checks
}
STAGE_MAY_IMPORT_OF_PREFDATA = {"tables", "tool_calls", "stage", "judge", "errors", *VERBS}
TOUCHES_THE_WORLD = {
    "os", "io", "pathlib", "shutil", "socket", "subprocess", "urllib", "http", "requests", "time",
    "datetime", "random", "asyncio", "threading", "tempfile", "builtins", "secrets", "uuid",
}  # fmt: skip
STAGE_FILES = sorted(f for verb in VERBS for f in (PACKAGE / verb).glob("*.py"))
ALL_FILES = sorted(PACKAGE.rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            if node.module == "prefdata":
                yield from (f"prefdata.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", STAGE_FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_a_stage_imports_arithmetic_and_the_contract_only(file: Path):
    for name in imports(file):
        top, _, rest = name.partition(".")
        assert top not in TOUCHES_THE_WORLD, f"{file.name} imports {name}"
        if top == "prefdata" and rest:
            assert rest.split(".")[0] in STAGE_MAY_IMPORT_OF_PREFDATA, f"{file.name}: {name}"
        elif top not in sys.stdlib_module_names and top != "prefdata":
            assert top in STAGE_MAY_IMPORT, f"{file.name} imports {name}"


@pytest.mark.parametrize("file", STAGE_FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_a_stage_opens_prints_and_evaluates_nothing(file: Path):
    calls = [n.func for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)]
    named = {call.id for call in calls if isinstance(call, ast.Name)}
    assert not named & {"open", "print", "eval", "exec", "input", "__import__", "compile"}


def test_only_one_place_imports_flows_and_lazily():
    naming = {file.name for file in ALL_FILES if "prefdata.flows.build" in file.read_text()}
    assert naming == {"way.py"}
    code = (
        "import sys, prefdata.dataset, prefdata.cli; print('prefdata.flows.build' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_only_models_import_a_client_library():
    for file in ALL_FILES:
        if (PACKAGE / "models") in file.parents:
            continue
        clients = {"openai", "vllm", "xllamacpp", "transformers", "aiohttp", "httpx"}
        assert not clients & {name.split(".")[0] for name in imports(file)}, file


def test_reading_does_not_lean_on_writing():
    for file in (PACKAGE / "sources").glob("*.py"):
        assert not [name for name in imports(file) if name.startswith("prefdata.export")], file


def test_nothing_evaluates_or_unpickles():
    for file in ALL_FILES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        calls = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call)]
        assert not {c.id for c in calls if isinstance(c, ast.Name)} & {"eval", "exec"}, file
        assert not {n.split(".")[0] for n in imports(file)} & {"pickle", "marshal", "shelve"}, file


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from prefdata.cli import app; "
        "heavy = {'polars', 'pyarrow', 'datasets', 'openai', 'prefect', 'torch', 'numpy', "
        "'pydantic', 'pandas', 'scipy', 'aiohttp', 'xllamacpp', 'vllm'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
