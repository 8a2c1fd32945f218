"""The engine: schedules, denoisers, samplers, training, runs, and the worker they live in.

What stands here is the public interface, for faces, plugins and people's own code. Names are handed on when
they are first asked for, so that `from imagen_workbench.core import Recipe` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .sharing import share_cores

if TYPE_CHECKING:
    from .conditioning import Condition, ConditioningScheme, NoOptions, Tensors, keyed_texts
    from .data.decode import picture_array
    from .data.kept_arrays import KeptArrays
    from .data.source import Attribute, Bringing, Example, Facts, Source, SourceOptions, Stream
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
    from .events import ConditionField
    from .models import Cascade, Drawing, Model, open_drawer, open_model
    from .precondition import Denoiser
    from .recipe import Recipe
    from .runs.folder import Run, user_home
    from .worker import Worker
    from .worker.headless import train

share_cores()  # before anything here brings torch in

_HOMES = {
    "Attribute": "data.source",
    "Bringing": "data.source",
    "Condition": "conditioning",
    "ConditionField": "events",
    "ConditioningScheme": "conditioning",
    "KeptArrays": "data.kept_arrays",
    "NoOptions": "conditioning",
    "keyed_texts": "conditioning",
    "Tensors": "conditioning",
    "Example": "data.source",
    "Facts": "data.source",
    "Source": "data.source",
    "SourceOptions": "data.source",
    "Stream": "data.source",
    "DataError": "errors",
    "ModelError": "errors",
    "PluginError": "errors",
    "RecipeError": "errors",
    "RequestError": "errors",
    "RunError": "errors",
    "WorkbenchError": "errors",
    "Evaluation": "evaluation.evaluate",
    "evaluate": "evaluation.evaluate",
    "Cascade": "models",
    "Drawing": "models",
    "Model": "models",
    "open_drawer": "models",
    "open_model": "models",
    "picture_array": "data.decode",
    "Denoiser": "precondition",
    "Recipe": "recipe",
    "Run": "runs.folder",
    "user_home": "runs.folder",
    "train": "worker.headless",
    "Worker": "worker",
}

__all__ = [
    "Attribute",
    "Bringing",
    "Cascade",
    "Condition",
    "ConditionField",
    "ConditioningScheme",
    "DataError",
    "Denoiser",
    "Drawing",
    "Evaluation",
    "Example",
    "Facts",
    "KeptArrays",
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
    "Stream",
    "Tensors",
    "WorkbenchError",
    "Worker",
    "evaluate",
    "keyed_texts",
    "open_drawer",
    "open_model",
    "picture_array",
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
