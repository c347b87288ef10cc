"""A judge is not asked about completions of its own family, unless the recipe allows it.

Judges favour what models of their own family wrote, so a label of theirs says less than it seems
to. A model is of the `family` that the recipe states, else of the one that its name tells
(`prefdata.judge.family`). A scripted model, which has no taste but the planted one, is related to
no other unless its `family` is stated.

The rule is about completions that earlier stages of the recipe made (`generate.*`, or a plug-in
that writes completions) and stages that have a judge or a jury. Imported completions may be by
anyone; `measure.self_preference` measures what the rule would prevent. A stage that both writes and
judges is not held to it.

Source: Panickssery, Bowman, Feng 2024, "LLM Evaluators Recognize and Favor Their Own Generations".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import escape

from prefdata.errors import RecipeError
from prefdata.judge.family import family_of
from prefdata.models.spec import ModelSpec
from prefdata.stage import Model

ALLOW = "or say allow_self = true on the stage, if that is what you want"


@dataclass(frozen=True)
class Asking:
    """A stage and the models that it asks to write, or to judge what was written before it."""

    place: str
    writers: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()


def refuse_relatives(stages: Sequence[Asking], specs: Mapping[str, ModelSpec]) -> None:
    """`RecipeError` where a judge's model is of a writer's family, or where that is not known."""
    complaints: list[str] = []
    writers: dict[str, str] = {}
    for stage in stages:
        complaints += _complaints(stage, writers, specs) if writers else ()
        writers.update(dict.fromkeys(stage.writers, stage.place))
    if complaints:
        raise RecipeError("\n".join(dict.fromkeys(complaints)))


def family(spec: ModelSpec) -> str | None:
    """The family of a model, in small letters; None where neither recipe nor name tells."""
    stated = (spec.family or "").strip().lower()
    return stated or (None if spec.client == "scripted" else family_of(spec.model))


def stated(specs: Mapping[str, ModelSpec], models: Mapping[str, Model]) -> dict[str, str]:
    """The families that the recipe states, by patterns on the names of annotators and generators.

    They begin with the name of a model; of two the one that is longer is meant.
    """
    named = {models[role].name: kin for role, s in specs.items() if s.family and (kin := family(s))}
    return {
        pattern: named[name]
        for name in sorted(named, key=len, reverse=True)
        for exact in (escape(name), f"*:{escape(name)}")
        for pattern in (exact, f"{exact}/*")
    }


def _complaints(
    stage: Asking, writers: Mapping[str, str], specs: Mapping[str, ModelSpec]
) -> Iterator[str]:
    for judge in dict.fromkeys(stage.judges):
        for writer, place in writers.items():
            one, other = specs[judge], specs[writer]
            if _is_unrelated(one) or _is_unrelated(other):
                continue
            if judge == writer or _is_same(one, other):
                yield (
                    f"{stage.place}: the model {judge!r} ({one.model}) would judge its own "
                    f"completions, made as {writer!r} by {place}; name another model, {ALLOW}"
                )
            elif (kin := family(one)) and kin == family(other):
                yield (
                    f"{stage.place}: the model {judge!r} ({one.model}) would judge completions of "
                    f"{writer!r} ({other.model}), made by {place}: both are of the family {kin!r}, "
                    f"and judges favour their own; name a model of another family, {ALLOW}"
                )
            for role, spec in ((judge, one), (writer, other)):
                if family(spec) is None and not _is_same(one, other):
                    yield (
                        f"{stage.place}: of which family the model {role!r} ({spec.model}) is, is "
                        "not known, and a judge must not be of the family of what it judges; state "
                        f'it, as in models.{role}.family = "llama", {ALLOW}'
                    )


def _is_unrelated(spec: ModelSpec) -> bool:
    return spec.client == "scripted" and family(spec) is None


def _is_same(one: ModelSpec, other: ModelSpec) -> bool:
    return (one.client, one.model) == (other.client, other.model) and one.client != "scripted"
