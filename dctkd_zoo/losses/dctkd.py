"""The DCT loss: distance between the frequency transforms of activation maps (López-Cifuentes et al., TCSVT 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dctkd_zoo.attention import of_class
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.levels import Pairs, map_pairs
from dctkd_zoo.losses import Term, over
from dctkd_zoo.losses._base import class_map_pair
from dctkd_zoo.spectrum import DCTS, TRANSFORMS, Transform, common, octaves


def spectral_distance(
    student_map: Tensor, teacher_map: Tensor, transform: Transform, bands: Sequence[float] | None = None
) -> Tensor:
    """Return the L2 norm of the difference of two normalised spectra: maps (B, H, W) -> (B,).

    The norm is neither squared nor divided by H W, as released. Its gradient is zero where the maps are equal, and
    constant maps have a finite distance (docs/method.md, Fact 7). The differences in each of the `bands`
    (`spectrum.octaves`) are multiplied by its factor, the last of which counts for all higher ones.
    """
    difference = transform(student_map) - transform(teacher_map)
    if bands is not None:
        of_band = octaves(difference.shape[1], difference.shape[2], difference.device).clamp(max=len(bands) - 1)
        difference = difference * difference.new_tensor(bands)[of_band]
    distance: Tensor = torch.linalg.vector_norm(difference, dim=(1, 2))
    return distance


class LearnedBands(nn.Module):
    """Gaussian negative log-likelihood of the teacher's spectrum, with a learned variance per band, as in `vid`.

    In nats without its constant, averaged over each band and summed over them. A band weighs less the larger its
    differences remain, and none can be given up: a free factor per band would go to zero.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(int(octaves(height, width, torch.device("cpu")).max()) + 1))

    def forward(self, student_map: Tensor, teacher_map: Tensor, transform: Transform) -> Tensor:
        """Return one value per image: maps (B, H, W) -> (B,)."""
        squares = (transform(student_map) - transform(teacher_map)).square()
        of_band = octaves(squares.shape[1], squares.shape[2], squares.device).flatten()
        count = len(self.log_variance)
        members = (of_band[:, None] == torch.arange(count, device=of_band.device)).to(squares.dtype)
        with torch.autocast(squares.device.type, enabled=False):
            means = squares.flatten(1) @ (members / members.sum(dim=0))
        value: Tensor = 0.5 * (means * (-self.log_variance).exp() + self.log_variance).sum(dim=1)
        return value


def teacher_is_right(teacher: Output, batch: Batch) -> Tensor:
    """Return whether the teacher's top-1 prediction is the label, (B,); for a blended image, one of the two.

    It is false for an image that counts as unlabelled.
    """
    prediction = teacher.logits.argmax(dim=1)
    right = prediction == batch.labels
    return right if batch.other_labels is None else (right | (prediction == batch.other_labels)) & batch.labelled()


def over_batch(correct: Tensor, batch: Batch) -> Tensor:
    """Return the factor 1: a mean over the batch divides by all of its images, or by those with a label."""
    return torch.ones((), device=correct.device)


def over_correct(correct: Tensor, batch: Batch) -> Tensor:
    """Return the ratio of the images with a label to the `correct` ones."""
    return over(correct) / over(batch.labelled())


def class_pairs(student: Output, teacher: Output, keep: int | None = None, counts: Tensor | None = None) -> Pairs:
    """Return the last level's two maps (B, H, W) of the teacher's first class, at one size, as `map_pairs` does.

    Where `counts` (B,) is False the gradient is zero.
    """
    first = teacher.logits.argmax(dim=1)
    s, t = (of_class(maps, first) for maps in class_map_pair(student, teacher, "dctkd"))
    if counts is not None:
        s = torch.where(counts[:, None, None], s, 0)
    return (common(s, t, keep),)


