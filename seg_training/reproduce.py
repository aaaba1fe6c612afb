"""Train the recipe of a bundle's manifest again: the same code, versions and processor give the same weights."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from seg_node.core.bundle import Bundle
from seg_node.core.errors import UserError
from seg_node.core.machine import commit
from seg_training.config import TrainingConfig, load_config
from seg_training.export import export_run
from seg_training.provenance import hardware, with_roots
from seg_training.run import run_folder
from seg_training.train import train


def reproduce(bundle: Bundle, roots: Mapping[str, str], runs: Path, overrides: Sequence[str] = ()) -> Bundle:
    """Train and export again; a call that was interrupted goes on where it stopped.

    Args:
        bundle: whose manifest holds the recipes.
        roots: folder of each kind of data set that they name.
        runs: folder that receives a run for each recipe, and the bundle.
        overrides: ``key=value`` for every recipe.

    Returns:
        The bundle ``RUNS/NAME.bundle``.

    Raises:
        UserError: the recipes are not of this version, or a data set is not where ``roots`` says.
    """
    start = ""
    for config in configurations(bundle, roots, runs, overrides):
        config.start_from = start
        start = str(train(config))
    last = run_folder(config)
    return export_run(last, runs / f"{bundle.name}.bundle", bundle.manifest.precision)


def configurations(
    bundle: Bundle, roots: Mapping[str, str], runs: Path, overrides: Sequence[str] = ()
) -> list[TrainingConfig]:
    """Configurations of a manifest's recipes, in the order of the runs; see ``reproduce``."""
    recipes = bundle.manifest.training.get("recipes")
    if not recipes:
        raise UserError(f"{bundle.name}: the manifest holds no recipes")
    runs.mkdir(parents=True, exist_ok=True)
    found = []
    for recipe in recipes:
        values = dict(recipe)
        if missing := [key for key in ("train", "val") if key not in values]:
            raise UserError(
                f"{bundle.name}: recipe {values.get('name')!r} has no {' and no '.join(missing)}: an older version of"
                " seg_training wrote it, and only that one can follow it (see the manifest's commit)"
            )
        values |= {"train": with_roots(values["train"], roots), "val": with_roots(values["val"], roots)}
        file = runs / f"{values['name']}.yaml"
        file.write_text(yaml.safe_dump(values | {"runs": str(runs)}, sort_keys=False))
        found.append(load_config(file, overrides))
    return found


def differences(bundle: Bundle) -> list[str]:
    """What is not as it was when the bundle's weights were trained, a line each."""
    training = bundle.manifest.training
    pairs = {"commit": (training.get("commit"), commit()["commit"]), "machine": (training.get("machine"), hardware())}
    for name, version in training.get("versions", {}).items():
        try:
            pairs[name] = (version, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            pairs[name] = (version, "not installed")
    return [f"{name} was {then}, is {now}" for name, (then, now) in pairs.items() if then != now]
