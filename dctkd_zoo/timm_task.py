"""Training task for timm's training loop: a student learns from labels and a teacher with the terms of `losses/`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from timm.models import group_parameters, model_parameters
from timm.task import TrainingTask
from timm.utils import unwrap_model
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dctkd_zoo.data.batch import Batch
from dctkd_zoo.errors import TeacherMismatch, ZooError
from dctkd_zoo.features import FeatureExtractor, Output, run
from dctkd_zoo.losses.ce import CrossEntropy, cross_entropy
from dctkd_zoo.objective import Objective
from dctkd_zoo.spec import Dataset
from dctkd_zoo.teachers import Adapted

log = logging.getLogger(__name__)

LABELS = "ce"  # the term that reads the targets themselves, which are soft with timm's mixup
Criterion = Callable[[Tensor, Tensor], Tensor]


class StudentAndTerms(nn.Module):
    """A student and the objective, whose terms may have parameters: all that is trained, in one module."""

    def __init__(self, student: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.student, self.objective = student, objective
        self.with_class_maps = bool(objective.reading_class_maps())

    def forward(self, images: Tensor, labels: Tensor, teacher: Output) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits (B, K) and the weighted terms, scalars, of images (B, 3, S, S) with labels (B,)."""
        output = run(self.student, images, self.with_class_maps)
        nowhere = labels.new_empty(0)  # positions in the training set are not known here
        return output.logits, self.objective(output, teacher, Batch(images, labels, nowhere))

    def no_weight_decay(self) -> set[str]:
        """Return the student's parameters without weight decay, for timm's optimizers."""
        names: set[str] = getattr(self.student, "no_weight_decay", set)()
        return {f"student.{name}" for name in names}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Return the layer of a parameter, for timm's layer decay; the terms' own are in the student's last layer."""
        matcher = self.student.group_matcher(coarse=coarse)  # type: ignore[operator]
        layers = group_parameters(self.student, matcher, reverse=True)
        last = max(layers.values())
        return lambda name: layers.get(name.removeprefix("student."), last)


