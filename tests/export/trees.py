"""A small tree of solutions: two first steps, each with two ways to go on."""

import polars as pl

from prefdata import tables


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def planted_tree() -> tuple[dict[str, pl.DataFrame], dict[str, str]]:
    """Prompts, completions and samples, and the id of each text by name."""
    asked = said("user", "What is 2 + 2 + 2?")
    [prompt] = tables.prompt_ids([asked])
    parent = {"a": None, "b": None, "aa": "a", "ab": "a", "ba": "b", "bb": "b"}
    step = {"a": "2 + 2 = 4.", "b": "2 + 2 = 5.", "aa": "\n4 + 2 = 6.", "ab": "\n4 + 2 = 7.",
            "ba": "\n5 + 2 = 7.", "bb": "\n5 - 1 + 2 = 6."}  # fmt: skip
    text = {name: step.get(parent[name] or "", "") + step[name] for name in step}
    ids = dict(
        zip(
            text,
            tables.completion_ids(
                [prompt] * 6, [said("assistant", each) for each in text.values()]
            ),
            strict=True,
        )
    )
    completions = pl.DataFrame(
        {
            "completion_id": list(ids.values()),
            "prompt_id": prompt,
            "completion": [said("assistant", each) for each in text.values()],
        }
    )
    samples = pl.DataFrame(
        {
            "completion_id": list(ids.values()),
            "generator": "search",
            "draw": 0,
            "prompt_id": prompt,
            "parent_id": [ids[above] if (above := parent[name]) else None for name in ids],
        }
    )
    prompts = pl.DataFrame({"prompt_id": [prompt], "prompt": [asked], "source": "made-up"})
    made = {"prompts": prompts, "completions": completions, "samples": samples}
    return {name: tables.check(name, each, where="test") for name, each in made.items()}, ids


def ratings_of(made: dict[str, pl.DataFrame], values: dict[str, float]) -> pl.DataFrame:
    [prompt] = made["prompts"]["prompt_id"]
    frame = pl.DataFrame({"completion_id": list(values), "rating": list(values.values())})
    frame = frame.with_columns(
        annotator=pl.lit("rule:check"), criterion=pl.lit("right"), draw=0, prompt_id=pl.lit(prompt)
    )
    return tables.check("ratings", frame, where="test")


def strengths_of(made: dict[str, pl.DataFrame], values: dict[str, float]) -> pl.DataFrame:
    [prompt] = made["prompts"]["prompt_id"]
    frame = pl.DataFrame({"completion_id": list(values), "strength": list(values.values())})
    frame = frame.with_columns(estimator=pl.lit("value"), prompt_id=pl.lit(prompt))
    return tables.check("strengths", frame, where="test")