def _check_bands(bands: Sequence[float] | str, transform: str) -> None:
    if transform not in DCTS:
        raise ValueError(f"bands are those of a DCT, one of {', '.join(DCTS)}, not of {transform}")
    if bands == LEARNED:
        return
    if isinstance(bands, str) or not bands or not all(0 <= factor < math.inf for factor in bands) or not any(bands):
        raise ValueError(f"bands {bands!r} are neither {LEARNED!r} nor factors from 0, of which one is not 0")


LEARNED = "learned"
MAPS = {"activation": map_pairs, "class": class_pairs}
REDUCTIONS = {"batch": over_batch, "correct": over_correct}


class DCTKD(Term):
    """Spectral distance summed over the levels.

    Args:
        transform: `dct2` (a true DCT-II), `dft_abs` (what produced the reported tables), `dft_signed`
            (the released main branch), `dct2_energy` (a DCT-II of unit energy), or an ablation: `dct2_raw`,
            `l2_minmax`.
        guided: whether images that the teacher gets wrong count as zero (docs/method.md).
        reduction: what a guided mean runs over: the whole `batch`, as released, so that the term has less weight
            the more the teacher errs; or only the `correct` images.
        keep: compare only the `keep` x `keep` lowest frequencies, at least 2.
        level_weights: a factor per level from shallow to deep; as released, all are 1.
        bands: a factor per octave of frequencies from low to high, or `learned` (`LearnedBands`); by default all are 1.
        maps: `activation` maps of each level, or the `class` map: the last level's map of the teacher's first class.
    """

    def __init__(
        self,
        transform: str = "dct2",
        guided: bool = True,
        reduction: str = "batch",
        keep: int | None = None,
        level_weights: Sequence[float] | None = None,
        bands: Sequence[float] | str | None = None,
        maps: str = "activation",
    ) -> None:
        super().__init__()
        if transform not in TRANSFORMS:
            raise ValueError(f"transform {transform!r} is not one of {sorted(TRANSFORMS)}")
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction {reduction!r} is not one of {sorted(REDUCTIONS)}")
        if keep is not None and keep < 2:
            raise ValueError(f"keep {keep} leaves only the mean, which the transforms ignore: use at least 2")
        if bands is not None:
            _check_bands(bands, transform)
        if maps not in MAPS:
            raise ValueError(f"maps {maps!r} is not one of {sorted(MAPS)}")
        self.transform = TRANSFORMS[transform]
        self.guided = self.needs_labels = guided
        self.scale = REDUCTIONS[reduction]
        self.keep = keep
        self.level_weights = level_weights
        self.pairs, self.needs_class_maps, self.reads_activations = MAPS[maps], maps == "class", maps == "activation"
        self.bands = None if isinstance(bands, str) else bands
        self.learns = bands == LEARNED
        self.learned = nn.ModuleList()

    def setup(self, student: Output, teacher: Output, labels: Tensor | None = None) -> None:
        """Create the learned bands of each level."""
        if self.learns:
            pairs = self.pairs(student, teacher, self.keep, None)
            self.learned = nn.ModuleList(LearnedBands(*s.shape[1:]) for s, _ in pairs)

    def _distance(self, level: int, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        if not self.learns:
            return spectral_distance(student_map, teacher_map, self.transform, self.bands)
        value: Tensor = self.learned[level](student_map, teacher_map, self.transform)
        return value

    def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Return one value per image, (B,)."""
        correct = teacher_is_right(teacher, batch) if self.guided else None
        pairs = self.pairs(student, teacher, self.keep, correct)
        weights = (1.0,) * len(pairs) if self.level_weights is None else self.level_weights
        if len(weights) != len(pairs):
            raise ValueError(f"{len(weights)} level_weights for the {len(pairs)} levels that are compared")
        levels = [w * self._distance(level, *pair) for level, (w, pair) in enumerate(zip(weights, pairs, strict=True))]
        distance = torch.stack(levels).sum(dim=0)
        if correct is None:
            return distance
        return torch.where(correct, distance, 0) * self.scale(correct, batch)
