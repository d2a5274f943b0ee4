"""An experiment: a recipe with the traits and prompts that it names, loaded from its file and hashed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from bench.config.arms import MITIGATIONS
from bench.config.carrier_prompts import CarrierPrompts, load_carrier_prompts
from bench.config.changes import find_changes, label_row
from bench.config.claims import drop_inherited_claims, find_differences, keep_shared_keys
from bench.config.doses import check_dose
from bench.config.mitigations import find_conflict
from bench.config.outcome import refuse_rate
from bench.config.recipe import Recipe
from bench.config.schema import validate
from bench.config.sweep import drop_overridden, list_combinations, nest, read_sweep
from bench.config.traits import Trait, load_trait, short_name
from bench.config.yaml_files import Layer, find_file, folder_of_key, merge_layers, read_assignment, read_layers
from bench.errors import UserError
from bench.files import ROOT, digest

__all__ = [
    "FOLDER",
    "SCHEMA",
    "Experiment",
    "hash_experiment",
    "hash_family",
    "load_recipe",
    "load_recipes",
    "read_recipe_layers",
]

FOLDER = ROOT / "recipes"
MACHINE = {"teacher": {"needs"}, "student": {"needs"}}  # keys of where stages run, which are no part of a row
SCHEMA = 2  # of result files: rows of another schema have other hashes
SMOKE: dict[str, Any] = {
    "seeds": 2,
    "first_seed": 1000,
    "dose": [],
    "carrier": {"rows": 32, "held_out": 8},
    "teacher": {"train": {"max_steps": 2}},
    "student": {"train": {"max_steps": 2}},
}
SMOKE_DRAW = 200  # prompts of a carrier that draws its rows


class Experiment(NamedTuple):
    """A recipe with the traits and prompts that it names: the unit that is hashed, planned and run."""

    name: str
    """The name of the recipe's file."""
    recipe: Recipe
    """The keys of the recipe."""
    traits: dict[str, Trait]
    """The traits by name, in the recipe's order; all of one kind."""
    prompts: CarrierPrompts
    """The prompts of the carrier."""
    reference: Experiment | None = None
    """The row that `reference` names, with the same `--set` where the two must be equal; None for no reference."""
    changes: Mapping[str, Any] = MappingProxyType({})
    """The keys in which a sweep or the command line changed the recipe's file, by dotted name."""
    combination: Mapping[str, Any] = MappingProxyType({})
    """The values of the keys that the recipe sweeps, by dotted name."""

    def resolved(self) -> dict[str, Any]:
        """Return the whole experiment as plain JSON data, without its name."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            **_dump_traits(self.traits),
            "prompts_sha256": self.prompts.sha256(),
        }

    @property
    def label(self) -> str:
        """Return its name with what differs from the recipe's file."""
        return label_row(self.name, self.changes)

    def warnings(self) -> list[str]:
        """Return one line for each unusual property that may be intended."""
        return [f"trait {name}: {line}" for name, trait in self.traits.items() for line in trait.warnings()]

    def hash(self) -> str:
        """Return 12 hex digits that identify the experiment. Any change gives another hash, and so another row.

        Keys with their default are left out, so that a new key does not change the hashes of published rows.
        If the meaning of a default changes, raise a version in the stage's settings (`bench.stages.settings`).
        """
        return hash_experiment(self.recipe, self.traits, self.resolved()["prompts_sha256"])

    def family(self) -> str:
        """Return the hash without seeds and outcome: rows of one family are looks at the same question."""
        return hash_family(self.recipe, self.traits, self.resolved()["prompts_sha256"])


def hash_experiment(recipe: Recipe, traits: Mapping[str, Trait], prompts_sha256: str | None) -> str:
    """Hash an experiment, or one that was read from its registration; see `Experiment.hash`."""
    content = {
        "schema": SCHEMA,
        "recipe": recipe.model_dump(mode="json", exclude_defaults=True, exclude=MACHINE),
        **_dump_traits(traits, exclude_defaults=True),
        "prompts": prompts_sha256,
    }
    return digest(content)[:12]


