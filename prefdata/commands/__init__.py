"""The commands of `prefdata`, a file a group; `prefdata.cli` puts them together.

A file has its commands as functions and `add_to(app)`, which adds them; its name is in
`prefdata.cli.FILES`. It imports at its top nothing but typer, the standard library and
`prefdata.commands.common`: whatever a command needs, it imports when it runs.
"""
