"""Run a program that nobody vouches for, in isolation, within limits, leaving nothing behind.

    ran = sandbox.run(["/usr/bin/python3", "program.py"], {"program.py": text})
    ran.outcome      ok, exit, signal, time, memory, disk or output
    ran.stdout       what it printed, cut at a limit

The program sees `/usr`, read-only, and the files that it is given, in `/tmp`, where it may write.
It has no network, no environment, no home, no sight of another process, no privilege and no way to
gain one. What it may use is `Limits`. When it ends, or has gone beyond a limit, whatever it started
is killed, and what it wrote is gone: it was in memory.

`unavailable` says why there is no sandbox on a machine, and what to do. Nothing is ever run
without.

`jail` says what a program sees, `calls` what it may ask the kernel, `running` starts and ends it,
`watching` sees what it uses.

Source: bubblewrap (`man bwrap`) and libseccomp, of the distribution.
"""

from prefdata.sandbox.limits import Limits, Outcome, Ran
from prefdata.sandbox.running import run, unavailable

__all__ = ["Limits", "Outcome", "Ran", "run", "unavailable"]