def hash_family(recipe: Recipe, traits: Mapping[str, Trait], prompts_sha256: str | None) -> str:
    """Hash an experiment without `seeds`, `first_seed`, `outcome` and `bound`; see `Experiment.family`."""
    changes = {"seeds": 1, "first_seed": 0, "outcome": "margin", "bound": None}
    return hash_experiment(recipe.model_copy(update=changes), traits, prompts_sha256)


def _dump_traits(traits: Mapping[str, Trait], **options: Any) -> dict[str, Any]:
    data = {name: trait.model_dump(mode="json", **options) for name, trait in traits.items()}
    return {"traits": data} if len(data) > 1 else {"trait": next(iter(data.values()))}


def load_recipe(
    name: str, overrides: Sequence[str] = (), *, seeds: int | None = None, smoke: bool = False
) -> Experiment:
    """Load a recipe that is one row; arguments as for `load_recipes`.

    Raises:
        UserError: the recipe, a trait or the prompts are not valid, or the recipe sweeps over several rows.
    """
    experiments = load_recipes(name, overrides, seeds=seeds, smoke=smoke)
    if len(experiments) > 1:
        choice = " ".join(f"--set {key}=..." for key in experiments[0].combination)
        raise UserError(f"{name}: key 'sweep': one row is needed here, found {len(experiments)}; choose one: {choice}")
    return experiments[0]


def load_recipes(
    name: str, overrides: Sequence[str] = (), *, seeds: int | None = None, smoke: bool = False
) -> list[Experiment]:
    """Load the rows of a recipe with their traits and prompts: one, or one for each combination of its `sweep`.

    Args:
        name: of `recipes/<name>.yaml`, or the path of a YAML file.
        overrides: `KEY=VALUE` settings of the command line.
        seeds: the number of seeds; None for the recipe's own.
        smoke: whether to shrink the experiment to a few rows and updates.

    Raises:
        UserError: the recipe, a trait or the prompts are not valid, or two combinations are the same row.
    """
    assignments = [{"seeds": seeds}] * (seeds is not None) + list(map(read_assignment, overrides))
    path = find_file(name, FOLDER, "recipe")
    source = f"{path} with --set" if overrides else str(path)
    stated = [*read_recipe_layers(path), *(Layer(Path(), change) for change in assignments)]
    values = read_sweep(merge_layers(stated).get("sweep"), source)
    layers = [Layer(folder, {key: v for key, v in keys.items() if key != "sweep"}) for folder, keys in stated]
    own, changes = layers[: len(layers) - len(assignments)], layers[len(layers) - len(assignments) :]
    experiments: dict[str, Experiment] = {}
    for combination in list_combinations(values, assignments):
        swept = [Layer(folder_of_key(stated, "sweep"), nest(combination))] if combination else []
        shrunk = [Layer(Path(), _shrink(merge_layers([*own, *swept, *changes])))] if smoke else []
        row_source = f"{source}, row {label_row(path.stem, combination)!r}" if combination else source
        experiment = _load_row(path, own, [*swept, *shrunk, *changes], row_source)
        keys = _list_changes(experiment.recipe, own, [*swept, *changes])
        experiment = experiment._replace(combination=combination, changes=keys)
        known = experiments.setdefault(experiment.hash(), experiment)
        if known is not experiment and not smoke:  # --smoke makes equal rows of different ones
            raise UserError(f"{row_source}: key 'sweep': the same row as {known.label!r}; take one of the values out")
    return list(experiments.values())


def _load_row(path: Path, own: Sequence[Layer], changes: Sequence[Layer], source: str) -> Experiment:
    """Load one row with its reference: the keys of a recipe's file, changed by `changes`."""
    layers = [*own, *changes]
    experiment = _load_experiment(path, layers, source)
    if experiment.recipe.reference is None:
        return experiment
    try:
        return experiment._replace(reference=_load_reference(experiment, layers, changes))
    except UserError as error:
        raise UserError(f"{source}: key 'reference': {error}") from None


