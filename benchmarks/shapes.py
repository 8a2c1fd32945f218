"""Whether a model draws what its caption says: captioned-shapes, read back out of the pictures.

    python benchmarks/shapes.py [--minutes 15] [--model MODEL] [--recipe shapes] [--set KEY=VALUE]
                                [--prompts 256] [--out FILE]

Trains the recipe, or takes a model of captioned shapes. No prompt stands word for word at a picture of the dataset,
held-out ones included, but for groups, of which there is too little to say. Asked for, of single objects with shape,
colour and position right at once: 85 % of prompts; as a stretch 60 % of those whose shape and colour no training
picture has together. Beside them pairs and groups, the checker's own error on pictures that the dataset draws anew,
with their captions and with each other's, and the held-out loss with true and with shuffled captions at the same
noise: where the gap is 0, the text is ignored.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from time_to_quality import machine, recipe_of

from imagen_workbench.core import open_model, train
from imagen_workbench.core.datasets import read
from imagen_workbench.core.extensions import make_source
from imagen_workbench.core.generators import finish
from imagen_workbench.core.machine import set_threads
from imagen_workbench.core.recipe import parse_setting
from imagen_workbench.core.training.held_out import held_out_loss
from imagen_workbench.plugins.datasets.captioned_shapes import CaptionedShapes
from imagen_workbench.plugins.datasets.shapes_reading import right, things_in
from imagen_workbench.plugins.datasets.shapes_scenes import (
    KINDS,
    NUMBERS,
    POSITIONS,
    RELATIONS,
    SIZES,
    Scene,
    captions,
    scene_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from imagen_workbench.core import Model
    from imagen_workbench.core.recipe import Recipe

    Combination = tuple[str, str]

SEED = 30_000
"""Of prompts, of fresh pictures and of draws."""
ASKED = ("shape", "colour", "position")
"""What has to be right at once of a single object."""


@dataclass(frozen=True)
class Share:
    """How often something is right: of `count`, and of each name among it."""

    count: int
    asked: float
    everything: float
    each: dict[str, float]

    def __str__(self) -> str:
        each = "  ".join(f"{name} {share:.1%}" for name, share in self.each.items())
        return f"{self.asked:>8.1%}{self.everything:>12.1%}   {each}   ({self.count})"


def share_of(answers: list[dict[str, bool]]) -> Share:
    """asked: the single object's three, or whatever of them there is to be asked."""
    names = list(answers[0])
    asked = [name for name in names if name in ASKED] if "position" in names else names
    return Share(
        len(answers),
        float(np.mean([all(answer[name] for name in asked) for answer in answers])),
        float(np.mean([all(answer.values()) for answer in answers])),
        {name: float(np.mean([answer[name] for answer in answers])) for name in names},
    )


def scenes(kind: str, shown: Sequence[Combination]) -> Iterator[Scene]:
    """All scenes of a kind that can be made of these."""
    if kind == "single":
        for thing, position, size in itertools.product(shown, POSITIONS, SIZES):
            yield Scene(*thing, position, size)
    elif kind == "group":
        for thing, count in itertools.product(shown, NUMBERS.values()):
            yield Scene(*thing, count=count)
    else:
        for (first, second), relation in itertools.product(itertools.permutations(shown, 2), RELATIONS):
            yield Scene(*first, "", "", relation, *second)


def prompts(kind: str, shown: Sequence[Combination], known: set[str], count: int) -> list[str]:
    """Captions that are not `known`, in an order decided by chance; at most `count`."""
    found = [caption for scene in scenes(kind, shown) for caption in captions(scene) if caption not in known]
    order = np.random.default_rng(SEED).permutation(len(found))[:count]
    return [found[at] for at in order]


def drawn(model: Model, asked: list[str], sampling: dict[str, Any]) -> list[dict[str, bool]]:
    """What is right in one picture for each caption."""
    arrays = model.draw(conditions=asked, count=len(asked), seed=SEED, **sampling).arrays
    pictures = np.rint((arrays.transpose(0, 2, 3, 1) + 1) * 127.5).astype(np.uint8)
    return [right(things_in(picture), caption) for picture, caption in zip(pictures, asked, strict=True)]


