"""What counts as a mark of style: by hand, and as a parser of Markdown sees it."""

from collections import Counter
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from prefdata.measure._markup import MARKS, markup

PARSED = {"list_item_open": "lists", "heading_open": "headings", "strong_open": "bold",
          "fence": "code", "code_inline": "code"}  # fmt: skip


def completions(*texts: str) -> Any:
    said = [[{"role": "assistant", "content": text}] for text in texts]
    return pl.DataFrame(
        {"completion_id": [f"{at:05}" for at in range(len(said))], "completion": said}
    )


def counted(text: str) -> dict[str, int]:
    row = markup(completions(text)).row(0, named=True)
    return {name: row[name] for name in MARKS if row[name]}


def parsed(text: str) -> dict[str, int]:
    """The same by a parser: reads blocks and spans as CommonMark says."""
    blocks = MarkdownIt("commonmark").parse(text)
    tokens = [each for block in blocks for each in (block, *(block.children or ()))]
    return dict(Counter(PARSED[token.type] for token in tokens if token.type in PARSED))


CASES = {
    "plain words, 2 * 3 - 1 = 5 and a - b": {},
    "- one\n- two\n  - nested\n* three\n+ four": {"lists": 5},
    "1. one\n2) two\n10. ten": {"lists": 3},
    "1.5 is a number\n-5 degrees\n-not an item": {},
    "text\n\n---\n\n* * *\n\n- - -\n\ntext": {},
    "# one\n\n## two\n\n###### six\n\n####### seven\n\n#hashtag": {"headings": 3},
    "Title\n=====\n\ntext": {"headings": 1},
    "**bold** and __bold__ and ***both***": {"bold": 3},
    "an **open one\n\nand another**": {},
    "2 ** 3 ** 4 and snake__case__name": {},
    "**a** ** **b**": {"bold": 2},
    "**one** and **two**, **open": {"bold": 2},
    "**N**oisy **Q**uantum": {"bold": 2},
    r"\*\*not bold\*\* and \# no heading": {},
    "*italic* and _italic_": {},
    "- **item**: `code`": {"lists": 1, "bold": 1, "code": 1},
    "`a` and ``b ` c`` and `**d**`": {"code": 3},
    r"a \` b \` c and `C:\`": {"code": 1},
    "**`code`**": {"bold": 1, "code": 1},
    "one ` tick": {},
    "```python\n# comment\n- a\n**b**\n```\n\n# real": {"code": 1, "headings": 1},
    "```\nnever closed\n- a\n# b": {"code": 1},
    "````\n```\n- a\n```\n````\n- real": {"code": 1, "lists": 1},
    "~~~\n# a\n```\n~~~\n\n```\nb\n```": {"code": 2},
    "1. do\n   ```sh\n   - x\n   ```\n2. done": {"lists": 2, "code": 1},
    "> - quoted\n> - list\n>\n> # head": {"lists": 2, "headings": 1},
    "```\n```": {"code": 1},
    "- a\r\n- b\r\n\r\n```\r\n- c\r\n```\r\n": {"lists": 2, "code": 1},
    "": {},
}


@pytest.mark.parametrize(("text", "marks"), CASES.items())
def test_marks_by_hand_and_by_a_parser(text: str, marks: dict[str, int]):
    assert counted(text) == marks
    assert parsed(text) == marks


EMOJIS = {
    "\N{GRINNING FACE}": 1,
    "\N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}": 1,
    "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}": 1,
    "\N{HEAVY BLACK HEART}\ufe0f\u200d\N{FIRE}": 1,
    "\N{HEAVY BLACK HEART}\u200d\N{FIRE}": 1,
    "\U0001f1e9\U0001f1ea": 1,  # one flag
    "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7": 2,
    "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f": 1,  # Scotland's
    "1\ufe0f\u20e3": 1,
    "\N{WHITE UP POINTING INDEX}\N{EMOJI MODIFIER FITZPATRICK TYPE-5}": 1,
    "\N{HEAVY CHECK MARK}\ufe0f": 1,
    "\N{HEAVY CHECK MARK}": 0,
    "\N{COPYRIGHT SIGN} 2024 # 1 * \N{RIGHTWARDS ARROW} é 漢字": 0,
    "`\N{GRINNING FACE}`": 0,
}


@pytest.mark.parametrize(("text", "n"), EMOJIS.items())
def test_an_emoji_is_counted_as_people_see_it(text: str, n: int):
    assert markup(completions(text))["emojis"].to_list() == [n]
    assert markup(completions(f"x{text} {text}.\n{text}"))["emojis"].to_list() == [3 * n]


def test_messages_are_texts_of_their_own_and_all_count():
    said = [{"role": "assistant", "content": "```\n- open"}, {"role": "user", "content": "- more"}]
    frame = pl.DataFrame({"completion_id": ["x"], "completion": [said]})
    assert markup(frame).row(0) == ("x", 1, 0, 0, 0, 1)  # type: ignore[arg-type]


PIECES = ["a line of words", "- item", "1. item", "# head", "some **bold** here", "a `span` here",
          "```\n- x\n# y\n```", "~~~py\n**z**\n~~~", "> quoted", "---"]  # fmt: skip


@settings(max_examples=40)
@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_pieces_apart_count_as_their_sum_and_as_the_parser_says(pieces: list[str]):
    text = "\n\n".join(pieces)
    total = Counter[str]()
    for piece in pieces:
        total.update(counted(piece))
    assert counted(text) == dict(total) == parsed(text)


@settings(max_examples=40)
@given(st.text(alphabet="a*_~#->1. \n\\", max_size=60))
def test_whatever_stands_in_a_fence_is_one_piece_of_code(text: str):
    assert counted(f"```\n{text}\n```") == parsed(f"```\n{text}\n```") == {"code": 1}


def test_real_completions_as_the_parser_counts_them(shared: Any):
    texts = shared("alpacaeval_outputs.parquet")["output"].drop_nulls().str.replace_all("•", "-")
    texts = texts.filter((texts.hash(3) % 12 == 0) | texts.str.contains("(?m)^#+ "))
    ours = markup(completions(*texts))
    theirs = [parsed(text) for text in texts]
    assert len(theirs) > 1000
    for mark in ("lists", "headings", "bold", "code"):
        right = pl.Series([counts.get(mark, 0) for counts in theirs])
        marked = (right > 0) | (ours[mark] > 0)
        assert marked.sum() > 30, mark
        assert (ours[mark] == right).mean() > 0.99, mark
        assert (ours[mark] == right).filter(marked).mean() > 0.8, mark
