"""What a repository lacks of a version: the one comparison that a push, and a push again, rests on.

The repository should have tags, of which each holds the version's files byte for byte. If one has
them already the others go to its commit; if none has, they go to the newest commit, which first
gets the files that it lacks and loses those that only the version before it had. What no version
put there stays.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefdata.hub.repository import Held, Repository, State
from prefdata.version import Version
from prefdata.version.stored import MANIFEST


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


def difference(
    version: Version, repository: Repository, tags: Sequence[str], *, private: bool
) -> Difference:
    """What `repository` lacks now."""
    files = {name: version.path / name for name in (*version.manifest["files"], MANIFEST)}
    sizes = {name: path.stat().st_size for name, path in files.items()}
    state = repository.state()
    if state.head is None:
        return Difference(state, sizes, (), tags, None)
    holders = {tag: state.tags[tag] for tag in tags if tag in state.tags}
    whole = {
        commit: not _lacking(files, repository.files(commit)) for commit in {*holders.values()}
    }
    refusals = _refusals(version, repository, state, private=private)
    refusals += [
        f"{repository.name} has a tag {tag} of other content, which is not moved; "
        "take another tag, or another repository"
        for tag, commit in holders.items()
        if not whole[commit]
    ]
    missing = [tag for tag in tags if tag not in state.tags]
    if any(whole.values()):
        commit = next(commit for commit, has_all in whole.items() if has_all)
        return Difference(state, {}, (), missing, commit, refusals)
    lacking = _lacking(files, state.files)
    before = repository.manifest(state.head) if MANIFEST in state.files else {}
    if before.get("name", version.name) != version.name:
        refusals.append(
            f"{repository.name} holds versions of {before['name']}, not of {version.name}; "
            "push to another repository"
        )
    stale = sorted({*before.get("files", ())} & {*state.files} - {*files})
    commit = None if lacking or stale else state.head
    return Difference(
        state, {name: sizes[name] for name in lacking}, stale, missing, commit, refusals
    )


def _lacking(files: Mapping[str, Path], there: Mapping[str, Held]) -> Collection[str]:
    return [n for n, path in files.items() if n not in there or not there[n].is_of(path)]


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
