"""Spelling in few dimensions: that of a library where nothing is cut off, and blind to order."""

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from prefdata.estimate._spelling import spelling

SAID = [
    "the cat sat on the mat",
    "a cat sat upon a mat",
    "dogs run in the park",
    "the dog ran to the park",
    "Grüße aus Köln, ça va?",
    "日本語の文章です",
    "aaaa aaaa aaaa",
]


def placed(texts: list[str]) -> NDArray[np.float64]:
    ids = [f"{at:03}" for at in range(len(texts))]
    columns = {"completion_id": pl.String, "text": pl.String}
    made = spelling(pl.DataFrame({"completion_id": ids, "text": texts}, columns))
    assert made["completion_id"].to_list() == ids
    return made.drop("completion_id").to_numpy()


def test_what_two_texts_share_is_their_cosine_of_trigrams():
    """One text twice, so that the dimension that is left out holds nothing."""
    text = pytest.importorskip("sklearn.feature_extraction.text")
    texts = [*SAID, SAID[0]]
    theirs = text.TfidfVectorizer(analyzer="char", ngram_range=(3, 3), sublinear_tf=True)
    rows = theirs.fit_transform([f" {each} " for each in texts])
    ours = placed(texts)
    assert ours.shape == (8, 7)
    assert np.allclose(ours @ ours.T, (rows @ rows.T).toarray(), atol=1e-8)


def test_case_and_spaces_are_not_spelling():
    loud = [f"  {each.upper()}\n" for each in SAID[:4]]
    both = placed(SAID[:4] + loud)
    assert np.allclose(both[:4], both[4:], atol=1e-8)


def test_the_order_of_rows_changes_nothing():
    frame = pl.DataFrame({"completion_id": [f"{at}" for at in range(7)], "text": SAID})
    assert spelling(frame).equals(spelling(frame.reverse()))


def test_many_texts_take_64_columns_and_keep_likeness():
    draw = np.random.default_rng(0)
    words = ["alpha", "beta", "gamma", "delta"], ["one", "two", "three", "four"]
    texts = [" ".join(draw.choice(words[at % 2], 12)) + f" {draw.random()}" for at in range(300)]
    found = placed(texts)
    assert found.shape == (300, 64)
    alike = found @ found.T
    own, other = alike[::2, ::2].mean(), alike[::2, 1::2].mean()
    assert own > 2 * other


@pytest.mark.parametrize("texts", [[], ["one text"], ["", ""], ["a", "b"]])
def test_texts_that_say_nothing_have_no_columns_or_finite_ones(texts: list[str]):
    assert np.isfinite(placed(texts)).all()
