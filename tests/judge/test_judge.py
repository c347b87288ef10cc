import json
import time

import polars as pl
import pytest

from prefdata import judge as judges
from prefdata.errors import JudgeError
from prefdata.judge import Judge
from prefdata.judge.scale import Scale
from prefdata.judge.verdict import CURABLE

PAIRWISE = {
    "kind": "pairwise",
    "description": "d",
    "source": "s",
    "prompt": "{criteria} {verdict} {prompt} {A} {B}",
    "criteria": [{"name": "good", "definition": "d", "scale": {"values": ["A", "B", "tie"]}}],
}


def made(**changes: object) -> Judge:
    return Judge.model_validate({"name": "j", **PAIRWISE, **changes})


PLAIN = made()
STRICT = made(criteria=[{"name": "good", "definition": "d", "scale": {"values": ["A", "B"]}}])
REASON = made(reason="first")
RUBRIC = Judge.model_validate(
    {
        **PAIRWISE,
        "name": "r",
        "kind": "pointwise",
        "prompt": "{criteria} {verdict} {prompt} {completion}",
        "criteria": [
            {"name": "fit", "definition": "d", "scale": {"values": [1, 2, 3, 4, 5]}},
            {
                "name": "length",
                "definition": "d",
                "scale": {"values": [0, 1, 2], "higher_is_better": False, "not_applicable": True},
            },
        ],
    }
)

A, B = '{"verdict": "A"}', '{"verdict": "B"}'
NONE, BAD, OFF, CUT, EMPTY = CURABLE[1], CURABLE[2], CURABLE[3], CURABLE[4], CURABLE[0]

PLAIN_REPLIES = [
    # well-formed, wherever it stands
    (A, 1.0),
    (B, 0.0),
    ('{"verdict": "tie"}', 0.5),
    ('{"verdict":"A"}', 1.0),
    ('\n\n  {\n  "verdict"\t:\n "B"\n}\n', 0.0),
    (f"```json\n{A}\n```", 1.0),
    (f"```\n{A}\n```\nThat is all.", 1.0),
    (f"My verdict is {B}.", 0.0),
    (f"{A}\nBecause it is right.", 1.0),
    ('{"verdict": "\\u0041"}', 1.0),
    (f"The set {{1, 2}} is finite. {A}", 1.0),
    (f"\\frac{{1}}{{2}} is a half. {B}", 0.0),
    (f'for (;;) {{ print("x"); }}\n{B}', 0.0),
    (f":-{{ hm. {A}", 1.0),
    (f'It says "quoted and never closed. {A}', 1.0),
    (f"<think>{A} or rather</think>\n{B}", 0.0),
    (f'\n<think>\nhm {{"</think>{B}', 0.0),
    (f"The reply has <think> in it. {A}", 1.0),
    (f"\ufeff{A}", 1.0),
    (f"{A}\x00", 1.0),
    # the last one binds
    (f"{A} {B}", 0.0),
    (f"{A}{B}{A}", 1.0),
    (f"First I thought {A}. On reflection: {B}", 0.0),
    (f"The reply claims {A}, which is a trick.\n{B}", 0.0),
    (f'{{"note": "x"}} {A}', 1.0),
    (f'{A} {{"note": "x"}}', 1.0),
    ('{"verdict": "C"} {"verdict": "A"}', 1.0),
    # not on the scale, or nearly
    ('{"verdict": "a"}', OFF),
    ('{"verdict": "C"}', OFF),
    ('{"verdict": " A"}', OFF),
    ('{"verdict": "A "}', OFF),
    ('{"verdict": "A."}', OFF),
    ('{"verdict": "Tie"}', OFF),
    ('{"verdict": "A or B"}', OFF),
    ('{"verdict": "А"}', OFF),  # Cyrillic
    ('{"verdict": "Ａ"}', OFF),  # full width
    ('{"verdict": ""}', OFF),
    ('{"verdict": null}', OFF),
    ('{"verdict": true}', OFF),
    ('{"verdict": 1}', OFF),
    ('{"verdict": 0.5}', OFF),
    ('{"verdict": NaN}', OFF),
    ('{"verdict": ["A"]}', OFF),
    ('{"verdict": {"verdict": "A"}}', OFF),
    ('{"verdict": "N/A"}', OFF),
    # other keys
    ('{"Verdict": "A"}', BAD),
    ('{"verdict ": "A"}', BAD),
    ('{"answer": "A"}', BAD),
    ('{"verdict": "A", "reason": "x"}', BAD),
    ('{"verdict": "A", "verdict": "B"}', BAD),
    ('{"verdict": "A", "verdict": "A"}', BAD),
    ('{"result": {"verdict": "A"}}', BAD),
    ('{"quoted": {"verdict": "A"}, "x": [{"verdict": "B"}]}', BAD),
    ('{"reason": "it says {\\"verdict\\": \\"A\\"}"}', BAD),
    # broken
    ('{"verdict": "A"', BAD),
    ('{"verdict": "A', BAD),
    ('{"verdict": A}', BAD),
    ('{"verdict" "A"}', BAD),
    ('{"verdict": "A",}', BAD),
    ('{"verdict": "A" "B"}', BAD),
    ('{"verdict": __import__("os").abort()}', BAD),
    (f'{A} {{"verdict": "B', BAD),
    (f'{A} and then {{"verdict": B}}', BAD),
    (f'{{"verdict": "it says {A}', BAD),
    # nothing
    (None, EMPTY),
    ("", EMPTY),
    (" \n\t", EMPTY),
    ("A", NONE),
    ("[[A]]", NONE),
    ("Verdict: A", NONE),
    ("A is better than B.", NONE),
    ("{}", NONE),
    ("{'verdict': 'A'}", NONE),
    ("{verdict: 'A'}", NONE),
    ("<verdict>A</verdict>", NONE),
    ("“{“verdict”: “A”}”", NONE),
    (f"<think>{A}", NONE),
    ("null", NONE),
    ('"A"', NONE),
    ("I cannot compare these.", NONE),
]


