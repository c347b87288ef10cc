"""Pushing with the real `huggingface_hub` client to a loopback Hub; see `server` for what it shows."""

from prefdata.hub import push
from prefdata.version import Version
from tests.hub.server import Hub

REPO = "org/mini"


def files(hub: Hub, revision: str = "main", repo: str = REPO) -> dict[str, bytes]:
    held = hub.repos[repo]
    return {path: data for path, (data, _) in held.trees[held.at(revision)].items()}


def written(version: Version) -> dict[str, bytes]:
    return {
        path.relative_to(version.path).as_posix(): path.read_bytes()
        for path in version.path.rglob("*")
        if path.is_file()
    }


def test_a_tag_holds_the_version_byte_for_byte(hub, made):
    version = made(splits={"test": 0.3})
    done = push(version, REPO)
    assert done.changed
    assert done.url == f"{hub.url}/datasets/{REPO}/tree/{version.id}"
    there = files(hub, version.id)
    assert there.pop(".gitattributes")
    assert there == written(version)
    assert {"README.md", "recipe.toml", "judges/helpfulness.toml", "manifest.json"} < there.keys()
    assert hub.repos[REPO].private


def test_the_same_rows_come_back(hub, made, load):
    version = made(20, splits={"test": 0.3})
    push(version, REPO, tag="v1")
    for view, shape in version.manifest["exports"].items():
        for revision in ("main", version.id, "v1"):
            back = load(REPO, name=view, revision=revision)
            assert back.keys() == shape["splits"].keys() == {"train", "test"}
            for split, rows in back.items():
                assert rows == version.rows(view, split).to_dicts()
    assert load(REPO).keys() == {"train", "test"}  # without a name, the view that is the default