def checker(source: CaptionedShapes, count: int) -> dict[str, dict[str, Share]]:
    """The checker on pictures that no training saw: with their own captions, and with others of the same kind."""
    options = source.options.model_copy(update={"seed": SEED, "count": 100 * count, "held_combinations": 0.0})
    fresh, found = CaptionedShapes(source.settings, options), {}
    for kind in KINDS:
        which = [at for at in range(len(fresh)) if fresh.scene(at).kind == kind][:count]
        examples = [fresh[at] for at in which]
        if not examples:
            continue
        seen = [things_in(np.asarray(example.image)) for example in examples]
        told = [scene_of(str(example.caption)) for example in examples]
        others = np.roll(np.arange(len(told)), len(told) // 2)
        found[kind] = {
            "true": share_of([right(*pair) for pair in zip(seen, told, strict=True)]),
            "shuffled": share_of([right(things, told[at]) for things, at in zip(seen, others, strict=True)]),
        }
    return found


def losses(model: Model) -> dict[str, float]:
    """The held-out loss with true and with shuffled captions, at the same levels and noise."""
    data, weights = read(model.recipe), model.drawing_weights()
    prepared = np.array(data.prepared)
    prepared[data.held_out] = prepared[np.random.default_rng(SEED).permutation(data.held_out)]
    found = {}
    for name, each in (("true", data), ("shuffled", replace(data, prepared=prepared))):
        turns = held_out_loss(
            weights.denoiser, weights.denoiser.encoder, model.scheme, each, model.recipe, model.device, most=1024
        )
        found[name] = finish(turns)[0]
    return found | {"gap": found["shuffled"] - found["true"]}


def trained(recipe: Recipe, minutes: float, folder: Path) -> tuple[Model, dict[str, Any]]:
    """The model of a training of so many minutes, and what it took."""
    began = time.perf_counter()
    run = train(recipe, folder / "shapes", minutes=minutes)
    steps = next(record["steps"] for record in run.records() if record["kind"] == "started")
    seconds = time.perf_counter() - began
    return open_model(run.path), {"minutes": minutes, "steps": steps, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--model", help="a model of captioned shapes, instead of training one")
    parser.add_argument("--recipe", default="shapes")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--prompts", type=int, default=256, help="single objects of each sort; half as many of others")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    set_threads()
    recipe = recipe_of(options.recipe, options.settings)
    with tempfile.TemporaryDirectory(prefix="shapes-") as scratch:
        if options.model:
            model, took = open_model(options.model), {"model": options.model}
        else:
            model, took = trained(recipe, options.minutes, Path(scratch))
        figures = measure(model, options)
    figures = {"machine": machine(), "settings": options.settings, "training": took, **figures}
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(model: Model, options: argparse.Namespace) -> dict[str, Any]:
    """Prints and returns all figures of a model."""
    source = make_source(model.recipe)
    if not isinstance(source, CaptionedShapes) or model.recipe.conditioning.scheme != "text":
        raise SystemExit(f"{model.name} is no model of captioned shapes that reads text")
    sampling = {
        key.removeprefix("sampling."): value
        for key, value in map(parse_setting, options.settings)
        if key.startswith("sampling.")
    }
    print("right:     asked  everything   each alone")
    results: dict[str, Any] = {"checker": {}, "model": {}, "held_combinations": source.held}
    for kind, found in checker(source, options.prompts).items():
        results["checker"][kind] = {name: asdict(share) for name, share in found.items()}
        for name, share in found.items():
            print(f"{share}   real {kind}, {name} captions")
    known = {str(source[at].caption) for at in range(len(source))}
    sorts = [("single", "single", source.shown), ("single, held combinations", "single", source.held)]
    sorts += [(kind, kind, source.shown) for kind in KINDS[1:]]
    for name, kind, shown in sorts:
        avoided = set() if kind == "group" else known
        asked = prompts(kind, shown, avoided, options.prompts if kind == "single" else options.prompts // 2)
        if asked:
            share = share_of(drawn(model, asked, sampling))
            results["model"][name] = asdict(share)
            print(f"{share}   drawn {name}", flush=True)
    results["loss"] = losses(model)
    words = "  ".join(f"{name} {loss:.4f}" for name, loss in results["loss"].items())
    print(f"held-out loss by captions: {words}")
    return results


if __name__ == "__main__":
    main()
