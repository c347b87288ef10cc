"""Pushing with the real client to a loopback Hub; `server` says what that shows and what not."""

import shutil
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefdata import tables
from prefdata.errors import PushError, VersionError
from prefdata.hub import carry_out, plan, push, pushing
from prefdata.version import Version
from tests.hub.conftest import views
from tests.hub.server import OWNER, TOKEN, Hub

REPO = "org/mini"
WRITES = ("PUT", "/commit/", "/tag/", "/repos/create", "/objects/batch")


def files(hub: Hub, revision: str = "main") -> dict[str, bytes]:
    """The files of a commit, without the one that the Hub puts there."""
    held = hub.repos[REPO]
    tree = {path: data for path, (data, _) in held.trees[held.at(revision)].items()}
    return {path: data for path, data in tree.items() if path != ".gitattributes"}


def written(version: Version) -> dict[str, bytes]:
    every = [path for path in version.path.rglob("*") if path.is_file()]
    return {path.relative_to(version.path).as_posix(): path.read_bytes() for path in every}


def writes(hub: Hub) -> list[str]:
    return [each for each in hub.requests if any(word in each for word in WRITES)]


def test_a_tag_holds_the_version_byte_for_byte(hub, made):
    version = made(splits={"test": 0.3})
    done = push(version, REPO)
    assert done.changed
    assert done.url == f"{hub.url}/datasets/{REPO}/tree/{version.id}"
    assert files(hub, version.id) == files(hub) == written(version)
    assert {"README.md", "recipe.toml", "judges/helpfulness.toml"} < files(hub).keys()
    assert hub.repos[REPO].private


def test_the_same_rows_come_back(hub, made, load):
    version = made(20, splits={"test": 0.3})
    push(version, REPO, tag="v1")
    for view, revision in (("pairwise", "v1"), ("listwise", version.id), ("binary", "main")):
        back = load(REPO, name=view, revision=revision)
        assert back.keys() == {"train", "test"}
        for split, rows in back.items():
            assert rows == version.rows(view, split).to_dicts()
    assert load(REPO) == load(REPO, name="pairwise")  # the view that is the default


def test_a_split_without_rows_keeps_none_of_the_others_from_loading(hub, made, load):
    version = made(1, splits={"test": 0.1})
    assert version.manifest["exports"]["pairwise"]["splits"] == {"train": 3, "test": 0}
    push(version, REPO)
    assert load(REPO, name="pairwise") == {"train": version.rows("pairwise").to_dicts()}


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
MARGINS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4, unique=True),
    margin=st.none() | MARGINS,
)
def test_any_rows_come_back_as_they_were(hub, made, load, texts, margin):
    rows = pl.DataFrame(
        {
            "prompt": [[{"role": "user", "content": asked}] for asked, _, _ in texts],
            "chosen": [[{"role": "assistant", "content": good}] for _, good, _ in texts],
            "rejected": [[{"role": "assistant", "content": bad}] for _, _, bad in texts],
            "margin": pl.Series([margin] * len(texts), dtype=pl.Float64),
            "label": [len(good) > len(bad) for _, good, bad in texts],
        }
    )
    prompts = rows.select("prompt", source=pl.lit("drawn")).unique("prompt")
    prompts = prompts.with_columns(tables.prompt_ids(prompts["prompt"].to_list()))
    version = made(
        tables={"prompts": tables.check("prompts", prompts, where="drawn")},
        exports={"any": rows},
        resolved={"drawn": rows.to_dicts()},
    )
    hub.repos.clear()
    push(version, REPO, allow=["personal", "secrets"])
    assert load(REPO, name="any", revision=version.id) == {"train": rows.to_dicts()}


def test_a_second_push_changes_nothing_and_says_so(hub, made):
    version = made()
    first = push(version, REPO)
    hub.reset()
    second = push(version, REPO)
    assert first.changed
    assert not second.changed
    assert (second.commit, second.url, second.bytes) == (first.commit, first.url, 0)
    assert writes(hub) == []
    assert plan(version, REPO).difference.is_none


def test_another_build_of_the_same_content_is_there_already(hub, made, tmp_path):
    one = made()
    push(one, REPO)
    shutil.rmtree(one.path)
    two = made(counts={"requests": {"asked": 0}})
    assert two.id == one.id
    assert two.created != one.created
    hub.reset()
    done = push(two, REPO, tag="v1")
    assert len(writes(hub)) == 1, "the new tag"
    assert hub.repos[REPO].tags["v1"] == done.commit == hub.repos[REPO].tags[one.id]


def test_a_tag_of_which_a_file_was_changed_is_other_content(hub, made):
    version = made()
    push(version, REPO)
    tree = hub.repos[REPO].trees[hub.repos[REPO].tags[version.id]]
    for name in ("pairs.parquet", "recipe.toml"):
        data, large = tree[name]
        tree[name] = (data[::-1], large)
        with pytest.raises(PushError, match="of other content"):
            push(version, REPO)
        tree[name] = (data, large)
    assert not push(version, REPO).changed


