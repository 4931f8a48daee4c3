"""Pieces of work timed side by side in one process, to ratios with their spread: `python -m benchmarks`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dctkd_zoo import device, models, registry
from dctkd_zoo.attention import activation_map
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output, Tapped
from dctkd_zoo.losses.dctkd import spectral_distance
from dctkd_zoo.objective import Objective
from dctkd_zoo.spectrum import dft_abs
from train import loop
from train.optim import optimizer

LEVELS = ((64, 56), (128, 28), (256, 14), (512, 7))  # channels and px of a ResNet-18 at 224 px
BATCH, PIXELS, ROUNDS = 16, 112, 7


@dataclass(frozen=True)
class Row:
    """One comparison: what is timed, against what, and the ratio of the two times in each round."""

    what: str
    against: str
    ratios: tuple[float, ...]


def compare(what: str, work: Callable[[], object], against: str, other: Callable[[], object]) -> Row:
    """Time two pieces of work in turns; a ratio above 1 says how much longer `other` takes."""
    work(), other()
    ratios = []
    for _ in range(ROUNDS):
        ours, theirs = seconds(work), seconds(other)
        ratios.append(theirs / ours)
    return Row(what, against, tuple(ratios))


def seconds(work: Callable[[], object]) -> float:
    """How long a piece of work takes, to its end on the device."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def by_fft(maps: Tensor) -> Tensor:
    """`dft_abs` through the library's FFT, for comparison."""
    magnitudes = torch.fft.fft2(maps - maps.mean(dim=(1, 2), keepdim=True)).real.abs()
    low, high = magnitudes.amin(dim=(1, 2), keepdim=True), magnitudes.amax(dim=(1, 2), keepdim=True)
    normalised: Tensor = (magnitudes - low) / high
    return normalised


def transform_row(where: torch.device) -> Row:
    """The spectral distance of four levels, forward and backward, by matrix products and by FFT."""
    ours, theirs = ([torch.rand(32, c, n, n, device=where) for c, n in LEVELS] for _ in range(2))
    students = [activation_map(m).requires_grad_() for m in ours]
    teachers = [activation_map(m) for m in theirs]

    def work(transform: Callable[[Tensor], Tensor]) -> None:
        pairs = zip(students, teachers, strict=True)
        torch.stack([spectral_distance(s, t, transform).mean() for s, t in pairs]).sum().backward()

    return compare("spectra by matrix products", lambda: work(dft_abs), "by fft2", lambda: work(by_fft))


def step_row(where: torch.device) -> Row:
    """A distillation step R50 -> R18 with the DCT term, and the same without any term but cross-entropy."""
    batch = Batch(
        torch.randn(BATCH, 3, PIXELS, PIXELS, device=where).to(memory_format=torch.channels_last),
        torch.randint(15, (BATCH,), device=where),
        torch.arange(BATCH, device=where),
    )
    teacher = Tapped(device.place(models.create("r50", 15).eval().requires_grad_(False), where))
    recipe = registry.get_entry("r18_scene15").recipe

    def learner(weights: dict[str, float]) -> loop.Learner:
        student = Tapped(device.place(models.create("r18", 15), where))
        objective = Objective(weights, {})
        sgd = optimizer(student.parameters(), recipe)
        return loop.Learner(student, teacher, objective, sgd, recipe, device.precision(where))

    full, bare = learner({"ce": 1.0, "dctkd": 1.0}), learner({"ce": 1.0})
    return compare("step with DCT", lambda: loop.step(full, batch), "step without", lambda: loop.step(bare, batch))


def forward_row(where: torch.device) -> Row:
    """All taps in one pass, and the plain forward."""
    images = torch.randn(BATCH, 3, PIXELS, PIXELS, device=where).to(memory_format=torch.channels_last)
    model = device.place(models.create("r18", 15).eval(), where)
    tapped = Tapped(model)

    @torch.inference_mode()
    def run(network: Callable[[Tensor], Tensor | Output]) -> None:
        network(images)

    return compare("logits, maps, embedding", lambda: run(tapped), "logits alone", lambda: run(model))


def main() -> None:
    """Run every comparison and print the table."""
    device.keep_memory()
    where = device.choose()
    table = Table(
        title=f"{device.describe(where)}, {torch.__version__}, median of {ROUNDS} rounds", title_justify="left"
    )
    for heading in ("what", "against", "times faster", "range"):
        table.add_column(heading, justify="right" if heading in ("times faster", "range") else "left")
    for row in (transform_row(where), step_row(where), forward_row(where)):
        spread = f"{min(row.ratios):.2f} to {max(row.ratios):.2f}"
        table.add_row(row.what, row.against, f"{median(row.ratios):.2f}", spread)
    Console().print(table)


if __name__ == "__main__":
    main()