def _list_changes(recipe: Recipe, own: Sequence[Layer], changes: Sequence[Layer]) -> dict[str, Any]:
    """Return the keys that `changes` give another value than the recipe's file, by dotted name."""
    keys, stated = (recipe.model_dump(mode="json", exclude_defaults=without) for without in (False, True))
    return find_changes(merge_layers(own), [change.keys for change in changes], keys, stated)


def _shrink(keys: dict[str, Any]) -> dict[str, Any]:
    """Return the changes of `--smoke` to a recipe. A prompted teacher stays without a training."""
    teacher, carrier = keys.get("teacher"), keys.get("carrier")
    prompted = isinstance(teacher, dict) and "train" not in teacher
    changes = {key: value for key, value in SMOKE.items() if not (prompted and key == "teacher")}
    if isinstance(carrier, dict) and carrier.get("draw"):
        changes["carrier"] = {**changes["carrier"], "draw": SMOKE_DRAW}
    return changes


def read_recipe_layers(path: Path) -> list[Layer]:
    """Read a recipe's file and those of its `from:`, without what recipes do not inherit."""
    return drop_overridden(drop_inherited_claims(read_layers(path, "recipe", FOLDER)))


def _load_reference(experiment: Experiment, layers: Sequence[Layer], changes: Sequence[Layer]) -> Experiment:
    """Load the reference of a row, with the same changes where the two must be equal, and check that it may be one.

    Raises:
        UserError: it does not exist, has a reference itself, or has another trait, teacher, carrier or budget.
    """
    claim = experiment.recipe.reference
    assert claim is not None
    folder = folder_of_key(layers, "reference")
    names_folder = folder if (folder / f"{claim.recipe}.yaml").is_file() else FOLDER
    path = find_file(claim.recipe, names_folder, "recipe", relative_to=folder)
    own = [Layer(at, {key: v for key, v in keys.items() if key != "sweep"}) for at, keys in read_recipe_layers(path)]
    shared = [Layer(at, keep_shared_keys(change, experiment.recipe.outcome)) for at, change in changes]
    reference = _load_experiment(path, [*own, *shared], str(path))
    if reference.recipe.reference is not None:
        raise UserError(
            f"{path.stem} has a reference itself ({reference.recipe.reference.recipe}); expected a same-init recipe "
            "without one"
        )
    if (relation := reference.recipe.relation) not in (None, "same-init"):
        raise UserError(f"{path.stem}: key 'relation': expected same-init, found {relation}")
    if differences := find_differences(experiment.resolved(), reference.resolved()):
        raise UserError(
            f"{path.stem} must have the same outcome, trait, teacher, carrier, method and student training; "
            f"{differences} in {path.stem}"
        )
    return reference


def _load_experiment(path: Path, layers: Sequence[Layer], source: str) -> Experiment:
    """Check the merged keys of a recipe, and load its traits and prompts.

    Raises:
        UserError: names `source` and the key.
    """
    recipe = validate(Recipe, merge_layers(layers), source).with_folders(layers)
    traits = _load_traits(recipe, layers, source)
    try:
        prompts = load_carrier_prompts(recipe.carrier, layers)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    if len({trait.kind for trait in traits.values()}) > 1:
        raise UserError(f"{source}: key 'trait': traits of one kind are expected, all preference or all behaviour")
    if any(trait.kind == "behaviour" for trait in traits.values()):
        refuse_rate(recipe.outcome, recipe.evaluate, source)
    check_dose(recipe.dose, recipe.student.train, recipe.carrier.rows, source)
    arms, first, carrier = MITIGATIONS.keys() & set(recipe.arms), next(iter(traits.values())), recipe.carrier
    if conflict := find_conflict(arms, recipe.mitigations, method=recipe.method, carrier=carrier, trait=first):
        raise UserError(f"{source}: {conflict}")
    return Experiment(path.stem, recipe, traits, prompts)


def _load_traits(recipe: Recipe, layers: Sequence[Layer], source: str) -> dict[str, Trait]:
    """Load the traits by name.

    Raises:
        UserError: names `source` and the key.
    """
    try:
        folder = folder_of_key(layers, "trait")
        return {short_name(name): load_trait(name, folder) for name in recipe.trait_names()}
    except UserError as error:
        raise UserError(f"{source}: key 'trait': {error}") from None
