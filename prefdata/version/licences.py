"""Whether the licences of a dataset's sources can be kept all at once.

A dataset is passed on under all the licences of its sources. This finds the plain conflicts between
the common ones, by what each licence says of works made from it; it is no legal advice.

Source: the licences' own texts, and Creative Commons' chart of which of its licences combine.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

# Licences that want whatever is made from a work under themselves, by what they may be joined as.
SHARE_ALIKE: Mapping[str, str] = {
    "cc-by-sa-3.0": "cc-by-sa", "cc-by-sa-4.0": "cc-by-sa", "cc-by-nc-sa-3.0": "cc-by-nc-sa",
    "cc-by-nc-sa-4.0": "cc-by-nc-sa", "odbl": "odbl", "cdla-sharing-1.0": "cdla-sharing-1.0",
    "gpl-3.0": "gpl-3.0",
}  # fmt: skip


def conflicts(manifest: Mapping[str, Any]) -> list[str]:
    """Sentences on licences that exclude each other; empty where none do."""
    by: dict[str, list[str]] = {}
    for source, licence in sorted(manifest["licenses"].items()):
        by.setdefault(str(licence).lower(), []).append(source)
    named = {licence: f"{licence} ({', '.join(sources)})" for licence, sources in by.items()}
    found = [
        f"{named[one]} lets nobody pass on changed copies, which a preference dataset is"
        for one in by
        if "-nd" in one
    ]
    for one, other in combinations(by, 2):
        both = f"{named[one]} and {named[other]}"
        families = [SHARE_ALIKE.get(each) for each in (one, other)]
        if None not in families and families[0] != families[1]:
            found.append(f"{both} each want the whole under themselves")
        elif any(_frees(a) and "-nc" in b for a, b in ((one, other), (other, one))):
            found.append(f"{both}: one wants the whole free for all, one forbids commercial use")
    return found


def _frees(licence: str) -> bool:
    """Whether a licence wants the whole under itself and lets it be sold."""
    return licence in SHARE_ALIKE and "-nc" not in licence


def unstated(manifest: Mapping[str, Any]) -> list[str]:
    """The sources of which no licence is stated."""
    return sorted({*manifest["counts"].get("sources", {})} - {*manifest["licenses"]})
