"""Words that say where one of two completions stood when somebody wrote about them.

In the order of another showing they are wrong, and a model learns a place from them. The names of
the two sides ("the first reply", "Antwort B", "第二个回答") are known in some twenty languages and
can be made tags; other words of place are known in English.
"""

import re
from typing import NamedTuple
from unicodedata import category, normalize


class _Words(NamedTuple):
    """Of a language, as patterns: what is the first, what the second, and what a completion is.

    `also` is what an ordinal may stand before beside that.
    """

    first: str
    second: str
    noun: str
    also: str = ""


_ENGLISH = (
    "completion|reply|replies|response|answer|option|candidate|assistant|text|output|choice|model"
)
# What stands on top, or follows, is less often a model or a choice of another.
_REPLY = "completions?|reply|replies|responses?|answers?|texts?"
# An ordinal stands before its noun.
_SPACED = (
    _Words("first|1st", "second|2nd", _ENGLISH, also=f"|one|(?:{_ENGLISH})s"),
    _Words("erste[nmrs]?", "zweite[nmrs]?", "antwort(?:en)?|reaktion|option|variante|text"),
    _Words("premi[eè]re?s?|1[eè]?re", "deuxi[eè]me|seconde?|2e|2[eè]me", "r[eé]ponse|option|texte"),
    _Words("primera?|1[ªa]", "segunda?|2[ªa]", "respuesta|opci[oó]n|texto"),
    _Words("primeir[ao]", "segund[ao]", "resposta|op[cç][aã]o|texto"),
    _Words("prim[ao]", "second[ao]", "rispost[ae]|opzione|testo"),
    _Words("eerste", "tweede", "antwoord|reactie|optie|tekst"),
    _Words("första|første", "andra|anden|andre", "svar(?:et)?|tekst|text"),
    _Words(r"pierwsz\w+", r"drug\w+", r"odpowied\w+|opcj\w+|tekst\w*"),
    _Words(r"перв\w+", r"втор\w+", r"ответ\w*|вариант\w*|текст\w*"),
    _Words(r"перш\w+", r"друг\w+", r"відповід\w+|варіант\w*"),
    _Words("birinci|ilk", "ikinci", r"yanıt\w*|cevap\w*|cevab\w*"),
    _Words("पहल[ाीे]", "दूसर[ाीे]", "उत्तर|जवाब|प्रतिक्रिया"),
)
_NOUN_FIRST = (
    _Words("الأول|الأولى", "الثاني|الثانية", "الرد|الإجابة|الجواب|الاستجابة"),
    _Words("thứ nhất|đầu tiên", "thứ hai", "câu trả lời|phản hồi"),
    _Words("pertama", "kedua", "jawaban|tanggapan|respons"),
)
_UNSPACED = (
    _Words("第[一1](?:个|個|条|份|段)?", "第[二2](?:个|個|条|份|段)?",
           "回答|回复|回覆|答复|答案|回应|響應|响应|选项"),
    _Words("(?:最初|[一1]つ目|[一1]番目|第一)の", "(?:[二2]つ目|[二2]番目|第二)の",
           "回答|応答|返答|答え|返信"),
    _Words(r"첫\s?번째\s?|첫째\s?", r"두\s?번째\s?|둘째\s?", "응답|답변|대답"),
)  # fmt: skip
# What a completion is called by: a letter is a name where it is large, or stands in brackets.
_LABELS = (("1|(?-i:A|А|أ|甲)", "a", "一"), ("2|(?-i:B|Б|ب|乙)", "b", "二"))
_SHOWN = r"(?:[- ](?:listed|shown|given|presented|provided))?"
_BETWEEN = r"[\s_*#–\-\"'“”„«(\[]*(?:(?:no|nr|number|n[°º])[.\s]*)?"
_END = r"(?!\w|[.,]\d)"
_END_UNSPACED = r"(?![A-Za-z\d]|[.,]\d)"


