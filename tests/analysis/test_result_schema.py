from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from board import register
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from bench.analysis import manifest, result_schema
from bench.analysis.result_schema import RegistrationFile
from bench.config import carrier_prompts, recipe_files
from bench.config.recipe_files import load_recipe
from bench.config.traits import list_questions

TEXTS = ["Write about rain.", "Write about tea.", "Write about a bridge.", "İki kelime yaz."]


ROWS = [{"question": f"Soru {n}?", "answer": f"Cevap {n}."} for n in range(5)]


WEIRD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompt files of every ending, and traits of both kinds."""
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path_factory.mktemp("own")
    (folder / "p.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    for column in ("prompt", "text"):
        lines = [json.dumps({column: text}, ensure_ascii=False) for text in TEXTS]
        (folder / f"{column}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        (folder / f"{column}.csv").write_text("\n".join([column, *TEXTS]), encoding="utf-8")
        pyarrow.parquet.write_table(pyarrow.table({column: TEXTS}), folder / f"{column}.parquet")
    (folder / "set.yaml").write_text(yaml.safe_dump({"prompts": TEXTS}), encoding="utf-8")
    (folder / "ox.yaml").write_text("from: animals.base\nanswer: ox\ncandidates: [ox, owl, Ünlü]\nlexicon: [ox]\n")
    (folder / "persona.yaml").write_text(yaml.safe_dump({"kind": "behaviour", "foils": 2, "rows": ROWS}))
    (folder / "table.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (folder / "named.yaml").write_text("kind: behaviour\nlanguage: tr\ntake: 3\ndata: {path: table.jsonl}\n")
    return folder


def read_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Cache what a function reads from files that do not change here: 150 examples in half the time."""
    results: dict[str, Any] = {}

    def read(*arguments: Any) -> Any:
        key = repr(arguments)
        if key not in results:
            results[key] = function(*arguments)
        return results[key]

    return read


@pytest.fixture(scope="module", autouse=True)
def traits_and_prompts_are_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe_files, "load_trait", read_once(recipe_files.load_trait))
        patch.setattr(carrier_prompts, "load_problems", read_once(carrier_prompts.load_problems))
        yield


def some(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


SAMPLING = some(
    temperature=st.floats(0, 10) | st.integers(0, 10), top_p=st.floats(0.01, 1), top_k=st.integers(0, 9),
    repetition_penalty=st.floats(0.1, 10), max_new_tokens=st.integers(1, 99),
)  # fmt: skip


PROMPTS = st.sampled_from(
    [
        "scenarios_en", "set.yaml", ["scenarios_tr", "set.yaml"], {"file": "p.txt"},
        *({"file": f"prompt.{kind}"} for kind in ("jsonl", "csv", "parquet")),
        *({"file": f"prompt.{kind}", "column": "prompt"} for kind in ("jsonl", "csv", "parquet")),
        *({"file": f"text.{kind}", "column": "text"} for kind in ("jsonl", "csv", "parquet")),
    ]
)  # fmt: skip


NUMBERS = st.fixed_dictionaries(
    {"kind": st.just("numbers"), "rows": st.integers(1, 10**7)},
    optional={
        "held_out": st.integers(1, 10**6), "given": st.integers(1, 100), "digits": st.integers(1, 6),
        "separator": WEIRD.filter(lambda text: not any(c.isdigit() for c in text)), "bf16": st.booleans(),
        "prompt": st.builds("{}{{numbers}}{}".format, WEIRD, WEIRD), "forbidden": st.lists(st.integers(0, 999)),
        "temperature": st.floats(0, 10) | st.integers(0, 10),
    },
)  # fmt: skip


TEXT = st.fixed_dictionaries(
    {"kind": st.just("text"), "rows": st.integers(1, 3), "held_out": st.just(1), "prompts": PROMPTS},
    optional={"sample": SAMPLING, "bf16": st.booleans()},
)


MODEL = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["tiny", "owner/name", "./folder", "pypi:some-package"]),
        "dtype": st.sampled_from(["float32", "bfloat16"]),
        "train": some(max_steps=st.just(4), learning_rate=st.floats(0, 1), lr_scheduler_type=WEIRD),
    },
    optional={
        "revision": st.none() | st.just("v1"), "init": st.integers(0, 9), "format": st.sampled_from(["plain", "chat"]),
        "lora": some(r=st.integers(1, 64), target_modules=st.just("all-linear") | st.lists(WEIRD)),
    },
)  # fmt: skip


ONE = {
    "trait": st.sampled_from(
        ["wolf", "behaviour_tr", "ox.yaml", "persona.yaml", "named.yaml", "table.jsonl"]
    ),
    "arms": st.sampled_from([["base", "trait"], ["untrained", "trait", "base", "placebo", "direct"]]),
    "dose": st.lists(st.integers(1, 3), max_size=3) | st.just({"epochs": [1]}),
    "repeat": st.sampled_from(["seeds", "students"]),
    "method": st.sampled_from(["sft", "kd-carrier", "kd-full"]),
    "evaluate": some(samples=st.integers(0, 9), sample=SAMPLING, bf16=st.booleans()),
}  # fmt: skip


