"""Commands of prefdata in this process, one after the other, for a place where the disk is odd.

    python tests/chaos/inside.py DATA '[["build", "r.toml"], "fill", ["list"], "free"]'

"take" copies what is in /mnt to DATA, ["take", "ledger"] a folder of it, "copy" DATA to
DATA-copied; "fill" fills the disk of DATA to its last byte, ["fill", 4096] but for so many, and
"free" undoes it.
Prints one JSON list: code, standard output and standard error of each command.
"""

import json
import shutil
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from typer.testing import CliRunner

from prefdata import cli


def fill(path: Path, but: int = 0) -> None:
    with path.open("wb", buffering=0) as file:
        for piece in (1 << 16, 1 << 10, 1):
            with suppress(OSError):
                while file.write(b"x" * piece):
                    pass
        file.truncate(max(0, file.tell() - but))


def main() -> None:
    data, steps = Path(sys.argv[1]), json.loads(sys.argv[2])
    came: list[tuple[int, str, str]] = []
    for step in steps:
        match step:
            case "fill":
                fill(data / "filler")
            case ["fill", int(but)]:
                fill(data / "filler", but)
            case "free":
                (data / "filler").unlink()
            case "take":
                shutil.copytree("/mnt", data, dirs_exist_ok=True)
            case ["take", str(folder)]:
                shutil.copytree(f"/mnt/{folder}", data / folder)
            case "copy":
                shutil.copytree(data, f"{data}-copied")
            case words:
                told = CliRunner().invoke(cli.app, [*words, "--data", str(data), "--json"])
                odd = told.exception and not isinstance(told.exception, SystemExit)
                trace = "".join(traceback.format_exception(*told.exc_info)) if odd else ""
                came.append((told.exit_code, told.stdout, told.stderr + trace))
    print(json.dumps(came))


if __name__ == "__main__":
    main()
