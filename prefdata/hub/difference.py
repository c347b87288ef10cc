"""What a repository lacks of a version: the one comparison that a push, and a push again, rests on.

The repository should have tags, of which each holds the version: its files byte for byte, or those
of another build of it, which has the same id. If one does, the others go to its commit; if none
does, they go to the newest commit, which first gets the files that it lacks and loses those that
only the version before it had. What no version put there stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefdata.hub.repository import Held, Repository, State
from prefdata.version import Version
from prefdata.version.stored import MANIFEST, file_state, manifest_id

Stated = Mapping[str, Any]  # a file's bytes and SHA-256


@dataclass(frozen=True)
class Difference:
    """`send` are the files that are lacking, with their bytes; `remove` those that go; `tags` those
    to be set, on `commit` where one has all the files. With `refusals` nothing is done.
    """

    state: State
    send: Mapping[str, int]
    remove: Sequence[str]
    tags: Sequence[str]
    commit: str | None
    refusals: Sequence[str] = ()

    @property
    def bytes(self) -> int:
        return sum(self.send.values())

    @property
    def is_none(self) -> bool:
        return not self.send and not self.remove and not self.tags


@dataclass(frozen=True)
class _Commit:
    """A commit as it is: `there` its files, `lacking` those of the version that it has not."""

    oid: str
    there: Mapping[str, Held]
    manifest: Mapping[str, Any]
    lacking: Sequence[str]
    version: Version

    @property
    def holds(self) -> bool:
        return not self.lacking or self._is_another_build()

    def _is_another_build(self) -> bool:
        """Whether it is all files of the same version by its id, which says what it holds.

        Another build has its own time and counts, so another manifest, by which files are judged.
        """
        try:
            is_it = self.version.id == self.manifest["id"] == manifest_id(self.manifest)
            return (MANIFEST in self.lacking and is_it) and all(
                name in self.there and self.there[name].is_of(stated)
                for name, stated in self.manifest["files"].items()
            )
        except (KeyError, TypeError, AttributeError):  # it is the manifest of something else
            return False


def difference(
    version: Version, repository: Repository, tags: Sequence[str], *, private: bool
) -> Difference:
    """What `repository` lacks now."""
    files = {**version.manifest["files"], MANIFEST: file_state(version.path / MANIFEST)}
    sizes = {name: stated["bytes"] for name, stated in files.items()}
    state = repository.state()
    if state.head is None:
        return Difference(state, sizes, (), tags, None)
    tagged = {
        tag: _look(version, files, repository, state.tags[tag]) for tag in tags if tag in state.tags
    }
    missing = [tag for tag in tags if tag not in tagged]
    refusals = _refusals(version, repository, state, private=private)
    refusals += [
        f"{repository.name} has a tag {tag} of other content, which is not moved; "
        "take another tag, or another repository"
        for tag, commit in tagged.items()
        if not commit.holds
    ]
    for commit in tagged.values():
        if commit.holds:
            return Difference(state, {}, (), missing, commit.oid, refusals)
    head = _look(version, files, repository, state.head)
    if head.holds:
        return Difference(state, {}, (), missing, head.oid, refusals)
    if (held := head.manifest.get("name", version.name)) != version.name:
        refusals.append(
            f"{repository.name} holds versions of {held}, not of {version.name}; "
            "push to another repository"
        )
    send = {name: sizes[name] for name in head.lacking}
    stale = sorted({*head.manifest.get("files", ())} & {*head.there} - {*files})
    return Difference(state, send, stale, missing, None, refusals)


def _look(
    version: Version, files: Mapping[str, Stated], repository: Repository, oid: str
) -> _Commit:
    there = repository.files(oid)
    manifest = repository.manifest(oid) if MANIFEST in there else {}
    lacking = [
        name
        for name, stated in files.items()
        if name not in there or not there[name].is_of(stated, version.path / name)
    ]
    return _Commit(oid, there, manifest, lacking, version)


def _refusals(
    version: Version, repository: Repository, state: State, *, private: bool
) -> list[str]:
    if state.private == private:
        return []
    if private:
        return [
            f"{repository.name} is public: everybody would see {version.ref}; push to another "
            "repository, make it private, or push with --public"
        ]
    return [
        f"{repository.name} is private, and a push does not change that; make it public in its "
        "settings, or push without --public"
    ]
