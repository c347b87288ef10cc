"""The shortest way from prompts to pairs, of the planted recipes of many tests."""

CHAIN = """
[[stages]]
use = "generate.sample"
model = "writer"
n = 3

[[stages]]
use = "annotate.pairwise"
judge = "helpfulness"
model = "judge"

[[stages]]
use = "aggregate.bradley_terry"

[[stages]]
use = "pair.best_vs_worst"
"""
