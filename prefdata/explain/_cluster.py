"""Texts that say the same, one of them kept: exact doubles, then clusters of embeddings.

Clusters are Ward's: of all ways to merge two, the one that adds least to the squared distances
within. They need no start, so they depend on nothing but the vectors.

Source: Ward 1963, "Hierarchical Grouping to Optimize an Objective Function".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy

from prefdata import tables
from prefdata.stage import Asks, Model, requests

Floats = NDArray[np.float64]
# This module comes without types.
HIERARCHY: Any = hierarchy


def plain(text: str) -> str:
    """What two texts have in common that are doubles."""
    return " ".join(text.split()).casefold().rstrip(" .!")


def distinct(texts: Sequence[str]) -> list[str]:
    """The texts without doubles but for case, spaces and a last full stop, sorted."""
    found: dict[str, str] = {}
    for text in sorted(" ".join(each.split()) for each in texts):
        found.setdefault(plain(text), text)
    found.pop("", None)
    return sorted(found.values())


def embedded(texts: Sequence[str], model: Model | None) -> Asks[dict[str, Floats]]:
    """The vector of each text, of length 1; a text whose request failed has none."""
    if model is None or not texts:
        return {}
    said = [[{"role": "user", "content": text}] for text in texts]
    asked = requests(model, "embedding", tables.conversations("messages", said))
    responses = yield asked
    of = dict(responses.select("request_id", "vector").rows())
    known = {text: of[id] for text, id in zip(texts, asked["request_id"], strict=True) if of[id]}
    made: dict[str, Floats] = {}
    for text, vector in known.items():
        long = np.asarray(vector, np.float64)
        made[text] = long / max(float(np.linalg.norm(long)), 1e-12)
    return made


def clusters(vectors: Floats, n: int) -> NDArray[np.int64]:
    """The cluster of each vector, of n; each its own where n suffices."""
    if n >= len(vectors):
        return np.arange(len(vectors))
    tree = HIERARCHY.linkage(vectors, "ward")
    return np.asarray(HIERARCHY.cut_tree(tree, n)[:, 0], np.int64)


def one_of_each(texts: Sequence[str], vectors: Mapping[str, Floats], n: int) -> list[str]:
    """At most n texts: of each cluster the one that is nearest to its mean, sorted.

    Texts without a vector are all kept.
    """
    known = [text for text in texts if text in vectors]
    kept = [text for text in texts if text not in vectors]
    if known:
        matrix = np.stack([vectors[text] for text in known])
        of = clusters(matrix, n)
        for each in np.unique(of):
            mine = np.flatnonzero(of == each)
            away = ((matrix[mine] - matrix[mine].mean(0)) ** 2).sum(1)
            kept.append(known[int(mine[away.argmin()])])
    return sorted(kept)
