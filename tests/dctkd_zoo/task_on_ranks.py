"""Train a small network with the task for timm's loop on one process or several ranks, and write each step's loss.

`python -m tests.dctkd_zoo.task_on_ranks FILE` under torchrun; a test compares what it writes with one process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from dctkd_zoo import distributed, models
from dctkd_zoo.timm_task import DistillationTask

CLASSES, SIZE, STEPS = 5, 8, 5
SINGLE = {"ce": 1.0, "dctkd": 1.0, "at": 100.0, "vid": 1.0}
COMPARING = {"ce": 1.0, "pkt": 100.0}
CPU = torch.device("cpu")


def curve(weights: dict[str, float], rank: int = 0, ranks: int = 1) -> list[float]:
    """The mean loss over the ranks at each step; the student's batch norms keep their statistics, as timm's may not."""
    torch.manual_seed(0)
    student, teacher = (models.create(name, CLASSES).double() for name in ("r8", "r14"))
    task = DistillationTask(
        student, teacher, weights, torch.zeros(1, 3, 32, 32), device=CPU, dtype=torch.float64, verbose=False
    )
    if ranks > 1:
        task.prepare_distributed()
    task.train()
    student.eval()
    trained = task.get_trainable_module()
    assert trained is not None
    sgd = torch.optim.SGD(trained.parameters(), lr=0.01, momentum=0.9)
    return [step(task, sgd, batch, rank, ranks) for batch in range(STEPS)]


def step(task: DistillationTask, sgd: torch.optim.Optimizer, number: int, rank: int, ranks: int) -> float:
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(SIZE, 3, 32, 32, generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (SIZE,), generator=generator)
    loss = task(images.chunk(ranks)[rank], labels.chunk(ranks)[rank])["loss"]
    sgd.zero_grad()
    loss.backward()
    sgd.step()
    return mean(loss.detach(), ranks)


def mean(loss: Tensor, ranks: int) -> float:
    if ranks > 1:
        dist.all_reduce(loss)
    return loss.item() / ranks


def main() -> None:
    """Write the curves in ranks that torch joined, as timm does, and in ranks that the zoo's own code joined."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    result = {name: curve(terms, rank, ranks) for name, terms in (("single", SINGLE), ("comparing", COMPARING))}
    dist.destroy_process_group()
    with distributed.process_group(CPU):
        result["joined"] = curve(COMPARING, rank, ranks)
    if rank == 0:
        Path(sys.argv[1]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
