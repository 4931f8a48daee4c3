"""RESULTS.md, generated from `eval/results.csv`: `python -m eval.pages.results_md`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dctkd_zoo.registry import get_entry
from eval import columns
from eval.pages.findings import QUESTIONS, STUDENTS, Finding, Question, Students, answer, methods
from eval.pages.generated_file import command
from eval.pages.markdown import Markdown, code, table
from eval.pages.tables import Line, answers, caption, label, standings, teachers
from eval.run import results_csv
from eval.run.results_csv import Row
from eval.stats import seeds
from eval.stats.bootstrap import LEVEL
from eval.stats.seeds import over_seeds

PAGE = Path(__file__).parents[2] / "RESULTS.md"

HEAD = """# Results

<!-- Made by `python -m eval.pages.results_md` from eval/results.csv; edit eval/pages/findings.py or results_md.py. -->

Results of the models trained by this project. Every value comes from `eval/results.csv`, which has one row per
training run; `dctkd-zoo info NAME` shows the recipe. [docs/training.md](docs/training.md) says how recipes
were chosen (those of 15-Scene on a part of its training set). Values are those of the last epoch;
the test set chose nothing.

Values over several seeds are mean ± standard deviation (n - 1). A seed sets the initial weights and the order of
images, and the random crops where views are new in every epoch; cached views are the same for all seeds. All students
of a dataset have the same teacher. Methods are compared at the same number of cached views, except for the supervised
baseline, which has no teacher and always sees new views. The tests say what other seeds would give, not other test
images or another teacher; `python -m eval compare A B` tests two networks over images. With three to five seeds only
large differences are significant, and a difference that is not significant may still exist.

SSIM, Pearson and spectral skill measure how similar a student's attention maps are to its teacher's, CKA skill how
similar the features are, and energy, pointing and attended skill how much of the maps lies on the objects that define
a class of synthscenes. Skill is 0 at the level of chance (the score of two different images) and 1 at the best
possible score. It is averaged over the levels ([docs/evaluation.md](docs/evaluation.md) has the definitions).

## In short

After 8 epochs on synthscenes, the DCT loss lifts students far above the supervised baseline and above Hinton's KD, as
far as attention transfer does. Combined with KD, attention transfer gains more. Among the other methods, the DCT loss
is significantly above PKT, CRD and VID, and below Review.

The attention of a student becomes much more similar to its teacher's, slightly more than with attention transfer. It
does not turn towards the objects that define the class. No difference in accuracy between the true DCT-II and the
released transforms is significant; the lowest 4 x 4 frequencies are as good as all of them. A cached teacher costs no
accuracy that a few seeds show.

On photographs (15-Scene and MiniPlaces) there are teachers from ImageNet now; their students have a first seed at
most, so nothing is tested there yet.

Of the later methods (question 11, one seed each, so nothing is tested), class maps (`cat`), similarities (`sp`), other
frequency losses (`fft`, `wavelet`) and a plain L2 of maps of unit energy (`dctkd.energy`) end level with the DCT loss
after those 8 epochs: no transform is seen to add to pulling maps together. Those of logits (`dkd`, `e2kd`, `dist`,
standardised `kd`) end below it, as do learned weights of bands, which do harm, and class maps in its place.

On the photographs of 15-Scene the order is another: learned weights of bands (`dctkd.bands`) come first, 5 points above
the DCT loss, then standardised `kd` and `dctkd.energy`, 3 above, then `cat` and `wavelet`, 2 above; `dkd` is level,
`fft`, `dctkd.class`, `dist` and `e2kd` are 1 to 3 points below. (`sp` saw new views there, where the DCT loss has not
been trained.) So what is best on the drawings says little about photographs, and the other way round.

