"""Finding and opening what draws."""

from __future__ import annotations

import datetime
import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.source import Facts
from ..denoisers.model import build_model, load_weights
from ..errors import ModelError, WorkbenchError
from ..extensions import bundled_models, make_scheme
from ..machine import choose_device, choose_precision, set_threads
from ..recipe import Recipe
from ..runs.checkpoint import Checkpoint, checkpoints, read_checkpoint, read_model_file
from ..runs.folder import Run, find_runs
from ..runs.picture import read_recipe
from ..runs.snapshots import snapshots
from ..training.posthoc import KeptAverages
from .cascade import Cascade
from .model import Model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from .drawer import Drawer


def open_drawer(reference: str | Path, device: str = "auto") -> Drawer:
    """Opens a MODEL, or the recipe file of a cascade. Raises ModelError where it cannot be found or read."""
    set_threads()
    path = Path(str(reference)).expanduser()
    if path.suffix.lower() == ".toml" and path.is_file():
        return Cascade.open(path, lambda model: open_model(model, device))
    if path.suffix.lower() == ".png" and path.is_file():
        return _open_picture(path, device)
    return open_model(reference, device)


def open_model(reference: str | Path, device: str = "auto") -> Model:
    """Opens a MODEL: a bundled name, a run folder, a checkpoint, a model file, or a PNG that we drew.

    Raises ModelError where it cannot be found or read.
    """
    set_threads()
    reference = str(reference)
    path = Path(reference).expanduser()
    if not path.exists() and reference in (bundled := bundled_models()):
        return _open_file(bundled[reference], reference, device)
    if path.is_dir():
        return _open_folder(path, device)
    if path.is_file() and path.suffix.lower() == ".png":
        return single(_open_picture(path, device))
    if path.is_file() and path.suffix.lower() == ".toml":
        raise ModelError("is a recipe, no model", file=path, fix="Name a run that was trained with it")
    if path.is_file():
        return _open_file(path, str(path), device)
    named = [run for run in find_runs() if run.name == reference]
    if named:
        return _open_folder(named[0].path, device)
    known = [*bundled_models(), *(run.name for run in find_runs())]
    near = difflib.get_close_matches(reference, known, n=1)
    names = " or ".join(bundled_models()) or "a bundled name"
    fix = f"Did you mean {near[0]}?" if near else f"Give a run folder, a model file, a PNG of ours, or {names}"
    raise ModelError("no such model", file=reference, fix=fix)


def single(drawer: Drawer) -> Model:
    """The same, where it is one model. Raises ModelError for a cascade."""
    if not isinstance(drawer, Model):
        raise ModelError("is a cascade of several models", file=drawer.reference, fix="Name one of its stages")
    return drawer


def facts_of(saved: Mapping[str, Any]) -> Facts:
    """What a saved model tells of its dataset; models of before told the classes alone."""
    return Facts.of(saved["data"] if "data" in saved else {"classes": saved.get("classes", ())})


def model_of_checkpoint(
    checkpoint: Checkpoint, recipe: Recipe, reference: str, name: str, device: str = "auto"
) -> Model:
    """The model in a saved state, with the weights of all its EMAs and the raw ones."""
    weights = {0.0: checkpoint.tensors("weights")}
    for file in checkpoint.names():
        if file.startswith("ema-"):
            weights[float(file.removeprefix("ema-"))] = checkpoint.tensors(file)
    trained = datetime.date.fromtimestamp((checkpoint.path / "state.json").stat().st_mtime).isoformat()
    facts = facts_of(checkpoint.facts)
    model = _assembled(reference, name, recipe, facts, weights, device, checkpoint.step, trained, checkpoint.path)
    averages = {length: tensors for length, tensors in weights.items() if length}
    if len(averages) > 1:
        folder = Run(checkpoint.path.parent.parent).averages
        time = int(checkpoint.facts["seen"]) + int(checkpoint.facts.get("before", 0))
        model.kept = KeptAverages(time, averages, tuple(snapshots(folder, checkpoint.step)))
    return model


def _open_folder(path: Path, device: str) -> Model:
    """A run folder, or one of its checkpoints."""
    if (path / "state.json").is_file():
        checkpoint, run = read_checkpoint(path), Run(path.parent.parent)
        if checkpoint is None:
            raise ModelError("this checkpoint is not whole", file=path, fix="Use another one of the run")
        return model_of_checkpoint(checkpoint, run.recipe(), str(path), f"{run.name} at {checkpoint.step:,}", device)
    run = Run(path)
    recipe = run.recipe()
    saved = checkpoints(run.checkpoints)
    damaged: ModelError | None = None
    for checkpoint in saved:
        try:
            return model_of_checkpoint(checkpoint, recipe, str(path), run.name, device)
        except ModelError as error:
            damaged = damaged or error
    if damaged:
        raise damaged
    raise ModelError("this run has saved nothing yet", file=path, fix="Train it to its first checkpoint")


def _open_file(path: Path, reference: str, device: str) -> Model:
    tensors, facts = read_model_file(path)
    recipe = Recipe.from_toml(str(facts.get("recipe", "")), file=path)
    weights = {float(facts.get("ema", 0.0)): tensors}
    return _assembled(
        reference,
        str(facts.get("name", path.stem)),
        recipe,
        facts_of(facts),
        weights,
        device,
        int(facts.get("step", 0)),
        str(facts.get("trained", "")),
        path,
    )


def _open_picture(path: Path, device: str) -> Drawer:
    """The model that drew a picture: by its reference, if that still has the same weights; else by hash."""
    picture = read_recipe(path)
    wanted = picture.get("model", {})
    candidates = [str(wanted.get("reference", ""))]
    candidates += [name for name in bundled_models() if name not in candidates]
    candidates += [str(each.path) for run in find_runs() for each in checkpoints(run.checkpoints)]
    for candidate in candidates:
        try:
            model = open_drawer(candidate, device) if candidate and not candidate.lower().endswith(".png") else None
            if model and model.identity(picture.get("ema"))["hash"] == wanted.get("hash"):
                model.picture = picture
                return model
        except WorkbenchError:
            continue  # whatever is there now, it did not draw the picture
    raise ModelError(
        f"the model that drew it ({wanted.get('name', 'unnamed')}) is not here, or has other weights now",
        file=path,
        fix=f"Bring back {wanted.get('reference', 'it')}, or name a model instead of the picture",
    )


def _assembled(
    reference: str,
    name: str,
    recipe: Recipe,
    facts: Facts,
    weights: dict[float, dict[str, Tensor]],
    device: str,
    step: int,
    trained: str,
    file: Path,
) -> Model:
    place = choose_device(device)
    scheme = make_scheme(recipe, facts)
    module = build_model(recipe, scheme, choose_precision(recipe.training, place))
    for tensors in weights.values():
        load_weights(module, tensors, file)
    module.eval().to(place)
    moved = {
        length: {key: tensor.to(place, copy=True) for key, tensor in group.items()} for length, group in weights.items()
    }
    return Model(reference, name, recipe, scheme, module, moved, place, step, trained)
