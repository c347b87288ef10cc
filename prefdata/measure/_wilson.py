"""Wilson's interval of a share, which stays within [0, 1] and has a width where all agree.

    (p + z^2 / (2 n) +- z sqrt(p (1 - p) / n + z^2 / (4 n^2))) / (1 + z^2 / n)

of a share p of n independent trials.

Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".
"""

from typing import Any, TypeVar

import polars as pl

# The 97.5 % quantile of the standard normal distribution.
Z95 = 1.959963984540054

Number = TypeVar("Number", float, pl.Expr)


def wilson(share: Number, n: Number, z: Number | float = Z95) -> tuple[Number, Number]:
    """Its ends, of n above 0, as numbers or as columns; 95 % where `z` is not given."""
    shrunk = 1 + z**2 / n
    middle: Any = (share + z**2 / (2 * n)) / shrunk
    reach: Any = z / shrunk * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return middle - reach, middle + reach
