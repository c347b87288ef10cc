"""Quality gates: what is wrong with a preference dataset, whoever made it.

    check.run("helpful-mini@v3", against=["benchmark.jsonl"])

`data` reads a version, a file, a folder or a dataset of the Hub in TRL's formats in parts; each
other file but `run`, `reading` and `finding` is one check, a function of its name that is sent the
parts one by one and returns a `Finding`. What is held of all rows are counts, examples and hashes.
`run.CHECKS` says in which order they come.
"""

from prefdata.check.data import Data, Whole, of_frames, read
from prefdata.check.run import CHECKS, Options, Report, run
from prefdata.finding import Finding

__all__ = ["CHECKS", "Data", "Finding", "Options", "Report", "Whole", "of_frames", "read", "run"]
