"""What a run starts from: its recipe, its data, and a new state, a base's, or the last one saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..denoisers.model import build_model, load_weights
from ..errors import RunError
from ..machine import choose_device, choose_precision, environment_now
from ..models import open_model
from ..runs.checkpoint import weights_hash
from ..training.finetune import Base
from ..training.losses import noise_levels
from ..training.state import TrainingState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch
    from torch import Tensor

    from ..commands import Train
    from ..conditioning import ConditioningScheme
    from ..data.cache import Dataset
    from ..recipe import Recipe
    from ..runs.folder import Run
    from ..training.processes import Message, Processes

EXACT = ("device", "device_name", "threads", "precision", "machine", "batch_layout")
"""What exactness depends on, beside the versions."""


@dataclass(frozen=True)
class Setup:
    """What is trained, once the data has been read. base: what a fine-tuning run begins with."""

    recipe: Recipe
    data: Dataset
    scheme: ConditioningScheme
    device: torch.device
    base: Base | None = None

    def new_state(self, steps: int) -> TrainingState:
        """The state before the first of `steps` steps.

        A fine-tuning run's averages count the base as if it had been seen for as long as the warm-up takes: they
        start at the base and leave it no faster than the weights do. Raises ModelError where the base does not fit.
        """
        recipe = self.recipe
        model = build_model(recipe, self.scheme, choose_precision(recipe.training, self.device))
        before = 0
        if self.base is not None:
            self.base.pour_into(model, self.scheme)
            before = max(1, round(recipe.training.warmup * steps)) * recipe.training.batch
        if recipe.training.compile:
            model.compile_for_training()
        return TrainingState.begin(model.to(self.device), recipe, before=before)

    def loaded_state(
        self, tensors: Mapping[str, Mapping[str, Tensor]], counters: Mapping[str, Any], file: object
    ) -> TrainingState:
        """A saved state. Raises ModelError where it was made for another recipe."""
        state = Setup(self.recipe, self.data, self.scheme, self.device).new_state(1)
        for group in ("weights", *(f"ema-{name}" for name in state.emas)):
            load_weights(state.model, tensors.get(group, {}), file)
        state.load(tensors, counters)
        return state

    def environment(self, processes: Processes) -> dict[str, Any]:
        """What exactness depends on, beside the recipe."""
        settings = self.recipe.training
        layout = {"batch": settings.batch, "micro_batch": settings.micro_batch}
        if processes.count > 1:
            layout["processes"] = processes.count
        return {**environment_now(self.device, choose_precision(settings, self.device)), "batch_layout": layout}

    def order(self, state: TrainingState, steps: int) -> Message:
        """What the other processes need to train this state along: `state_of` reads it."""
        tensors = {f"{group}/{name}": each for group, found in state.tensors().items() for name, each in found.items()}
        return {"recipe": self.recipe.to_toml(), "steps": steps, "counters": state.counters()}, tensors

    def state_of(self, order: Message) -> TrainingState:
        """The state in an order, here."""
        facts, tensors = order
        groups: dict[str, dict[str, Tensor]] = {"optimizer": {}}  # which has no tensors before the first step
        for key, tensor in tensors.items():
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = tensor
        return self.loaded_state(groups, facts["counters"], "the main process")


def recipe_to_train(command: Train, folder: Run) -> Recipe:
    """The command's recipe, or the folder's own. Raises RunError or RecipeError where it cannot be trained there."""
    asked = with_whole_paths(command.recipe) if command.recipe is not None else None
    if asked is not None and not (command.resume and folder.exists):
        folder.check_free()
        choose_device(asked.training.device)
        noise_levels(asked)
        return asked
    recipe = folder.recipe()
    if asked is not None and not asked.finetune.hash:
        asked = asked.with_values({"finetune.hash": recipe.finetune.hash})
    if asked not in (None, recipe):
        raise RunError(
            "the run was begun with another recipe",
            file=folder.path,
            fix="Continue it with its own recipe.toml, or begin in another folder",
        )
    return recipe


def with_whole_paths(recipe: Recipe) -> Recipe:
    """The recipe, its data and its base found from wherever the run is continued."""
    paths: dict[str, Any] = {}
    if recipe.data.path:
        paths["data.path"] = _whole(recipe.data.path)
    if any(part.path for part in recipe.data.parts):
        paths["data.parts"] = [part.model_dump() | {"path": _whole(part.path)} for part in recipe.data.parts]
    base = Path(recipe.finetune.base).expanduser()
    if recipe.finetune.base and base.exists():
        paths["finetune.base"] = str(base.absolute())
    return recipe.with_values(paths) if paths else recipe


def _whole(path: str) -> str:
    """As it is where it is none, or no path of this machine."""
    return path if not path or "://" in path else str(Path(path).expanduser().absolute())


def opened_base(recipe: Recipe) -> Base | None:
    """The model that a fine-tuning recipe names; None for another recipe. Raises ModelError where it cannot be used."""
    if not recipe.finetune.base:
        return None
    model = open_model(recipe.finetune.base, device="cpu")
    tensors = model.weights[model.chosen_ema(None)]
    base = Base(recipe.finetune.base, weights_hash(tensors), model.recipe, model.scheme.facts, tensors)
    base.check(recipe)
    return base


def attempt_at(records: Iterable[Mapping[str, Any]], step: int) -> int:
    """The attempt that training is at when it goes on from this step, as the journal tells."""
    there = (record for record in records if record["step"] == step)
    return max((int(record["attempt"]) for record in there if "attempt" in record), default=0)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What exactness depends on and has changed, in words."""
    found = [
        f"{key.replace('_', ' ')}: {then.get(key)} then, {now.get(key)} now"
        for key in EXACT
        if then.get(key) != now.get(key)
    ]
    before, after = then.get("versions", {}), now.get("versions", {})
    found += [
        f"{name} {before[name]} then, {after.get(name)} now" for name in before if before[name] != after.get(name)
    ]
    return found
