"""The loop with people: what they are asked, in which tool, and what comes back.

To be read in this order: `form` (a judge's rubric as questions with answers), `tasks` (what of a
version is asked, in which order of the two), the tools `rows`, `label_studio` and `argilla` (tasks
as their files, their files as answers), `taking` (which answers count, and why others do not),
`store` (what was handed out and what was answered, kept for ever), `server` (a running Label
Studio) and `exchange` (export, import and sync). A build reads the answers as the table
`annotations`; `annotate.people` makes votes and ratings of them.
"""
