"""The commands of `prefdata`, a file a command; `prefdata.cli` puts them together.

A file has its command as a function and `add_to(app)`, which adds it; its name is in
`prefdata.cli.FILES`. `plan` is with `build`, whose `--dry-run` it is. A file imports at its top
nothing but typer, the standard library and `prefdata.commands.common`: whatever a command needs, it
imports when it runs.
"""
