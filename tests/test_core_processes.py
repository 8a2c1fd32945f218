"""Several processes that train one model: the same steps as one process, and one run folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from imagen_workbench.core.errors import RecipeError, RunError
from imagen_workbench.core.launch import is_follower, process_count
from imagen_workbench.core.runs.checkpoint import checkpoints, load_newest
from imagen_workbench.core.runs.folder import Run
from imagen_workbench.core.training.processes import Processes, join
from imagen_workbench.core.worker.headless import train

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_workbench.core.recipe import Recipe

PATIENCE = 120.0

TRAIN = """
import sys
from pathlib import Path
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.worker.headless import train
{before}
train(Recipe.read(Path(sys.argv[1])), sys.argv[2], resume=True)
"""

# the second process meets NaN in steps 5 to 7, counted over all that it makes: what one meets, all skip
SPOILT = """
import os, itertools
from imagen_workbench.core.training import loop
sound, made = loop.denoising_error, itertools.count(1)
def spoilt(*given):
    bad = next(made) in (5, 6, 7) and os.environ["RANK"] == "1"
    return sound(*given) * (float("nan") if bad else 1.0)
loop.denoising_error = spoilt
"""

# the second process dies in step 4, before it has given its gradients
DIES = """
import os, itertools
from imagen_workbench.core.training import loop
sound, made = loop.denoising_error, itertools.count(1)
def dying(*given):
    if next(made) == 4 and os.environ["RANK"] == "1":
        os._exit(9)
    return sound(*given)
loop.denoising_error = dying
"""


@pytest.fixture
def recipe(tiny_recipe: Recipe) -> Recipe:
    few = {"training.steps": 6, "training.checkpoint_every": 4, "training.preview_every": 6}
    return tiny_recipe.with_values(few | {"training.validate_every": 6, "training.device": "cpu"})


def together(recipe: Recipe, run: Path, before: str = "") -> list[tuple[int, str]]:
    """Trains with two processes, as a launcher would start them; returns what each ended with and said."""
    file = run.with_suffix(".toml")
    file.write_text(recipe.to_toml(), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    words = [sys.executable, "-W", "error", "-c", TRAIN.format(before=before), str(file), str(run)]
    children = [
        subprocess.Popen(
            words,
            env={**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [child.communicate(timeout=PATIENCE)[0] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    return [(child.returncode, text) for child, text in zip(children, said, strict=True)]


def compare(first: Run, second: Run) -> None:
    """All tensors of the newest states agree to float tolerance."""
    one, other = load_newest(first.checkpoints), load_newest(second.checkpoints)
    assert one is not None
    assert other is not None
    assert one[0].facts["seen"] == other[0].facts["seen"]
    for group, tensors in one[1].items():
        for name, tensor in tensors.items():
            assert torch.allclose(tensor, other[1][group][name], rtol=1e-4, atol=1e-5), (group, name)


# --- one ------------------------------------------------------------------------------------------


def test_one_process_needs_no_accelerate() -> None:
    code = (
        "import os, sys\n"
        "from imagen_workbench.core.training.processes import join\n"
        "import imagen_workbench.core.worker.training\n"
        "assert join(cpu=True).count == 1\n"
        "os.environ['WORLD_SIZE'] = '1'\n"
        "assert join(cpu=True).count == 1\n"
        "assert 'accelerate' not in sys.modules\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_one_process_takes_all_and_waits_for_nobody() -> None:
    alone, weight = Processes(), torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, 2.0])
    assert alone.share(7) == slice(0, 7)
    assert alone.goes_on()
    assert alone.summed([weight], 0.5) == 0.5
    assert weight.grad.tolist() == [1, 2]
    assert alone.hear() is None


@pytest.mark.parametrize("count", [2, 3, 5])
def test_shares_part_a_batch(count: int) -> None:
    shares = []
    for rank in range(count):
        one = Processes()
        one.rank, one.count = rank, count
        shares.append(one.share(16))
    assert [image for share in shares for image in range(16)[share]] == list(range(16))
    assert max(len(range(16)[share]) for share in shares) - min(len(range(16)[share]) for share in shares) <= 1
    with pytest.raises(RecipeError) as caught:
        one.share(count - 1)
    assert caught.value.field == "training.batch"


def test_launchers_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (process_count(), is_follower()) == (1, False)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "3")
    assert (process_count(), is_follower()) == (4, True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert (process_count(), is_follower()) == (2, False)


def test_without_accelerate_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(RunError) as caught:
        join(cpu=True)
    assert "imagen-workbench[processes]" in caught.value.fix


# --- two ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one(recipe: Recipe, tmp_path: Path) -> None:
    """With a learned loss weight and a batch that cannot be halved; the main one alone writes, and resumes."""
    recipe = recipe.with_values({"training.batch": 15, "training.weighting": "uncertainty"})
    one = train(recipe, tmp_path / "one")
    assert [code for code, _ in together(recipe, tmp_path / "two")] == [0, 0]
    two = Run(tmp_path / "two")
    compare(one, two)
    assert [checkpoint.step for checkpoint in checkpoints(two.checkpoints)] == [6, 4]
    assert len(list((two.path / "journal").iterdir())) == 1
    assert [record["step"] for record in two.records() if record["kind"] == "step"] == list(range(1, 7))
    assert two.read_json("environment.json")["batch_layout"]["processes"] == 2


@pytest.mark.slow
def test_what_one_process_begins_two_end(recipe: Recipe, tmp_path: Path) -> None:
    one, run = train(recipe, tmp_path / "one"), tmp_path / "two"
    train(recipe, run)
    for path in Run(run).checkpoints.glob("*6"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    assert [code for code, _ in together(recipe, run)] == [0, 0]
    compare(one, Run(run))
    (resumed,) = [record for record in Run(run).records() if record["kind"] == "resumed"]
    assert resumed["step"] == 4
    assert [words.split(":")[0] for words in resumed["differs"]] == ["batch layout"]


@pytest.mark.slow
def test_what_one_of_them_meets_all_go_back_from(recipe: Recipe, tmp_path: Path) -> None:
    answers = together(recipe.with_values({"training.steps": 9}), tmp_path / "run", SPOILT)
    assert [code for code, _ in answers] == [0, 0], answers
    records = Run(tmp_path / "run").records()
    (back,) = [record for record in records if record["kind"] == "rolled_back"]
    assert (back["step"], back["attempt"], back["lost"]) == (4, 1, 3)
    assert records[-1]["kind"] == "finished"


@pytest.mark.slow
def test_where_one_of_them_dies_the_others_say_so(recipe: Recipe, tmp_path: Path) -> None:
    (code, said), (died, _) = together(recipe, tmp_path / "run", DIES)
    assert died == 9
    assert code == 1
    assert "another process of the run has ended" in said
    assert not checkpoints(Run(tmp_path / "run").checkpoints)


@pytest.mark.slow
def test_accelerate_launches_the_command_line(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes", "2"]
    settings = ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    ours = ["-m", "imagen_workbench.workbench", "train", str(tmp_path / "recipe.toml"), "--run", str(tmp_path / "two")]
    answer = subprocess.run(
        [sys.executable, *launch, *settings, *ours], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    compare(train(recipe, tmp_path / "one"), Run(tmp_path / "two"))
