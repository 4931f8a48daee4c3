"""Questions about the methods, and their answers from `eval/results.csv`: differences over seeds, with tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dctkd_zoo.errors import ZooError
from eval.run.results_csv import Row
from eval.stats import seeds
from eval.stats.bootstrap import LEVEL
from eval.stats.paired import holm
from eval.stats.seeds import Test

VIEWS = "@"  # `dctkd_kd@1`: trained on one fixed view of each image, whatever the others were trained on
DIGIT = 1e-5  # of a figure: rows hold six digits
CHANCE = "chance"  # what a skill is compared with in place of a method: 0


def parts(method: str) -> tuple[str, str, str | None]:
    """Split a method into terms, variant with its dot, and number of cached views: `kd.abs@8` is kd, .abs and 8.

    The baseline has no terms. Views are None without `@`, and empty (new views) with nothing after it.
    """
    name, at, views = method.partition(VIEWS)
    terms, dot, variant = name.partition(".")
    return terms, dot + variant, views if at else None


@dataclass(frozen=True)
class Students:
    """Entries of one architecture on one dataset. A method is the rest of their name: `dctkd_kd`, `dctkd.abs`, ``."""

    arch: str
    dataset: str

    @property
    def title(self) -> str:
        """Title in tables: `r20, synthscenes`."""
        return f"{self.arch}, {self.dataset}"

    def entry(self, method: str) -> str:
        """Return the name of the entry of a method."""
        terms, variant, _ = parts(method)
        return "_".join(filter(None, (self.arch, terms, self.dataset))) + variant

    def method(self, name: str) -> str | None:
        """Return the method of an entry, or None if it is not one of these students."""
        stem, dot, variant = name.partition(".")
        if not (stem.startswith(f"{self.arch}_") and stem.endswith(f"_{self.dataset}")):
            return None
        return stem.removeprefix(self.arch).removesuffix(f"_{self.dataset}").removeprefix("_") + dot + variant


@dataclass(frozen=True)
class Question:
    """A question: for each metric, does the second method of each pair differ from the first?

    `note` is what a reader must know besides the answer.
    """

    title: str
    figures: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    note: str = ""


STUDENTS = (
    Students("r20", "synthscenes"),
    Students("r8", "synthscenes"),
    Students("r18", "scene15"),
    Students("mbv2", "scene15"),
    Students("r18", "miniplaces12k"),
    Students("mbv2", "miniplaces12k"),
    Students("mnv4", "miniplaces12k"),
)
OTHERS = ("pkt", "crd", "vid", "ckd", "review")
LATER = ("sp", "dkd", "dist", "kd.std", "cat", "e2kd", "wavelet", "fft")
ALIKE = ("skill.ssim", "skill.pearson", "skill.spectral")
OBJECTS = ("skill.energy", "skill.pointing", "skill.attended")
QUESTIONS = (
    Question(
        "Does the DCT loss beat the baseline, attention transfer and Hinton's distillation?",
        ("top1",),
        (("", "dctkd"), ("at", "dctkd"), ("kd", "dctkd")),
        "After 8 epochs; the last question is about longer schedules.",
    ),
    Question(
        "Does it add to Hinton's distillation, and more than attention transfer does?",
        ("top1",),
        (("kd", "dctkd_kd"), ("at_kd", "dctkd_kd"), ("kd", "at_kd")),
        "As in the released code, the weight of `kd` is 0.8 by itself and 1 next to another term: a method with `kd` "
        "is compared with a `kd` of four fifths of the weight.",
    ),
    Question(
        "How does it compare with the other methods?",
        ("top1",),
        (*((each, "dctkd") for each in OTHERS), *((f"{each}_kd", "dctkd_kd") for each in OTHERS)),
        "`vid`, `ckd` and `review` compare whole feature maps, which are not cached: they see new views, and are "
        "compared with a `dctkd` that was trained on new views too. Terms have the weights of the released code, "
        "which were chosen for larger images and batches. On synthscenes `ckd` diverges at its weight of 400 and has "
        "4 instead ([docs/training.md](docs/training.md)).",
    ),
    Question(
        "Does the true DCT-II differ from the transforms of the released code?",
        ("top1", "skill.ssim"),
        (("dctkd.abs", "dctkd"), ("dctkd.signed", "dctkd")),
    ),
    Question(
        "Is the student's attention closer to its teacher's, and above chance?",
        ALIKE,
        ((CHANCE, ""), (CHANCE, "dctkd"), ("", "dctkd"), ("kd", "dctkd"), ("at", "dctkd")),
        "`dctkd` and `at` are trained to match these very maps, and the spectral distance is what `dctkd` minimises; "
        "`kd` and the baseline never see a map. Only `kd` is trained for agreement and none for CKA; both are in the "
        "tables.",
    ),
    Question(
        "Is it closer to the objects that decide?",
        OBJECTS,
        (("", "dctkd"), ("kd", "dctkd"), ("at", "dctkd")),
        "The teacher's own skill is in the first row of its students' table: a student that matches the teacher's maps "
        "inherits its score. A network that looks more at the objects need not be more accurate.",
    ),
    Question(
        "How much of it survives when only the lowest frequencies are kept?",
        ("top1", "skill.ssim"),
        (("dctkd", "dctkd.low4"), ("dctkd", "dctkd.low2"), ("", "dctkd.low4"), ("", "dctkd.low2")),
        "Fewer frequencies also give a smaller distance, of the same size at all levels: the term counts less against "
        "the labels, and deep levels count more against shallow ones. How much of a difference is due to that was not "
        "separated.",
    ),
    Question(
        "What does a cached teacher cost?",
        ("top1",),
        (("dctkd_kd@", "dctkd_kd@1"), ("dctkd_kd@", "dctkd_kd@2"), ("dctkd_kd@", "dctkd_kd@8")),
        "For one method; [docs/training.md](docs/training.md) discusses it.",
    ),
    Question(
        "What is left of it after a schedule as long as the teacher's?",
        ("top1",),
        (("", ".long"), ("dctkd", ".long"), (".long", "dctkd.long"), ("at.long", "dctkd.long")),
        "`.long` has the teacher's number of epochs, 24 instead of 8. Nothing else differs.",
    ),
    Question(
        "And with a patient teacher: strong views, MixUp, no labels, and more images?",
        ("top1", "skill.ssim"),
        (
            (".long", "kd.patient"),
            ("dctkd.long", "kd.patient@"),
            ("kd.patient", "dctkd_kd.patient"),
            ("kd.patient", "kd.unlabelled"),
            ("dctkd_kd.patient", "dctkd_kd.unlabelled"),
        ),
        "`.patient` is [function matching](docs/recipes.md#a-patient-teacher), on synthscenes for 48 epochs, twice as "
        "many as `.long`; on scene15 for 60, as `.long`. `.unlabelled` of scene15 sees the images of MiniPlaces "
        "too, and about as many images in all.",
    ),
    Question(
        "And later methods, those of logits, of class maps and of other frequencies?",
        ("top1",),
        tuple((each, "dctkd") for each in LATER),
        "`.std`: `kd` of standardised logits. Weights are those of their authors, or make a gradient as large as the "
        "other terms' have ([docs/training.md](docs/training.md#weights-tried) has the accuracy at others). `sp` "
        "compares whole feature maps and `e2kd` learns without labels.",
    ),
    Question(
        "What do unit energy, learned weights of frequencies, and class maps change in the DCT loss?",
        ("top1", "skill.ssim", "skill.class_map"),
        (("dctkd", "dctkd.energy"), ("dctkd.energy", "dctkd.bands"), ("dctkd", "dctkd.class")),
        "`.energy` is a plain L2 of maps of unit energy ([Fact 5](docs/method.md#fact-5)), `.bands` learns a weight "
        "for each octave of its frequencies, `.class` compares only the class map of the last level.",
    ),
)


@dataclass(frozen=True)
class Finding:
    """A metric of two methods over the seeds that both have: their means, and the test of b - a.

    `p` is corrected by Holm's method over the findings of one question.
    """

    students: Students
    figure: str
    a: str
    b: str
    mean_a: float
    mean_b: float
    test: Test
    p: float

    @property
    def significant(self) -> bool:
        """Whether the difference is significant."""
        return self.p < 1 - LEVEL

    @property
    def only_uncorrected(self) -> bool:
        """Whether it is significant only without the correction."""
        return self.test.p < 1 - LEVEL <= self.p


def answer(question: Question, rows: Sequence[Row], students: Iterable[Students] = STUDENTS) -> list[Finding]:
    """Return the findings of a question for metrics and methods that were measured under the exact protocol."""
    exact = [row for row in rows if row["protocol"] == "exact" and not row.get("limit")]
    _check_teachers(exact)
    result = [
        finding
        for item in students
        for figure in question.figures
        for a, b in question.pairs
        if (finding := _compare(item, figure, a, b, exact))
    ]
    ps = holm([finding.p for finding in result])
    return [replace(finding, p=p) for finding, p in zip(result, ps, strict=True)]


def _check_teachers(rows: Iterable[Row]) -> None:
    """Refuse rows of a dataset whose teachers have the same name but different weights: they are not comparable."""
    known: dict[tuple[str, str], str] = {}
    for row in rows:
        sha256 = row.get("teacher_sha256")
        if sha256 and known.setdefault((row["dataset"], row["teacher"]), sha256) != sha256:
            raise ZooError(
                f"{row['name']}, seed {row['seed']}: its {row['teacher']} has other weights than in other rows of "
                f"{row['dataset']}: measure it again with `python -m eval {row['name']} --write`, or delete the row"
            )


def _compare(students: Students, figure: str, a: str, b: str, rows: Sequence[Row]) -> Finding | None:
    if a == CHANCE:
        second = by_seed(seeds.most_trained(named(students, b, rows)), figure)
        first = dict.fromkeys(second, 0.0)
    else:
        first, second = (by_seed(side, figure) for side in paired(students, a, b, rows))
    both = sorted(first.keys() & second.keys())
    if not both:
        return None
    means = [seeds.spread(side[seed] for seed in both).mean for side in (first, second)]
    largest = max(abs(side[seed]) for side in (first, second) for seed in both)
    test = seeds.student((second[seed] - first[seed] for seed in both), DIGIT * largest)
    return Finding(students, figure, a, b, means[0], means[1], test, test.p)


def paired(students: Students, a: str, b: str, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows of two methods that are compared: with the same number of cached views and the most seeds.

    Of several such numbers, the largest. The baseline, which always sees new views, and a method whose number of views
    is given with `@` are compared whatever the views of the other.
    """
    first, second = (seeds.by_views(named(students, method, rows)) for method in (a, b))
    any_views = any(not terms or views is not None for terms, _, views in map(parts, (a, b)))
    pairs = [(x, y) for views, x in first.items() for others, y in second.items() if views == others or any_views]
    most = max(reversed(pairs), key=lambda pair: len(by_seed(pair[0]).keys() & by_seed(pair[1]).keys()), default=None)
    return most or ([], [])


def named(students: Students, method: str, rows: Iterable[Row]) -> list[Row]:
    """Return the rows of a method; with `@`, only those with that number of cached views."""
    chosen = [row for row in rows if row["name"] == students.entry(method)]
    views = parts(method)[2]
    return chosen if views is None else [row for row in chosen if row.get("teacher_cache", "") == views]


def by_seed(rows: Iterable[Row], figure: str = "top1") -> dict[int, float]:
    """Return a metric by training seed, of the rows that have both."""
    return {int(row["seed"]): value for row in rows if row["seed"] for value in seeds.values([row], figure)}


def methods(students: Students, rows: Iterable[Row]) -> Mapping[str, list[Row]]:
    """Return the rows of some students by method, the baseline first, then sorted by name."""
    result: dict[str, list[Row]] = {}
    for row in rows:
        method = students.method(row["name"])
        if method is not None:
            result.setdefault(method, []).append(row)
    return dict(sorted(result.items()))
