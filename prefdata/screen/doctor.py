"""What `prefdata doctor` finds, as it finds it."""

from collections.abc import Callable

from rich.console import Console
from rich.padding import Padding

from prefdata.doctor import Examination
from prefdata.finding import Finding
from prefdata.screen import write


def teller(on: Console) -> Callable[[Finding], None]:
    """What draws each finding on a line, under the name of its part."""
    last = ""

    def tell(finding: Finding) -> None:
        nonlocal last
        if finding.part != last:
            on.print(*(() if not last else ("\n",)), write.text(finding.part, "bold"), sep="")
            last = finding.part
        level = write.text(f"  {finding.level:<8} ", write.LEVELS[finding.level])
        check = write.text(f"{finding.check:<16} ")
        dim = "dim" if finding.level == "absent" else ""
        on.print(level + check + write.text(finding.says, dim), soft_wrap=True)
        if finding.advice:
            on.print(
                Padding(
                    write.text(finding.advice, "cyan" if not dim else "dim"),
                    (0, 0, 0, 28),
                    expand=False,
                )
            )

    return tell


def draw_verdict(found: Examination, on: Console) -> None:
    on.print()
    n = sum(each.level == "error" for each in found.findings)
    if found.is_fit:
        on.print(write.text("a build can run here", "bold green"))
    else:
        what = "1 thing is" if n == 1 else f"{n} things are"
        on.print(write.text(f"{what} in the way of a build", "bold red"))