def _names(side: int) -> str:
    """What the first (0) or the second (1) one is called."""
    label, small, numeral = _LABELS[side]
    words_apart: list[str] = []
    for words in (*_SPACED, *_NOUN_FIRST):
        words_apart.append(rf"(?:{words.noun}){_BETWEEN}(?:{label}){_END}")
        words_apart.append(rf"(?:{words.noun})\s*[(\[]{small}[)\]]")
        two = (words[side], words.noun + words.also)
        two = two[::-1] if words in _NOUN_FIRST else two
        words_apart.append(rf"(?:{two[0]}){_SHOWN}[\s-]+(?:{two[1]})(?!\w)")
    number = ("one", "two")[side]
    words_apart.append(
        rf"(?:{_ENGLISH}) {number}(?= (?:is|was|has|does|gives|lacks|fails|and|or)\b|[.,;:!?)]|$)"
    )
    # Once for all of them: at most places no word begins.
    made = [rf"(?<!\w)(?:{'|'.join(words_apart)})"]
    for words in _UNSPACED:
        made.append(f"(?:{words[side]})(?:{words.noun})")
        made.append(rf"(?:{words.noun})[\s「“\"(]*(?:{label}|{numeral}){_END_UNSPACED}")
    return "|".join(made)


_BETTER = r"(?:better|worse|clearer|superior|inferior|preferable|stronger|weaker|(?:more|less) \w+)"
_IS = r"(?:is|was|seems|reads|looks|sounds|does|did|performs|explains|answers)"
_VERDICT = rf"(?:{_IS} (?:\w+ ){{0,2}}{_BETTER}|wins\b|loses\b|beats\b)"
# What says a place and not of which of the two, or names one where it is clear only in its clause.
_ELSEWHERE = "|".join(
    [
        rf"\b(?:top|bottom|left|right|upper|lower)(?:[- ]hand)? (?:{_REPLY}|one)\b",
        rf"\b(?:{_ENGLISH}|one) (?:above|below|(?:on|at|to) the (?:left|right|top|bottom))\b",
        rf"\b(?:above|below|preceding|previous|following) (?:{_REPLY})\b",
        rf"\b(?:{_ENGLISH}) (?:that (?:is|was|comes|appears) )?"
        r"(?:shown|listed|placed|presented|displayed)? ?(?:first|second|last)(?= (?:is|was|has)\b)",
        r"\b(?:former|latter)\b|\bthe (?:first|second) of the two\b|前者|后者|後者",
        rf"\bthe (?:first|second) {_VERDICT}",
        rf"\b(?:{_ENGLISH})s? (?-i:[AB]|[12]) (?:and|or|&) (?-i:[AB]|[12])\b",
        r"\[\[\s*(?:[AB12]|tie)\s*\]\]|\[(?-i:[AB])\]",
        rf"\b(?-i:[AB])(?:['’]s (?:{_ENGLISH})| {_VERDICT})",
        rf"\b(?:{_BETTER} than|prefer\w*|chose|choose|picks?|favou?rs?) (?-i:[AB])\b",
        r"(?-i:\b(?:A (?:over|beats|vs\.?|versus|>) B|B (?:over|beats|vs\.?|versus|>) A)\b)",
    ]
)
_NAMES = [re.compile(rf"(?:@|\bthe )?(?:{_names(side)})", re.IGNORECASE) for side in (0, 1)]
_ANYWHERE = re.compile("|".join([_names(0), _names(1), _ELSEWHERE]), re.IGNORECASE)


def place_in(text: str) -> str | None:
    """The words that say where a completion stood, if there are any."""
    shown = "".join(" " if c.isspace() else c for c in normalize("NFKC", text) if _is_seen(c))
    found = _ANYWHERE.search(re.sub(" +", " ", shown))
    return None if found is None else found[0].strip()


def _is_seen(character: str) -> bool:
    return category(character) != "Cf"


def named(text: str, first: str, second: str) -> str:
    """The text with the names of the two sides by their place made these."""
    for names, tag in zip(_NAMES, (first, second), strict=True):
        text = names.sub(tag, text)
    return text