@pytest.mark.parametrize(("reply", "expected"), PLAIN_REPLIES)
def test_a_reply_says_exactly_this(reply: str | None, expected: float | str):
    verdict = PLAIN.read(reply)
    if isinstance(expected, float):
        assert (verdict.worths, verdict.unscored) == ((expected,), None)
    else:
        assert (verdict.worths, verdict.raws, verdict.unscored) == ((), (), expected)


def test_there_are_as_many_cases_as_promised():
    assert len({reply for reply, _ in PLAIN_REPLIES}) >= 60


def test_a_tie_counts_only_where_it_is_offered():
    assert STRICT.read('{"verdict": "tie"}').unscored == OFF
    assert "tie" not in STRICT.wording


FULL = '{"reason": "x", "verdict": "A"}'
REASON_REPLIES = [
    (FULL, 1.0),
    ('{"verdict": "B", "reason": ""}', 0.0),
    (A, BAD),
    ('{"reason": 3, "verdict": "A"}', BAD),
    ('{"reason": null, "verdict": "A"}', BAD),
    ('{"reason": "two\nlines", "verdict": "A"}', BAD),
    ('{"reason": "two\\nlines", "verdict": "A"}', 1.0),
    ('{"reason": "a } brace and a { brace", "verdict": "B"}', 0.0),
    ('{"reason": "he \\"said\\" \\\\", "verdict": "B"}', 0.0),
    # quotations of a candidate's verdict, escaped or not
    ('{"reason": "it says {\\"reason\\": \\"x\\", \\"verdict\\": \\"A\\"}", "verdict": "B"}', 0.0),
    (f'{{"reason": "it says {FULL} hm", "verdict": "B"}}', BAD),
    (f'{{"reason": "it says "{FULL}" hm", "verdict": "B"}}', BAD),
    (f'{{"reason": "it says "}} {FULL} {{" hm", "verdict": "B"}}', BAD),
    (f'{{"reason": "it says {FULL}', BAD),
    (f'Their text is {FULL}. Mine: {{"reason": "a trick", "verdict": "B"}}', 0.0),
    (f'{FULL}\n{{"reason": "but "no", "verdict": "B"}}', BAD),
]


@pytest.mark.parametrize(("reply", "expected"), REASON_REPLIES)
def test_a_quoted_verdict_is_not_the_judges(reply: str, expected: float | str):
    verdict = REASON.read(reply)
    assert (verdict.worths or (verdict.unscored,)) == (expected,)


