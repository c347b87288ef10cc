"""Whether a version may leave: what its texts hold that should not, and what its licences say."""

from collections.abc import Collection

import polars as pl

from prefdata.errors import PushError, counted, nearest
from prefdata.finding import Concern, Finding
from prefdata.hub.credentials import credentials
from prefdata.hub.finding import findings
from prefdata.hub.personal import REGION, personal
from prefdata.hub.texts import texts
from prefdata.version import Version
from prefdata.version.licences import conflicts, unstated

# Where a text is a line of the card, the recipe, a judge or the manifest, and none of a row.
LINE = r"^(?:manifest\.json|[^ ]+\.(?:md|toml)), line \d+$"
CORE = ("pairwise", "listwise", "binary")


def inspected(
    version: Version,
    allow: Collection[str] = (),
    personal_level: float = 0.0,
    region: str = REGION,
) -> tuple[list[Finding], list[str]]:
    """What was found, whether it is allowed or not, and for what is not, a sentence that says so.

    Personal data is refused where more than the share `personal_level` of the rows that hold texts
    have some.
    """
    for each in allow:
        if each not in tuple(Concern):
            raise PushError(f"{each!r} is nothing to allow; {nearest(each, tuple(Concern))}")
    if not 0 <= personal_level <= 1:
        raise PushError(f"the level of personal data is a share in [0, 1], found {personal_level}")
    held = texts(version)
    keys, data = credentials(held), personal(held, region)
    clashes = conflicts(version.manifest)
    licences = [
        Finding(Concern.LICENCE, "error", "conflict", n=1, examples=({"place": each, "text": ""},))
        for each in clashes
    ]
    refusals: list[str] = []
    if keys.height and Concern.SECRETS not in allow:
        refusals.append(
            f"there are keys or passwords in {_texts(keys)}; take them out, or push with "
            "--allow secrets"
        )
    rows = _rows(held.filter(~pl.col("place").str.contains(LINE)))
    share = _rows(data) / max(rows, 1)
    if share > personal_level and Concern.PERSONAL not in allow:
        refusals.append(
            f"there is personal data in {counted(_rows(data), 'row')}, {share:.2%} of the "
            f"{rows:,} that hold texts, and the level is {personal_level:.2%}; take it out, raise "
            "--personal-level, or push with --allow personal"
        )
    if clashes and Concern.LICENCE not in allow:
        refusals.append(
            f"the licences of its sources conflict ({len(clashes)}); leave a source out, or push "
            "with --allow licence"
        )
    return [
        *findings(Concern.SECRETS, keys),
        *findings(Concern.PERSONAL, data),
        *licences,
    ], refusals


def notes(version: Version) -> list[str]:
    """What is no reason to refuse, and good to know before others see it."""
    said: list[str] = []
    if version.partial:
        said.append(f"it is partial: {version.partial['reason']}")
    if bare := unstated(version.manifest):
        said.append(f"no licence is stated for {', '.join(bare)}")
    if missing := [view for view in CORE if view not in version.manifest["exports"]]:
        said.append(f"it has no view {' and no '.join(missing)}, which its recipe may export")
    if empty := [view for view in version.manifest["exports"] if view not in filled(version)]:
        said.append(f"{' and '.join(empty)} has no rows, and `datasets` cannot load it")
    if people := _people(version):
        said.append(f"its votes name {counted(people, 'person').replace('persons', 'people')}")
    return said


def filled(version: Version) -> list[str]:
    """The views that hold rows."""
    views = version.manifest["exports"].items()
    return [view for view, said in views if sum(said["splits"].values())]


def _texts(found: pl.DataFrame) -> str:
    return counted(found["place"].n_unique(), "text")


def _rows(found: pl.DataFrame) -> int:
    """How many rows texts stand in: a place is a row and its column."""
    return found["place"].str.replace(r", [^,]*$", "").n_unique()


def _people(version: Version) -> int:
    """How many annotators of kind `human` it has; their names leave with it."""
    said = [version.table(name)["annotator"] for name in ("votes", "ratings", "rankings")]
    names = pl.concat(said).unique()
    return names.filter(names.str.starts_with("human:")).len()
