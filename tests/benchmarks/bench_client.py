"""What a row costs: a completion and a judge call for each of 5,000 prompts, on an instant server.

    python tests/benchmarks/bench_client.py [--n 5000] [--profile]

The server is a process of its own. A bare aiohttp client that keeps nothing is the ceiling of the
moment; beside it, in the same run, the whole of `prefdata.build`: sources, ledger, tables, version;
and the finished build once more, from the start of its process to its end. CPU is that of the
client's process alone. Not a test: times of one run, with the machine's load.
"""

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SERVER = Path(__file__).parents[1] / "models" / "server.py"
CONCURRENCY = 64
RECIPE = """
name = "rows"
sources.prompts = "prompts.jsonl"

[models.m]
client = "openai"
model = "repeatable"
base_url = "{url}"
concurrency = {concurrency}

[[stages]]
use = "generate.sample"
model = "m"

[[stages]]
use = "annotate.pointwise"
judge = "helpfulness-rating"
model = "m"
allow_self = true
"""


def prompts(n: int) -> list[str]:
    return [f"Prompt number {i}: write one sentence about item {i}." for i in range(n)]


def bare(url: str, n: int) -> tuple[float, float]:
    """Both calls of each row, as many at once, with nothing but aiohttp and json."""
    import aiohttp

    async def everything() -> None:
        rows = iter(prompts(n))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def call(text: str) -> str:
                asked = {"model": "m", "messages": [{"role": "user", "content": text}]}
                async with session.post(f"{url}/chat/completions", json=asked) as reply:
                    said = json.loads(await reply.read())
                return said["choices"][0]["message"]["content"]

            async def work() -> None:
                for text in rows:
                    await call(f"Rate this answer from 1 to 5.\n\n{text}\n\n{await call(text)}")

            await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

    return timed(lambda: asyncio.run(everything()))


def whole(folder: Path, url: str, n: int, profile: bool) -> tuple[float, float]:
    """The same through a build."""
    import prefdata
    import prefdata.models.openai

    lines = [json.dumps({"prompt": text}) + "\n" for text in prompts(n)]
    (folder / "prompts.jsonl").write_text("".join(lines))
    recipe = folder / "rows.toml"
    recipe.write_text(RECIPE.format(url=url, concurrency=CONCURRENCY))
    known = (folder / "data").exists()

    def build() -> None:
        built = prefdata.build(recipe, data=folder / "data")
        asked, cached = (0, 2 * n) if known else (2 * n, 0)
        assert built.requests == {"asked": asked, "cached": cached, "failed": 0, "unsent": 0}, built

    return timed(build, profile)


def timed(work: Callable[[], None], profile: bool = False) -> tuple[float, float]:
    """Seconds of CPU, of all threads, and of the clock."""
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    began, used = time.perf_counter(), time.process_time()
    work()
    taken = time.process_time() - used, time.perf_counter() - began
    if profile:
        profiler.disable()
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(45)
    return taken


def measured(
    what: str, url: str, n: int, *flags: str, folder: str | None = None
) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as own:
        command = [sys.executable, __file__, "--only", what, "--url", url, "--n", str(n)]
        command += ["--folder", folder or own, *flags]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    cpu, wall = json.loads(done.stdout)
    return cpu, wall


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--only", choices=["bare", "whole"])
    parser.add_argument("--url", default="")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.only:
        took = bare(given.url, given.n) if given.only == "bare" else None
        print(json.dumps(took or whole(given.folder, given.url, given.n, given.profile)))
        return
    flags = ["--profile"] if given.profile else []
    server = subprocess.Popen([sys.executable, SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        measured("bare", url, 200)
        print(
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {given.n:,} rows, 2 calls each"
        )
        rates: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            for what, name in (("bare", "bare aiohttp"), ("whole", "prefdata.build")):
                mine = flags if what == "whole" else []
                cpu, wall = measured(what, url, given.n, *mine, folder=folder)
                rates.append(given.n / wall)
                print(f"{name:16}{1000 * cpu / given.n:8.2f} ms CPU a row {rates[-1]:8.0f} rows/s")
            began = time.perf_counter()
            cpu, _ = measured("whole", url, given.n, *flags, folder=folder)
            again = time.perf_counter() - began
        ratio = rates[1] / rates[0]
        print(f"rows/s against the ceiling: {ratio:.2f}; load now {os.getloadavg()[0]:.1f}")
        print(
            f"the finished build again: 0 requests, {again:.2f} s with the start of Python, "
            f"{cpu:.2f} s of CPU in the build"
        )
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
