"""The wheel holds the package and its data under one name, and works without the checkout."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = ["prefdata", "flows", "judges", "schemas"]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    for name in TOP:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data" / "sources", tree / "data" / "sources")
    for name in ("data/__init__.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(tree)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return next((tree / "dist").glob("*.whl"))


def test_only_prefdata_goes_to_site_packages(wheel: Path):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"prefdata"}


def test_every_module_and_data_file_is_in_it(wheel: Path):
    inside = set(zipfile.ZipFile(wheel).namelist())
    for folder in TOP:
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in {".py", ".json", ".toml"} and "__pycache__" not in file.parts:
                name = str(file.relative_to(ROOT))
                assert (name if folder == "prefdata" else f"prefdata/{name}") in inside
    for file in (ROOT / "data" / "sources").iterdir():
        assert f"prefdata/data/sources/{file.name}" in inside


def test_the_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import prefdata, sys; assert prefdata.__file__.startswith(sys.argv[1]), prefdata.__file__;"
        "from prefdata.recipe import Recipe, bundled; from prefdata.planning.plan import plan;"
        "[plan(Recipe.load(name)) for name in bundled()]; print(*sorted(bundled()))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"},
    )
    assert ran.returncode == 0, ran.stderr
    assert {"quickstart", "pandalm-humans"} <= set(ran.stdout.split())


def test_every_dependency_is_pinned():
    pins = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # vllm is the user's GPU build; the CPU build that tests run is pinned in its own file.
    named = [*project["dependencies"], *(d for e in extras if e != "vllm" for d in extras[e])]
    for requirement in named:
        name = requirement.split(">")[0].split("[")[0].split("=")[0].strip().lower()
        assert name.replace("_", "-") in pins | {"prefdata"}, f"{name} is not in constraints.txt"
