"""The command line: what it prints where, its exit codes, and what it says when things go wrong."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
import tomllib
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from prefdata import cli, way
from prefdata.judge import names as judge_names
from prefdata.judge.jury import names as jury_names
from prefdata.recipe import VERBS, Recipe, bundled, find_stage, stages
from prefdata.sources import Sources, read
from prefdata.stage import contract

RECIPE = """
name = "planted"
description = "Planted annotators"
sources.prompts = "prompts.jsonl"

[models.writer]
client = "scripted"

[models.judge]
client = "scripted"
accuracy = 0.9
malformed_rate = 0.1
price_in = 2.0
price_out = 4.0

[[stages]]
use = "generate.sample"
model = "writer"
n = 3

[[stages]]
use = "annotate.pairwise"
judge = "helpfulness"
model = "judge"

[[stages]]
use = "measure.position_bias"

[[stages]]
use = "aggregate.bradley_terry"

[[stages]]
use = "pair.best_vs_worst"

[[exports]]
use = "export.pairwise"
"""
N = 12
BUT = ["recipe.toml", "--set"]
HOSTILE = [
    "\x1b[2J\x1b[H\x1b]0;pwned\x07 clear",
    "\x9b31m c1 \x00 \x08",
    "\u202egnisrever \u2066isolate",
    "[bold red]markup[/bold red] [link=file:///etc/passwd]x[/link] [/",
    "tags \U000e0041\u200b\ufeff",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe with its prompts; data goes to `data` beside it."""
    prompts = (json.dumps({"prompt": f"Say something about the number {i}."}) for i in range(N))
    (tmp_path / "prompts.jsonl").write_text("\n".join(prompts))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    monkeypatch.setenv("PREFDATA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "no-prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answer(*arguments: str) -> dict[str, Any]:
    """The JSON object that ends standard output; nothing else is on it."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def test_a_build_ends_with_one_object_and_says_on_the_side_how_it_goes(folder: Path):
    result = run("build", "recipe.toml", "--json")
    built = json.loads(result.stdout)
    assert {"name", "id", "path", "tables", "dropped", "unscored", "quarantined", "requests",
            "tokens", "cost"} <= built.keys()  # fmt: skip
    assert built["tables"]["prompts"] == N
    assert built["requests"]["asked"] >= 3 * N + 6 * N  # samples; pairs in both orders
    assert sum(built["unscored"].get("annotate.pairwise", {}).values()) < 6 * N
    assert result.stderr.startswith("building recipe.toml directly")
    assert "[2/5] annotate.pairwise" in result.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", result.stderr)
    again = answer("build", "recipe.toml")
    assert again["requests"]["asked"] == 0
    assert (again["id"], again["is_new"]) == (built["id"], False)


def test_a_partial_version_says_so_wherever_it_is_shown(folder: Path):
    built = answer("build", "recipe.toml", "--max-requests", str(3 * N + 6))
    missing = {"annotate.pairwise": 6 * N - 6}
    assert built["partial"]["missing"] == missing
    assert answer("list")["versions"][0]["partial"] == built["partial"]
    assert answer("show", "planted")["partial"] == built["partial"]
    again = run("build", "recipe.toml", "--max-requests", "0").stdout
    for drawn in (again, run("list").stdout, run("show", "planted").stdout):
        assert "partial" in drawn
    assert f"0 asked, {3 * N + 6} from the ledger, {6 * N - 6} not sent" in again
    for drawn in (again, run("show", "planted").stdout):
        assert f"annotate.pairwise {6 * N - 6}" in drawn
        assert "without the limit" in " ".join(drawn.split())
    whole = answer("build", "recipe.toml")
    assert whole["partial"] is None
    assert whole["id"] != built["id"]
    assert {v["id"]: v["partial"] is not None for v in answer("list")["versions"]} == {
        built["id"]: True,
        whole["id"]: False,
    }


def test_a_summary_for_people_says_what_to_do_next(folder: Path):
    result = run("build", "recipe.toml")
    (version,) = answer("list")["versions"]
    ref = f"planted@{version['id']}"
    for wanted in (
        ref,
        version["path"],
        f"prefdata show {ref}",
        f'prefdata.load("{ref}", "pairwise")',
    ):
        assert wanted in result.stdout
    assert "was there already" in run("build", "recipe.toml").stdout


def test_a_plan_spends_nothing_and_counts_what_a_build_asks(folder: Path):
    planned = answer("plan", "recipe.toml")
    assert not (folder / "data").exists()
    requests = {stage["name"]: stage["requests"] for stage in planned["stages"]}
    assert requests["generate.sample"] == 3 * N
    assert requests["annotate.pairwise"] == 3 * 2 * N
    assert planned["total"]["requests"] == 9 * N
    assert planned["total"]["answered"] == 0
    judged = planned["stages"][1]
    assert judged["judges"] == ["helpfulness"]
    assert judged["models"] == ["judge"]
    assert judged["cost"] == pytest.approx(
        (judged["tokens_in"] * 2 + judged["tokens_out"] * 4) / 1e6
    )
    assert run("build", "recipe.toml", "--dry-run", "--json").stdout == json.dumps(planned) + "\n"
    run("build", "recipe.toml")
    after = answer("plan", "recipe.toml")
    assert after["stages"][0]["answered"] == 3 * N
    assert after["total"]["answered"] == after["total"]["requests"]
    assert after["total"]["cost"] == 0


def test_a_dry_run_has_the_options_of_the_build(folder: Path):
    run("build", "recipe.toml")
    fresh = answer("build", "recipe.toml", "--dry-run", "--fresh")
    assert fresh["total"]["answered"] == 0
    some = answer("build", "recipe.toml", "--dry-run", "--limit", "3")
    assert some["total"]["requests"] == 27
    options = ["--fresh", "--max-requests", "5", "--budget", "100"]
    limited = answer("build", "recipe.toml", "--dry-run", *options)
    assert limited["limits"] == {"budget": 100.0, "max_requests": 5}
    drawn = run("build", "recipe.toml", "--dry-run", *options).stdout
    assert "the limit of 5 requests will be reached" in drawn
    assert "the budget" not in drawn
    assert len(answer("list")["versions"]) == 1


def test_a_plan_does_not_invent_a_price(folder: Path):
    unpriced = RECIPE.replace('client = "scripted"\naccuracy', 'client = "openai"\nmodel = "m"\n#')
    unpriced = re.sub(r"(malformed_rate|price_\w+) = .*\n", "", unpriced)
    (folder / "recipe.toml").write_text(unpriced)
    planned = answer("plan", "recipe.toml")
    assert planned["stages"][1]["cost"] is None
    assert planned["total"]["cost"] is None
    assert "no price for judge" in run("plan", "recipe.toml").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["build"],
        ["build", "recipe.toml", "--limit", "0"],
        ["build", "recipe.toml", "--shards", "0"],
        ["build", "recipe.toml", "--set", "n"],
        ["build", "recipe.toml", "--plain", "--prefect"],
        ["build", "recipe.toml", "--fast"],
        ["plan"],
        ["show"],
        ["diff", "planted"],
        ["biuld", "recipe.toml"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_told_from_failure(folder: Path, arguments: Sequence[str]):
    assert run(*arguments).exit_code == 2
    assert not (folder / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (["build", "recipe.tom"], "RecipeError", "recipe.tom"),
        (["plan", *BUT, "stages.0.use=generate.smaple"], "RecipeError", "'generate.sample'"),
        (["build", *BUT, "stages.1.judge=helpfulnes"], "RecipeError", "'helpfulness'"),
        (["build", *BUT, "stages.1.model=jugde"], "RecipeError", "'judge'"),
        (["build", *BUT, "stages.generate.sample.k=2"], "RecipeError", "'k'"),
        (["build", *BUT, "sources.prompts=nowhere.jsonl"], "RecipeError", "nowhere.jsonl"),
        (["stages", "agregate.bradley_tery"], "RecipeError", "'aggregate.bradley_terry'"),
        (["stages", "bradley_tery"], "RecipeError", "bradley_terry"),
        (["judges", "helpfulnes"], "JudgeError", "'helpfulness'"),
        (["show", "plantde"], "VersionError", "plantde"),
        (["list", "plantde"], "VersionError", "plantde"),
        (["diff", "planted@abc", "planted"], "VersionError", "planted"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_failures_name_place_and_way_out_without_a_traceback(
    folder: Path, arguments: Sequence[str], kind: str, said: str
):
    result = run(*arguments, "--json")
    assert result.exit_code == 1
    error = json.loads(result.stdout.splitlines()[-1])
    assert error.keys() == {"error", "kind"}
    assert error["kind"] == kind
    assert said in error["error"]
    assert "Traceback" not in result.stderr
    assert "error: " in result.stderr
    assert run(*arguments).stdout == ""


def test_the_nearest_dataset_is_named(folder: Path):
    run("build", "recipe.toml")
    assert "did you mean 'planted'?" in run("show", "plantde").stderr
    assert "did you mean 'planted'?" in run("list", "plantde").stderr


def test_every_stage_is_shown_as_its_signature_says(folder: Path):
    listed = {entry["use"]: entry for entry in answer("stages")["stages"]}
    assert listed.keys() == stages().keys()
    for use in listed:
        terms = contract(find_stage(use))
        shown = answer("stages", use)
        assert shown["options"].keys() == terms.options.keys()
        assert (shown["reads"], shown["writes"]) == ([*terms.reads], [*terms.writes])
        drawn = run("stages", use).stdout
        assert all(option in drawn for option in terms.options)
    assert answer("stages", "bradley_terry") == answer("stages", "aggregate.bradley_terry")
    assert "pairwise" in run("stages", "pairwise").stderr  # annotate.pairwise, export.pairwise


@pytest.mark.parametrize("width", [60, 160])
def test_stages_are_a_line_each_under_their_verb(
    folder: Path, width: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run("stages").stdout.splitlines()
    assert all(len(line) <= width for line in lines[:-1])  # but the hint
    verbs = {line: at for at, line in enumerate(lines) if line and line in VERBS}
    for use, does in stages().items():
        verb, _, method = use.partition(".")
        line = next(each for each in lines[verbs[verb] :] if each.split()[:1] == [method])
        shown = " ".join(line.split()[1:]).rstrip("…")
        assert shown
        assert " ".join(does.split()).startswith(shown)
    assert len(lines) == len(verbs) + len(stages()) + 2
    few = answer("stages", "pair")["stages"]
    assert [entry["use"] for entry in few] == [use for use in stages() if use.startswith("pair.")]
    drawn = " ".join(run("stages", "pair").stdout.split())
    assert "best_vs_worst" in drawn
    assert "strengths" in drawn


def test_every_judge_is_shown_with_what_it_asks(folder: Path):
    assert [entry["name"] for entry in answer("judges")["judges"]] == judge_names()
    for name in judge_names():
        shown = answer("judges", name)
        drawn = run("judges", name).stdout
        assert shown["digest"] in drawn
        assert all(criterion["name"] in drawn for criterion in shown["criteria"])


def test_juries_are_listed_with_their_members(folder: Path):
    listed = answer("judges")["juries"]
    assert [entry["name"] for entry in listed] == jury_names()
    drawn = run("judges").stdout
    for entry in listed:
        assert entry["name"] in drawn
        assert all(f"{seat['judge']}, {seat['model']}" in drawn for seat in entry["members"])


def test_recipes_are_listed_and_their_schema_accepts_them(folder: Path):
    assert {entry["name"] for entry in answer("recipes")["recipes"]} == bundled().keys()
    schema = json.loads(run("recipes", "--schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    for text in (RECIPE, *(path.read_text() for path in bundled().values())):
        jsonschema.validate(tomllib.loads(text), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**tomllib.loads(RECIPE), "sorces": {}}, schema)


def test_a_copy_of_a_bundled_recipe_is_the_same_recipe_elsewhere(folder: Path):
    """Its sources are found, whose paths start at the recipe's own folder."""
    for name in bundled():
        copied = folder / f"{name}.toml"
        copied.write_text(run("recipes", name).stdout)
        whole, copy = Recipe.load(name), Recipe.load(copied)
        assert copy.model_dump(exclude={"sources"}) == whole.model_dump(exclude={"sources"})
        for ours, theirs in zip(whole.sources.specs, copy.sources.specs, strict=True):
            assert (whole.folder / str(ours.path)).samefile(folder / str(theirs.path))


def test_a_diff_names_the_judge_first(folder: Path):
    before = answer("build", "recipe.toml")
    judge = tomllib.loads((Path(cli.__file__).parents[1] / "judges/helpfulness.toml").read_text())
    written = (Path(cli.__file__).parents[1] / "judges/helpfulness.toml").read_text()
    (folder / "mine.toml").write_text(written.replace(judge["system"], judge["system"] + " Think."))
    after = answer("build", "recipe.toml", "--set", "stages.1.judge=mine.toml")
    found = answer("diff", f"planted@{before['id']}", f"planted@{after['id'][:6]}")
    assert found["causes"][0]["kind"] == "judge"
    pairs = before["tables"]["pairs"]
    assert found["kept"] + len(found["removed"]) + len(found["flipped"]) == pairs
    drawn = run("diff", f"planted@{before['id']}", f"planted@{after['id']}").stdout
    assert drawn.index("judge") < drawn.index("added")
    assert "Nothing differs" in run("diff", "planted", "planted").stdout


def test_show_shows_the_texts_of_pairs_and_how_to_load_them(folder: Path):
    built = answer("build", "recipe.toml")
    shown = answer("show", "planted", "--pairs", "5")
    completions = pl.read_parquet(Path(built["path"]) / "completions.parquet")
    texts = dict(completions.select("completion_id", "completion").iter_rows())
    assert len(shown["pairs"]) == 5
    for pair in shown["pairs"]:
        assert pair["chosen"] == texts[pair["chosen_id"]]
        assert pair["rejected"] == texts[pair["rejected_id"]]
        assert sum(pair["votes"].values()) == 2  # both orders
    labels = [pair["soft_label"] for pair in shown["pairs"]]
    assert labels == sorted(labels, reverse=True)
    drawn = " ".join(run("show", f"planted@{built['id'][:5]}").stdout.split())
    assert "Planted annotators" in drawn
    assert "swap_consistency" in drawn
    assert "Say something about the number" in drawn
    assert f'prefdata.load("planted@{built["id"]}", "pairwise")' in drawn


def test_votes_leave_as_annotated_pairs_and_come_back(folder: Path):
    built = answer("build", "recipe.toml")
    votes = pl.read_parquet(Path(built["path"]) / "votes.parquet")
    written = answer("annotated-pairs", "planted", "ap.json")
    assert written["version"] == f"planted@{built['id']}"
    assert written["comparisons"] == votes.unique(["completion_a", "completion_b"]).height
    back = read(Sources.model_validate({"votes": "ap.json"}), folder).tables["votes"]
    assert back.drop("request_id").equals(votes.drop("request_id"))


@pytest.mark.parametrize("columns", ["40", "80", "140"])
def test_hostile_texts_are_shown_and_not_obeyed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, columns: str
):
    rows = [{"prompt": f"{text} {i}", "chosen": f"{text} good", "rejected": f"{text} bad"}
            for i, text in enumerate(HOSTILE)]  # fmt: skip
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "pairs.toml").write_text(
        'name = "hostile"\nsources.pairs = "pairs.jsonl"\n[[exports]]\nuse = "export.pairwise"\n'
    )
    run("build", "pairs.toml")
    monkeypatch.setenv("COLUMNS", columns)
    pairs = answer("show", "hostile", "--pairs", "5")["pairs"]
    told = "".join(run("explain", "--full", pair["pair_id"]).stdout for pair in pairs)
    drawn = run("show", "hostile", "--pairs", "5").stdout + told
    obeyed = [c for c in drawn if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")]
    assert not obeyed
    assert "[bold red]markup[/bold red]" in " ".join(drawn.split()) or columns == "40"
    assert "\\x1b[2J" in drawn
    assert "\\u202e" in drawn
    shown = answer("show", "hostile", "--pairs", "5")["pairs"]
    assert {pair["chosen"][0]["content"] for pair in shown} == {row["chosen"] for row in rows}


def test_a_terminal_sees_it_move_and_keeps_a_line_for_each_stage(folder: Path):
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "prefdata", "build", "recipe.toml"],
        stdout=secondary, stderr=secondary, stdin=secondary,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
    )  # fmt: skip
    os.close(secondary)
    sent = b""
    while select.select([primary], [], [], 60)[0]:
        try:
            sent += os.read(primary, 4096)
        except OSError:  # the other side is closed
            break
    assert process.wait(60) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent.decode())
    finished = [line.split()[1] for line in text.splitlines() if line.startswith("✓")]
    assert finished == ["sources", "generate.sample", "annotate.pairwise", "measure.position_bias",
                        "aggregate.bradley_terry", "pair.best_vs_worst"]  # fmt: skip
    assert b"\x1b[?25h" in sent  # the cursor is back


