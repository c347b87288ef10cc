"""Tags: names of a person's choosing for versions, as in `helpful-mini@v3`.

A tag is a file `data/versions/<name>/tags/<tag>` that holds an id, made whole or not at all. It is
no part of a version, which never changes, and so of no id.
"""

import os
import re
import uuid
from pathlib import Path

from prefdata.errors import VersionError, nearest
from prefdata.whole import ASIDE, sync, writable

FOLDER = "tags"
TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
ID = re.compile(r"[0-9a-f]{1,12}")  # the start of an id; what looks like one is no tag


def tags(dataset: Path) -> dict[str, str]:
    """The tags of a dataset's folder, each with the id that it stands for."""
    found = sorted((dataset / FOLDER).glob("*")) if (dataset / FOLDER).is_dir() else []
    tagging = [path for path in found if is_tag(path.name) and path.is_file()]
    said = {path.name: path.read_text("utf-8", errors="replace").strip() for path in tagging}
    return {name: meant for name, meant in said.items() if ID.fullmatch(meant)}


def is_tag(word: str) -> bool:
    return bool(TAG.fullmatch(word)) and not ID.fullmatch(word)


def tagged(dataset: Path, tag: str) -> str:
    """The id that a tag stands for, or a `VersionError` with the nearest tag."""
    there = tags(dataset)
    if tag not in there:
        raise VersionError(f"{dataset.name} has no tag {tag!r}; {nearest(tag, there)}")
    if not (dataset / there[tag]).is_dir():
        raise VersionError(
            f"{dataset.name}@{tag} stands for {there[tag]}, which is not there any more; give the "
            "tag to another version with --move"
        )
    return there[tag]


def put(version: Path, tag: str, *, move: bool = False) -> str | None:
    """Let a tag stand for the version in this folder; the id that it stood for before, if any.

    A tag that stands for another version is a `VersionError`, unless it is to `move`.
    """
    if not is_tag(tag):
        raise VersionError(
            f"{tag!r} is no tag: it begins with a letter, has letters, digits, '.', '_' and '-', "
            "and does not look like the start of an id (digits and a to f), such as v3"
        )
    with writable(version.parent / FOLDER / tag, VersionError):
        return _put(version.parent / FOLDER, version.name, tag, move=move)


def _put(folder: Path, new: str, tag: str, *, move: bool) -> str | None:
    folder.mkdir(exist_ok=True)
    aside, old = folder / f".{uuid.uuid4().hex}{ASIDE}", None
    try:
        aside.write_text(f"{new}\n", encoding="utf-8")
        sync(aside)
        os.link(aside, folder / tag)  # the one way to make a file that is whole, if it is not there
    except FileExistsError:
        old = tags(folder.parent).get(tag, "what is no id")
        if old != new:
            if not move:
                raise VersionError(
                    f"{folder.parent.name}@{tag} stands for {old}; move it to {new} with --move"
                ) from None
            aside.replace(folder / tag)
    finally:
        aside.unlink(missing_ok=True)
    for each in (folder, folder.parent):  # the tag's name, and that of the folder of tags
        sync(each)
    return old


def remove(dataset: Path, tag: str) -> str:
    """Take a tag away; the id that it stood for. The version stays as it is."""
    was = tags(dataset).get(tag) or tagged(dataset, tag)
    with writable(dataset / FOLDER / tag, VersionError):
        (dataset / FOLDER / tag).unlink()
    return was
