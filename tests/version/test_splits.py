import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata import tables
from prefdata.errors import RecipeError, TableError
from prefdata.version.splits import assign_splits, part, prompt_splits

TEST = {"test": 0.3}


def split_of(made, splits=TEST, seed=0):
    return dict(prompt_splits(made, splits, seed).iter_rows())


@given(
    named=st.lists(st.sampled_from([None, "g1", "g2", "g3"]), min_size=1, max_size=15),
    seed=st.integers(0, 2**31),
    share=st.floats(0.05, 0.9),
)
@settings(max_examples=60, deadline=None)
def test_a_group_is_never_parted(world, named, seed, share):
    made = world(len(named), 2, groups=dict(enumerate(named)))
    splits = {"test": share}
    group = dict(made["prompts"].select("prompt_id", "group").iter_rows())
    assigned = assign_splits(made, splits, seed)["pairs"]
    found = {}
    for prompt, split in assigned.select("prompt_id", "split").iter_rows():
        found.setdefault(group[prompt] or prompt, set()).add(split)
    assert all(len(each) == 1 for each in found.values())
    assert assigned.height == made["pairs"].height


def test_order_and_other_rows_do_not_matter(world, shuffled):
    made = world(40, 2)
    whole = split_of(made)
    assert split_of({"prompts": shuffled(made["prompts"], 1)}) == whole
    few = split_of({"prompts": made["prompts"].head(7)})
    assert few == {prompt: whole[prompt] for prompt in few}


def test_shares_are_as_asked_and_the_seed_draws_anew(world):
    made = world(2000, 1)
    one, other = split_of(made, {"test": 0.1, "validation": 0.2}), split_of(made, seed=1)
    sizes = {name: list(one.values()).count(name) for name in ("train", "test", "validation")}
    # Within four standard deviations of a binomial.
    assert abs(sizes["test"] - 200) < 4 * (2000 * 0.1 * 0.9) ** 0.5
    assert abs(sizes["validation"] - 400) < 4 * (2000 * 0.2 * 0.8) ** 0.5
    assert one != other


def test_another_split_after_it_leaves_test_as_it_was(world):
    made = world(300, 1)
    alone, both = split_of(made, {"test": 0.2}), split_of(made, {"test": 0.2, "validation": 0.1})
    tested = {prompt for prompt, split in alone.items() if split == "test"}
    assert tested == {prompt for prompt, split in both.items() if split == "test"}


def test_assigning_twice_changes_nothing(world):
    once = assign_splits(world(), TEST, 3)
    assert assign_splits(once, TEST, 3)["pairs"].equals(once["pairs"])


def joint(made, one, other):
    pairs = pl.DataFrame({"chosen_id": [one], "rejected_id": [other], "n_votes": 1})
    pairs = pairs.with_columns(tables.pair_ids([one], [other]), soft_label=pl.lit(1.0))
    return {**made, "pairs": tables.check("pairs", pairs, where="test")}


def test_a_pair_across_two_splits_is_dropped_and_recorded(world):
    made = world(30, 1)
    splits = split_of(made)
    owner = made["completions"].select("prompt_id", "completion_id").rows()
    train = [completion for prompt, completion in owner if splits[prompt] == "train"]
    test = [completion for prompt, completion in owner if splits[prompt] == "test"]
    before = joint(made, train[0], test[0])
    rationale = before["pairs"].select("pair_id", annotator=pl.lit("human:u"), kind=pl.lit("why"))
    rationale = rationale.with_columns(rationale=pl.lit("because"))
    before["rationales"] = tables.check("rationales", rationale, where="test")
    across = assign_splits(before, TEST)
    assert across["pairs"].is_empty()
    assert across["rationales"].is_empty()
    assert across["dropped"]["table"].to_list() == ["pairs", "rationales"]
    again = assign_splits(across, TEST)
    assert again["dropped"].equals(across["dropped"])
    within = assign_splits(joint(made, test[0], test[1]), TEST)
    assert within["pairs"]["split"].to_list() == ["test"]


def test_views_of_one_dataset_share_their_splits(world):
    made = assign_splits(world(20), TEST)
    by_pair = part(made["pairs"].select("pair_id", "prompt_id"), made, TEST)
    by_prompt = part(made["completions"].select("completion_id", "prompt_id"), made, TEST)
    assert list(by_pair) == list(by_prompt) == ["train", "test"]
    for split in by_pair:
        assert set(by_pair[split]["prompt_id"]) == set(by_prompt[split]["prompt_id"])
        assert " split" not in by_pair[split].columns


def test_splits_that_came_with_the_pairs_are_kept(world):
    made = world(4)
    prompt = made["prompts"]["prompt_id"][0]
    said = pl.when(pl.col("prompt_id") == prompt).then(pl.lit("held_out"))
    made["pairs"] = made["pairs"].with_columns(split=said)
    assert assign_splits(made, {})["pairs"].equals(made["pairs"])
    parted = part(made["completions"], made, {})
    assert set(parted["held_out"]["prompt_id"]) == {prompt}
    assert sum(each.height for each in parted.values()) == made["completions"].height


def test_splits_that_came_and_part_a_group_are_refused(world):
    made = world(2, groups={0: "twins", 1: "twins"})
    first = pl.col("prompt_id") == made["prompts"]["prompt_id"][0]
    said = pl.when(first).then(pl.lit("test")).otherwise(pl.lit("train"))
    made["pairs"] = made["pairs"].with_columns(split=said)
    with pytest.raises(TableError, match="twins"):
        prompt_splits(made, {})


@pytest.mark.parametrize(
    "splits", [{"train": 0.9}, {"test": 0.0}, {"test": 1.0}, {"a": 0.5, "b": 0.5}, {"a/b": 0.1}]
)
def test_shares_that_are_none(world, splits):
    with pytest.raises(RecipeError, match="splits"):
        assign_splits(world(), splits)
