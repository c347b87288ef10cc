"""`prefdata push`: a version on the Hugging Face Hub."""

from typing import Annotated

import typer

from prefdata.commands.common import VERSIONS, Data, Json, VersionName, flag, reported
from prefdata.finding import Concern

STOPPED = "what was sent stays there, and no commit has half of it; the same push goes on from it"


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=VERSIONS)(push)


def push(
    version: VersionName,
    repo: Annotated[str, typer.Argument(metavar="ORG/REPO", help="A dataset of the Hub.")],
    public: Annotated[bool, flag("--public", "For all to see; by default it is private.")] = False,
    allow: Annotated[
        list[Concern] | None,
        typer.Option(help="Let it leave in spite of what was found; may be repeated."),
    ] = None,
    personal_level: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Of its rows, how many may hold personal data."
        ),
    ] = 0.0,
    region: Annotated[
        str,
        typer.Option(
            metavar="CC", help="The country where phone numbers without its code are dialled."
        ),
    ] = "US",
    dry_run: Annotated[
        bool, flag("--dry-run", "Say what would be sent, and send nothing.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Put a version on the Hub: its views as configs, card, recipe and judges, and tags naming it.

    HF_TOKEN says who you are, and HF_ENDPOINT where the Hub is.

    Keys, personal data and conflicts of licences are looked for first, and listed.

    A push that was killed goes on where it was, by the same command; a second one changes nothing.

    Exits with 1 where something stands against it, with --dry-run too.
    """
    with reported(as_json, stopped=STOPPED):
        from prefdata.hub import carry_out, plan
        from prefdata.screen import push as screen
        from prefdata.screen import write
        from prefdata.version import find
        from prefdata.version.tags import is_tag

        named = version.partition("@")[2]
        found = find(data, version)
        with screen.looking(write.err()):
            planned = plan(
                found,
                repo,
                tag=named if is_tag(named) else None,
                private=not public,
                allow=allow or (),
                personal_level=personal_level,
                region=region,
            )
        told = planned.to_json()
        if not as_json:
            screen.draw_plan(planned, write.out())
        if planned.refusals:
            for each in planned.refusals:
                write.complain(each, "refused")
            said = {"error": "; ".join(planned.refusals), "kind": "PushError"}
        elif dry_run:
            said = {"dry_run": True}
        else:
            with screen.sending(write.err()) as sending:
                done = carry_out(planned, sending, screen.tried_again)
            said = vars(done)
            if not as_json:
                screen.draw_pushed(planned, done, write.out())
        if as_json:
            write.print_json({**told, **said})
    if planned.refusals:
        raise typer.Exit(1)
