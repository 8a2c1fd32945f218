"""The pages that people read: what they link to exists, what they show can be typed, and both languages agree."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagen_workbench.core.recipe import Recipe, known_keys, parse_setting
from imagen_workbench.workbench.cli import parser
from imagen_workbench.workbench.terminal.sample import SETTINGS

if TYPE_CHECKING:
    import argparse

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PAIRS = [
    (ROOT / "README.md", ROOT / "README.zh-CN.md"),
    (ROOT / "docs" / "method.md", ROOT / "docs" / "method.zh-CN.md"),
]
STEPS = 9

CODE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
ARXIV = re.compile(r"\[([^\]]*)\]\(https://arxiv\.org/abs/([^)]*)\)")
EQUATION = re.compile(r"^\$\$\n(.*?)\n\$\$$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) ", re.MULTILINE)
KEY = re.compile(rf"`((?:{'|'.join(Recipe.model_fields)})\.\w+(?:\.\w+)*)`")


def prose_of(page: Path) -> str:
    """The page without its code blocks."""
    return CODE.sub("", page.read_text(encoding="utf-8"))


def commands_of(page: Path) -> list[list[str]]:
    """Every `imagen-workbench …` line of the page's code blocks, in words: no comments, nothing after > or |."""
    blocks = (block for language, block in CODE.findall(page.read_text(encoding="utf-8")) if language in ("", "sh"))
    lines = (line for block in blocks for line in block.splitlines() if line.startswith("imagen-workbench"))
    return [list(takewhile(lambda word: word not in ">|", shlex.split(line, comments=True))) for line in lines]


COMMANDS = [
    pytest.param(words[1:], id=f"{page.name}: {shlex.join(words)}") for page in PAGES for words in commands_of(page)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_picture_leads_somewhere(page):
    targets = [target.partition("#")[0] for target in LINK.findall(prose_of(page)) if "://" not in target]
    missing = [target for target in targets if target and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_picture_says_in_words_what_it_shows(page):
    assert [target for words, target in PICTURE.findall(prose_of(page)) if len(words) < 10] == []


def test_every_picture_is_shown_on_a_page():
    shown = {(page.parent / target).resolve() for page in PAGES for _, target in PICTURE.findall(prose_of(page))}
    assert {path.resolve() for path in (ROOT / "docs" / "images").iterdir()} <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_paper_is_called_by_the_number_that_its_link_has(page):
    for called, number in ARXIV.findall(prose_of(page)):
        assert re.fullmatch(r"\d{4}\.\d{5}", number)
        assert called == number


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_that_is_shown_can_be_typed(words):
    options = parser().parse_args(words)
    values = values_of(options)
    Recipe().with_values(values)


def values_of(options: argparse.Namespace) -> dict[str, object]:
    """The recipe settings that a command's options name."""
    settings = dict(parse_setting(text) for text in getattr(options, "settings", []))
    if hasattr(options, "recipe"):
        return settings
    named = {name: getattr(options, name, None) for name, *_ in SETTINGS}
    drawn = {key.removeprefix("sampling."): value for key, value in settings.items()} | named
    return {f"sampling.{key}": value for key, value in drawn.items() if value is not None}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_recipe_key_that_is_named_is_one(page):
    named = {key for key in KEY.findall(prose_of(page)) if not key.endswith((".py", ".toml"))}
    assert {key for key in named if key not in known_keys() and ".options." not in key} == set()


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=lambda page: page.name)
def test_both_languages_have_the_same_sections_equations_pictures_links_and_commands(english, chinese):
    ours, theirs = prose_of(english), prose_of(chinese)
    assert HEADING.findall(ours) == HEADING.findall(theirs)
    assert EQUATION.findall(ours) == EQUATION.findall(theirs)
    assert [target for _, target in PICTURE.findall(ours)] == [target for _, target in PICTURE.findall(theirs)]
    assert ARXIV.findall(ours) == ARXIV.findall(theirs)
    assert sorted(set(KEY.findall(ours))) == sorted(set(KEY.findall(theirs)))
    assert commands_of(english) == commands_of(chinese)


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=lambda page: page.name)
def test_each_language_links_to_the_other_in_its_first_lines(english, chinese):
    for page, other in ((english, chinese), (chinese, english)):
        assert f"({other.name})" in "".join(page.read_text(encoding="utf-8").splitlines()[:4])


def test_each_step_of_the_method_has_its_equation_its_picture_its_files_and_what_steers_it():
    _, *steps = re.split(r"^## ", prose_of(PAIRS[1][0]), flags=re.MULTILINE)
    assert len(steps) == STEPS
    for step in steps:
        assert EQUATION.search(step)
        assert len(PICTURE.findall(step)) == 1
        assert "](../core/" in step
        assert KEY.search(step)
