"""`push`: a version becomes a commit of a repository, and tags of it.

A push brings a repository into a stated form: `plan` looks what it lacks of it, `carry_out` adds
that. So a push that was killed goes on by being asked for again, and one that is done changes
nothing. Large files are sent first, each once, and belong to no commit yet; one commit then takes
everything or nothing; tags are last. Where the Hub does not answer, it is tried again from what is
there by then.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefdata.errors import PushError
from prefdata.finding import Finding
from prefdata.hub.difference import Difference, difference
from prefdata.hub.inspection import filled, inspected, notes
from prefdata.hub.personal import REGION
from prefdata.hub.repository import Passing, Repository
from prefdata.version import Version, verify

WAITS = (1.0, 2.0, 5.0, 10.0, 20.0)  # seconds before what was not answered is tried again
TOGETHER = 32 << 20  # bytes of files that are sent at once, after which it is told
Told = Callable[[int, int], None]  # how many bytes are sent, of how many
Again = Callable[[str, float], None]  # why it is tried again, and in how many seconds


def _silent(*_: Any) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Plan:
    """What a push would do, and the reasons, as sentences, for which it may not."""

    version: Version
    repository: Repository
    tags: Sequence[str]
    private: bool
    difference: Difference
    findings: Sequence[Finding]
    refusals: Sequence[str]
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        lacking = self.difference
        return {
            "version": self.version.ref,
            "repo": self.repository.name,
            "url": self.repository.url(),
            "private": self.private,
            "creates": lacking.state.head is None,
            "send": dict(lacking.send),
            "bytes": lacking.bytes,
            "remove": list(lacking.remove),
            "tags": list(lacking.tags),
            "findings": [each.to_json() for each in self.findings],
            "refusals": list(self.refusals),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Pushed:
    """Where a version is; where nothing `changed`, all of it was there. What was sent counts."""

    url: str
    commit: str
    tags: Sequence[str]
    changed: bool
    files: int
    bytes: int


def push(version: Version, repo: str, *, told: Told = _silent, **how: Any) -> Pushed:
    """Put a version on the Hub; `how` is `plan`'s. `PushError` where it may not or cannot."""
    return carry_out(plan(version, repo, **how), told)


def plan(
    version: Version,
    repo: str,
    *,
    tag: str | None = None,
    private: bool = True,
    allow: Collection[str] = (),
    personal_level: float = 0.0,
    region: str = REGION,
) -> Plan:
    """What is lacking of a version in a repository, and whether it may go there; changes nothing.

    Where nothing is to be sent, nothing is inspected. The tags are the version's id and `tag`.
    `allow`, `personal_level` and `region` are those of `inspected`. `PushError` if the repository
    cannot be looked at.
    """
    verify(version.path)
    repository = Repository(repo)
    tags = [version.id, *([tag] if tag else [])]
    try:
        lacking = difference(version, repository, tags, private=private)
    except Passing as error:
        raise PushError(f"{error}; nothing was changed") from None
    found, refusals = (
        inspected(version, allow, personal_level, region) if lacking.send else ([], [])
    )
    refusals += lacking.refusals
    if version.manifest["exports"] and not filled(version):
        refusals.append("none of its views has a row, so nothing could be loaded from it")
    if not repository.has_token:
        refusals.append("HF_TOKEN is not set; give it a token of the Hub that may write")
    return Plan(version, repository, tags, private, lacking, found, refusals, notes(version))


def carry_out(planned: Plan, told: Told = _silent, again: Again = _silent) -> Pushed:
    """Add what is lacking. `PushError` if the plan refuses, or the Hub does."""
    if planned.refusals:
        raise PushError(f"{planned.version.ref} is not pushed: {'; '.join(planned.refusals)}")
    lacking: Difference | None = planned.difference
    waits = iter(WAITS)
    while True:
        try:
            commit = _added(planned, lacking or _lacking(planned), told)
            if not _lacking(planned).is_none:
                raise Passing(f"{planned.repository.name} does not hold all that it was sent")
            return _pushed(planned, commit)
        except Passing as error:
            if (wait := next(waits, None)) is None:
                raise PushError(
                    f"{error}; what was sent stays there, and the same push goes on from it"
                ) from None
            again(str(error), wait)
            lacking = None
            time.sleep(wait)


def _pushed(planned: Plan, commit: str) -> Pushed:
    was_lacking, url = planned.difference, planned.repository.url(planned.tags[-1])
    changed, n = not was_lacking.is_none, len(was_lacking.send)
    return Pushed(url, commit, planned.tags, changed, n, was_lacking.bytes)


def _lacking(planned: Plan) -> Difference:
    """What is lacking by now. `PushError` if there is something in the way by now."""
    where = planned.repository
    lacking = difference(planned.version, where, planned.tags, private=planned.private)
    if lacking.refusals:
        raise PushError("; ".join(lacking.refusals))
    if lacking.send and not planned.difference.send:  # and so nothing was inspected
        raise PushError(f"{where.name} lost files while it was looked at; push again")
    return lacking


def _added(planned: Plan, lacking: Difference, told: Told) -> str:
    """Have the repository hold what it lacks; the commit that does."""
    where, version = planned.repository, planned.version
    if lacking.state.head is None:
        where.create(private=planned.private)
        lacking = _lacking(planned)
    commit = lacking.commit
    if commit is None:
        added: list[Any] = []
        sent = 0
        told(sent, lacking.bytes)
        for files in _together(lacking.send):
            added += where.upload({name: version.path / name for name in files})
            sent += sum(files.values())
            told(sent, lacking.bytes)
        commit = where.commit(version.ref, added, lacking.remove, lacking.state.head)
    for tag in lacking.tags:
        where.tag(tag, commit)
    return commit


def _together(send: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Files in lots of about `TOGETHER` bytes."""
    lot: dict[str, int] = {}
    for name, size in send.items():
        lot[name] = size
        if sum(lot.values()) >= TOGETHER:
            yield lot
            lot = {}
    if lot:
        yield lot
