"""Model cards: what they say against the catalog, the results and the Hub's client, and when they are stale."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timm
from huggingface_hub import ModelCard, ModelCardData
from markdown_it import MarkdownIt
from scipy.stats import binomtest

from dctkd_zoo import discover, losses, registry, weights
from dctkd_zoo.__main__ import main as zoo
from dctkd_zoo.models import resnet_cifar
from eval.cards import facts as card
from eval.cards import recipe, rendering
from eval.cards.rendering import gather, render
from eval.run import results_csv
from eval.stats.bootstrap import wilson

ROOT = Path(__file__).resolve().parents[2]
ROWS = results_csv.read(results_csv.RESULTS)
ENTRIES = registry.entries()
BUNDLED = sorted(folder.name for folder in weights.BUNDLED.iterdir() if weights.is_complete(folder))
TEXTS = {name: render(gather(entry, ROWS)) for name, entry in ENTRIES.items()}
CATALOGS = sorted((ROOT / "examples" / "catalogs").glob("*.py"))
STUDENT = "r20_dctkd_synthscenes"
EVIL = 'a</td><script>alert(1)</script>[x](javascript:y) *b* `c` | d ![e](f) <img src=g> &amp; "h"'


pytestmark = pytest.mark.usefixtures("fresh_registry")


def html(text: str) -> str:
    """A card's body as a browser gets it."""
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    return str(MarkdownIt("commonmark").enable("table").render(body))