def test_a_second_version_is_a_commit_and_a_tag(hub, made):
    one, two = made(6, licenses={"a": "mit"}), made(9, exports={}, judges={})
    push(one, REPO)
    push(two, REPO)
    assert files(hub, one.id) == written(one)
    assert files(hub, two.id) == files(hub) == written(two)
    assert len(hub.repos[REPO].heads) == 3  # with the Hub's own first one
    push(one, REPO)
    assert files(hub) == written(two), "the older version has its tag, and the newest stays"


def test_what_no_version_put_there_stays(hub, made):
    hub.make(REPO, **{"LICENSE": b"all rights", "README.md": b"by hand"})
    one, two = made(6), made(9, exports={}, judges={})
    push(one, REPO)
    push(two, REPO)
    assert files(hub) == {**written(two), "LICENSE": b"all rights"}


def test_another_tag_of_a_version_that_is_there_is_but_a_tag(hub, made):
    version = made()
    push(version, REPO)
    hub.reset()
    done = push(version, REPO, tag="v1")
    assert done.changed
    assert [each.partition(" ")[2].rpartition("/")[0] for each in writes(hub)] == [
        f"/api/datasets/{REPO}/tag"
    ]
    assert hub.repos[REPO].tags["v1"] == hub.repos[REPO].tags[version.id]


def test_a_plan_says_what_is_sent_and_sends_nothing(hub, made):
    version = made()
    planned = plan(version, REPO)
    assert writes(hub) == []
    assert REPO not in hub.repos
    assert planned.to_json()["creates"]
    assert planned.difference.send == {name: len(data) for name, data in written(version).items()}
    done = carry_out(planned)
    assert (done.files, done.bytes) == (len(written(version)), planned.difference.bytes)


def test_progress_ends_with_all_bytes(hub, made, monkeypatch):
    monkeypatch.setattr(pushing, "TOGETHER", 1)
    told: list[tuple[int, int]] = []
    done = push(made(), REPO, told=lambda *said: told.append(said))
    assert told[0] == (0, done.bytes)
    assert told[-1] == (done.bytes, done.bytes)
    assert told == sorted(told)
    assert len(told) == done.files + 1


@pytest.mark.parametrize("how", ["503", "429", "cut", "lost"])
@pytest.mark.parametrize("where", ["/commit/", "/tag/", "/repos/create", "/refs"])
def test_a_push_ends_in_the_same_state_whatever_fails_once(hub, made, where, how):
    version = made()
    planned = plan(version, REPO)
    hub.fault(where, how, times=1)
    carry_out(planned)
    assert files(hub, version.id) == written(version)
    assert len(hub.repos[REPO].heads) == 2, "a commit whose answer is lost is not made again"


def test_what_is_waited_for_is_told(hub, made, monkeypatch):
    monkeypatch.setattr(pushing, "WAITS", (0.01, 0.02, 0.03))
    planned, said = plan(made(), REPO), []
    hub.fault("/commit/", "503", times=2)
    carry_out(planned, again=lambda why, seconds: said.append((why, seconds)))
    assert [seconds for _, seconds in said] == [0.01, 0.02]
    assert all("503" in why for why, _ in said)


def test_an_upload_that_fails_is_tried_again(hub, made):
    version = made(2)
    hub.fault("PUT /storage", "500", times=1)
    push(version, REPO)
    assert files(hub, version.id) == written(version)


@pytest.mark.parametrize("where", ["PUT /storage", "/commit/", "/tag/"])
def test_a_push_that_gives_up_says_so_and_the_same_push_goes_on(hub, made, where, monkeypatch):
    version = made()
    monkeypatch.setattr(pushing, "TOGETHER", 1)
    monkeypatch.setattr(pushing, "WAITS", ())
    hub.fault(where, "400", times=1) if where == "PUT /storage" else hub.fault(where, "503")
    with pytest.raises(PushError, match=r"503.*the same push goes on|400"):
        push(version, REPO)
    stored = {*hub.objects}
    hub.reset()
    push(version, REPO)
    assert not any(oid in put for oid in stored for put in hub.seen("PUT /storage"))
    assert files(hub, version.id) == written(version)


@pytest.mark.parametrize("status", ["401", "403"])
def test_who_may_not_write_is_told_so_without_the_token(hub, made, status):
    hub.fault("/repos/create", status)
    with pytest.raises(PushError, match=f"{status}.*HF_TOKEN"):
        push(made(), REPO)


def test_a_hub_that_repeats_the_token_is_not_repeated(hub, made):
    hub.fault("/commit/", "echo")
    with pytest.raises(PushError, match="400") as refused:
        push(made(), REPO)
    assert "Authorization" in str(refused.value), "the Hub did repeat it"
    assert TOKEN not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_wrong_token_and_another_organisation(hub, made, monkeypatch):
    version = made()
    with pytest.raises(PushError, match=r"403.*no right"):
        push(version, "other/mini")
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrongwrongwrong")
    with pytest.raises(PushError, match=r"401.*HF_TOKEN"):
        push(version, REPO)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PushError, match="HF_TOKEN is not set"):
        push(version, REPO)
    assert writes(hub) == ["POST /api/repos/create"]


