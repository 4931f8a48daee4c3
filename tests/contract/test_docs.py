"""The documents under docs/ against what they speak of: files, entries, options, weights, and the figure."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dctkd_zoo import create_loss, registry
from dctkd_zoo.catalog import _recipes
from dctkd_zoo.spectrum import TRANSFORMS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
METHOD = (DOCS / "method.md").read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```$", "", METHOD, flags=re.M | re.S)
CODE = re.findall(r"`([^`\n]+)`", PROSE)
SUFFIXES = ("csv", "json", "md", "png", "py", "toml")


GRIDS = {
    e.name: e for path in (ROOT / "examples" / "catalogs").glob("*.py") for e in runpy.run_path(str(path))["ENTRIES"]
}
ENTRIES = {**registry.entries(), **GRIDS}


def paths(spans: list[str]) -> Iterator[str]:
    """Words that look like files of the repository, also those within a command."""
    for word in " ".join(spans).split():
        if "/" in word or word.endswith(tuple(f".{suffix}" for suffix in SUFFIXES)):
            yield word.rstrip("/")


def names(spans: list[str]) -> Iterator[str]:
    """Entries and patterns of them: what starts as an architecture, ends as a dataset, or has a star."""
    for span in spans:
        first, _, last = span.partition(".")[0].rpartition("_")
        arch = first.partition("_")[0]
        known = arch in registry.archs() or (first and last in registry.datasets())
        if re.fullmatch(r"[a-z0-9_.*]+", span) and ("*" in span or ("_" in span and known)):
            yield span


def calls(spans: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Terms with options: `kd(temperature=4)` -> ("kd", {"temperature": 4})."""
    for span in spans:
        if re.fullmatch(r"[a-z]+\([a-z_]+=.*\)", span):
            call = ast.parse(span, mode="eval").body
            assert isinstance(call, ast.Call)
            yield ast.unparse(call.func), {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}


def cells(start: str) -> list[str]:
    """The cells of the one table row that begins so."""
    (row,) = (line for line in METHOD.splitlines() if line.startswith(start))
    return [cell.strip() for cell in row.strip("|").split("|")]


def unique(found: Iterator[str]) -> list[str]:
    return sorted(set(found))


@pytest.mark.parametrize("path", unique(paths(CODE)))
def test_files_are_there(path):
    assert any(ROOT.glob(path)), f"docs/method.md speaks of {path}"


@pytest.mark.parametrize("target", unique(iter(re.findall(r"\]\(([^)\s]+)\)", PROSE))))
def test_links_lead_somewhere(target):
    path, _, anchor = target.partition("#")
    if path.startswith("https:"):
        assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", path)
    elif path:
        assert (DOCS / path).is_file()
    else:
        titles = re.findall(r"^#+ (.+)$", METHOD, flags=re.M)
        assert anchor in {title.lower().replace(" ", "-") for title in titles}


def test_the_readme_leads_to_it():
    assert "](docs/method.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", unique(names(CODE)))
def test_entries_are_there(name):
    assert any(fnmatchcase(entry, name) for entry in ENTRIES), f"docs/method.md speaks of {name}"


@pytest.mark.parametrize("variant", sorted({s for s in CODE if re.fullmatch(r"\.[a-z0-9]+", s)}))
def test_variants_are_there(variant):
    assert variant[1:] in {entry.variant for entry in ENTRIES.values()}


@pytest.mark.parametrize(("term", "options"), [*calls(CODE)], ids=str)
def test_options_are_there(term, options):
    create_loss(term, **options)


def test_there_is_something_to_check():
    assert {"tests/dctkd_zoo/test_spectrum.py", "docs/method_figure.py"} <= set(paths(CODE))
    assert {"r18_dctkd_ade20k", "*.corrected"} <= set(names(CODE))
    assert ("crd", {"negatives": "released"}) in [*calls(CODE)]
    for wrong in ("r18_dctkd_ade2k", "r19_dctkd_ade20k", "*.corect"):
        assert [*names([wrong])] == [wrong]
        assert not any(fnmatchcase(entry, wrong) for entry in ENTRIES)
    assert [*paths(["python docs/figure.py"])] == ["docs/figure.py"]


def test_every_difference_is_one_row():
    rows = re.findall(r"^\| (D-\d+) \|", METHOD, flags=re.M)
    assert rows == [f"D-{number}" for number in range(1, 33)]
    for row in rows:
        number, released, here, way = cells(f"| {row} |")
        assert all((number, released, here, way))
    assert set(re.findall(r"D-\d+", METHOD)) == set(rows)


def test_every_fact_names_a_test_that_shows_it():
    _, *facts = re.split(r"^### Fact (\d+)$", METHOD.partition("## The other methods")[0], flags=re.M)
    assert facts[::2] == [str(number) for number in range(1, 10)]
    for fact in facts[1::2]:
        assert re.search(r"Verified (for the two DFTs )?by `tests/contract/test_method\.py`", " ".join(fact.split()))


def test_the_transforms_are_those_of_the_loss():
    table = METHOD.partition("| `transform` |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.M) == [*TRANSFORMS]


def test_weights_are_those_of_the_catalog():
    terms = [cell.strip("`") for cell in cells(r"| $\alpha$ of |")[1:]]
    assert {*terms, "kd"} == {*_recipes.ALPHA}
    for start, alpha in (("| default |", _recipes.ALPHA), ("| `.tuned` |", _recipes.TUNED)):
        meta = zip(terms, cells(start)[1:], strict=True)
        assert {term: float(cell) for term, cell in meta if cell != "–"} == {t: alpha[t] for t in terms if t in alpha}
    for start, method in (("| labels only |", ()), ("| `kd` | 0", ("kd",)), ("| a method and `kd` |", ("at", "kd"))):
        weights = _recipes.paper_weights(method, _recipes.ALPHA)
        own = "its own" if "at" in weights else "–"
        assert cells(start)[1:] == [f"{weights['ce']:g}", own, f"{weights['kd']:g}" if "kd" in weights else "–"]


@pytest.mark.slow
def test_the_figure_is_drawn(tmp_path):
    script = runpy.run_path(str(DOCS / "method_figure.py"))
    script["draw"](tmp_path / "method.png")
    with Image.open(tmp_path / "method.png") as drawn, Image.open(DOCS / "method.png") as kept:
        assert drawn.format == "PNG"
        assert drawn.size == kept.size
        assert drawn.width == 1400
        assert 500 < drawn.height < 900
        shades = len(np.unique(np.asarray(drawn.convert("RGB")).reshape(-1, 3), axis=0))
    assert shades > 1000
    assert 30_000 < (DOCS / "method.png").stat().st_size < 300_000
    _, maps = script["example"]()
    assert maps.shape == (1, 20, 20)
    distances = script["distances"](maps)
    assert distances["dct2"] > 1
    assert max(distances["dft_abs"], distances["dft_signed"]) < 0.005


def test_every_test_that_reliability_md_names_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (DOCS / "reliability.md").read_text(encoding="utf-8"))
    assert len(named) > 20
    for file, test in named:
        assert re.search(rf"^def {test}\(" if test else "", (ROOT / file).read_text(encoding="utf-8"), re.M), (
            file,
            test,
        )