def metadata(text: str) -> ModelCardData:
    """A card's metadata as the Hub's client reads them."""
    data = ModelCard(text).data
    assert isinstance(data, ModelCardData)
    return data


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table of a card, heading first."""
    result = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    rows = [[[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in t.splitlines()] for t in result]
    return [[table[0], *table[2:]] for table in rows]


def table(text: str, first: str) -> list[list[str]]:
    """The one table whose heading begins so."""
    (result,) = (item for item in tables(text) if item[0][0] == first)
    return result


def snippets(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


# All cards.


def test_the_committed_cards_are_up_to_date_and_of_entries_with_weights_or_measurements():
    assert rendering.stale(ROOT / "model_cards") == [], "run `python -m dctkd_zoo cards`"
    names = {path.stem for path in (ROOT / "model_cards").glob("*.md")} - {"README"}
    assert names == {row["name"] for row in ROWS} | {*BUNDLED}
    listed = (ROOT / "model_cards" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(\w[\w.]*)\]\(\1\.md\) \|", listed, flags=re.MULTILINE) == [
        n for n in ENTRIES if n in names
    ]


def test_every_entry_has_a_card_with_valid_metadata_and_no_empty_section():
    for path in CATALOGS:
        registry.include(path)
    others = {name: render(gather(entry, ())) for name, entry in registry.entries().items() if name not in ENTRIES}
    assert len(others) > len(CATALOGS) > 1
    for name, text in (TEXTS | others).items():
        assert empty_sections(text) == [], name
        assert metadata(text).tags, name


def empty_sections(text: str) -> list[str]:
    """The headings of a card that nothing stands under."""
    body = re.sub(r"^```.*?^```$", "code", text.partition("\n---\n")[2], flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^(#+ .*)\n+(?=#|\Z)", body, flags=re.MULTILINE)


def test_an_empty_section_is_found():
    assert empty_sections("---\n---\n# a\n\n## b\n\nc\n\n```\n# d\n```\n## e\n") == ["# a", "## e"]


def test_any_card_is_printed_on_demand(capsys):
    grid = str(ROOT / "examples" / "catalogs" / "tuned.py")
    name = "r18_at_ade20k.tuned"
    assert zoo(["cards", name, "--catalog", grid]) == 0
    assert capsys.readouterr().out == render(gather(registry.get_entry(name), ROWS))
    assert zoo(["cards", STUDENT]) == 0
    assert capsys.readouterr().out == (ROOT / "model_cards" / f"{STUDENT}.md").read_text(encoding="utf-8")
    assert zoo(["cards", "r18_at_ade2k"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert zoo(["cards", STUDENT, "--check"]) == 2
    assert "or --check" in capsys.readouterr().err


def test_torch_is_not_imported():
    code = "import sys, eval.cards.rendering; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_metadata_come_back_from_the_hubs_client():
    for name, text in TEXTS.items():
        meta = metadata(text)
        assert metadata(str(ModelCard(text))).to_dict() == meta.to_dict()
        assert (meta.library_name, meta.pipeline_tag) == ("timm", "image-classification")
        assert meta.tags and meta.license and meta.metrics == ["accuracy"]
        assert set(ENTRIES[name].terms) <= set(meta.tags)
        assert ("knowledge-distillation" in meta.tags) == bool(ENTRIES[name].terms)


def test_the_model_index_holds_what_was_measured_of_these_weights():
    for name, text in TEXTS.items():
        result = metadata(text).eval_results or []
        assert bool(result) == (name in BUNDLED)
        if result:
            sha256 = weights.read_hashes(weights.BUNDLED / name)[weights.WEIGHTS]
            (row,) = (row for row in ROWS if row["weights_sha256"] == sha256 and row["protocol"] == "exact")
            values = {item.metric_name: item.metric_value for item in result}
            assert values == {"Top-1": round(float(row["top1"]), 2), "Top-5": round(float(row["top5"]), 2)}
            assert not any(item.verified for item in result)


def test_a_recipe_never_says_that_it_can_be_loaded():
    for name in set(ENTRIES) - set(BUNDLED):
        assert "**Status: recipe only.** No weights of this entry have been published" in TEXTS[name]
        assert not re.search(r"pretrained=|create_model|hf-hub:|local-dir:|sha256|```python", TEXTS[name])
        assert f"python -m train {' '.join(card._untrained(ENTRIES[name]))}".strip() in TEXTS[name]
        dataset, views = registry.get_dataset(ENTRIES[name].dataset), gather(ENTRIES[name], ROWS).views
        by_hand = " --data DIR" * (dataset.url.startswith("http") and not dataset.archives)
        cached = f" --teacher-cache {views}" * bool(views)
        assert f" {name}{by_hand}{cached}\n```" in TEXTS[name]


def test_every_load_asks_for_the_weights():
    published = [gather(ENTRIES[name], ROWS, repo="org/name@abc") for name in (STUDENT, "r18_ade20k")]
    for text in [*(TEXTS[name] for name in BUNDLED), *map(render, published)]:
        calls = re.findall(r"create_model\(.*", "".join(snippets(text)))
        assert len(calls) == 2
        assert all("pretrained=True" in call for call in calls)


OWN = """
from dataclasses import replace
from dctkd_zoo import registry
from dctkd_zoo.spec import Dataset, Entry
STUDENT = registry.get_entry("r18_mit67").recipe
AFTER = replace(STUDENT, pretrained="entry:r50_found")
DATASET = Dataset("found", "Found photographs", source="folders", num_classes=6, train=1_000, test=100)
ENTRIES = (
    Entry("r50_found", STUDENT, {"ce": 1.0}),
    Entry("r50_mit67.after", AFTER, {"ce": 1.0}),
    Entry("r18_kd_mit67.after", STUDENT, {"ce": 1.0, "kd": 1.0}, teacher="r50_mit67.after"),
    Entry("r18_mit67.after", STUDENT, {"ce": 1.0}),
)
"""


def own_text(tmp_path: Path, name: str) -> str:
    """The card of an entry of the catalog above."""
    (tmp_path / "own.py").write_text(OWN)
    if name not in registry.entries():
        registry.include(tmp_path / "own.py")
    return render(gather(registry.get_entry(name), ROWS))


def test_a_card_names_the_other_sets_that_its_network_comes_from(tmp_path):
    text = own_text(tmp_path, "r18_kd_mit67.after")
    assert "`r50_found`, which its teacher starts from, was trained on Found photographs" in text
    text = own_text(tmp_path, "r50_mit67.after")
    assert "`r50_found`, which training starts from, was trained on Found photographs" in text
    assert "Found photographs" not in own_text(tmp_path, "r18_mit67.after")
    assert "Found photographs" in own_text(tmp_path, "r50_found")
    for name, text in TEXTS.items():
        behind = {registry.get_entry(other).dataset for other in registry.ancestors(name, ENTRIES)}
        assert ("MiniPlaces" in text) == bool(behind & {"miniplaces12k"})


def test_base_model_is_what_training_starts_from_and_the_teacher_if_they_are_on_the_hub(monkeypatch):
    for name, entry in ENTRIES.items():
        meta = metadata(TEXTS[name])
        arch = registry.archs()[entry.arch].timm_name
        tag = None if entry.start else entry.recipe.pretrained  # an entry that is on no Hub yet
        known = timm.get_pretrained_cfg(f"{arch}.{tag}") if tag else None
        assert meta.base_model == ([known.hf_hub_id] if known else None)
        assert meta.get("base_model_relation") == ("finetune" if tag else None)
        assert entry.teacher is None or entry.teacher not in str(meta.base_model), "nothing is published yet"
    student = replace(ENTRIES["r18_dctkd_ade20k"], teacher="hf-hub:org/teacher@v1")
    text = render(gather(student, ROWS))
    assert metadata(text).base_model == ["org/teacher"] and "base_model_relation" not in text
    assert (
        "`hf-hub:org/teacher@v1`" in text
        and "The student contains none of its weights. It is named\nas `base_model`" in text
    )
    started = replace(student, recipe=replace(student.recipe, pretrained="tv_in1k"), teacher="r50_ade20k")
    published = {"r50_ade20k": {"repo": "org/r50_ade20k"}}
    monkeypatch.setattr(weights, "published", lambda: published)
    text = render(gather(started, ROWS))
    assert metadata(text).base_model == ["timm/resnet18.tv_in1k", "org/r50_ade20k"]
    assert "base_model_relation" not in text and "which is the other `base_model`" in text


def test_a_published_card_has_an_image_to_try():
    entry = ENTRIES["r18_dctkd_ade20k"]
    (example,) = metadata(render(gather(entry, ROWS, repo="org/name@v1", example="example.png")))["widget"]
    assert example == {
        "src": "https://huggingface.co/org/name/resolve/main/example.png",
        "example_title": "A test image of ADE20K",
    }
    assert "widget" not in render(gather(entry, ROWS, example="example.png")), "it is nowhere yet"


def test_timm_needs_the_import_for_the_architectures_that_this_package_registers():
    for entry in ENTRIES.values():
        home = timm.model_entrypoint(registry.archs()[entry.arch].timm_name).__module__
        assert gather(entry, ()).needs_import == (home == resnet_cifar.__name__)


# Figures.


@pytest.mark.parametrize("name", sorted({row["name"] for row in ROWS}))
def test_figures_are_those_of_the_results(name):
    rows = [row for row in gather(ENTRIES[name], ROWS).rows if row["protocol"] == "exact"]
    kept = [row for row in ROWS if row["name"] == name and row["protocol"] == "exact"]
    assert rows == [row for row in kept if row["teacher_cache"] == rows[0]["teacher_cache"]]
    columns = {"top-1 %": "top1", "top-5 %": "top5", "MCA %": "mca", "NLL nats": "nll", "agreement %": "agreement"}
    columns |= {"agreement in top-5 %": "agreement5", "shared mistakes %": "agreement_wrong"}
    columns |= {"KL from teacher nats": "kl", "class map skill": "skill.class_map"}
    heading, *lines = table(TEXTS[name], "seed")
    assert len(lines) == len(rows) + (len(rows) > 1)
    for row, line in zip(rows, lines, strict=False):
        meta = dict(zip(heading, line, strict=True))
        assert meta["seed"].split()[0] == row["seed"]
        assert meta["n"] == row["n"]
        assert [h for h in heading if h in columns] == [
            h for h, column in columns.items() if any(r[column] for r in rows)
        ]
        for title in heading[2:]:
            value = meta[title].split("\N{NO-BREAK SPACE}")[0]
            if not row[columns[title]]:
                assert value == "–", "measured before there was this metric"
                continue
            decimals = len(value.partition(".")[2])
            assert value == f"{float(row[columns[title]]):.{decimals}f}"
            assert decimals >= 2
    if rows[0]["ssim.1"]:
        heading, *lines = table(TEXTS[name], "level")
        assert heading == ["level", "SSIM", "SSIM skill", "Pearson", "spectral distance"]
        for line in lines:
            suffix = "" if line[0] == "mean" else f".{line[0]}"
            for column, cell in zip(("ssim", "skill.ssim", "pearson", "spectral"), line[1:], strict=True):
                values = [float(row[column + suffix]) for row in rows]
                mean, _, spread = cell.partition("\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
                shown, expected = float(mean.replace("\N{MINUS SIGN}", "-")), sum(values) / len(values)
                assert shown == pytest.approx(expected, abs=0.0051 if "spec" in column else 6e-4)
                assert bool(spread) == (len(rows) > 1)


@pytest.mark.parametrize(("hits", "n"), [(8, 10), (0, 20), (1200, 1200), (1051, 1200), (1889, 2974)])
def test_the_interval_is_wilsons(hits, n):
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert "95 % Wilson" in TEXTS[STUDENT]


def test_reported_figures_stand_apart_with_their_source():
    reported = [entry for entry in ENTRIES.values() if entry.reported]
    assert len(reported) > 100
    for entry in reported:
        heading, *lines = table(TEXTS[entry.name], "metric")
        assert heading == ["metric", "reported", "protocol", "source", "note"]
        for meta, line in zip(entry.reported, lines, strict=True):
            assert line[1:4] == [f"{meta.value:.2f}", meta.protocol, f"`{meta.source}`"]
            assert line[4].replace("\\", "") == (meta.note or "–")
    assert "### Reported by the authors" not in TEXTS[STUDENT]


def test_a_student_below_its_baseline_says_so():
    tops = {"r20_dctkd_synthscenes": "49.23", "r20_synthscenes": "63.52", "r56_synthscenes": "70.00"}
    known = next(row for row in ROWS if row["name"] == "r20_dctkd_synthscenes")
    rows = [{**known, "name": name, "top1": top1} for name, top1 in tops.items()]
    text = render(gather(ENTRIES["r20_dctkd_synthscenes"], rows))
    assert "14.29 points **worse**" in text
    assert {line[0].strip("`"): line[-2] for line in table(text, "network")[1:]} == tops
    assert "worse" not in TEXTS[STUDENT]


def test_the_training_log_is_told_with_which_epoch_the_weights_are_of():
    text = TEXTS["r56_synthscenes"]
    assert "The weights are those of the last epoch.\n" in text and "97.83" not in text  # the best on the test set
    assert ["weighted loss terms, last epoch", "`ce` 0.030"] in table(text.partition("## Training log")[2], "run")
    assert "The best epoch" not in TEXTS[STUDENT], "its best epoch is its last"


def test_a_variant_says_how_it_differs():
    assert table(TEXTS["r20_dctkd_synthscenes.abs"], "changed setting")[1:] == [
        ["`options.dctkd.transform`", "`dft_abs`", "`dct2`"]
    ]
    registry.include(ROOT / "examples" / "catalogs" / "tuned.py")
    tuned = render(gather(registry.get_entry("r18_at_ade20k.tuned"), ROWS))
    assert "which used the test set" in tuned
    assert ["`weights.at`", "`1100`", "`1000`"] in table(tuned, "changed setting")


# Loading, and what training left.


def test_what_a_card_says_of_loading_works():
    result: dict[str, object] = {}
    for snippet in snippets(TEXTS[STUDENT]):
        exec(snippet, result)
        model = result["model"]
        assert isinstance(model, timm.models.ResNet | resnet_cifar.ResNetCifar)
        assert model.num_classes == 12
        assert not model.training
        assert "transform" in result


def test_a_published_card_names_repository_and_revision():
    text = render(gather(ENTRIES["r18_ade20k"], ROWS, repo="some-org/r18_ade20k@0123abc"))
    assert "**Status: published** as `some-org/r18_ade20k` at revision `0123abc`." in text
    assert 'timm.create_model("hf-hub:some-org/r18_ade20k@0123abc", pretrained=True)' in text
    with pytest.raises(ValueError, match="org/name"):
        gather(ENTRIES["r18_ade20k"], ROWS, repo='x") or evil("')


def test_trainings_on_other_numbers_of_views_are_no_seeds_of_one_another():
    name = "r20_dctkd_kd_synthscenes"
    known = next(row for row in ROWS if row["name"] == name)
    rows = [
        {**known, "seed": str(seed), "teacher_cache": views, "top1": top1}
        for views, top1, count in (("8", "65.0", 3), ("1", "40.0", 2), ("", "50.0", 2))
        for seed in range(count)
    ]
    rows = [{**row, "weights_sha256": str(path)} for path, row in enumerate(rows)]
    facts = gather(ENTRIES[name], rows)
    assert [row["top1"] for row in facts.rows] == ["65.0"] * 3
    assert (facts.views, facts.other_views) == ("8", ("", "1"))
    other = "r18_dctkd_scene15"
    text = render(gather(ENTRIES[other], [{**row, "name": other, "dataset": "scene15"} for row in rows]))
    assert "65.00 ± 0.00" in text.replace("\N{NO-BREAK SPACE}", " ") and "40.00" not in text
    assert "\npython -m train el2_scene15 r18_dctkd_scene15 --data DIR --teacher-cache 8\n" in text
    assert "8 cached views of each image" in text and "the results with other numbers of cached views" in text
    assert "on a new view of each image every epoch" in TEXTS["r20_synthscenes"]


def test_of_several_numbers_of_views_those_of_the_weights_are_told(tmp_path):
    mine = {**next(row for row in ROWS if row["name"] == STUDENT), "weights_sha256": "0" * 64, "top1": "50.0"}
    like = [{**mine, "seed": str(seed), "weights_sha256": str(seed)} for seed in (1, 2)]
    others = [{**row, "teacher_cache": "77"} for row in (*like, {**like[0], "seed": "3", "weights_sha256": "3"})]
    folder = tmp_path / STUDENT
    shutil.copytree(weights.BUNDLED / STUDENT, folder)
    (folder / weights.HASHES).write_text(f"{'0' * 64}  {weights.WEIGHTS}\n")
    (folder / "results.json").write_text(json.dumps({**mine, "failed": 0, "note": None}))
    facts = gather(ENTRIES[STUDENT], [*others, *like], folder=folder)
    assert len(facts.rows) == 3 and not any(row["teacher_cache"] == "77" for row in facts.rows)


def test_a_folder_that_training_wrote_is_told_with_its_own_result(tmp_path):
    folder = tmp_path / STUDENT
    folder.mkdir()
    for file in (weights.BUNDLED / STUDENT).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    row = {**next(row for row in ROWS if row["name"] == STUDENT), "weights_sha256": "0" * 64, "top1": 12.345}
    (folder / "results.json").write_text(json.dumps({**row, "failed": 0, "note": None}))
    (folder / weights.HASHES).write_text(f"{'0' * 64}  {weights.WEIGHTS}\n")
    text = render(gather(ENTRIES[STUDENT], ROWS, folder=folder, figure="attention.png"))
    assert "**Status: trained**, not published." in text
    assert "value: 12.3" in text
    assert "(attention.png)" in text
    assert len(gather(ENTRIES[STUDENT], [row], folder=folder).rows) == 1, "the same measurement twice"


def test_no_folder_of_a_machine_is_told():
    entry = replace(ENTRIES["r18_dctkd_ade20k"], teacher="local-dir:/home/me/secret/net")
    entry = replace(entry, recipe=replace(entry.recipe, pretrained="local-dir:C:\\Users\\me\\start"))
    note = "not compared with its teacher local-dir:/home/me/secret/net: no weights in /home/me/.cache"
    row = {**ROWS[0], "name": entry.name, "teacher": entry.teacher, "note": note}
    text = render(gather(entry, [row]))
    assert "local-dir:net" in text
    assert "local-dir:start" in text
    assert not re.search(r"/home|secret|Users|\.cache", text)
    assert "base_model:" not in text


def test_networks_on_the_hub_keep_their_names():
    assert recipe.shortened("hf-hub:org/name@v1") == "hf-hub:org/name@v1"


def test_terms_are_told_by_the_first_line_of_their_files():
    meta = {term: card.describe(term) for entry in ENTRIES.values() for term in entry.weights}
    assert set(meta) == set(discover.modules(losses.__name__)) - {"term"}
    assert all(len(words) > 20 and words[0].isupper() and words != term for term, words in meta.items())


def test_the_citation_is_that_of_the_repository():
    cff = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    expected = {
        name: re.findall(rf'^\s+{name}: "?(.*?)"?$', cff, flags=re.MULTILINE)[-1] for name in ("title", "doi", "year")
    }
    pages = "--".join(re.search(rf"{name}: (\d+)", cff)[1] for name in ("start", "end"))  # type: ignore[index]
    for fact in (*expected.values(), pages, "The dctkd-zoo contributors"):
        assert f"{{{fact}}}" in TEXTS[STUDENT]


# Markup in what users may name.


def test_markup_in_names_stays_text():
    plain = gather(ENTRIES[STUDENT], ROWS, figure="figures/x.png")
    assert plain.run is not None
    dataset = replace(plain.dataset, title=EVIL, notes=f"1. {EVIL}", license=EVIL, url=f"javascript:{EVIL}")
    evil = replace(
        plain, dataset=dataset, run=replace(plain.run, classes=(EVIL, "``", "")), terms=dict.fromkeys(plain.terms, EVIL)
    )
    calm, wild = html(render(plain)), html(render(evil))
    for tag in ("<script", "<img", "<a ", "<em>", "<strong>", "<td", "<tr", "<li", "<h2", "<ol"):
        assert wild.count(tag) == calm.count(tag), tag
    assert "&lt;script&gt;alert(1)&lt;/script&gt;[x](javascript:y) *b*" in wild
    assert {item.dataset_name for item in metadata(render(evil)).eval_results or ()} == {EVIL}


# Folders of cards.


@pytest.fixture
def few(monkeypatch, tmp_path):
    """A zoo of two entries with a card and one without, and a folder for their cards."""
    known = {name: ENTRIES[name] for name in (STUDENT, f"{STUDENT}.abs", "r18_dctkd_ade20k")}
    monkeypatch.setattr(registry, "entries", lambda: known)
    return tmp_path / "cards"


def test_cards_are_written_and_found_stale(few):
    names = [f"{STUDENT}.md", f"{STUDENT}.abs.md"]
    missing = [f"{name}: missing" for name in ("README.md", *names)]
    assert rendering.stale(few) == missing
    assert rendering.write(few) == missing
    assert sorted(path.name for path in few.iterdir()) == sorted(["README.md", *names])
    assert rendering.stale(few) == rendering.write(few) == []

    (few / names[0]).write_text((few / names[0]).read_text().replace("value: ", "value: 1", 1))
    (few / names[1]).unlink()
    (few / "r19_gone.md").write_text(TEXTS[STUDENT])
    (few / "notes.md").write_text("mine")
    (few / ".hidden").write_text("")
    expected = [f"{names[0]}: differs", f"{names[1]}: missing", "notes.md: of no entry", "r19_gone.md: of no entry"]
    assert rendering.stale(few) == expected
    assert rendering.write(few) == expected
    assert rendering.stale(few) == ["notes.md: of no entry"], "what somebody wrote is not removed"


def test_a_picture_is_shown_where_there_is_one(few):
    rendering.write(few)
    picture = few / "figures" / f"{STUDENT}.png"
    picture.parent.mkdir()
    picture.write_bytes(b"")
    (few / "figures" / "gone.png").write_bytes(b"")
    assert rendering.stale(few) == [f"{STUDENT}.md: differs", "figures/gone.png: of no entry"]
    rendering.write(few)
    assert f"](figures/{STUDENT}.png)" in (few / f"{STUDENT}.md").read_text()
    assert "r56\\_synthscenes and r20\\_dctkd\\_synthscenes" in (few / f"{STUDENT}.md").read_text()
