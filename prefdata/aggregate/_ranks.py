"""Ranks of estimates, in which those that are equal but for their last bits are equal."""

import polars as pl

DIGITS = 9


def settled(column: str) -> pl.Expr:
    """The numbers without the bits in which two computations of one number may differ."""
    return pl.col(column).round_sig_figs(DIGITS)


def rank(column: str) -> pl.Expr:
    """1 for the greatest; equal ones share the smaller rank."""
    return settled(column).rank("min", descending=True)
