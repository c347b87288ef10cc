"""What SECURITY.md says holds: nothing is unpickled, no name leaves its folder, no text obeyed."""

import ast
import csv
import io
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

import prefdata
from prefdata import judge as judges
from prefdata import version
from prefdata.annotate.tool import _asking
from prefdata.errors import JudgeError, ModelError, PrefdataError, RecipeError, VersionError
from prefdata.judge.form import Form
from prefdata.models import serving
from prefdata.models.local import loading
from prefdata.models.spec import ModelSpec
from prefdata.models.vllm import SAFE
from prefdata.people import rows as spreadsheets
from prefdata.people.store import Store
from prefdata.planning.plan import plan
from prefdata.recipe import Recipe
from prefdata.version import garbage, tags
from prefdata.version.stored import find

PACKAGE = Path(prefdata.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "flows").rglob("*.py")])
# Of these none is imported, wherever it would be.
READS_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml"}
# Calls that read or run code, follow an archive's paths, or give up a check of TLS.
CALLS = {
    "__import__", "read_pickle", "to_pickle", "popen", "extractall",
    "unpack_archive", "mktemp", "_create_unverified_context",
}  # fmt: skip
GIVEN = {("shell", True), ("allow_pickle", True), ("trust_remote_code", True),
         ("weights_only", False), ("verify", False), ("ssl", False)}  # fmt: skip
EVIL = [
    "", ".", "..", "../out", "../../out", "a/../../out", "/tmp/out", "a/b", "~root", "nul\0",
    "a\nb", "C:\\out", "..\\out", "\\\\server\\out", "c:out", ".hidden", "-rf", "a b", "ünicode",
    "\u202ename", "%2e%2e%2fout", "a" * 300, "$(reboot)", "*", "a\x1b[2J",
]  # fmt: skip


def trees() -> Iterator[tuple[Path, ast.AST]]:
    for file in FILES:
        yield file, ast.parse(file.read_text(encoding="utf-8"))


def test_nothing_reads_code_out_of_data():
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert not READS_CODE & {each.name.split(".")[0] for each in node.names}, file
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in READS_CODE, file
            elif isinstance(node, ast.Call):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                named = getattr(node.func, "id", "")
                assert ast.unparse(node.func) != "os.system", (file, node.lineno)
                assert named not in ("eval", "exec", "compile"), (file, node.lineno)
                assert called not in CALLS, (file, node.lineno)
                given = {
                    (each.arg, each.value.value)
                    for each in node.keywords
                    if isinstance(each.value, ast.Constant)
                }
                assert not given & GIVEN, (file, node.lineno)


def test_code_of_a_model_and_pickled_weights_are_read_only_if_asked_for():
    torch = SimpleNamespace(float32="f", bfloat16="b", float16="h")
    plain = ModelSpec(client="local", model="org/name")
    asked = plain.model_copy(
        update={"engine": {"trust_remote_code": True, "use_safetensors": False}}
    )
    assert loading.source(plain) == {"trust_remote_code": False}
    assert loading.source(asked) == {"trust_remote_code": True}
    assert loading.reading(plain, torch)["use_safetensors"] is True
    assert loading.reading(asked, torch)["use_safetensors"] is None
    assert SAFE == {"load_format": "safetensors"}


@pytest.mark.torch
def test_a_folder_with_nothing_but_pickled_weights_is_refused(tmp_path: Path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "run"),)

    size = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = transformers.BertConfig(**size, intermediate_size=8)
    config.save_pretrained(tmp_path)
    torch.save({"x": Evil()}, tmp_path / "pytorch_model.bin")
    spec = ModelSpec(client="local", model=str(tmp_path))
    with pytest.raises(ModelError, match="cannot load the model"):
        loading.transformer(spec, "AutoModel")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def written(tmp_path: Path, world: Any) -> Path:
    """A data folder with a version, `mini`, whose id is the only one."""
    made = {"tables": world(), "exports": {}, "recipe_text": 'name = "mini"', "resolved": {}}
    version.write(tmp_path / "data", "mini", **made)
    return tmp_path / "data"


