"""What a program in the sandbox sees, as a command of bubblewrap."""

import os
import shutil
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path, PurePosixPath

from prefdata.errors import SandboxError
from prefdata.sandbox.limits import Limits

# The folder that the program may write to, and where it begins.
SCRATCH = "/tmp"
SHARED_MEMORY = "/dev/shm"
OPEN_FILES = 64
_ALONE = (
    *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
    *("--unshare-cgroup-try", "--disable-userns", "--cap-drop", "ALL"),
    *("--die-with-parent", "--new-session", "--hostname", "sandbox", "--uid", "1000"),
    *("--gid", "1000", "--clearenv", "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin"),
    *("--setenv", "HOME", SCRATCH, "--setenv", "TMPDIR", SCRATCH, "--setenv", "LANG", "C.UTF-8"),
)


def jailed(
    command: Sequence[str],
    files: Mapping[str, int],
    limits: Limits,
    *,
    calls: int,
    status: int,
) -> list[str]:
    """The command that runs `command` in the sandbox.

    files: a descriptor of the content of each file, by its path in the scratch folder.
    calls: a descriptor of the filter; without one, or without its content, nothing is run.
    status: a descriptor that the first process's id and the exit code are told to.
    """
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxError(
            "there is no sandbox on this machine: bubblewrap is not installed; install it "
            "(Debian, Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap)"
        )
    sized = ("--size", str(limits.disk), "--tmpfs")
    return [
        *(found, *_ALONE, *_system(), "--proc", "/proc", "--dev", "/dev"),
        # From /dev/zero one may have memory that no limit counts; /dev/full gives zeros too.
        *("--dev-bind", "/dev/full", "/dev/zero"),
        *(*sized, SHARED_MEMORY, "--remount-ro", "/dev", *sized, SCRATCH),
        *(word for name, file in files.items() for word in ("--file", str(file), _inside(name))),
        *("--remount-ro", "/", "--chdir", SCRATCH),
        *("--seccomp", str(calls), "--json-status-fd", str(status)),
        *("--", "/usr/bin/nice", "-n", "10", "/usr/bin/choom", "-n", "1000", "--"),
        *("/usr/bin/prlimit", *_limited(limits), "--", *command),
    ]


def _system() -> list[str]:
    """The system's programs and libraries: `/usr`, and what lies or points beside it."""
    words = ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            words += ["--symlink", os.readlink(name), name]
        else:
            words += ["--ro-bind-try", name, name]
    for name in ("/etc/ld.so.cache", "/etc/alternatives"):
        words += ["--ro-bind-try", name, name]
    return words


def _inside(name: str) -> str:
    """The path of a file in the scratch folder."""
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts or not path.parts:
        raise SandboxError(
            f"a file for the sandbox is called {name!r}; expected a relative path without '..'"
        )
    return str(PurePosixPath(SCRATCH) / path)


def _limited(limits: Limits) -> list[str]:
    """Limits that the kernel keeps, each for one process; `running` keeps those for all of them.

    Where both count the same thing the kernel's is the wider one, so that a program that goes
    beyond it ends with the outcome that names it.
    """
    cpu = ceil(limits.cpu_seconds) + 1
    return [
        f"--cpu={cpu}:{cpu + 1}",
        f"--data={2 * limits.memory}",
        f"--fsize={limits.disk}",
        # One is bubblewrap's, which collects the dead.
        f"--nproc={limits.processes + 1}",
        f"--nofile={OPEN_FILES}",
        # With one byte the kernel hands no dump to a program of the machine; with none it does.
        "--core=1",
        "--msgqueue=0",
        "--memlock=0",
    ]


def python() -> str:
    """The system's Python; that of a virtual environment may lie where the sandbox sees nothing."""
    for name in ("/usr/bin/python3", "/usr/local/bin/python3"):
        if Path(name).exists():
            return name
    raise SandboxError(
        "there is no Python in /usr, and the sandbox sees no other folder; install the system's "
        "(Debian, Ubuntu: apt install python3)"
    )
