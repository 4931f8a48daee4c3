"""Table of the loss terms in training.md: what each reads, its cost in a training step, what worked.

`python -m docs.terms` measures and writes it: time and memory on one thread, for EfficientNet-Lite2 to ResNet-18 at
112 px and 15 classes. What a term reads is found by its gradients.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dctkd_zoo import losses, models
from dctkd_zoo._io import atomic
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.device import amp_dtype, autocast, to_device
from dctkd_zoo.features import FeatureExtractor, Output
from dctkd_zoo.losses import Term
from eval.pages.generated_file import blocks
from eval.pages.markdown import Markdown, code, table

BATCH, CLASSES, CROP, IMAGES, ROUNDS = 32, 15, 112, 1_500, 5
PAGE = Path(__file__).with_name("training.md")
PARTS = ("logits", "maps", "embedding", "class maps")
CPU = torch.device("cpu")
# What the measurements of RESULTS.md and the reports of users of other packages teach.
ADVICE = {
    "ce": ("1; 0.1 beside `kd`", "the only one that needs labels for every image"),
    "kd": ("0.8 with 0.1 `ce`; 1", "needs the teacher's classes; at a short schedule it has little effect; its "
           "authors' weight with `standardise=True` is 9 at temperature 2"),
    "dctkd": ("1", "guided by default: images that the teacher gets wrong count as 0, so it needs labels; not so with "
              "`guided=False`"),
    "at": ("1,000", "the weight is large because its values are small: maps are normalised to unit length"),
    "pkt": ("30,000", "compares images of a batch: small batches say little"),
    "vid": ("1", "learns a variance; may be negative, so watch accuracy rather than the loss"),
    "crd": ("0.8", "keeps a bank of all training images; needs many epochs to leave its transient; no MixUp, CutMix or "
            "unlabelled images"),
    "ckd": ("400; 4 at a learning rate of 0.2", "400 diverges at learning rates above 0.04 (docs/tuning.py); the "
            "slowest by far; the batch may not grow"),
    "review": ("1", "adds its own fusion network of the student's maps, for training only"),
    "cat": ("1", "needs networks with class maps (docs/method.md) of the same classes; not "
            "normalised: its authors choose a weight that makes it 1 to 50 after an epoch"),
    "e2kd": ("1, without `ce`", "`kd`, and class maps of the teacher's first class, for networks that "
             "have them"),
    "dkd": ("1; 0.25 at a learning rate of 0.2", "needs the teacher's classes, three or more, and labels; warm it up "
            "with `ramps`; the default `beta` of 8 is a lot with few classes"),
    "dist": ("1", "needs the teacher's classes; compares images of a batch: small batches of many "
             "classes say little"),
    "sp": ("3,000; 750", "compares images of a batch; the weight has to grow with the batch"),
    "fft": ("2,000", "a control: at 2,000 about what `at` is at 1,000, exactly so with `half=False`"),
    "wavelet": ("10", "a control of another kind: L1 of details"),
}  # fmt: skip


def main() -> None:
    """Measure every term and write the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    student, teacher = (FeatureExtractor(to_device(models.create(arch, CLASSES, CROP), CPU)) for arch in ("r18", "el2"))
    teacher.requires_grad_(False)
    images = torch.randn(BATCH, 3, CROP, CROP).to(memory_format=torch.channels_last)
    for network in (teacher, student):
        network.eval().enable_class_maps(images)
    student.train()
    batch = Batch(images, torch.arange(BATCH) % CLASSES, torch.arange(BATCH))
    with autocast(CPU, amp_dtype(CPU)):
        step = fastest(lambda: whole_step(student, teacher, batch))
        outputs = leaves(student(images)), teacher(images)
    rows = [row(name, outputs, batch, step) for name in losses.names()]
    titles = ("term", "reads", "time", "memory", "own parameters", "teacher cache", "weight that worked", "to know")
    page = blocks(PAGE.read_text(encoding="utf-8"), {"terms": table(titles, rows)})
    atomic.write_text(PAGE, page)


def whole_step(student: FeatureExtractor, teacher: FeatureExtractor, batch: Batch) -> None:
    """Run teacher and student and the student's backward pass, without any term."""
    with torch.no_grad():
        teacher(batch.images)
    student(batch.images).logits.float().square().mean().backward()


def leaves(output: Output) -> Output:
    """Return the output with tensors that gradients can be taken for."""
    logits, embedding = (part.detach().requires_grad_() for part in (output.logits, output.embedding))
    assert output.class_maps is not None
    maps = tuple(part.detach().requires_grad_() for part in output.maps)
    return Output(logits, maps, embedding, class_maps=output.class_maps.detach().requires_grad_())


def row(name: str, outputs: tuple[Output, Output], batch: Batch, step: float) -> tuple[object, ...]:
    """Return the cells of a term."""
    student, teacher = outputs
    term = losses.create(name)
    term.setup(student, teacher, torch.arange(IMAGES) % CLASSES)
    tensors = [*student.tensors(), *term.parameters()]

    def cost() -> None:
        torch.autograd.grad(term(student, teacher, batch).mean(), tensors, allow_unused=True)

    with autocast(CPU, amp_dtype(CPU)):
        seconds, stored = fastest(cost), saved_bytes(term, student, teacher, batch)
        parts = ", ".join(read(term, student, teacher, batch))
    own = sum(p.numel() for p in term.parameters())
    weight, advice = ADVICE[name]
    cached = "not needed" if not term.needs_teacher else "no" if term.needs_features else "yes"
    costs = f"{100 * seconds / step:.1f} %", f"{stored / BATCH / 1e6:.2f} MB", f"{own:,}"
    return code(name), parts, *costs, cached, Markdown(weight), Markdown(advice)


def read(term: Term, student: Output, teacher: Output, batch: Batch) -> list[str]:
    """Return what a term reads: parts of the outputs that have a gradient, and labels if they make a difference."""
    assert student.class_maps is not None
    groups = (student.logits,), student.maps, (student.embedding,), (student.class_maps,)
    value = term(student, teacher, batch).sum()
    flat = [tensor for group in groups for tensor in group]
    gradients = dict(zip(map(id, flat), torch.autograd.grad(value, flat, allow_unused=True), strict=True))
    whole = "features" if term.needs_features else "maps"
    names = [
        whole if name == "maps" else name
        for name, group in zip(PARTS, groups, strict=True)
        if any(gradients[id(tensor)] is not None for tensor in group)
    ]
    return [*names, "labels"] if term.needs_labels else names


def saved_bytes(term: Term, student: Output, teacher: Output, batch: Batch) -> int:
    """Return the bytes that a term keeps for its backward pass, beyond the student's own outputs."""
    given = (*student.tensors(), *teacher.tensors(), *term.parameters())
    own = {tensor.untyped_storage().data_ptr() for tensor in given}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _ = term(student, teacher, batch).mean()
    return sum(kept.values())


def fastest(work: Callable[[], None]) -> float:
    """Return the seconds of the fastest of several calls."""
    work()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
