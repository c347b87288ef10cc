"""Words of place in many wordings and languages, and words that only look like them."""

import pytest

from prefdata.explain._places import named, place_in

PLACES = [
    "[CHOSEN] is better; Response 1 is vague.", "[CHOSEN] wins, as the latter is vague.",
    "The response above is better than [REJECTED].", "[CHOSEN], the first answer, is right.",
    "Reply B is vague, [CHOSEN] is not.", "The top reply, [CHOSEN], is right.",
    "Answer #2 is vague; [CHOSEN] is not.", "the first\n response", "the  second  completion",
    "Response_A", "response-1", 'Response "B"', "reply (b) is", "Response **A**", "assistant A's",
    "Option no. 2", "reply number 1", "response one is", "responses A and B", "the one on the left",
    "the first-listed reply", "the reply shown second is", "[[A]]", "[[ B ]]", "[[tie]]", "[A]",
    "A is better than B", "because B is clearly worse", "I prefer A.", "A over B", "A wins",
    "the first is better", "the first of the two", "A's reply", "model B",
    # Written so that a pattern of letters does not see it.
    "Respons\uff45 \uff21", "Res\u200bponse A is", "Response\u00a0A", "RESPONSE  A",
    "Die erste Antwort ist besser", "Antwort B ist besser", "la première réponse", "la réponse A",
    "la primera respuesta", "respuesta 2", "a segunda resposta", "la seconda risposta",
    "het eerste antwoord", "det andra svaret", "pierwsza odpowiedź", "первый ответ", "Ответ Б",
    "перша відповідь", "ikinci yanıt", "पहला उत्तर", "الرد الأول", "الإجابة الثانية",
    "câu trả lời thứ hai", "jawaban pertama", "第一个回答", "回答A更好", "第二個回覆", "前者更好",
    "最初の回答", "回答Bは", "2番目の応答", "첫 번째 응답", "두번째 답변", "응답 A",
]  # fmt: skip
NO_PLACES = [
    "First, [CHOSEN] is right. Second, [REJECTED] is vague.", "[CHOSEN] names the first president.",
    "[REJECTED] repeats what is said above.", "[CHOSEN] labels the axes.", "[CHOSEN] is better.",
    "[CHOSEN] explains why option traders lose.", "[CHOSEN] gives an answer a child understands.",
    "a response a bit longer", "[CHOSEN] answers 2 of the questions", "a second opinion",
    "[CHOSEN] gives the answer first.", "A clearer explanation makes [CHOSEN] better.",
    "vitamin B is found in meat", "the distance between A and B is 5", "In response I would say",
    "The first is that it is short, the second is that it is right.", "it cites [1]",
    "for the first time", "[CHOSEN] answers one question", "the first step", "in the first place",
    "matrix A is invertible", "Python version 2", "[CHOSEN] names the top model of cars.",
    "erstens ist [CHOSEN] besser", "第一次世界大战", "Response 1.5 times as long",
]  # fmt: skip


@pytest.mark.parametrize("text", PLACES)
def test_a_place_is_found(text: str):
    assert place_in(text)


@pytest.mark.parametrize("text", NO_PLACES)
def test_what_says_no_place_stays(text: str):
    assert place_in(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Response 1 is right and @Response 2 is not.", "[C] is right and [R] is not."),
        ("The first reply wins over answer B", "[C] wins over [R]"),
        ("Die erste Antwort ist besser als Antwort B", "Die [C] ist besser als [R]"),
        ("回答A比回答B好", "[C]比[R]好"),
        ("الرد الثاني أسوأ", "[R] أسوأ"),
        ("The first president spoke twice.", "The first president spoke twice."),
    ],
)
def test_names_of_the_two_become_tags(text: str, expected: str):
    assert named(text, "[C]", "[R]") == expected
