"""The planted world of mixes: rows with tags, what people's labels on them are worth, and mixes.

It has a draw of its own for mixes, written from the published description, and an oracle that
knows the truth.
"""

import numpy as np

N_ROWS, N_TAGS = 2000, 90


class World:
    """Nine features in three bins each and 63 descriptive tags, rare and common.

    The performance of a mix with counts v of n rows is w u / sd + u' q u with u = v / n, in units
    in which the first part, over random mixes, has a standard deviation of about 1.
    """

    def __init__(self, seed, quadratic=0.0):
        draw = np.random.default_rng(seed)
        bins = draw.integers(0, 3, (N_ROWS, 9))
        binned = (bins[:, :, None] == np.arange(3)).reshape(N_ROWS, 27)
        described = draw.random((N_ROWS, N_TAGS - 27)) < draw.uniform(0.02, 0.4, N_TAGS - 27)
        self.tags = np.concatenate([binned, described], 1)
        self.slope = draw.normal(size=N_TAGS)
        part = draw.normal(size=(N_TAGS, N_TAGS))
        self.bend = quadratic * (part + part.T) / np.sqrt(8 * N_TAGS)
        self.scale, self.base = 1.0, 0.0
        some = self.performance(self.mixes(300, draw))
        self.scale, self.base = some.std(), some.mean()

    def mixes(self, n, draw, n_people=None):
        """Tags in a random order, all rows of one after the other, until there are enough."""
        made = np.zeros((n, N_ROWS), bool)
        for at in range(n):
            wanted = draw.integers(1, N_ROWS) if n_people is None else n_people
            for tag in draw.permutation(N_TAGS):
                left = wanted - made[at].sum()
                if left <= 0:
                    break
                rows = draw.permutation(np.flatnonzero(self.tags[:, tag] & ~made[at]))
                made[at, rows[:left]] = True
        return made

    def counts(self, masks):
        return masks.astype(float) @ self.tags

    def performance(self, masks):
        u = self.counts(masks) / N_ROWS
        plain = u @ self.slope
        bent = ((u @ self.bend) * u).sum(-1) * np.sqrt(N_TAGS)
        return (plain + bent - self.base) / self.scale

    def of_rows(self, rows):
        mask = np.zeros((1, N_ROWS), bool)
        mask[0, rows] = True
        return float(self.performance(mask)[0])

    def oracle(self, n_people):
        """The best rows that swapping finds: again and again those of the highest true slope."""
        member = self.tags.astype(float)
        at = member.sum(0) * n_people / N_ROWS
        best, found = -np.inf, np.arange(n_people)
        for step in range(200):
            u = at / N_ROWS
            slope = self.slope + 2 * (self.bend @ u) * np.sqrt(N_TAGS)
            rows = np.argsort(-(member @ slope))[:n_people]
            if (value := self.of_rows(rows)) > best:
                best, found = value, rows
            at = at + (member[rows].sum(0) - at) * 2 / (step + 3)
        return found