**The gain is a faster start, not a higher end.** Trained for as many epochs as their teachers, baselines are far
above what the DCT loss reached after 8 epochs, and adding the DCT loss to that long schedule gains nothing
significant (question 9). By then `r20` is nearly as accurate as its teacher, which leaves little to gain; `r8` stays
far below its own. None of this was measured on the paper's datasets or its 70 epochs.
"""


OBJECTS_HEAD = """How much of the activation maps lies on the objects that are typical of a scene, over the annotated
photographs of MiniPlaces, which no network was trained on ([docs/evaluation.md](docs/evaluation.md) has the
definitions). Means over the levels. Chance: the same maps on the objects of another image.
"""


def page(rows: Sequence[Row]) -> str:
    """Return the text of RESULTS.md."""
    exact = [row for row in rows if row["protocol"] == "exact" and not row.get("limit")]
    parts = [HEAD, "## Answers\n", *answers(exact), "## Teachers\n", f"{teachers(exact)}\n"]
    parts += [section(item, exact) for item in STUDENTS]
    parts += [objects([row for row in rows if row["protocol"] == "objects" and not row.get("limit")])]
    for number, question in enumerate(QUESTIONS, 1):
        parts += [f"## {number}. {question.title}\n", evidence(question, exact)]
    return "\n".join(parts).rstrip() + "\n"


def section(students: Students, rows: Sequence[Row]) -> str:
    """Return a table of the methods of some students, best first, below their teacher."""
    result = methods(students, rows)
    if not result:
        return ""
    teachers = {teacher for method in result if (teacher := get_entry(students.entry(method)).teacher)}
    lines = [_line(f"teacher {code(name)}", [row for row in rows if row["name"] == name]) for name in sorted(teachers)]
    trained = [(label(method), group) for method, own in result.items() for group in seeds.by_views(own).values()]
    trained.sort(key=lambda line: -seeds.spread(seeds.values(line[1], "top1")).mean)
    lines += [_line(name, group) for name, group in trained]
    measured = [row for own in result.values() for row in own]
    grid = standings(("method", "cached views"), lines)
    return f"## {students.arch} on {students.dataset}\n\n{grid}\n\n{caption(measured)}\n"


def objects(rows: Sequence[Row]) -> str:
    """Return a table of attention on objects in photographs, of each network and of its teacher."""
    if not rows:
        return ""
    chosen = columns.scores_on_objects(rows)
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        for prefix in ("", f"{columns.CHANCE}."):
            cells = [over_seeds(own, replace(column, name=f"{prefix}{column.name}")) for column in chosen]
            lines.append([code(name) if not prefix else Markdown("chance"), len(own), *cells])
    grid = table(("network", "seeds", *(column.title for column in chosen)), lines, numbers=1 + len(chosen))
    return f"## Objects in photographs\n\n{OBJECTS_HEAD}\n{grid}\n\n{caption(rows)}\n"


def _line(name: str, rows: Sequence[Row]) -> Line:
    return Line([Markdown(name), seeds.views(rows)], rows)


def evidence(question: Question, rows: Sequence[Row]) -> str:
    """Return all findings of a question as a table."""
    findings = answer(question, rows)
    if not findings:
        return "Not measured yet.\n"
    header = (
        "students",
        "metric",
        "A",
        "B",
        "value of A",
        "value of B",
        "B − A",
        f"{LEVEL:.0%} CI",
        "seeds",
        "p",
        "corrected p",
    )
    return table(header, map(_cells, findings), numbers=7) + "\n"


def _cells(finding: Finding) -> list[object]:
    test, column = finding.test, columns.get(finding.figure)
    p = columns.p_value(finding.p)
    return [
        finding.students.title,
        column.title,
        label(finding.a),
        label(finding.b),
        column.text(finding.mean_a),
        column.text(finding.mean_b),
        Markdown(column.signed(test.mean)),
        Markdown(columns.interval(test.low, test.high, column.digits, "+")),
        test.n,
        columns.p_value(test.p),
        Markdown(f"**{p}**") if finding.significant else p,
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""

    def made(text: str) -> str:
        return page(results_csv.read(results_csv.RESULTS))

    return command(PAGE, made, "python -m eval.pages.results_md", __doc__, arguments, whole=True)


if __name__ == "__main__":
    sys.exit(main())
