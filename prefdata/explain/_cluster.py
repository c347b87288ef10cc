"""Texts that say the same, one of them kept: exact doubles, then clusters of embeddings.

Without a model a text is embedded by its words, each with the weight log(texts / texts that have
it): what all texts begin with weighs nothing, and nothing is asked.

Clusters are Ward's: of all ways to merge two, the one that adds least to the squared distances
within. They need no start, so they depend on nothing but the vectors. A text counts as often as it
was said: where none are more alike than others, those said once give way first.

Source: Ward 1963, "Hierarchical Grouping to Optimize an Objective Function"; Sparck Jones 1972, "A
statistical interpretation of term specificity" (the weights of words).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy

from prefdata import tables
from prefdata.stage import Asks, Model, requests

Floats = NDArray[np.float64]
# This module comes without types.
HIERARCHY: Any = hierarchy
WORD = re.compile(r"\w+")


def plain(text: str) -> str:
    """What two texts have in common that are doubles."""
    return " ".join(normalize("NFKC", text).split()).casefold().rstrip(" .!")


def distinct(texts: Sequence[str]) -> list[str]:
    """The texts without doubles but for case, spaces and a last full stop, sorted."""
    found: dict[str, str] = {}
    for text in sorted(" ".join(each.split()) for each in texts):
        found.setdefault(plain(text), text)
    found.pop("", None)
    return sorted(found.values())


def embedded(texts: Sequence[str], model: Model | None) -> Asks[dict[str, Floats]]:
    """The vector of each text, of length 1; a text whose request failed has none."""
    if not texts:
        return {}
    if model is None:
        return {text: _unit(vector) for text, vector in zip(texts, _worded(texts), strict=True)}
    said = [[{"role": "user", "content": text}] for text in texts]
    asked = requests(model, "embedding", tables.conversations("messages", said))
    responses = yield asked
    of = dict(responses.select("request_id", "vector").rows())
    known = {text: of[id] for text, id in zip(texts, asked["request_id"], strict=True) if of[id]}
    return {text: _unit(np.asarray(vector, np.float64)) for text, vector in known.items()}


def _unit(vector: Floats) -> Floats:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _worded(texts: Sequence[str]) -> Floats:
    """Which words each text has, weighted: (texts, words)."""
    said = [set(WORD.findall(plain(text))) for text in texts]
    places = {word: at for at, word in enumerate(sorted(set[str]().union(*said)))}
    has = np.zeros((len(texts), len(places)))
    for row, words in enumerate(said):
        has[row, [places[word] for word in words]] = 1.0
    return has * np.log(len(texts) / has.sum(0))


def clusters(vectors: Floats, n: int, weight: NDArray[np.int64]) -> NDArray[np.int64]:
    """The cluster of each vector, which counts `weight` times; each its own where n suffices."""
    if n >= len(vectors):
        return np.arange(len(vectors))
    tree = HIERARCHY.linkage(np.repeat(vectors, weight, 0), "ward")
    return np.asarray(HIERARCHY.cut_tree(tree, n)[weight.cumsum() - 1, 0], np.int64)


def one_of_each(
    texts: Sequence[str], vectors: Mapping[str, Floats], n: int, said: Sequence[str] = ()
) -> list[str]:
    """At most n texts: of each cluster the one that is nearest to its mean, sorted.

    `said` are the texts with their doubles: a text weighs as much as it was said. Texts without a
    vector are all kept.
    """
    often = Counter(map(plain, said))
    known = [text for text in texts if text in vectors]
    kept = [text for text in texts if text not in vectors]
    if known:
        matrix = np.stack([vectors[text] for text in known])
        weight = np.array([max(1, often[plain(text)]) for text in known])
        of = clusters(matrix, n, weight)
        for each in np.unique(of):
            mine = np.flatnonzero(of == each)
            mean = np.average(matrix[mine], 0, weight[mine])
            away = ((matrix[mine] - mean) ** 2).sum(1).round(9)
            kept.append(known[int(mine[away.argmin()])])
    return sorted(kept)


def unlike(texts: Sequence[str], vectors: Mapping[str, Floats], n: int) -> list[str]:
    """At most n texts in their order: while there are more, of the two most alike the later goes.

    Where no two are more alike than others, so the last one. A text without a vector is like none.
    """
    kept = list(texts)
    while len(kept) > n:
        known = [text for text in kept if text in vectors]
        if len(known) < 2:
            return kept[:n]
        matrix = np.stack([vectors[text] for text in known])
        alike = np.tril(matrix @ matrix.T, -1).round(9)
        alike[np.triu_indices(len(known))] = -np.inf
        kept.remove(known[int(np.flatnonzero((alike == alike.max()).any(1))[-1])])
    return kept
