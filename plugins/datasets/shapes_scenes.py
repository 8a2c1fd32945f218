"""Scenes of coloured shapes in words: the captions of a scene, and the scene that a caption tells of."""

from __future__ import annotations

import re
from dataclasses import dataclass

from imagen_workbench.core import RequestError

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "heart")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "black")
SIZES = ("small", "large")
POSITIONS = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5}
KINDS = ("single", "pair", "group")


@dataclass(frozen=True)
class Scene:
    """One object; a pair, the first `relation` the second; or a group of `count` alike. Empty: nothing is said."""

    shape: str
    colour: str
    position: str = ""
    size: str = ""
    relation: str = ""
    other_shape: str = ""
    other_colour: str = ""
    count: int = 1

    @property
    def kind(self) -> str:
        if self.relation:
            return "pair"
        return "group" if self.count > 1 else "single"


def captions(scene: Scene) -> tuple[str, ...]:
    """All that the dataset says of a scene; a single one has a position and a size."""
    if scene.kind == "pair":
        first = _with_article(f"{scene.colour} {scene.shape}")
        second = _with_article(f"{scene.other_colour} {scene.other_shape}")
        return tuple(
            f"{first} {verb}{relation} {second}" for verb in ("", "is ") for relation in _RELATED[scene.relation]
        )
    if scene.kind == "group":
        number = next(word for word, count in NUMBERS.items() if count == scene.count)
        shapes = _PLURALS[scene.shape]
        return (
            f"{number} {scene.colour} {shapes}",
            f"{number} {shapes}, all {scene.colour}",
            f"there are {number} {scene.colour} {shapes}",
            f"a group of {number} {scene.colour} {shapes}",
        )
    plain = _with_article(f"{scene.colour} {scene.shape}")
    sized = f"a {scene.size} {scene.colour} {scene.shape}"
    return tuple(
        caption
        for where in _PLACED[scene.position]
        for caption in (
            f"{sized} {where}",
            f"{plain}, {scene.size}, {where}",
            f"{plain} {where}, {scene.size}",
            f"{where} {sized}",
            f"there is {sized} {where}",
            f"a {scene.size} {scene.shape} {where}, {scene.colour}",
        )
    )


def scene_of(caption: str) -> Scene:
    """What a caption tells: shape, colour, and what else it says. Raises RequestError where it is no such caption."""
    parts = re.split(r"\b(left of|right of|above|below)\b", caption.casefold())
    first = _told(parts[0], caption)
    if len(parts) == 1:
        return Scene(
            first["shape"],
            first["colour"],
            first.get("position", ""),
            first.get("size", ""),
            count=NUMBERS.get(first.get("number", ""), 1),
        )
    second = _told("".join(parts[2:]), caption)
    if {*first, *second} != {"shape", "colour"}:
        raise _unread(caption)
    return Scene(first["shape"], first["colour"], "", "", parts[1], second["shape"], second["colour"])


def _told(text: str, caption: str) -> dict[str, str]:
    """What is said of one object or group, by shape, colour, position, size and number."""
    told: dict[str, str] = {}
    for word in re.findall(r"\w+", text):
        if word in _FILLING:
            continue
        name, value = _MEANINGS.get(word, ("", ""))
        if name == "position" and name in told:
            value = f"{told.pop(name)} {value}"  # "top", then "left"
        if not name or name in told:
            raise _unread(caption)
        told[name] = value
    alone = told.get("number") is None
    if not {"shape", "colour"} <= told.keys() or told.get("position", "top") not in POSITIONS:
        raise _unread(caption)
    if not alone and {"position", "size"} & told.keys():
        raise _unread(caption)
    return told


def _unread(caption: str) -> RequestError:
    fix = "Write for example a large red circle in the top left"
    return RequestError(f"{caption!r} is no caption of coloured shapes", fix=fix)


def _with_article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


_RELATED = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above",),
    "below": ("below",),
}
_PLACED = {
    **{corner: (f"in the {corner}", f"at the {corner}") for corner in POSITIONS if " " in corner},
    **{side: (f"at the {side}", f"near the {side}") for side in ("top", "bottom")},
    **{side: (f"on the {side}", f"at the {side}") for side in ("left", "right")},
    "centre": ("in the centre", "in the middle"),
}
_PLURALS = {shape: f"{shape}es" if shape.endswith("s") else f"{shape}s" for shape in SHAPES}
_FILLING = frozenset(["a", "an", "the", "in", "at", "on", "near", "to", "of", "is", "are", "there", "all", "group"])
_MEANINGS = {
    **{shape: ("shape", shape) for shape in SHAPES},
    **{plural: ("shape", shape) for shape, plural in _PLURALS.items()},
    **{colour: ("colour", colour) for colour in COLOURS},
    **{size: ("size", size) for size in SIZES},
    **{number: ("number", number) for number in NUMBERS},
    **{word: ("position", word) for word in ("top", "bottom", "left", "right", "centre")},
    "middle": ("position", "centre"),
}
