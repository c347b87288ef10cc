from prefdata.export.tree import tree
from tests.export.trees import planted_tree, strengths_of


def test_whole_solutions_stand_best_first_with_what_they_share():
    made, ids = planted_tree()
    values = {"aa": 1.0, "ab": 0.4, "bb": 0.4, "ba": 0.0, "a": 2.0}
    strengths = strengths_of(made, {ids[name]: value for name, value in values.items()})
    [row] = tree(made["prompts"], made["completions"], made["samples"], strengths).rows(named=True)
    named = {id: name for name, id in ids.items()}
    order = [named[id] for id in row["completion_ids"]]
    assert order[0] == "aa"
    assert order[-1] == "ba"
    assert row["ranks"] == [1, 2, 2, 4]  # what others continue is no response
    branch = dict(zip(order, row["branch"], strict=True))
    assert branch == {"aa": 2, "ab": 1, "bb": 0, "ba": 0}
    assert all(len(steps) == 2 for steps in row["responses"])
    best = row["responses"][0]
    for steps, shared in zip(row["responses"], row["branch"], strict=True):
        assert steps[:shared] == best[:shared]
        assert shared == 2 or steps[shared] != best[shared]
