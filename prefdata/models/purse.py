"""What an edge may still spend: limits of money and of requests, and what is held back for both."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

# Why a request was not sent.
BUDGET_REACHED = "budget reached"
REQUESTS_REACHED = "request limit reached"
LIMITS = (BUDGET_REACHED, REQUESTS_REACHED)


@dataclass
class Purse:
    """What may still be spent, of money and of requests; without a bound of either, all.

    Money is reserved at the worst price before a request is sent, and a request counts as sent
    once it is reserved. `limit` says which bound was reached, where one was, `too_dear` the worst
    price of the request that the budget was too small for. Builds that are tries of one run share
    a purse, and so its bounds.
    """

    budget: float = math.inf
    requests: float = math.inf
    spent: float = 0.0
    reserved: float = 0.0
    limit: str = ""
    too_dear: float = 0.0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def reserve(self, worst: Sequence[float]) -> int:
        """How many of these requests, in order, may be sent now; 0 once a limit is reached.

        Waits while money is held for requests of others that may cost less than was reserved.
        """
        with self.changed:
            while True:
                free, n = self.budget - self.spent - self.reserved, 0
                most = min(len(worst), self.requests)
                while n < most and worst[n] <= free + 1e-12:
                    free -= worst[n]
                    n += 1
                if n:
                    self.reserved += sum(worst[:n])
                    self.requests -= n
                    return n
                if not most:
                    self.limit = REQUESTS_REACHED
                    return 0
                if self.reserved <= 1e-12:
                    self.limit, self.too_dear = BUDGET_REACHED, worst[0]
                    return 0
                self.changed.wait()

    @classmethod
    def of(cls, budget: float | None, max_requests: int | None) -> Self:
        """A purse with these bounds, where they are given."""
        return cls(
            math.inf if budget is None else budget,
            math.inf if max_requests is None else max_requests,
        )

    @property
    def is_budgeted(self) -> bool:
        return math.isfinite(self.budget)

    @property
    def advice(self) -> str:
        """How to use a budget better of which much is left."""
        left = self.budget - self.spent
        if not self.too_dear or left <= self.budget / 10:
            return ""
        return (
            f"{left:.4f} USD of the budget are left, but the next request could have cost "
            f"{self.too_dear:.4f} at its worst; a smaller max_tokens of its model allows more"
        )

    def settle(self, reserved: float, spent: float) -> None:
        """What was reserved is free again but for what was spent."""
        with self.changed:
            self.reserved = max(0.0, self.reserved - reserved)
            self.spent += spent
            self.changed.notify_all()
