"""`python -m prefdata` is the program `prefdata`."""

from prefdata.cli import main

main()
