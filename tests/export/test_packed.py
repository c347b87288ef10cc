import polars as pl
import pytest

from prefdata import tables
from prefdata.errors import RecipeError
from prefdata.export.packed import packed


def tokens(prompt, own, completion="c", model="m"):
    row = {"completion_id": [completion], "model": [model], "prompt_id": ["p"],
           "prompt_token_ids": [prompt], "token_ids": [own],
           "logps": [[-1.0] * len(own)]}  # fmt: skip
    return tables.check("likelihoods", pl.DataFrame(row), where="test")


def test_labels_and_weights_stand_where_they_are_predicted():
    """Worked out by hand: prompt 5 6 7, completion 8 9 2, of which 2 ends the turn."""
    [row] = packed(tokens([5, 6, 7], [8, 9, 2])).rows(named=True)
    assert row["nz_input_ids"] == [5, 6, 7, 8, 9]  # after the last label nothing is learnt
    assert row["nz_shifted_label_ids"] == [0, 0, 8, 9, 2]
    assert row["nz_shifted_loss_weights"] == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert row["nz_position_ids"] == [0, 1, 2, 3, 4]
    assert (row["total_length"], row["seqlens"], row["num_seqs"]) == (5, [5], 3.0)


def test_by_sequence_every_completion_weighs_its_class():
    both = pl.concat([tokens([1], [2, 3], "c"), tokens([1], [2, 3, 4, 5], "d")])
    rows = packed(both, by_sequence=True)
    assert rows["num_seqs"].to_list() == pytest.approx([1.0, 1.0])


def test_weights_follow_the_generator():
    both = pl.concat([tokens([1], [2, 3], "c"), tokens([1], [2, 3], "d"), tokens([1], [2], "e")])
    samples = pl.DataFrame(
        {
            "completion_id": ["c", "d", "e"],
            "generator": ["expert", "weak", "other"],
            "draw": 0,
            "prompt_id": "p",
        }
    )
    samples = tables.check("samples", samples, where="test")
    rows = packed(both, samples, weights={"expert": 1.0, "weak": 0.1})
    assert dict(rows.select("completion_id", "num_seqs").rows()) == {"c": 2.0, "d": 0.2}
    with pytest.raises(RecipeError, match="did you mean 'expert'"):
        packed(both, samples, weights={"exprt": 1.0})


def test_of_several_models_one_has_to_be_named():
    both = pl.concat([tokens([1], [2, 3]), tokens([1], [4, 5], model="other")])
    for wrong in (None, "othr"):
        with pytest.raises(RecipeError, match="by m, other; say whose"):
            packed(both, model=wrong)
    assert packed(both, model="m").equals(packed(tokens([1], [2, 3])))


def test_what_is_too_long_is_cut_and_what_is_only_prompt_has_no_row():
    [row] = packed(tokens([1, 2], [3, 4, 5]), max_tokens=4).rows(named=True)
    assert row["nz_shifted_label_ids"] == [0, 3, 4]
    assert packed(tokens([1, 2, 3, 4], [5]), max_tokens=4).is_empty()