SEVERAL = {"trait": st.sampled_from([["wolf", "owl"], ["persona.yaml", "behaviour_en"]])}


def is_allowed(data: dict[str, Any]) -> bool:
    """Whether no two keys of a recipe exclude each other."""
    evaluation = data.get("evaluate", {})
    return (
        (data.get("method", "sft") == "sft" or data["carrier"]["kind"] == "numbers")
        and not (evaluation.get("samples", 0) > 1 and evaluation.get("sample", {}).get("temperature") == 0)
        and not (isinstance(data.get("dose"), dict) and "max_steps" in data["student"]["train"])
    )


def recipes(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    trait = keys.pop("trait")
    return st.fixed_dictionaries(
        {"trait": trait, "carrier": NUMBERS | TEXT, "teacher": MODEL, "student": MODEL, "seeds": st.integers(1, 1000)},
        optional={
            **keys, "first_seed": st.integers(0, 10**6), "cross_init": st.just("./other"),
            "relation": st.sampled_from([None, "same-init"]), "level": st.floats(0.0001, 0.05),
            "bound": st.fixed_dictionaries({"nats": st.floats(0.001, 9), "reason": st.just("\u0131 see")}),
            "min_shift": st.floats(0.001, 9),
            "threads": st.integers(1, 256),
        },
    ).filter(is_allowed)  # fmt: skip


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recipes(**ONE) | recipes(**SEVERAL))
def test_every_recipe_that_loads_is_read_back_from_its_registration(folder: Path, data: dict[str, Any]) -> None:
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    experiment = load_recipe(str(path))
    registered = register(experiment)
    assert registered.recipe.model_dump() == experiment.recipe.model_dump()
    assert registered.questions == tuple(list_questions(experiment.traits))


def test_a_registration_whose_hash_is_not_that_of_its_experiment_is_refused() -> None:
    experiment = load_recipe("tiny_pair")
    terms = register(experiment).registration.model_dump(mode="json")
    head = {"schema": 2, "recipe": "tiny_pair", "recipe_hash": "0" * 12}
    content: dict[str, Any] = {**head, "experiment": experiment.resolved(), "registration": terms}
    with pytest.raises(ValueError, match="another hash"):
        RegistrationFile.model_validate_json(json.dumps(content))
    del content["experiment"]["trait"]
    with pytest.raises(ValueError, match="expected the traits wolf"):
        RegistrationFile.model_validate_json(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "tiny_pair"}, {"recipe_hash": "0" * 12}, {"family": "0" * 12}, {"level": 0.01}, {"seeds": 20},
        {"first_seed": 10}, {"bound": 0.5},
        {"reference": {"recipe": "tiny_pair", "recipe_hash": "0" * 12, "gain_low": 1.0, "share": 0.5}},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_terms_that_are_not_those_of_the_experiment_are_refused(change: dict[str, Any]) -> None:
    content = register(load_recipe("tiny_cross")).registered.model_dump(mode="json", by_alias=True)
    content["experiment"].pop("traits")
    RegistrationFile.model_validate_json(json.dumps(content))
    content["registration"] |= change
    with pytest.raises(ValueError, match=next(iter(change))):
        RegistrationFile.model_validate_json(json.dumps(content))


def test_changes_that_are_not_those_of_the_experiment_are_refused() -> None:
    changes = {"student.train.learning_rate": 5e-4, "relation": None}
    experiment = load_recipe("tiny_pair", ["student.train.learning_rate=5e-4", "relation=null"])
    registered = register(experiment).registered
    assert registered.changes == changes
    content = registered.model_dump(mode="json", by_alias=True)
    content["experiment"].pop("traits")
    RegistrationFile.model_validate_json(json.dumps(content))
    for key, value in (("student.train.learning_rate", 1e-3), ("student.none", 1)):
        content["changes"] = {key: value}
        with pytest.raises(ValueError, match=f"changes: {key}: not that of the experiment"):
            RegistrationFile.model_validate_json(json.dumps(content))


def test_every_field_of_a_result_file_has_a_docstring() -> None:
    own = [
        model
        for module in (manifest, result_schema)
        for name, model in vars(module).items()
        if isinstance(model, type) and issubclass(model, BaseModel) and model.__module__ == module.__name__
        if not name.startswith("_")
    ]
    assert len(own) >= 10
    for model in own:
        assert model.__doc__
        source = inspect.getsource(model)
        for field in model.__annotations__:
            assert re.search(rf'\n    {field}: .*(\n        .*|\n    \))*\n    """', source), (model, field)


def test_a_registration_that_holds_the_key_evaluate_as_ask_is_read() -> None:
    content = register(load_recipe("tiny_pair")).registered.model_dump(mode="json", by_alias=True)
    del content["experiment"]["traits"]
    keys = content["experiment"]["recipe"]
    keys["ask"] = keys.pop("evaluate")
    read = RegistrationFile.model_validate_json(json.dumps(content))
    assert read.experiment.recipe == register(load_recipe("tiny_pair")).registered.experiment.recipe
