"""What `prefdata check` found, as a table with examples."""

from rich.console import Console

from prefdata.check import Report
from prefdata.screen import write


def draw_report(report: Report, on: Console, *, passes: bool) -> None:
    splits = ", ".join(f"{name} {write.count(n)}" for name, n in report.splits.items())
    on.print(write.text(report.name, "bold"), write.text(f"{report.kind}: {splits} rows", "dim"))
    on.print()
    table = write.table("check", "", "n#", "of#", "share#", "what")
    for each in report.findings:
        was_run = each.level != "skipped"
        table.add_row(
            write.text(each.check),
            write.text(each.level, write.LEVELS[each.level]),
            write.count(each.n) if was_run else "",
            write.count(each.of) if was_run else "",
            f"{each.share:.1%}" if was_run and each.of else "",
            write.text(each.says, "" if was_run else "dim"),
        )
    on.print(table)
    for each in report.findings:
        if each.level not in ("warning", "error"):
            continue
        on.print()
        on.print(write.text(each.check, write.LEVELS[each.level]), write.text(each.advice))
        for example in each.examples:
            on.print(
                write.text(f"  {example['place']}: "), write.text(example["text"], "dim"), sep=""
            )
    on.print()
    on.print(
        write.text("passes", "bold green") if passes else write.text("does not pass", "bold red")
    )
