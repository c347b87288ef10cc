"""Versions on the Hugging Face Hub: what leaves the house, and what may not.

    texts        every text of a version, with its place
    finding      what was found in them that may not leave: how often, where, masked
    credentials  keys and passwords              personal   addresses, numbers of people
    inspection   whether a version may leave
    repository   a repository of the Hub as it stands, and the few things that are done to it
    difference   what a repository lacks of a version
    pushing      what a push would do, whether it may, and doing it

A repository holds a version's files byte for byte, so that a copy of it is the version again; a
commit is a version, and a tag names it by its id.
"""

from prefdata.hub.pushing import Plan, Pushed, carry_out, plan, push

__all__ = ["Plan", "Pushed", "carry_out", "plan", "push"]
