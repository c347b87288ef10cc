"""Quality gates: what is wrong with a preference dataset, whoever made it.

    check.run("helpful-mini@v3", against=["benchmark.jsonl"])

`data` reads a version, a file, a folder or a dataset of the Hub in TRL's formats into one frame;
each other file but `run`, `finding` and `near` is one check, a function of its name from the data
to a `Finding`. `run.CHECKS` says in which order they come.
"""

from prefdata.check.data import Data, of_frames, read
from prefdata.check.finding import Finding
from prefdata.check.run import CHECKS, Options, Report, run

__all__ = ["CHECKS", "Data", "Finding", "Options", "Report", "of_frames", "read", "run"]
