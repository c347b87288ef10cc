from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata import tables
from prefdata.annotate._answers import number
from prefdata.annotate.exact_match import exact_match
from prefdata.tables import Completions, Prompts, Ratings


def rated(reference: str | None, *texts: str, find: str = "auto") -> Ratings:
    prompt = [[{"role": "user", "content": "how many?"}]]
    ids = tables.prompt_ids(prompt)
    prompts = {"prompt_id": ids, "prompt": prompt, "source": "test", "reference": reference}
    said = [[{"role": "assistant", "content": text}] for text in dict.fromkeys(texts)]
    made = {
        "completion_id": tables.completion_ids([ids[0]] * len(said), said),
        "prompt_id": ids[0],
        "completion": said,
    }
    completions = pl.DataFrame(made, schema=tables.schema("completions").dtypes)
    both = (
        tables.typed(Prompts, pl.DataFrame(prompts, schema_overrides={"reference": pl.String})),
        tables.typed(Completions, completions),
    )
    return tables.typed(Ratings, exact_match(*both, find=find))


def right(reference: str, text: str, find: str = "auto") -> bool:
    return rated(reference, text, find=find)["rating"].to_list() == [1.0]


ACCEPTED = {
    "12": """12 | 12. | The answer is 12. | **12** | $12 | 12% | x = 12 | 5 + 7 = 12 | #### 12
        | \\boxed{12} | \\(12\\) | 12.0 | It is 12, not 13. | Answer: 12 | 13? 12! | +12 | 12/1
        | The answer is 12. I checked 3 times. | The final answer to the question is 12 | “12”
        | not 13 but 12 | * 12 | I have 3 boxes of 4, so 12 eggs. | 0 + 12 = 12 | (12)""",
    "1,200": "1200 | $1,200 | 1200.00 | 1,200.0",
    "1/2": "0.5 | 1/2 | .5 | 2/4",
    "-3": "-3 | −3 | x = -3",
    "Paris": """Paris | The capital of France is Paris. | paris! | It's **Paris**.
        | Paris, a large city | I am sure: Paris | Paris is it. Paris is not Lyon.""",
    "12 apples": "12 apples | I bought 12 apples.",
    "Au": "Au | It is Au.",
    "carbon dioxide": "They take in Carbon  Dioxide (CO2).",
}
REFUSED = {
    "12": """not 12 | 112 | 1.2 | -12 | −12 | 12.5 | 12,5 | 12cm | 12:30 | 10^12 | 12-15 | 12²
        | x-12 | 12 or 13 | either 11 or 12 | isn't 12 | isn’t 12 | The answer is not 12.
        | 12 is wrong | It is not true that the answer is 12. | Is it 12?
        | It is 12. That is wrong. | 13 | 1 2 | It is 13, not 12 | No, not 12. | twelve
        | 12 000 | 120 | 1,2 | 1,12 | 12,000 | never 12
        | less than 12 | between 10 and 12 | 12th | 0.12 | 12e3 | 12/5 | 5/12 | maybe 12 | 12.12
        | The answer is not 12. I used 12 eggs. | answer: 12 or so | v1.12 | #12a | 12 * 5 | 12*5
        | The answer is 13. 12 | 12 is not the answer | 5 - 12 | 5 x 12 | 5-12 | 5 × 12 | .12
        | if 12 | 12?""",
    "1,200": "1.200 | 1,2 | 1 200 | 200 | 1,200,000",
    "1/2": "1 | 2 | 12 | 1/20 | 21/2",
    "5": ".5 | 12 / 5 | 12 - 5 | 12 * 5 | 12 x 5",
    "125": "12*5 | 12_5 | 12 5 | 1 25 | 12\\5",
    "Paris": """Parisian | not Paris | It is not Paris. It is Paris | Paris or Lyon | Lyon
        | Paris-Plage | Is it Paris? No, Lyon.
        | Lyon rather than Paris | isn’t Paris | neither Lyon nor Paris
        | It is Lyon, not Paris | Comparis""",
    "12 apples": "112 apples | 1.12 apples | 1 12 apples | not 12 apples | 12 applesauces",
    "Au": "because | Australia | AuCl",
    "carbon dioxide": "carbon monoxide | carbon dioxides",
    "C++": "C | C+",
    "a.c": "abc",
}


def cases(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(ref, text.strip()) for ref, texts in table.items() for text in texts.split("|")]


@pytest.mark.parametrize(("reference", "text"), cases(ACCEPTED))
def test_the_right_answer_is_found(reference: str, text: str):
    assert right(reference, text)


@pytest.mark.parametrize(("reference", "text"), cases(REFUSED))
def test_what_only_looks_like_it_is_not(reference: str, text: str):
    assert not right(reference, text)


@pytest.mark.parametrize("text", ["Answer:\n12", "The answer is:\n\n12", "3 and 9.\n\n12", "12\n"])
def test_an_answer_may_stand_on_its_own_line(text: str):
    assert right("12", text)


@pytest.mark.parametrize("text", ["", " ", "\n", "I do not know."])
def test_no_answer_is_rated_0_and_leaves_raw_empty(text: str):
    assert rated("12", text).select("rating", "raw").rows() == [(0.0, None)]


def test_raw_is_what_was_found():
    assert rated("12", "So it is **13**.").select("rating", "raw").rows() == [(0.0, "13")]


def test_whole_takes_nothing_but_the_reference():
    assert right("Paris", " **paris**. ", find="whole")
    assert right("12", "12.0", find="whole")
    assert not right("Paris", "It is Paris", find="whole")
    assert not right("12", "not 12", find="whole")


def test_words_and_number_can_be_asked_for():
    assert right("12", "12 and then 13", find="words")
    assert not right("12", "12 and then 13", find="number")
    assert not right("12", "112 and 1.2 and 12.5", find="words")


def test_rows_are_the_prompts_with_a_reference():
    assert rated(None, "12").is_empty()
    assert rated(" ", "12").is_empty()
    row = rated("12", "12").to_dicts()[0]
    assert (row["annotator"], row["criterion"]) == ("rule:exact_match", "correctness")
    assert rated("12", "12", "13", "14")["rating"].sum() == 1.0


@settings(deadline=None, max_examples=25)
@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_an_integer_is_found_whichever_way_it_is_written_and_no_other(said: int, reference: int):
    for written in (f"{said}", f"{said:,}", f"{said}.00", f"**{said}**", f"${said}$"):
        assert number(written) == said
        assert right(str(said), f"The answer is {written}.")
        assert right(str(reference), f"The answer is {written}.") == (said == reference)


@settings(deadline=None)
@given(st.fractions(max_denominator=10**6))
def test_a_fraction_is_itself(value: Fraction):
    assert number(str(value)) == value


@settings(deadline=None)
@given(st.text(max_size=60), st.sampled_from(["12", "Paris", "1/2", "(", "\\boxed{", "a|b"]))
def test_any_text_is_rated_0_or_1(text: str, reference: str):
    assert rated(reference, text)["rating"].to_list() in ([0.0], [1.0])
