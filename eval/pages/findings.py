"""Rows of `eval/results.csv` to what they answer: which method is above which, by how much, and how sure that is."""

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
    """The terms of a method, its variant with the dot, and the views that an `@` names: `kd.abs@8` is kd, .abs and 8.

    The baseline has no terms; no `@` is None, and an `@` with nothing after it is new views.
    """
    name, at, views = method.partition(VIEWS)
    terms, dot, variant = name.partition(".")
    return terms, dot + variant, views if at else None


@dataclass(frozen=True)
class Students:
    """The entries of one architecture on one dataset; a method is the rest of a name: `dctkd_kd`, `dctkd.abs`, ``."""

    arch: str
    dataset: str

    @property
    def title(self) -> str:
        """What a table calls them: `r20, synthscenes`."""
        return f"{self.arch}, {self.dataset}"

    def entry(self, method: str) -> str:
        """The name of the entry of a method."""
        terms, variant, _ = parts(method)
        return "_".join(filter(None, (self.arch, terms, self.dataset))) + variant

    def method(self, name: str) -> str | None:
        """The method of an entry; None for another student's."""
        stem, dot, variant = name.partition(".")
        if not (stem.startswith(f"{self.arch}_") and stem.endswith(f"_{self.dataset}")):
            return None
        return stem.removeprefix(self.arch).removesuffix(f"_{self.dataset}").removeprefix("_") + dot + variant


@dataclass(frozen=True)
class Question:
    """What is asked of the results: of each figure, whether the second of each pair of methods is above the first.

    `note` says what else to know to read the answer.
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
)
RIVALS = ("pkt", "crd", "vid", "ckd", "review")
ALIKE = ("skill.ssim", "skill.pearson", "skill.spectral")
OBJECTS = ("skill.energy", "skill.pointing", "skill.attended")
QUESTIONS = (
    Question(
        "Does the DCT loss beat the baseline, attention transfer and Hinton's distillation?",
        ("top1",),
        (("", "dctkd"), ("at", "dctkd"), ("kd", "dctkd")),
        "Of students with 8 epochs; what longer ones say is the last question's.",
    ),
    Question(
        "Does it add to Hinton's distillation, and more than attention transfer does?",
        ("top1",),
        (("kd", "dctkd_kd"), ("at_kd", "dctkd_kd"), ("kd", "at_kd")),
        "As in the released code, Hinton's term weighs 0.8 by itself and 1 beside another: a method with `kd` is "
        "compared with a `kd` of four fifths the weight.",
    ),
    Question(
        "How does it stand beside the other rivals?",
        ("top1",),
        (*((each, "dctkd") for each in RIVALS), *((f"{each}_kd", "dctkd_kd") for each in RIVALS)),
        "`vid`, `ckd` and `review` see new views, for a teacher on disk does not keep what they compare; they are set "
        "beside a `dctkd` that was trained on new views, too. Terms have the weights of the released code, which were "
        "made for larger images and batches; on synthscenes `ckd` diverges at its 400 and has 4, on scene15 it would "
        "take two cores a day ([docs/training.md](docs/training.md#how-the-recipes-were-tuned)).",
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
        "`dctkd` and `at` are trained to make these very maps alike, and spectral is what `dctkd` minimises; `kd` and "
        "the baseline never see a map. None but `kd` is trained for agreement, and none for CKA, which the tables of "
        "RESULTS.md have too.",
    ),
    Question(
        "Is it closer to the objects that decide?",
        OBJECTS,
        (("", "dctkd"), ("kd", "dctkd"), ("at", "dctkd")),
        "The teacher's own skill stands at the head of its students' table: who copies its maps copies that, be it "
        "much or little, and a network that looks at the objects more need not be the more accurate one.",
    ),
    Question(
        "How much of it survives when only the lowest frequencies are kept?",
        ("top1", "skill.ssim"),
        (("dctkd", "dctkd.low4"), ("dctkd", "dctkd.low2"), ("", "dctkd.low4"), ("", "dctkd.low2")),
        "Fewer frequencies also make a smaller distance, and the same for all levels: the term weighs less beside the "
        "labels, and its deep levels more beside the shallow ones. What of a difference is due to that was not told "
        "apart.",
    ),
    Question(
        "What does a teacher on disk cost?",
        ("top1",),
        (("dctkd_kd@", "dctkd_kd@1"), ("dctkd_kd@", "dctkd_kd@2"), ("dctkd_kd@", "dctkd_kd@8")),
        "Of one method; how to read it is in [docs/training.md](docs/training.md#effect-on-accuracy).",
    ),
    Question(
        "What is left of it after a training as long as the teacher's?",
        ("top1",),
        (("", ".long"), ("dctkd", ".long"), (".long", "dctkd.long"), ("at.long", "dctkd.long")),
        "`.long` is the teacher's own number of epochs, 24 on synthscenes and 20 on scene15, where students have 8. "
        "Nothing else was changed for it.",
    ),
)


@dataclass(frozen=True)
class Finding:
    """A figure of two methods over the seeds that both have: their means, and the test of b - a.

    `p` is what Holm's correction leaves over the findings of one question.
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
        """Whether a difference is shown."""
        return self.p < 1 - LEVEL

    @property
    def only_uncorrected(self) -> bool:
        """Whether it would be if it were the only one of its question, and is not."""
        return self.test.p < 1 - LEVEL <= self.p


def answer(question: Question, rows: Sequence[Row], students: Iterable[Students] = STUDENTS) -> list[Finding]:
    """The findings of a question, of those figures and methods that were measured under the exact protocol."""
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
    """Refuse rows of one dataset whose teachers are of one name and other weights: they are of no one experiment."""
    known: dict[tuple[str, str], str] = {}
    for row in rows:
        sha256 = row.get("teacher_sha256")
        if sha256 and known.setdefault((row["dataset"], row["teacher"]), sha256) != sha256:
            raise ZooError(
                f"{row['name']}, seed {row['seed']}: its {row['teacher']} has other weights than that of other rows of "
                f"{row['dataset']}: measure it again with `python -m eval {row['name']} --write`, or take the row out"
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
    """The rows of two methods that may be compared: trained on as many views, those of which there are the most seeds.

    Of several such, those on the most views. The baseline sees new views whatever others see, and a method with `@`
    says which; these go with any.
    """
    first, second = (seeds.by_views(named(students, method, rows)) for method in (a, b))
    free = any(not terms or views is not None for terms, _, views in map(parts, (a, b)))
    alike = [(student, teacher) for x, student in first.items() for y, teacher in second.items() if x == y or free]
    most = max(reversed(alike), key=lambda pair: len(by_seed(pair[0]).keys() & by_seed(pair[1]).keys()), default=None)
    return most or ([], [])


def named(students: Students, method: str, rows: Iterable[Row]) -> list[Row]:
    """The rows of a method; of one with `@`, those of that number of views."""
    own = [row for row in rows if row["name"] == students.entry(method)]
    views = parts(method)[2]
    return own if views is None else [row for row in own if row.get("teacher_cache", "") == views]


def by_seed(rows: Iterable[Row], figure: str = "top1") -> dict[int, float]:
    """A figure by training seed, of the rows that have both."""
    return {int(row["seed"]): value for row in rows if row["seed"] for value in seeds.values([row], figure)}


def methods(students: Students, rows: Iterable[Row]) -> Mapping[str, list[Row]]:
    """The measured entries of some students, by method: the baseline, then by name."""
    result: dict[str, list[Row]] = {}
    for row in rows:
        method = students.method(row["name"])
        if method is not None:
            result.setdefault(method, []).append(row)
    return dict(sorted(result.items()))
