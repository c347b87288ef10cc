"""What is installed: prefdata, what it needs, its extras, a GPU, a sandbox."""

import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial

from packaging.requirements import Requirement

from prefdata.finding import Finding

_found = partial(Finding, part="installation")
# What an extra is for, in the words of someone who does not know it. Of `dev` and `all` nothing.
EXTRAS = {
    "check": "near-duplicates in `prefdata check`",
    "embedded": 'models of client = "embedded"',
    "flows": "Prefect flows and schedules",
    "hub": "`prefdata push` to the Hugging Face Hub",
    "language": "the language of a text",
    "local": 'models of client = "local"',
    "ray": "more than one machine",
    "route": "routers that learn",
    "telemetry": "traces and metrics by OpenTelemetry",
    "vllm": 'models of client = "vllm"',
}


def findings() -> Iterator[Finding]:
    yield _found(
        "prefdata",
        "ok",
        f"{importlib.metadata.version('prefdata')}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}",
    )
    needed = [Requirement(said) for said in importlib.metadata.requires("prefdata") or ()]
    lacking = _lacking([each for each in needed if _of(each, "")])
    if lacking:
        said = "; ".join(lacking)
        yield _found("packages", "error", said, "pip install --upgrade prefdata")
    else:
        yield _found("packages", "ok", "all that every build needs")
    for extra, use in EXTRAS.items():
        own = [each for each in needed if _of(each, extra) and not _of(each, "")]
        if own:
            yield _extra(extra, use, _lacking(own), len(own))
    yield _gpu()
    yield _sandbox()


def _of(needed: Requirement, extra: str) -> bool:
    return needed.marker is None or needed.marker.evaluate({"extra": extra})


def _lacking(needed: list[Requirement]) -> list[str]:
    """What is not installed, or in another version than is needed."""
    said: list[str] = []
    for each in needed:
        try:
            there = importlib.metadata.version(each.name)
        except importlib.metadata.PackageNotFoundError:
            said.append(f"{each.name} is not installed")
            continue
        if not each.specifier.contains(there, prereleases=True):
            said.append(f"{each.name} is {there}, and {each.specifier} is needed")
    return said


def _extra(extra: str, use: str, lacking: list[str], n: int) -> Finding:
    about, how = f"extra {extra}", f"pip install 'prefdata[{extra}]'"
    if not lacking:
        return _found(about, "ok", f"for {use}")
    if len(lacking) == n and all(each.endswith("is not installed") for each in lacking):
        return _found(about, "absent", f"not installed; it is for {use}", how)
    return _found(about, "warning", f"{'; '.join(lacking)}; it is for {use}", how)


def _gpu() -> Finding:
    """What the driver says, so that torch, which takes seconds, is not loaded."""
    if not (program := shutil.which("nvidia-smi")):
        return _found("GPU", "absent", "no NVIDIA driver; models run on the CPU")
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        ran = subprocess.run(
            query, capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _found("GPU", "warning", f"nvidia-smi does not answer: {error}")
    if ran.returncode or not ran.stdout.strip():
        said = (ran.stderr or ran.stdout).strip().splitlines()
        return _found("GPU", "warning", f"nvidia-smi: {said[0] if said else 'no GPU'}")
    gpus = "; ".join(ran.stdout.strip().splitlines())
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return _found("GPU", "ok", gpus)
    if torch.endswith("+cpu"):
        do = "install the torch for your driver, as pytorch.org has it"
        return _found("GPU", "warning", f"{gpus}; torch {torch} cannot use it", do)
    return _found("GPU", "ok", gpus)


def _sandbox() -> Finding:
    from prefdata import sandbox

    why = sandbox.unavailable()
    if why is None:
        return _found("sandbox", "ok", "programs of models can be run in isolation")
    return _found("sandbox", "absent", "judges cannot run programs of models here", why)
