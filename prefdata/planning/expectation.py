"""What requests still to be asked will read, write and cost: the likely figure and an interval.

The interval says within what the figure stays if all that is uncertain goes one way:

- the sample of prompts, where not all were looked at: 1.96 standard errors, with the requests of a
  prompt taken to be alike; and their number, where only the first rows of the sources were read;
- what a token is: the error of the count (see `prefdata.models.tokens`), or of what the ledger's
  answers say;
- how long replies are: the error of the mean of the ledger's answers of the same model and kind,
  where there are enough; else the bounds of a guess;
- what is read of texts that are still to be written, by the same bounds;
- verdicts that have to be asked again (`REASKED` at most), and completions that turn out equal and
  are then asked about once (`EQUAL` at most; all, where they are drawn without randomness).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prefdata.models.experience import Experience, Sample, Z
from prefdata.models.prices import Prices
from prefdata.models.spec import ModelSpec
from prefdata.models.tokens import (
    BYTES_A_TOKEN,
    ERROR,
    TOKENS_A_TURN,
    TokenCounter,
    estimated,
    n_bytes,
)
from prefdata.planning.invention import WORD

REASKED = 0.1
EQUAL = 0.1
# A guess of a reply's length may be wrong by these factors; what a schema asks for is there.
SHORTER, SHORTER_BY_SCHEMA, LONGER = 1 / 32, 1 / 2, 4.0
# Texts of one model in one stage on which its tokenizer is tried.
MEASURED = 200


@dataclass(frozen=True)
class Figures:
    """Requests still to be asked, tokens read and written, USD."""

    requests: float = 0.0
    tokens_in: float = 0.0
    tokens_out: float = 0.0
    cost: float = 0.0

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(*(a + b for a, b in zip(self.all, other.all, strict=True)))

    @property
    def all(self) -> tuple[float, ...]:
        return self.requests, self.tokens_in, self.tokens_out, self.cost


@dataclass(frozen=True)
class Basis:
    """What the figures of one model in one stage rest on, in words."""

    model: str
    tokens: str
    replies: str


@dataclass(frozen=True)
class Expected:
    """The likely figures, also by role (`models`), their interval, and what they rest on."""

    likely: Figures = Figures()
    low: Figures = Figures()
    high: Figures = Figures()
    basis: tuple[Basis, ...] = ()
    models: Mapping[str, Figures] = field(default_factory=dict[str, Figures])


@dataclass
class Part:
    """Requests of one model and kind in one stage, summed up."""

    role: str
    want: str
    kind: str
    bound: int | None
    guess: int
    n: int = 0
    bytes: int = 0
    squares: float = 0.0
    turns: int = 0
    invented: int = 0
    texts: list[str] = field(default_factory=list[str])

    def add(self, n_bytes: int, turns: int, text: str) -> None:
        self.n += 1
        self.bytes += n_bytes
        self.squares += n_bytes * n_bytes
        self.turns += turns
        self.invented += len(WORD) * text.count(WORD)
        if len(self.texts) < MEASURED:
            self.texts.append(text)

    @property
    def is_free(self) -> bool:
        """Whether a text is wanted that no schema bounds."""
        return self.kind == "text"

    def share(self, factor: float) -> float:
        """What is read, relative to what was seen, if invented texts are so much longer."""
        return 1 + self.invented / max(self.bytes, 1) * (factor - 1)

    @property
    def spread(self) -> float:
        """Standard deviation of the bytes of a request, relative to their mean."""
        mean = self.bytes / self.n
        return math.sqrt(max(self.squares / self.n - mean**2, 0.0)) / mean if mean else 0.0


@dataclass(frozen=True)
class Scale:
    """A sample of prompts and what it stands for; `spread` is of the rows a prompt has, `guess` the
    relative error of `factor` where nobody has counted the prompts."""

    factor: float = 1.0
    prompts: int = 1
    spread: float = 0.0
    guess: float = 0.0

    def error(self, spread: float) -> float:
        """Relative error (95 %) of a total over all prompts."""
        left = 1 - 1 / self.factor
        sampled = Z * math.hypot(spread, self.spread) * math.sqrt(left / max(self.prompts, 1))
        return math.hypot(sampled, self.guess)


@dataclass(frozen=True)
class Doubt:
    """Shares of a stage's requests that may not be needed, or be asked again.

    `answered` is the share that the ledger answers, which in a sample is not that in all.
    """

    fewer: float = 0.0
    more: float = 0.0
    answered: float = 0.0

    @property
    def spread(self) -> float:
        """Standard deviation of the unanswered requests of a prompt, relative to their mean."""
        return math.sqrt(self.answered / (1 - self.answered)) if self.answered < 1 else 0.0


class Estimator:
    """Turns parts into figures; looks for a model's tokenizer once."""

    def __init__(
        self,
        specs: Mapping[str, ModelSpec],
        identities: Mapping[str, str],
        experience: Experience,
        count: Callable[[ModelSpec], TokenCounter] | None = None,
    ) -> None:
        self._specs = specs
        self._identities = identities
        self._experience = experience
        self._find_counter = count or _estimated
        self._counters: dict[str, TokenCounter] = {}
        self._shorter = self._longer = 1.0

    def expected(self, parts: list[Part], scale: Scale, doubt: Doubt) -> Expected:
        """The figures of one stage. To be called in the order of the stages."""
        each = [self._of_part(part, scale, doubt) for part in parts]
        for part in parts:
            least, likely, most = self._written(part)[0]
            if part.is_free and likely:
                self._shorter = min(self._shorter, least / likely)
                self._longer = max(self._longer, most / likely)
        by_model: dict[str, Figures] = {}
        for part, one in zip(parts, each, strict=True):
            by_model[part.role] = by_model.get(part.role, Figures()) + one.likely
        return Expected(
            models=by_model,
            likely=sum((one.likely for one in each), Figures()),
            low=sum((one.low for one in each), Figures()),
            high=sum((one.high for one in each), Figures()),
            basis=tuple(dict.fromkeys(basis for one in each for basis in one.basis)),
        )

    def _of_part(self, part: Part, scale: Scale, doubt: Doubt) -> Expected:
        prices = self._specs[part.role].prices or Prices(0.0, 0.0)
        read, read_error, how_read = self._read(part)
        (least, written, most), how_written = self._written(part)
        # How many bytes the tokens of a reply will have is a guess, however they are counted.
        of_invented = ERROR * part.invented / max(part.bytes, 1)
        wobble = math.hypot(read_error, of_invented, scale.error(part.spread))
        n = part.n * scale.factor
        wide = scale.error(doubt.spread)
        short, long = part.share(self._shorter), part.share(self._longer)
        together = self._specs[part.role].max_n if part.want == "text" else 1

        def figures(n: float, read: float, written: float) -> Figures:
            whole = round(n * read), round(n * written)
            return Figures(n, *whole, prices.of(*whole))

        fewer = n * max(0.0, 1 - doubt.fewer - wide)
        more = n * (1 + doubt.more + wide)
        return Expected(
            likely=figures(n, read, written),
            low=figures(fewer, read * short * max(0.0, 1 - wobble) / together, least),
            high=figures(more, read * long * (1 + wobble), most),
            basis=(Basis(part.role, how_read, how_written),),
        )

    def _read(self, part: Part) -> tuple[float, float, str]:
        """Tokens that a request reads, their relative error, and how they were counted."""
        mean = part.bytes / part.n
        known = self._experience.density(self._identities[part.role], part.kind)
        counter = self._counter(part.role)
        if known and counter.error:
            said = f"{1 / known.mean:.1f} bytes a token, as in {_answers(known)}"
            return mean * known.mean, known.error, said
        sampled = sum(map(n_bytes, part.texts))
        counted = sum(counter.count(part.texts))
        density = counted / sampled if sampled else 1 / BYTES_A_TOKEN
        marks = TOKENS_A_TURN * part.turns / part.n if counter.error else 0.0
        return mean * density + marks, counter.error, counter.how

    def _counter(self, role: str) -> TokenCounter:
        if role not in self._counters:
            self._counters[role] = self._find_counter(self._specs[role])
        return self._counters[role]

    def _written(self, part: Part) -> tuple[tuple[float, float, float], str]:
        """The least, likely and most tokens of a reply, and how that is known."""
        if part.want not in ("text", "choice"):
            return (0.0, 0.0, 0.0), "nothing is written"
        if part.want == "choice":
            return (1.0, 1.0, 1.0), "one token"
        bound = part.bound or math.inf
        known = self._experience.length(self._identities[part.role], part.kind)
        if known:
            mean = min(known.mean, bound)
            error = known.error
            said = f"{mean:.0f} tokens (±{error:.0%}), as in {_answers(known)}"
            return (mean * (1 - error), mean, min(mean * (1 + error), bound)), said
        likely = min(part.guess, bound)
        # An answer may be cut off at `max_tokens` and never before.
        most = part.bound or likely * LONGER
        if not part.is_free:
            most = min(most, likely * LONGER)
        least = likely * (SHORTER if part.is_free else SHORTER_BY_SCHEMA)
        said = f"{likely:.0f} tokens are a guess ({least:.0f} to {most:.0f}): none were seen yet"
        return (least, likely, most), said


def _estimated(spec: ModelSpec) -> TokenCounter:
    return estimated()


def _answers(known: Sample) -> str:
    return f"{known.n:,} of its answers in the ledger"