@pytest.mark.parametrize("private", [True, False])
def test_a_repository_of_the_other_visibility_is_refused(hub, made, private):
    hub.make(REPO, private=not private)
    word = "public" if private else "private"
    with pytest.raises(PushError, match=f"is {word}"):
        push(made(), REPO, private=private)
    assert writes(hub) == []


def test_a_public_push_is_public(hub, made):
    push(made(), REPO, private=False)
    assert not hub.repos[REPO].private


def test_a_tag_of_other_content_is_never_moved(hub, made):
    one, two = made(6), made(9)
    push(one, REPO, tag="v1")
    tags = hub.repos[REPO].tags
    before = dict(tags)
    hub.reset()
    with pytest.raises(PushError, match="has a tag v1 of other content"):
        push(two, REPO, tag="v1")
    assert writes(hub) == []
    planned = plan(two, REPO, tag="v2")
    tags["v2"] = before["v1"]  # somebody sets it in between
    with pytest.raises(PushError, match="has a tag v2 of other content"):
        carry_out(planned)
    assert hub.repos[REPO].tags == {
        **before,
        two.id: hub.repos[REPO].tags[two.id],
        "v2": before["v1"],
    }


def test_somebody_commits_in_between(hub, made):
    version = made()
    repo = hub.make(REPO)
    planned = plan(version, REPO)
    repo.commit({**repo.trees[repo.heads[-1]], "LICENSE": (b"mine", False)}, "by hand")
    carry_out(planned)
    assert files(hub, version.id) == {**written(version), "LICENSE": b"mine"}


def test_somebody_creates_it_in_between(hub, made):
    version = made()
    one, two = plan(version, REPO), plan(version, REPO)
    carry_out(one)
    hub.reset()
    assert carry_out(two).commit == hub.repos[REPO].tags[version.id]
    assert files(hub, version.id) == written(version)
    assert hub.seen("POST /api/datasets/") == [], "neither a second commit nor a second tag"


def test_what_somebody_made_public_in_between_gets_nothing(hub, made):
    planned = plan(made(), REPO)
    hub.make(REPO, private=False)
    with pytest.raises(PushError, match="public"):
        carry_out(planned)
    assert len(hub.repos[REPO].heads) == 1


def test_nothing_is_sent_that_was_not_inspected(hub, made):
    version = made()
    push(version, REPO)
    planned = plan(version, REPO, tag="v1")
    assert not planned.difference.send
    hub.repos.clear()
    hub.make(REPO)
    hub.fault("/tag/", "503", times=1)
    with pytest.raises(PushError, match="lost files"):
        carry_out(planned)
    assert files(hub) == {}


def test_a_repository_of_another_dataset_is_refused(hub, made):
    push(made(), REPO)
    with pytest.raises(PushError, match="holds versions of mini, not of other"):
        push(made(name="other", resolved={"name": "other"}), REPO)


@pytest.mark.parametrize(
    "said", [b"[1]", b"{", b'{"files": 5}', b'{"files": {"data.csv": 1}}'[:-1]]
)
def test_a_manifest_of_somebody_else_is_no_reason_to_delete(hub, made, said):
    hub.make(REPO, **{"manifest.json": said, "data.csv": b"a,b"})
    push(made(), REPO)
    assert files(hub)["data.csv"] == b"a,b"


def test_no_network(made, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PushError, match="cannot be reached"):
        push(made(), REPO)


@pytest.mark.parametrize("name", ["mini", "org/mini/more", "org/..", "-org/x", "org/na me"])
def test_what_names_no_repository(hub, made, name):
    with pytest.raises(PushError, match="names no repository"):
        plan(made(), name)


def test_a_login_in_the_endpoint_is_refused_and_not_shown(hub, made, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://me:hidden-9876@127.0.0.1:9")
    with pytest.raises(PushError, match="HF_ENDPOINT has a login") as refused:
        plan(made(), REPO)
    assert "hidden-9876" not in str(refused.value)


def test_a_damaged_version_does_not_leave(hub, made):
    version = made()
    Path(version.path / "recipe.toml").write_text("name = 'other'")
    with pytest.raises(VersionError, match="not as it was written"):
        push(version, REPO)
    assert hub.requests == []


def test_a_version_without_a_row_in_any_view_is_refused_and_an_empty_view_is_told(hub, made, world):
    none = {name: rows.clear() for name, rows in views(world(6)).items()}
    with pytest.raises(PushError, match="none of its views has a row"):
        push(made(exports=none, name="none"), f"{OWNER}/none")
    assert not hub.repos
    some = made(exports={**none, "binary": views(world(6))["binary"]}, name="some")
    planned = plan(some, f"{OWNER}/some")
    assert any("has no rows" in each and "pairwise" in each for each in planned.notes)
    assert not any("binary" in each for each in planned.notes)
