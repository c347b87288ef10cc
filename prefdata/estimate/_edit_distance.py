"""How many tokens one text needs changed, added or left out to become another."""

from collections.abc import Sequence


def edit_distance(one: Sequence[int], other: Sequence[int]) -> int:
    """Levenshtein's distance, a whole column of its table at a time.

    A column differs from the one before, and each of its places from the one above, by -1, 0 or 1:
    two numbers of as many bits as `one` has tokens hold it.

    Source: Myers (1999), A fast bit-vector algorithm for approximate string matching; Hyyrö (2003),
    A bit-vector algorithm for computing Levenshtein and Damerau edit distances.
    """
    if not one:
        return len(other)
    where: dict[int, int] = {}
    for at, token in enumerate(one):
        where[token] = where.get(token, 0) | 1 << at
    every, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    rises, falls, distance = every, 0, len(one)
    for token in other:
        equal = where.get(token, 0)
        diagonal = ((equal & rises) + rises ^ rises) | equal | falls
        more, less = falls | every & ~(diagonal | rises), diagonal & rises
        distance += bool(more & last) - bool(less & last)
        more, less = (more << 1 | 1) & every, less << 1 & every
        rises, falls = less | every & ~(diagonal | more), more & diagonal
    return distance