def entries(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", EVIL)
def test_no_name_leaves_its_folder(name: str, written: Path, world: Any):
    before = entries(written.parent)
    made = {"recipe_text": "", "resolved": {}, "tables": world()}
    sources = {"prompts": "p.jsonl"}
    with pytest.raises(RecipeError):
        Recipe.parse({"name": name, "sources": sources}, folder=written)
    with pytest.raises(VersionError):
        version.write(written, name, exports={}, **made)
    with pytest.raises(VersionError):
        version.write(written, "mini", exports={name: pl.DataFrame()}, **made)
    with pytest.raises(VersionError):
        version.write(written, "mini", exports={}, judges={name: ""}, **made)
    with pytest.raises(VersionError):
        version.write(written, "mini", exports={}, juries={name: ""}, **made)
    with pytest.raises(VersionError):
        find(written, name)
    if name:
        with pytest.raises(VersionError):
            find(written, f"mini@{name}")
    with pytest.raises(VersionError):
        tags.put(find(written, "mini").path, name)
    with pytest.raises(VersionError):
        Store(written, name)
    with pytest.raises(JudgeError):
        judges.load(name)
    assert entries(written.parent) == before


@pytest.mark.parametrize("name", EVIL)
def test_what_a_recipe_names_is_refused_before_anything_is_asked(name: str, tmp_path: Path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a?"}\n')
    raw = {
        "name": "mini", "sources": {"prompts": "p.jsonl"},
        "models": {"m": {"client": "scripted"}},
        "stages": [{"use": "generate.sample", "model": "m"}],
    }  # fmt: skip
    plan(Recipe.parse(raw, folder=tmp_path))
    if name:  # without one it is named by its method
        export = {"use": "export.prompt_completion", "name": name}
        with pytest.raises(RecipeError):
            plan(Recipe.parse({**raw, "exports": [export]}, folder=tmp_path))
    with pytest.raises(RecipeError):
        plan(Recipe.parse({**raw, "splits": {name: 0.1}}, folder=tmp_path))


@pytest.mark.parametrize("name", ["My Judge", "..", "UPPER", "a b", "-rf"])
def test_a_judge_whose_name_names_no_file_is_refused_by_the_plan(name: str, tmp_path: Path):
    (tmp_path / f"{name}.toml").write_text(judges.load("helpfulness").to_toml())
    (tmp_path / "c.jsonl").write_text('{"prompt": "a?", "completion": "b"}\n')
    judged = {"use": "annotate.pairwise", "judge": f"{name}.toml", "model": "m"}
    raw = {
        "name": "mini", "sources": {"completions": "c.jsonl"},
        "models": {"m": {"client": "scripted"}}, "stages": [judged],
    }  # fmt: skip
    with pytest.raises(RecipeError, match="rename the file"):
        plan(Recipe.parse(raw, folder=tmp_path))


@pytest.mark.parametrize("name", [*EVIL, "human:a/b", "../../etc/cron.d/x"])
def test_an_annotators_file_is_in_the_folder_whatever_they_are_called(name: str, tmp_path: Path):
    made = spreadsheets._name(name) + ".csv"
    assert Path(made).name == made
    assert (tmp_path / made).resolve().parent == tmp_path.resolve()
    spreadsheets.write(tmp_path, {made: "x"})
    assert entries(tmp_path) == {made}


def test_garbage_is_collected_from_versions_and_not_from_where_links_lead(
    written: Path, world: Any, tmp_path: Path
):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "kept").write_text("x")
    links = [written / "versions" / name for name in (".damaged-mini", ".tmp-left")]
    for link in links:
        link.symlink_to(precious)
        os.utime(link, (0, 0), follow_symlinks=False)
    garbage.remove(garbage.garbage(written))
    assert not any(map(os.path.lexists, links))
    assert (precious / "kept").read_text() == "x"


PLACEHOLDERS = [
    "{prompt}", "{A}", "{B}", "{completion}", "{completions}", "{criteria}", "{verdict}", "{{A}}",
    "{0}", "{}", "{prompt.__class__}", "{0.__init__.__globals__}", "%s", "%(prompt)s", "${HOME}",
    "$prompt", "{{ 7 * 7 }}", "{% for x in y %}", "<%= 7 * 7 %>", "#{7 * 7}", "\\1", "\\g<0>",
]  # fmt: skip


@pytest.mark.parametrize("name", judges.names())
def test_what_looks_like_a_template_is_not_rendered_again(name: str):
    judge = judges.load(name)
    said = "\n".join(PLACEHOLDERS)
    n = 1 if judge.kind == "pointwise" else 2
    turn = [{"role": "assistant", "content": said}]
    asked = judge.render([{"role": "user", "content": said}], *[turn] * n)
    assert asked[-1]["content"].count(said) == 1 + n
    form = Form({}, "none", 9)
    content = _asking(form, ("calculator",), [{"role": "user", "content": said}], turn)
    assert content[-1]["content"].count(said) == 2


@pytest.mark.parametrize(
    "first", ["=", "+", "-", "@", "\t=", "\r=", " =", "'=", "＝", "＋", "－", "＠"]
)
def test_no_cell_of_a_csv_is_a_formula(first: str):
    formula = first + "cmd|' /C calc'!A0"
    cells = {"prompt": formula, "hint": f"a\n{formula}", "first": f'"{formula}', "second": formula}
    text = spreadsheets._csv([cells])
    (read,) = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    for name, cell in read.items():
        assert cell.lstrip(" \t\r\n")[:1] not in set("=+-@＝＋－＠"), name
        assert spreadsheets._read(cell) == cells[name]


def test_servers_are_for_this_machine_alone():
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in ("0.0.0.0", "::"), (file, node.lineno)
    import inspect

    from prefdata.commands.serve import serve

    assert inspect.signature(serve).parameters["host"].default == "127.0.0.1"
    spec = ModelSpec(client="vllm", model="org/name")
    (server,) = serving.servers({"m": spec}, "127.0.0.1", 8000)
    assert "127.0.0.1" in server.command
    assert "safetensors" in server.command


def test_the_embedded_server_listens_on_the_loopback_device():
    xllamacpp = pytest.importorskip("xllamacpp")
    for name in xllamacpp.CommonParams().hostnames:
        assert socket.gethostbyname(name).startswith("127.")


def test_errors_of_ours_are_one_family():
    found = [
        each
        for each in vars(sys.modules["prefdata.errors"]).values()
        if isinstance(each, type) and issubclass(each, Exception)
    ]
    assert found
    assert all(issubclass(each, PrefdataError) for each in found)
