"""Tiny text encoders with weights at random, as transformers saves them, with a tokenizer made on the spot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

WORDS = (
    *("a", "an", "the", "of", "in", "on", "above", "below", "beside", "left", "right", "and", "two", "three"),
    *("red", "green", "blue", "yellow", "white", "square", "circle", "triangle", "large", "small", "cat", "dog"),
    *("top", "bottom", "middle", "corner"),
)
WIDTH = 12


def tiny_encoder(folder: Path, kind: str = "t5", seed: int = 0) -> Path:
    """kind: "t5", "clip", "clip-text" (its half alone) or "bert". Returns the folder, filled."""
    import torch
    import transformers

    sizes: dict[str, Any] = {"vocab_size": len(WORDS) + 4}
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        if kind == "t5":
            config = transformers.T5Config(
                **sizes, d_model=WIDTH, d_kv=6, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
            )
            model = transformers.T5ForConditionalGeneration(config)
        elif kind in ("clip", "clip-text"):
            text = {
                "hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                "max_position_embeddings": 10, "eos_token_id": 1, "bos_token_id": 3, "pad_token_id": 0, **sizes,
            }  # fmt: skip
            vision = {
                "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
                "image_size": 8, "patch_size": 4,
            }  # fmt: skip
            config = transformers.CLIPConfig(text_config=text, vision_config=vision)
            whole = kind == "clip"
            model = transformers.CLIPModel(config) if whole else transformers.CLIPTextModel(config.text_config)
        else:
            config = transformers.BertConfig(
                **sizes, hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
            )
            model = transformers.BertModel(config)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ends = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    known = {word: at for at, word in enumerate(["<pad>", "</s>", "<unk>", "<s>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(known, ends["unk_token"]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **ends)


def pickled(folder: Path) -> Path:
    """The same folder with its weights as a pickle, as older models have them."""
    import torch

    for path in folder.glob("*.safetensors"):
        path.unlink()
    torch.save({}, folder / "pytorch_model.bin")
    return folder


def with_code(folder: Path, marker: Path) -> Path:
    """A folder whose configuration asks for code of its own, which would write `marker`."""
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w').write('was here')\n")
    told = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}, "hidden_size": 4}
    (folder / "config.json").write_text(json.dumps(told))
    (folder / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    return folder
