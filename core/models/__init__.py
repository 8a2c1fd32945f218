"""What draws: trained models and cascades of them; found, opened, and what they have drawn."""

from __future__ import annotations

from .cascade import Cascade
from .drawer import Drawer, Drawing
from .model import Model
from .opening import facts_of, model_of_checkpoint, open_drawer, open_model, single

__all__ = [
    "Cascade",
    "Drawer",
    "Drawing",
    "Model",
    "facts_of",
    "model_of_checkpoint",
    "open_drawer",
    "open_model",
    "single",
]