def test_what_the_sources_hold_to_be_better_is_a_sentence(folder: Path):
    (folder / "votes.jsonl").write_text(
        json.dumps({"prompt": "p", "completion_a": "x", "completion_b": "y", "annotator": "human:1",
                    "preference": 1})
    )  # fmt: skip
    (folder / "votes.toml").write_text('name = "votes"\nsources.votes = "votes.jsonl"\n')
    said = run("build", "votes.toml").stderr
    assert re.search(r"^sources: votes: .*preference", said, re.MULTILINE)
    assert "Finding(" not in said


def test_ctrl_c_twice_ends_a_wait_for_a_model_and_says_how_to_go_on(folder: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        judge = f'client = "openai"\nmodel = "silent"\nbase_url = "{at}"\n'
        written = re.sub(r"(?s)(\[models.judge\]\n).*?\n\n", rf"\1{judge}\n", RECIPE)
        (folder / "recipe.toml").write_text(written)
        process = subprocess.Popen(
            [sys.executable, "-m", "prefdata", "build", "recipe.toml", "--json", "--fresh"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        silent.settimeout(60)
        connection, _ = silent.accept()  # now it waits
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        connection.close()
    assert process.returncode == 130
    assert "Traceback" not in err
    said = json.loads(out.splitlines()[-1])
    assert said["kind"] == "Interrupted"
    assert str(folder / "data" / "ledger") in said["error"]
    assert said["error"].endswith(
        "prefdata build recipe.toml --json"
    )  # not --fresh: it would ask again
    after = answer("plan", "recipe.toml")
    assert after["stages"][0]["answered"] == 3 * N  # what was answered before is kept


def test_the_prefect_api_is_found_without_prefect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
):
    assert way.prefect_api() == ""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("PREFECT_HOME", str(home))
    (home / "profiles.toml").write_text(
        'active = "team"\n[profiles.ephemeral]\n[profiles.team]\nPREFECT_API_URL = "http://team/api"\n'
    )
    assert way.prefect_api() == "http://team/api"
    monkeypatch.setenv("PREFECT_PROFILE", "ephemeral")
    assert way.prefect_api() == ""
    monkeypatch.setenv("PREFECT_API_URL", "http://env/api")
    assert way.prefect_api() == "http://env/api"
    (home / "profiles.toml").write_text("not toml [")
    monkeypatch.delenv("PREFECT_API_URL")
    assert way.prefect_api() == ""


def test_without_prefect_its_extra_is_named_and_a_configured_api_is_no_reason_to_fail(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(way, "is_installed", lambda _: False)
    failed = run("build", "recipe.toml", "--prefect")
    assert failed.exit_code == 1
    assert "prefdata[flows]" in failed.stderr
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    built = run("build", "recipe.toml")
    assert built.exit_code == 0
    assert "directly" in built.stderr


def test_who_reads_no_further_is_not_complained_to(folder: Path):
    run("build", "recipe.toml")
    reading, writing = os.pipe()
    os.close(reading)
    for command in ("show planted", "show planted --json", "build recipe.toml --json"):
        process = subprocess.run(
            [sys.executable, "-m", "prefdata", *command.split()],
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=60,
            text=True,
        )
        assert process.returncode == 1
        lines = process.stderr.splitlines()
        assert [each for each in lines if not re.match(r"building|sources:|\[", each)] == []
    os.close(writing)


@pytest.mark.parametrize("into", ["closed", "closing", "full", "none"])
def test_a_build_goes_on_where_its_progress_cannot_be_written(folder: Path, into: str):
    """Nobody reads it, or not to its end; the disk is full; there is no standard error at all."""
    ours, theirs = os.pipe()
    if into == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), theirs)
    command = [sys.executable, "-m", "prefdata", "build", "recipe.toml", "--json"]
    shell = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    if into != "closing":
        os.close(ours)
    process = subprocess.Popen(
        shell if into == "none" else command, stdout=subprocess.PIPE, stderr=theirs, text=True
    )
    os.close(theirs)
    if into == "closing":
        assert os.read(ours, 8) == b"building"
        os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["tables"]["prompts"] == N
    assert (folder / "data" / "versions" / "planted").exists()


def test_version_and_help_load_nothing_large(folder: Path):
    assert re.fullmatch(r"prefdata \d+\.\d+\S*\n", run("--version").stdout)
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        "sys.argv = ['prefdata', '--help']\n"
        "from prefdata.cli import main\n"
        "main()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "build" in ran.stdout
    loaded = set(ran.stderr.split())
    assert "prefdata.cli" in loaded
    large = {"polars", "numpy", "pyarrow", "pydantic", "aiohttp", "datasets", "prefect", "torch"}
    assert not loaded & large


FAULTS = {
    "the data folder is a file": lambda f: (f / "data").write_text("here is no folder"),
    "the recipe is no text": lambda f: (f / "recipe.toml").write_bytes(b"name = '\xff\xfe'"),
    "a plug-in fails": lambda f: _plug_in(f, "raise ValueError('boom')"),
    "a plug-in returns nonsense": lambda f: _plug_in(f, "return 3"),
    "a secret is in the recipe": lambda f: (f / "recipe.toml").write_text(
        RECIPE + "# sk-abcdefghijklmnopqrstuvwxyz0123456789\n"
    ),
    "a secret is in a model's options": lambda f: (f / "recipe.toml").write_text(
        RECIPE.replace('client = "scripted"', 'client = "scripted"\noptions.token = "HEX01"', 1)
    ),
}


def _plug_in(folder: Path, body: str) -> None:
    (folder / "faulty.py").write_text(
        f"from prefdata.tables import Pairs\n\n\ndef stage(pairs: Pairs) -> Pairs:\n    {body}\n"
    )
    stage = '[[stages]]\nuse = "faulty:stage"\n\n[[exports]]'
    (folder / "recipe.toml").write_text(RECIPE.replace("[[exports]]", stage))


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_a_message_and_an_object_and_never_a_traceback(folder: Path, fault: str):
    FAULTS[fault](folder)
    result = run("build", "recipe.toml", "--json")
    sys.modules.pop("faulty", None)
    assert result.exit_code == 1
    assert set(json.loads(result.stdout.splitlines()[-1])) == {"error", "kind"}
    assert "error" in result.stderr
    assert "Traceback" not in result.stderr
    assert "abcdefghij" not in result.stdout + result.stderr
    assert "HEX01" not in result.stdout + result.stderr


def test_what_lies_beside_versions_does_not_hide_them(folder: Path):
    built = answer("build", "recipe.toml")
    home = Path(built["path"]).parent
    (home / ".DS_Store").write_bytes(b"\x00")
    (home / "notes").mkdir()
    (home / "0123456789ab").mkdir()
    (home / "0123456789ab" / "manifest.json").write_text('{"id": "0123456789ab", "files": {}}')
    assert answer("show", "planted")["id"] == built["id"]
    assert len(answer("list")["versions"]) == 1
    (Path(built["path"]) / "votes.parquet").unlink()
    result = run("show", "planted")
    assert result.exit_code == 1
    assert "votes is damaged" in " ".join(result.stderr.split())


def test_a_row_tells_its_story_by_a_version_or_alone(folder: Path):
    built = answer("build", "recipe.toml")
    pairs = pl.read_parquet(Path(built["path"]) / "pairs.parquet")
    row = pairs["pair_id"][0]
    told = answer("explain", f"planted@{built['id']}", row)
    assert (told["fate"], told["kind"]) == ("kept", "pair")
    assert {each["side"] for each in told["completions"]} == {"chosen", "rejected"}
    assert all(each["samples"] for each in told["completions"])
    assert len(told["votes"]) >= 2
    assert [each["fate"] for each in told["stages"]] == ["made"]
    assert answer("explain", row[:10]) == told
    drawn = run("explain", "planted", row).stdout
    for wanted in (row, "chosen is preferred", "@judge/helpfulness", "in the views pairwise"):
        assert wanted in drawn
    failed = run("explain", "planted", "0000zz")
    assert failed.exit_code == 1
    assert "no prompt, completion or pair" in failed.stderr
    assert run("explain", "a", "b", "c").exit_code == 2


def test_tags_name_versions_and_gc_removes_only_what_it_is_told_to(folder: Path):
    first = answer("build", "recipe.toml", "--limit", "3")
    second = answer("build", "recipe.toml", "--limit", "4")
    third = answer("build", "recipe.toml")
    assert answer("tag", f"planted@{first['id']}", "v1")["tags"] == {"v1": first["id"]}
    assert answer("show", "planted@v1")["tags"] == ["v1"]
    assert "v1" in run("list").stdout
    assert run("tag", "planted", "v1").exit_code == 1
    assert "--move" in run("tag", "planted", "v1").stderr
    listed = answer("gc")
    assert (listed["removable"], listed["removed"]) == ([f"planted@{second['id']}"], [])
    assert len(answer("list")["versions"]) == 3
    assert "can be removed" in run("gc").stdout
    assert answer("gc", "--remove")["removed"] == [f"planted@{second['id']}"]
    assert {each["id"] for each in answer("list")["versions"]} == {first["id"], third["id"]}
    assert "Nothing can be removed" in run("gc").stdout
    assert answer("tag", "planted", "v1", "--delete")["was"] == first["id"]
    assert answer("tag", "planted")["tags"] == {}


def test_a_difference_is_put_down_to_what_caused_it(folder: Path):
    first = answer("build", "recipe.toml")
    second = answer("build", *BUT, "models.judge.accuracy=0.6")
    found = answer("diff", f"planted@{first['id']}", f"planted@{second['id']}")
    changed = sum(len(found[name]) for name in ("added", "removed", "flipped", "moved"))
    assert changed
    assert sum(each["n"] for each in found["reasons"]) == changed
    by_votes = [each for each in found["reasons"] if each["reason"] == "votes"]
    assert by_votes
    assert all("model models.judge.identity" in each["behind"] for each in by_votes)
    assert (
        "other votes by llm:@judge/helpfulness"
        in run("diff", first["name"], f"planted@{first['id']}").stdout
    )


def test_check_exits_with_one_where_something_is_found(folder: Path):
    built = answer("build", "recipe.toml")
    checked = run("check", "planted", "--json")
    found = json.loads(checked.stdout)
    assert found["name"] == f"planted@{built['id']}"
    assert checked.exit_code == (0 if found["passes"] else 1)
    bad = [{"prompt": f"p {i}", "chosen": "same", "rejected": "same"} for i in range(3)]
    (folder / "bad.jsonl").write_text("\n".join(map(json.dumps, bad)))
    result = run("check", "bad.jsonl")
    assert result.exit_code == 1
    for wanted in ("identical", "error", "train row 0", "does not pass"):
        assert wanted in result.stdout
    assert run("check", "bad.jsonl", "--fail-on", "never").exit_code == 0
    levels = {
        each["check"]: each
        for each in json.loads(run("check", "bad.jsonl", "--json").stdout)["findings"]
    }
    assert (levels["identical"]["level"], levels["identical"]["n"]) == ("error", 3)
    assert run("check", "nothing/of/this").exit_code == 1
    assert run("check", "bad.jsonl", "--fail-on", "perhaps").exit_code == 2


def test_rows_that_cannot_be_read_are_told_with_the_first_reason(tmp_path: Path):
    (tmp_path / "pairs.jsonl").write_text(
        '{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "d", "chosen": 1}\n'
    )
    (tmp_path / "recipe.toml").write_text(
        'name = "read"\nsources.pairs = "pairs.jsonl"\n[[exports]]\nuse = "export.pairwise"\n'
    )
    told = CliRunner().invoke(
        cli.app, ["build", str(tmp_path / "recipe.toml"), "--plain", "--data", str(tmp_path)]
    )
    assert told.exit_code == 0, told.output
    (line,) = [each for each in told.stdout.splitlines() if each.startswith("quarantined")]
    assert "1 row, in quarantine.jsonl" in line
    assert "pairs, line 2: chosen" in line
