"""A lane finds what its endpoint bears, whatever it is told besides, and never asks too early."""

import asyncio
import random
import time
from collections import deque

import pytest

from prefdata.models.lane import Lane, Meter

ROUNDS = 6000


def flow(lane: Lane, limit: float, chance: float = 0.0) -> list[tuple[float, bool]]:
    """Requests through a lane, one answered after another: the bound and the fate of each.

    The endpoint refuses at once what is more than `limit`, and a share of the others by chance.
    """
    drawn = random.Random(3)
    sent: deque[int] = deque()
    fates: list[tuple[float, bool]] = []
    for _ in range(ROUNDS):
        while lane.free:
            if lane.in_flight >= limit or drawn.random() < chance:
                epoch = lane.enter()
                lane.leave()
                lane.refused(epoch)
                fates.append((lane.bound, False))
                break
            sent.append(lane.enter())
        if not sent:
            continue
        epoch = sent.popleft()
        lane.leave()
        lane.answered(epoch)
        fates.append((lane.bound, True))
    return fates


@pytest.mark.parametrize("limit", [1, 2, 5, 8, 20, 40])
def test_the_bound_settles_at_what_the_endpoint_bears(limit: int):
    late = flow(Lane(64), limit)[ROUNDS // 2 :]
    bounds = [bound for bound, _ in late]
    assert max(bounds) <= 1.35 * limit + 1.5
    assert sum(bounds) / len(bounds) >= 0.7 * limit
    assert sum(not answered for _, answered in late) / len(late) < 0.25


@pytest.mark.parametrize("chance", [0.02, 0.1, 0.15])
def test_refusals_that_are_no_matter_of_load_do_not_slow_down(chance: float):
    late = flow(Lane(64), 1000, chance)[ROUNDS // 2 :]
    assert sum(bound for bound, _ in late) / len(late) > 0.8 * 64


def test_a_burst_is_one_reason_to_slow_down():
    lane = Lane(64)
    epochs = [lane.enter() for _ in range(64)]
    for epoch in epochs:
        lane.leave()
        lane.refused(epoch)
    assert lane.bound == 32


def test_what_was_lost_is_won_back():
    lane = Lane(64)
    flow(lane, 4)
    assert lane.bound < 8
    flow(lane, 1000)
    assert lane.bound == 64


def test_a_lane_asks_no_more_a_minute_than_it_may():
    meter = Meter(per_minute=60)
    ready = [meter.reserve(1, now) for now in (0.0, 0.0, 0.0, 10.0, 10.5)]
    assert ready == [0.0, 1.0, 2.0, 10.0, 11.0]
    meter.settle(3)
    assert meter.reserve(1, 10.5) == 15.0
    assert Meter(None).reserve(100, 5.0) == 5.0


def test_nobody_leaves_while_a_lane_is_closed():
    async def leave(lane: Lane) -> float:
        await lane.open(0)
        return time.monotonic()

    async def told() -> tuple[float, list[float]]:
        lane = Lane(4, rpm=6000)
        lane.refused(lane.enter(), 0.2)
        going = [asyncio.create_task(leave(lane)) for _ in range(3)]
        await asyncio.sleep(0.1)
        lane.refused(0, 0.3)  # told again while they wait
        return lane.closed_until, [await each for each in going]

    until, left = asyncio.run(told())
    assert min(left) >= until - 0.001