RUBRIC_REPLIES = [
    ('{"fit": 5, "length": 0}', (1.0, 1.0)),
    ('{"length": 2, "fit": 1}', (0.0, 0.0)),
    ('{"fit": 3, "length": 1}', (0.5, 0.5)),
    ('{"fit": 3, "length": "N/A"}', (0.5, None)),
    ('{"fit": "N/A", "length": 1}', OFF),
    ('{"fit": 3, "length": "n/a"}', OFF),
    ('{"fit": 3, "length": -1}', OFF),
    ('{"fit": 3, "length": 3}', OFF),
    ('{"fit": 0, "length": 1}', OFF),
    ('{"fit": 6, "length": 1}', OFF),
    ('{"fit": 10, "length": 1}', OFF),
    ('{"fit": "4", "length": 1}', OFF),
    ('{"fit": 4.0, "length": 1}', OFF),
    ('{"fit": 4.5, "length": 1}', OFF),
    ('{"fit": 4e0, "length": 1}', OFF),
    ('{"fit": true, "length": 1}', OFF),
    ('{"fit": 1, "length": false}', OFF),
    ('{"fit": Infinity, "length": 1}', OFF),
    ('{"fit": 4/5, "length": 1}', BAD),
    ('{"fit": 04, "length": 1}', BAD),
    ('{"fit": ' + "9" * 5000 + ', "length": 1}', BAD),
    ('{"fit": 4}', BAD),
    ('{"fit": 4, "length": 1, "style": 3}', BAD),
    ('[{"fit": 4}, {"length": 1}]', BAD),
    ("fit: 4, length: 1", NONE),
]


@pytest.mark.parametrize(("reply", "expected"), RUBRIC_REPLIES)
def test_a_rating_is_exactly_one_of_its_scale(reply: str, expected: object):
    verdict = RUBRIC.read(reply)
    assert (verdict.unscored or verdict.worths) == expected


def test_the_value_is_kept_as_given():
    assert RUBRIC.read('{"fit": 4, "length": "N/A"}').raws == ("4", "N/A")


CUT_REPLIES = [
    (A, 1.0),
    (f"```json\n{A}\n``", 1.0),
    (f"{A} as I will now expl", CUT),
    ('{"verdict": "A', CUT),
    ("The first reply is", CUT),
    (f'{A} {{"verdict"', CUT),
    (f"<think> perhaps {A}", CUT),
    ("", CUT),
    (None, CUT),
]


@pytest.mark.parametrize(("reply", "expected"), CUT_REPLIES)
def test_a_reply_that_was_cut_binds_only_if_the_verdict_came_last(
    reply: str | None, expected: float | str
):
    verdict = PLAIN.read(reply, "length")
    assert (verdict.worths or (verdict.unscored,)) == (expected,)


@pytest.mark.parametrize("reply", [None, "", "I would rather not."])
def test_a_reply_that_the_endpoint_filtered_is_a_refusal(reply: str | None):
    assert PLAIN.read(reply, "content_filter").unscored == "refused"


@pytest.mark.parametrize("reason", ['"\\ud800"', '"\\u0000"', '"' + "x" * 100_000 + '"'])
def test_any_reason_fits_a_table(reason: str):
    verdict = REASON.read(f'{{"reason": {reason}, "verdict": "A"}}')
    assert verdict.worths == (1.0,)
    assert pl.Series([verdict.reason], dtype=pl.String).len() == 1