class DistillationTask(TrainingTask):
    """Distillation with any terms of this package, as a task for timm's `train.py` and code like it.

    `task(images, targets)` returns `loss`, the logits as `output`, and each term by its name, times its weight: these
    add up to the loss. Checkpoints hold the student, and the terms' own parameters as `task_state`; not the teacher.

    Targets are labels (B,), or probabilities (B, K) from timm's `Mixup`. The term `ce` takes either. The other terms
    that read labels (`dctkd`, unless `guided=False`) get the likeliest class of each image: a mixed image counts if
    the teacher, which sees it mixed, names the class of its larger part.

    With several ranks, terms that compare the images of a batch (`pkt`, `ckd`, `dist`, `sp`, or `dctkd` with
    `reduction="correct"`) compare those of their own rank, unless the ranks were joined with
    `dctkd_zoo.distributed.process_group`.

    Args:
        student: a timm network on `device`.
        teacher: a timm network. It is frozen, and sees the same crops, resized and normalised as its config says.
        weights: a factor per term: `{"ce": 1, "dctkd": 1}`.
        example: images (B, 3, S, S) of the size that the student is trained with, at most as many as a rank's
            batches have: the shapes of their outputs are those of the terms' parameters. `ckd` takes no larger batch.
        options: of the terms, as in `losses.create`: `{"dctkd": {"guided": False}}`.
        criterion: (logits, targets) -> loss, in place of the cross-entropy of the term `ce`, whose weight it has.
        mean: of the student's images, by default that of its `pretrained_cfg`.
        std: likewise.
        device: of the task, where `teacher` and terms are moved to; by default the CPU.
        dtype: of the teacher and of the terms' parameters, which are at least float32; by default torch's.
        verbose: whether to log the terms.

    Raises:
        ZooError: terms that need the training set's labels and positions, which a loop does not hand over; none that
            reads the teacher; a criterion without a weight.
        TeacherMismatch: a teacher with another number of classes than the student.
        UnsupportedNetwork: networks without feature maps.
        ValueError: an unknown term or option, or no `mean` and `std`.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        weights: Mapping[str, float],
        example: Tensor,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        criterion: Criterion | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        verbose: bool = True,
    ) -> None:
        super().__init__(device=device, dtype=dtype, verbose=verbose)
        options = options or {}
        objective = Objective({name: weight for name, weight in weights.items() if name != LABELS}, options)
        _check_terms(objective)
        self.label_weight = weights.get(LABELS)
        self.criterion = _criterion(criterion, self.label_weight, options, self.device)
        self.teacher: FeatureExtractor = _frozen(teacher, _dataset(student, mean, std)).to(self.device, self.dtype)
        self._set_up(objective, student, example.to(self.device, self.dtype))
        self.trainable_module: nn.Module = StudentAndTerms(student, objective)
        if verbose:
            log.info("%s: %s", type(self).__name__, " + ".join(f"{weights[name]:g} {name}" for name in weights))

    @torch.no_grad()
    def _set_up(self, objective: Objective, student: nn.Module, example: Tensor) -> None:
        extractor = FeatureExtractor(deepcopy(student)).eval()
        objective.enable_class_maps((extractor, self.teacher), example)
        output, teacher_output = extractor(example), self.teacher(example)
        own, other = output.logits.shape[1], teacher_output.logits.shape[1]
        if own != other:
            raise TeacherMismatch(
                f"the teacher has {other} classes, the student {own}; if no term is to read the teacher's logits, "
                f"call teacher.reset_classifier({own}) first"
            )
        objective.setup(output, teacher_output)
        objective.to(self.device, torch.promote_types(self.dtype, torch.float32))  # terms compute in float32 or more

    def forward(self, input: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return `loss`, logits (B, K) as `output`, and the weighted terms, for images and targets (B,) or (B, K)."""
        with torch.no_grad():
            teacher_output = self.teacher(input)
        labels = target if target.dim() == 1 else target.argmax(dim=1)
        logits, values = self.trainable_module(input, labels, teacher_output)
        if self.label_weight is not None:
            values = {LABELS: self.label_weight * self.criterion(logits, target).mean(), **values}
        return {"loss": torch.stack(list(values.values())).sum(), "output": logits, **values}

    def train(self, mode: bool = True) -> DistillationTask:
        """Set the training mode of everything but the teacher, which stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def prepare_distributed(self, device_ids: list[Any] | None = None, **ddp_kwargs: Any) -> DistillationTask:
        """Wrap what is trained in DDP, and return the task."""
        self.trainable_module = DistributedDataParallel(self.trainable_module, device_ids=device_ids, **ddp_kwargs)
        return self

    def compile(  # type: ignore[override]  # as timm's own tasks do
        self, backend: str = "inductor", mode: str | None = None, **compile_kwargs: Any
    ) -> nn.Module:
        """Compile student, terms and teacher with `torch.compile`; return the compiled student for evaluation."""
        compiled: Callable[..., Any] = partial(torch.compile, backend=backend, mode=mode, **compile_kwargs)
        student: nn.Module = compiled(self.get_eval_model())
        self.eval_model = student
        self.trainable_module = compiled(self.trainable_module)
        self.teacher = compiled(self.teacher)
        return student

    def get_eval_model(self, module: nn.Module | None = None, ema: bool = False) -> nn.Module | None:
        """Return the student, or its moving average, without the terms."""
        model: nn.Module | None = super().get_eval_model(module, ema)
        inner = unwrap_model(model)
        return inner.student if isinstance(inner, StudentAndTerms) else model

    def get_clip_parameters(self, exclude_head: bool = False) -> list[nn.Parameter]:
        """Return the parameters whose gradient is clipped: the student's, perhaps without its head, and the terms'."""
        inner = self._inner()
        assert inner is not None
        return [*model_parameters(inner.student, exclude_head), *inner.objective.parameters()]

    def get_task_state(self, module: nn.Module | None = None, ema: bool = False) -> dict[str, Any]:
        """Return the terms' own parameters and buffers as `objective`; nothing if there are none."""
        inner = self._inner(module, ema)
        state = inner.objective.state_dict() if inner else {}
        return {"objective": state} if state else {}

    def load_task_state(
        self, state: dict[str, Any] | None, strict: bool = True, module: nn.Module | None = None, ema: bool = False
    ) -> None:
        """Load what `get_task_state` returned; torch's `RuntimeError` if it is of other terms."""
        inner = self._inner(module, ema)
        if state is not None and inner is not None:
            inner.objective.load_state_dict(state["objective"], strict=strict)

    def _inner(self, module: nn.Module | None = None, ema: bool = False) -> StudentAndTerms | None:
        inner: StudentAndTerms | None = unwrap_model(module or self.get_trainable_module(ema=ema))
        return inner


def _check_terms(objective: Objective) -> None:
    unknowable = [name for name, term in objective.terms.items() if term.needs_ids]
    if unknowable:
        raise ZooError(
            f"{', '.join(unknowable)}: needs each image's position in the training set and all of its labels, which "
            "timm's loop does not hand over; leave it out, or train with `python -m train`"
        )
    if not objective.needs_teacher:
        raise ZooError(f"no term reads the teacher: add one, such as 'dctkd', to {[*objective.terms] or [LABELS]}")


def _criterion(
    criterion: Criterion | None, weight: float | None, options: Mapping[str, Mapping[str, Any]], device: torch.device
) -> Criterion:
    """Return the given loss of the labels, or the cross-entropy with the options of `ce`."""
    if criterion is None:
        return partial(cross_entropy, label_smoothing=CrossEntropy(**options.get(LABELS, {})).label_smoothing)
    if weight is None or options.get(LABELS):
        raise ZooError(f"a criterion takes the place of {LABELS!r}: give that a weight, and no options")
    return criterion.to(device) if isinstance(criterion, nn.Module) else criterion


def _dataset(student: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None) -> Dataset:
    """Return how the student's images are normalised, in the form that `Adapted` takes."""
    config: Any = getattr(student, "pretrained_cfg", None) or {}
    mean, std = mean or config.get("mean"), std or config.get("std")
    if mean is None or std is None:
        raise ValueError("the student's pretrained_cfg has no mean and std: pass those of its images")
    own: dict[str, Any] = {"mean": tuple(map(float, mean)), "std": tuple(map(float, std))}
    return Dataset("student", "Student", source="folders", num_classes=1, train=0, test=0, **own)


def _frozen(teacher: nn.Module, dataset: Dataset) -> FeatureExtractor:
    return Adapted(teacher, dataset).requires_grad_(False).eval()
