"""How much a text is marked up: its list items, headings, bold spans, emojis and code, counted.

Markdown as CommonMark reads it, by patterns on whole columns. Within code nothing else is counted:
a list in a code fence is no list. What CommonMark tells by reading paragraphs is simpler here:

- a fence may stand in lists and quotes, at any depth; fences of 3 to 8 marks are told apart; one
  that is never closed lasts to the end of its message; code that is only indented is text;
- a list item is a line after "-", "*", "+", "•" or a number and a blank; nested ones count too;
- a heading has 1 to 6 "#" and a blank, or is underlined with "=";
- a bold span opens and closes on one line, with no blank just inside: a lone "**" is none;
- an emoji is one as people see it: a flag, a keycap, several joined, a skin and all. What is text
  unless a selector says otherwise, as ©, counts only with the selector.

Source: Li, Angelopoulos, Chiang 2024, "Does Style Matter? Disentangling style and substance in
Chatbot Arena", for lists, headings and bold as counts; CommonMark 0.31; Unicode's TS 51 for emojis.
"""

import polars as pl

from prefdata.tables import Completions

MARKS = ("lists", "headings", "bold", "emojis", "code")
PART = 1 << 14

_MARGIN = r"^[ \t>]*"
_FENCES = [
    rf"{_MARGIN}{mark}{{{n}}}{rest}(?:\n(?s:.*?)(?:{_MARGIN}{mark}{{{n},}}[ \t]*$|\z)|\z)"
    for mark, rest in (("`", r"[^`\n]*"), ("~", r"(?:[^~\n][^\n]*)?"))
    for n in range(3, 9)
]
_FENCE = "(?m)" + "|".join(_FENCES)
_SPAN = "|".join(
    rf"`{{{n}}}[^`\n]+(?:(?:{within}\n)[^`\n]+)*`{{{n}}}"
    for n, within in ((3, "`{1,2}|"), (2, "`|"), (1, ""))
)
# An escaped mark is text, but in a code span a backslash is itself.
_ESCAPED = rf"({_SPAN})|\\[[:punct:]]"
_RULE = r"(?m)^[ \t]*(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$"
_ITEM = rf"(?m){_MARGIN}(?:[-*+•]|\d{{1,9}}[.)])[ \t]+\S"
_HEADING = r"(?m)^[ >]{0,4}#{1,6}[ \t]+\S|^[ >]{0,4}[^\s>#*+-][^\n]*\n[ >]{0,4}={2,}[ \t]*$"
_BOLD = r"\*{2,3}[^\s*](?:[^\n]*?[^\s*])??\*{2,3}|\b__[^\s_](?:[^\n]*?[^\s_])??__\b"
_PICTURE = r"\p{Extended_Pictographic}"
_LOOK = r"[\x{FE0F}\p{Emoji_Modifier}\x{E0020}-\x{E007F}]"
_JOINED = rf"(?:\x{{200D}}{_PICTURE}{_LOOK}*)"
_EMOJI = (
    r"\p{Regional_Indicator}{2}|[0-9#*]\x{FE0F}?\x{20E3}"
    rf"|(?:\p{{Emoji_Presentation}}{_LOOK}*|{_PICTURE}{_LOOK}+){_JOINED}*|{_PICTURE}{_JOINED}+"
)


def markup(completions: Completions) -> pl.DataFrame:
    """`completion_id` and the counts of `MARKS` in a completion, all its messages together."""
    made = [pl.DataFrame(schema={"completion_id": pl.String, **dict.fromkeys(MARKS, pl.UInt32)})]
    contents = pl.col("completion").list.eval(pl.element().struct.field("content"))
    for part in completions.iter_slices(PART):
        texts = part.select("completion_id", text=contents).explode("text")
        counts = texts.select("completion_id", *_counts(texts["text"]))
        made.append(counts.group_by("completion_id", maintain_order=True).agg(pl.col(MARKS).sum()))
    return pl.concat(made, how="vertical_relaxed")


def _counts(text: pl.Series) -> list[pl.Series]:
    text = text.str.replace_all("\r\n?", "\n")
    prose = text.str.replace_all(_FENCE, "").str.replace_all(_ESCAPED, "$1")
    code = text.str.count_matches(_FENCE) + prose.str.count_matches(_SPAN)
    prose = prose.str.replace_all(_SPAN, "x").str.replace_all(_RULE, "")
    found = zip(MARKS, (_ITEM, _HEADING, _BOLD, _EMOJI), strict=False)
    return [*(prose.str.count_matches(by).alias(name) for name, by in found), code.alias("code")]