N = 300_000
BOMBS = [
    "{" * N,
    '{"' * N,
    '{"a":' * N,
    '{"a":[' * N,
    "[" * N,
    '{"verdict": ' + "[" * N + "]" * N + "}",
    '{"verdict": "' + '\\"' * N,
    '{"verdict": "' + "\\" * N,
    '{"verdict"' + " " * N,
    ("{" + " " * 50) * (N // 50),
    '{"verdict": "C"} ' * (N // 20),
    '"' * N,
    "`" * N,
    "<think>" * N,
    '{"x": ' * 900 + "1" + "}" * 900,
]


@pytest.mark.parametrize("bomb", range(len(BOMBS)))
def test_a_hostile_reply_costs_little_and_says_nothing(bomb: int):
    start = time.perf_counter()
    assert PLAIN.read(BOMBS[bomb]).unscored in (NONE, BAD, OFF)
    assert time.perf_counter() - start < 60, "a guard: what explodes takes hours"


def test_what_is_asked_is_what_is_accepted():
    for judge in (PLAIN, STRICT, REASON, RUBRIC, *map(judges.load, judges.names())):
        fields = judge.schema["properties"]
        assert list(fields) == judge.schema["required"]
        reply = {k: spec.get("enum", ["because"])[0] for k, spec in fields.items()}
        assert judge.read(json.dumps(reply)).unscored is None
        for key, scale in judge.form().keys.items():
            for value in fields[key]["enum"]:
                assert judge.read(json.dumps({**reply, key: value})).unscored is None
                assert scale.accepts(value)
            assert judge.read(json.dumps({**reply, key: "none of them"})).unscored == OFF


@pytest.mark.parametrize(
    ("where", "order"), [("first", ["reason", "v"]), ("last", ["v", "reason"])]
)
def test_the_reason_is_asked_for_where_the_judge_wants_it(where: str, order: list[str]):
    judge = made(reason=where)
    expected = ["verdict" if key == "v" else key for key in order]
    assert list(judge.schema["properties"]) == expected
    assert judge.wording.index(f'"{expected[0]}"') < judge.wording.index(f'"{expected[1]}"')


def test_the_worst_is_worth_0_and_the_best_1_whichever_way_a_scale_runs():
    up = Scale(values=(1, 2, 5))
    down = Scale(values=(1, 2, 5), higher_is_better=False)
    assert up.worths == {1: 0.0, 2: 0.25, 5: 1.0}
    assert down.worths == {1: 1.0, 2: 0.75, 5: 0.0}
    worse = Scale(values=("A", "B", "tie"), higher_is_better=False)
    assert worse.worths == {"A": 0.0, "B": 1.0, "tie": 0.5}


@pytest.mark.parametrize(
    ("scale", "wording"),
    [
        (Scale(values=("A", "B", "tie")), '"A", "B" or "tie"'),
        (Scale(values=(1, 2, 3), not_applicable=True), 'an integer from 1 to 3, or "N/A"'),
        (Scale(values=(1, 3)), "1 or 3"),
    ],
)
def test_the_prompt_names_every_value(scale: Scale, wording: str):
    assert scale.wording == wording


def test_bundled_judges_are_sound_and_say_where_they_come_from():
    assert {"helpfulness", "helpfulness-rating", "ultrafeedback", "helpsteer"} <= set(
        judges.names()
    )
    for name in judges.names():
        judge = judges.load(name)
        assert judge.name == name
        assert judge.source
        assert judge.description


def test_the_bundled_rubrics_follow_their_papers():
    ultra = {c.name: c.scale for c in judges.load("ultrafeedback").criteria}
    names = ["instruction_following", "honesty", "truthfulness", "helpfulness"]
    assert list(ultra) == names
    assert all(scale.values == (1, 2, 3, 4, 5) for scale in ultra.values())
    assert [name for name in names if ultra[name].not_applicable] == ["honesty"]
    steer = {c.name: (c.scale, c.weight) for c in judges.load("helpsteer").criteria}
    signed = {n: w if scale.higher_is_better else -w for n, (scale, w) in steer.items()}
    assert signed == {
        "helpfulness": 0.65,
        "correctness": 0.80,
        "coherence": 0.45,
        "complexity": 0.55,
        "verbosity": -0.40,
    }
    assert all(scale.values == (0, 1, 2, 3, 4) for scale, _ in steer.values())


def test_any_change_of_a_judge_changes_its_digest():
    assert made().digest == PLAIN.digest
    changes = [{"reason": "last"}, {"max_tokens": 7}, {"system": "."}, {"source": "x"}]
    assert RUBRIC.only("fit").digest != RUBRIC.digest
    changed = [made(**change).digest for change in changes] + [STRICT.digest]
    assert len({PLAIN.digest, *changed}) == 1 + len(changed)


def text(**changes: str) -> str:
    fields = {
        "kind": '"pairwise"',
        "description": '"d"',
        "source": '"s"',
        "prompt": '"{criteria} {verdict} {prompt} {A} {B}"',
    }
    lines = [f"{key} = {value}" for key, value in {**fields, **changes}.items() if value]
    criterion = changes.get("criterion", 'name = "good"\ndefinition = "d"')
    scale = changes.get("scale", 'values = ["A", "B"]')
    lines = [line for line in lines if not line.startswith(("criterion =", "scale ="))]
    return "\n".join([*lines, "[[criteria]]", criterion, "[criteria.scale]", scale])


WRONG = [
    (text(kind='"pairwize"'), "kind", "'combined' or 'listwise'"),
    (text(sytem='"x"'), "sytem", "did you mean 'system'?"),
    (text(name='"x"'), "name", "named by its file"),
    (text(source=""), "source", "missing"),
    (text(max_tokens="0"), "max_tokens", "greater than 0"),
    (text(max_tokens='"9"'), "max_tokens", "integer"),
    (text(reason="true"), "reason", "'first', 'last' or 'none'"),
    (text(prompt='"{criteria} {verdict} {promt} {A} {B}"'), "prompt", "{prompt} 0 times"),
    (text(prompt='"{criteria} {verdict} {prompt} {A} {B} {C}"'), "{C}", "there is"),
    (text(prompt='"{criteria} {verdict} {prompt} {A} {A} {B}"'), "prompt", "{A} 2 times"),
    (text(prompt='"{criteria} {prompt} {A} {B}"'), "prompt", "{verdict} 0 times"),
    (text(system='"{A}"'), "system", "{A}"),
    (text(criterion='name = "Good"\ndefinition = "d"'), "criteria.0.name", "pattern"),
    (text(criterion='name = "reason"\ndefinition = "d"'), "criteria.0", "'reason'"),
    (text(criterion='name = "good"'), "criteria.0.definition", "missing"),
    (text(criterion='name = "g"\ndefinition = "d"\nwieght = 2.0'), "criteria.0.wieght", "'weight'"),
    (text(criterion='name = "g"\ndefinition = "d"\nweight = 0.0'), "criteria.0.weight", "than 0"),
    (text(scale='values = ["A"]'), "criteria.0.scale", '["A", "B"]'),
    (text(scale='values = ["B", "A"]'), "criteria.0.scale", '["A", "B"]'),
    (text(scale="values = [1, 2]"), "judge", "not pairwise"),
    (text(scale="values = [2, 1]"), "criteria.0.scale", "larger than the last"),
    (text(scale="values = [1]"), "criteria.0.scale", "at least two"),
    (text(scale="values = [1, true]"), "criteria.0.scale.values.1", "whole number"),
    (text(scale="values = [1, 2]\nlevels = ['x']"), "criteria.0.scale", "1 levels for 2 values"),
    (text(scale='values = ["best"]\nnot_applicable = true'), "criteria.0.scale", "belong"),
    (text(scale='values = ["A", "B"]\nlevels = ["x", "y"]'), "criteria.0.scale", "belong"),
    (text(scale='values = ["best"]\nhigher_is_better = false'), "criteria.0.scale", "the most"),
    (text(scale='values = ["ranks"]'), "judge", "not pairwise"),
    (text(scale='values = ["A", "B"]\nhigher_better = true'), "scale.higher_better", "higher_is_b"),
    ("kind = ", "", "TOML"),
    ("\xff", "", "TOML"),
    ("x = " + "[" * 5000, "", "too deeply"),
    (text(criterion='name = "g"\ndefinition = "d"\nweight = inf'), "criteria.0.weight", "finite"),
    (text(scale='values = "A"'), "criteria.0.scale.values", "expected a list, found 'A'"),
    (text().replace("[[criteria]]", "[criteria]"), "criteria", "write [[criteria]]"),
    ('kind = "pairwise"', "criteria", "missing"),
]


@pytest.mark.parametrize(("content", "key", "said"), WRONG)
def test_a_wrong_judge_file_is_named_with_its_key(tmp_path, content: str, key: str, said: str):
    (tmp_path / "mine.toml").write_text(content, encoding="latin-1")
    with pytest.raises(JudgeError) as error:
        judges.load("mine.toml", tmp_path)
    for part in ("mine.toml", key, said):
        assert part in str(error.value)


@pytest.mark.parametrize("scale", ["values = [1.5, 2]", 'values = ["A"]', 'valeus = ["A", "B"]'])
def test_only_the_mistake_is_said_and_not_that_its_list_is_empty(tmp_path, scale: str):
    (tmp_path / "mine.toml").write_text(text(scale=scale))
    with pytest.raises(JudgeError) as error:
        judges.load("mine.toml", tmp_path)
    said = str(error.value).splitlines()
    assert all("criteria.0.scale" in line for line in said), "there is a criterion"
    assert len(said) == 1 + ("valeus" in scale), "which also lacks its values"


def test_a_byte_order_mark_is_no_fault(tmp_path):
    (tmp_path / "mine.toml").write_text(text(), encoding="utf-8-sig")
    assert judges.load("mine.toml", tmp_path).kind == "pairwise"


def test_a_judge_file_is_found_beside_the_recipe_and_named_by_its_stem(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.toml").write_text(text())
    assert judges.load("sub/mine.toml", tmp_path).name == "mine"
    with pytest.raises(JudgeError, match=r"other\.toml: there is no such judge file"):
        judges.load("sub/other.toml", tmp_path)


def test_an_unknown_judge_is_answered_with_the_nearest():
    with pytest.raises(JudgeError, match="did you mean 'helpfulness'"):
        judges.load("helpfulnes")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"criteria": PAIRWISE["criteria"] * 2}, "same name"),
        (
            {"criteria": [*PAIRWISE["criteria"], {**PAIRWISE["criteria"][0], "name": "other"}]},
            "one criterion",
        ),
        ({"criteria": []}, "at least 1"),
    ],
)
def test_a_pairwise_judge_has_one_criterion(changes: dict, said: str):
    with pytest.raises(ValueError, match=said):
        made(**changes)
