"""The engine: schedules, denoisers, samplers, training, runs, and the worker they live in.

What stands here is the public interface, for faces, plugins and people's own code. Names are handed on when
they are first asked for, so that `from imagen_workbench.core import Recipe` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .sharing import share_cores

if TYPE_CHECKING:
    from .conditioning import Condition, ConditioningScheme, NoOptions
    from .data.source import Example, Facts, Source, SourceOptions
    from .errors import (
        DataError,
        ModelError,
        PluginError,
        RecipeError,
        RequestError,
        RunError,
        WorkbenchError,
    )
    from .evaluation.evaluate import Evaluation, evaluate
    from .models import Drawing, Model, open_model
    from .precondition import Denoiser
    from .recipe import Recipe
    from .runs.folder import Run, user_home
    from .worker import Worker
    from .worker.headless import train

share_cores()  # before anything here brings torch in

_HOMES = {
    "Condition": "conditioning",
    "ConditioningScheme": "conditioning",
    "NoOptions": "conditioning",
    "Example": "data.source",
    "Facts": "data.source",
    "Source": "data.source",
    "SourceOptions": "data.source",
    "DataError": "errors",
    "ModelError": "errors",
    "PluginError": "errors",
    "RecipeError": "errors",
    "RequestError": "errors",
    "RunError": "errors",
    "WorkbenchError": "errors",
    "Evaluation": "evaluation.evaluate",
    "evaluate": "evaluation.evaluate",
    "Drawing": "models",
    "Model": "models",
    "open_model": "models",
    "Denoiser": "precondition",
    "Recipe": "recipe",
    "Run": "runs.folder",
    "user_home": "runs.folder",
    "train": "worker.headless",
    "Worker": "worker",
}

__all__ = [
    "Condition",
    "ConditioningScheme",
    "DataError",
    "Denoiser",
    "Drawing",
    "Evaluation",
    "Example",
    "Facts",
    "Model",
    "ModelError",
    "NoOptions",
    "PluginError",
    "Recipe",
    "RecipeError",
    "RequestError",
    "Run",
    "RunError",
    "Source",
    "SourceOptions",
    "WorkbenchError",
    "Worker",
    "evaluate",
    "open_model",
    "train",
    "user_home",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
