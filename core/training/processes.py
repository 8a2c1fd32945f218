"""Several processes that train one model together, through Hugging Face Accelerate; and one, which needs nothing.

Every process holds the whole state and takes its share of each batch; the gradients' sum makes all take the same
step. The main process alone has the run folder and decides; the others follow what it tells them.
Started by `accelerate launch --num_processes 2 -m imagen_workbench.workbench train RECIPE`, or anything else that
tells its processes of each other in the environment (torchrun, mpirun).
"""

from __future__ import annotations

import contextlib
import datetime
import json
from typing import TYPE_CHECKING, Any, cast

import safetensors.torch
import torch

from ..errors import RecipeError, RunError
from ..launch import process_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor, nn

    Message = tuple[dict[str, Any], dict[str, Tensor]]

PATIENCE = datetime.timedelta(days=1)
"""How long a process waits for the others: the main one may have a million images to decode."""


class Processes:
    """This process among those that train together; as it stands here, the only one."""

    rank = 0
    count = 1

    def share(self, batch: int) -> slice:
        """This process's part of a batch. Raises RecipeError where some process would have none."""
        if batch < self.count:
            raise RecipeError(
                f"{batch} images cannot be shared among {self.count} processes",
                field="training.batch",
                fix=f"Give at least {self.count}",
            )
        return slice(batch * self.rank // self.count, batch * (self.rank + 1) // self.count)

    def goes_on(self) -> bool:
        """Whether the main process begins another step; asked by all at the start of each."""
        return True

    def summed(self, parameters: Iterable[nn.Parameter], loss: float) -> float:  # noqa: ARG002
        """Makes every gradient the sum over the processes, in place; returns the sum of their losses."""
        return loss

    def tell(self, order: Message) -> None:
        """The main process says what is done next; the others `hear` it."""

    def hear(self) -> Message | None:
        """What the main process says; None once it has ended."""
        return None

    def close(self) -> None:
        """Ends the others in good order where they wait for the main process, and leaves them in any case."""


class Several(Processes):
    """Joined through Accelerate, whose own state makes the process group and finds the device.

    All that is said begins with two numbers from the main process: the lengths of an order's two parts, `STEP`
    or `END`.
    """

    STEP, END = (-1, -1), (0, 0)

    def __init__(self, *, cpu: bool) -> None:
        try:
            from accelerate import PartialState
            from accelerate.utils import broadcast, reduce
        except ImportError as error:
            raise RunError(
                f"{process_count()} processes cannot train together without Accelerate",
                fix="Install it: pip install 'imagen-workbench[processes]'",
            ) from error
        self._state = PartialState(cpu=cpu, timeout=PATIENCE)
        if self._state.num_processes != process_count():
            raise RunError(
                f"Accelerate found {self._state.num_processes} of {process_count()} processes",
                fix="Start them with torchrun, accelerate launch or mpirun",
            )
        # both take and give whole structures; ours are single tensors
        self._broadcast = cast("Callable[..., Tensor]", broadcast)
        self._reduce = cast("Callable[..., Tensor]", reduce)
        self.rank, self.count = self._state.process_index, self._state.num_processes
        self._waiting = True
        """Whether all wait for what the main process says next, and not for each other's gradients."""
        self._ended = False

    def goes_on(self) -> bool:
        said = self._say(self.STEP)
        self._waiting, self._ended = said != self.STEP, said == self.END
        return said == self.STEP

    def summed(self, parameters: Iterable[nn.Parameter], loss: float) -> float:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([*(each.flatten() for each in gradients), gradients[0].new_tensor([loss])])
        with _meeting_the_others():
            flat = self._reduce(flat, reduction="sum")
        *sums, total = flat.split([*(each.numel() for each in gradients), 1])
        for gradient, whole in zip(gradients, sums, strict=True):
            gradient.copy_(whole.view_as(gradient))
        self._waiting = True
        return float(total)

    def tell(self, order: Message) -> None:
        facts, tensors = order
        parts = (
            json.dumps(facts).encode(),
            safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}),
        )
        self._say((len(parts[0]), len(parts[1])))
        for part in parts:
            self._from_main(torch.frombuffer(bytearray(part), dtype=torch.uint8))

    def hear(self) -> Message | None:
        lengths = self.END if self._ended else self._say(self.END)
        if lengths == self.END:
            self._ended = True
            return None
        facts, tensors = (
            self._from_main(torch.zeros(length, dtype=torch.uint8)).cpu().numpy().tobytes() for length in lengths
        )
        return json.loads(facts), safetensors.torch.load(tensors)

    def close(self) -> None:
        if self.rank == 0 and self._waiting:
            self._say(self.END)
            self._ended = True
        if self._ended:
            # who hangs up while another still reads takes that one down with it
            with contextlib.suppress(RuntimeError):
                self._state.wait_for_everyone()
        self._state.destroy_process_group()
        self._state._reset_state()

    def _say(self, numbers: tuple[int, int]) -> tuple[int, int]:
        """The main process's two numbers; the others' own do not matter."""
        first, second = self._from_main(torch.tensor(numbers)).tolist()
        return first, second

    def _from_main(self, tensor: Tensor) -> Tensor:
        """The main process's tensor, in all of them."""
        with _meeting_the_others():
            return self._broadcast(tensor.to(self._state.device), from_process=0)


@contextlib.contextmanager
def _meeting_the_others() -> Iterator[None]:
    """Says in our words that a process is gone."""
    try:
        yield
    except RuntimeError as error:
        raise RunError(
            f"another process of the run has ended: {error}", fix="Read what it said, and continue with --resume"
        ) from error


def join(*, cpu: bool) -> Processes:
    """The processes that this one was started with; Accelerate comes in only where there are others.

    Raises RunError where it is not there, or finds others than the launcher says.
    """
    return Several(cpu=cpu) if process_count() > 1 else Processes()
