"""Sources: JSONL, JSON, CSV, Parquet, Arrow and Hub datasets as tables; the inverse of export."""

from prefdata.sources.kinds import (
    CompletionSource,
    PairSource,
    PromptSource,
    RatingSource,
    Sources,
    VoteSource,
)
from prefdata.sources.pairs import as_pairs
from prefdata.sources.reading import Imported, header, read, read_into, resolved, size, tables_made
from prefdata.sources.spec import SourceSpec

__all__ = [
    "CompletionSource",
    "Imported",
    "PairSource",
    "PromptSource",
    "RatingSource",
    "SourceSpec",
    "Sources",
    "VoteSource",
    "as_pairs",
    "header",
    "read",
    "read_into",
    "resolved",
    "size",
    "tables_made",
]
