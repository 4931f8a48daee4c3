"""dctkd_zoo.cli.shell: how commands end and what they show, whatever becomes of streams and however narrow they are."""

import io
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

import dctkd_zoo
from dctkd_zoo import __main__ as zoo_main
from dctkd_zoo import registry
from dctkd_zoo.__main__ import main
from dctkd_zoo.cli import publish, shell
from dctkd_zoo.data import validate
from dctkd_zoo.errors import ZooError
from eval import __main__ as eval_main
from eval.publish import Plan
from eval.run import terminal, verify
from eval.run.attempt import Status
from eval.stats import compare
from tests.eval.test_compare import table
from tests.eval.test_eval import record
from train import __main__ as train_main
from train import progress
from train.checkpoint import Progress
from train.launch import board
from train.launch.board import Row
from train.launch.board import Status as State

ROOT = Path(__file__).parents[2]
WIDTHS = (40, 60, 80, 120)
BODY = """
import sys
from pathlib import Path
from dctkd_zoo.cli import shell

def body():
    for line in range(20_000):
        print("Küche …", line)
        print("Küche …", line, file=sys.stderr)
    Path(sys.argv[1]).write_text("whole")
    return 0

sys.exit(shell.run(body))
"""


def ended(tmp_path, redirection, **environment):
    """Status, standard output and error stream of a command that prints a lot, then writes a file."""
    line = f'"{sys.executable}" -c "$BODY" "$OUT" {redirection}'
    known = {**os.environ, "PYTHONPATH": str(ROOT), "BODY": BODY, "OUT": str(tmp_path / "out"), **environment}
    return subprocess.run(["bash", "-c", line], env=known, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("redirection", "status", "said"),
    [
        ("| head -n 1; exit ${PIPESTATUS[0]}", 0, None),
        ("2>&1 | head -n 1; exit ${PIPESTATUS[0]}", 0, None),
        (">&-", 0, None),
        ("2>&-", 0, None),
        (">/dev/full", 1, "error: standard output: [Errno 28] No space left on device"),
        ("2>/dev/full", 0, ""),
    ],
)
def test_a_stream_that_cannot_be_written_to_costs_no_file(tmp_path, redirection, status, said):
    done = ended(tmp_path, redirection)
    assert (tmp_path / "out").read_text() == "whole"
    assert done.returncode == status and "Traceback" not in done.stderr
    if said is not None:
        assert done.stderr.splitlines()[-1:] == [said] * bool(said)


@pytest.mark.parametrize(("encoding", "line"), [("ascii", b"K\\xfcche \\u2026 0"), ("latin-1", b"K\xfcche \\u2026 0")])
def test_characters_that_a_stream_lacks_are_escaped(tmp_path, encoding, line):
    code = ["bash", "-c", f'"{sys.executable}" -c "$BODY" "$OUT" 2>/dev/null']
    known = {**os.environ, "PYTHONPATH": str(ROOT), "BODY": BODY, "OUT": str(tmp_path / "out")}
    done = subprocess.run(code, env={**known, "PYTHONIOENCODING": encoding}, capture_output=True)
    assert done.returncode == 0 and done.stdout.splitlines()[0] == line


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ZooError("no such thing\nthe way on"), 1, "error: no such thing\nthe way on\n"),
        (OSError(), 1, "error: OSError\n"),
        (ZooError("red \x1b[31m"), 1, "error: red \\x1b[31m\n"),
        (KeyboardInterrupt(), 130, "halted\n"),
    ],
)
def test_how_a_command_ends(capsys, error, status, said):
    def body():
        raise error

    before = sys.stdout
    assert shell.run(body, stopped="halted") == status and sys.stdout is before
    assert capsys.readouterr().err == said


LONG = "r20_dctkd_kd_animals.averylongvariantwithoutend"


def boards():
    """What each command shows, by its name, and the words of it that are never cut."""
    names = ["r20_dctkd_kd_synthscenes", "r20_dctkd_synthscenes", LONG]
    records = [
        record(n, Status.EVALUATED, top1=t, dataset="d") for n, t in zip(names, (87.05, 100.0, 9.5), strict=True)
    ]
    yield "leaderboard", terminal.render(records), [*names, "87.05", "100.00", "9.50"]
    tables = {names[0]: table(0.5, 0), LONG: table(0.9, 1)}
    comparisons = compare.compare(tables, dict.fromkeys(tables, "r56_synthscenes"))
    top1 = comparisons[0].differences[0]
    yield "compare", compare.render(comparisons), [*names[::2], "top-1 %", f"{top1.difference:+.2f}", "higher"]
    checks = [verify.Check("skill.teacher_attended.4.high", "0.123457", "0.223456", "± 0.2%", False)]
    entry = registry.get_entry("r20_dctkd_kd_synthscenes")
    yield "verify", verify.render(verify.Verified(entry, checks, "")), ["skill.teacher_attended.4.high", "0.223456"]
    finding = validate.Finding("error", "test images that do not decode", ("test/bedroom/broken.png",), 12_345)
    report = validate.Report("scene15", {"train": 1, "test": 2}, (finding,))
    yield "check", validate.render(report), ["error", "12,345"]
    plan = Plan(entry, "some-organisation/r20_dctkd_kd_synthscenes", None)
    yield "publish", publish.table([plan]), [plan.repo, entry.train_command.split()[-1]]
    row = Row(LONG, State("failed", "a reason of many words that goes on and on"), 3, 60, 87.05)
    yield "board", board.table([row], "a title", 9), [LONG, "87.05", "failed"]


BOARDS = {name: (shown, words) for name, shown, words in boards()}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", BOARDS)
def test_names_and_figures_are_whole_in_a_terminal_of_any_width(name, width):
    shown, words = BOARDS[name]
    stream = io.StringIO()
    shell.show(Console(file=stream, width=width), shown)
    lines = stream.getvalue().splitlines()
    assert [word for word in words if not any(word in line for line in lines)] == []
    assert all(len(line) <= width or LONG in line or "some-organisation" in line for line in lines)


@pytest.mark.parametrize("width", (40, 60, 80))
def test_the_list_shows_names_and_what_was_reported_in_a_narrow_terminal(width, monkeypatch, capsys):
    monkeypatch.setattr(shell, "WIDTH", width)
    assert main(["list", "r18_at*_ade20k*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = {name: [line for line in lines if line.split()[:1] == [name]] for name in registry.find("r18_at*_ade20k*")}
    assert all(len(result) == 1 for result in shown.values())
    assert "45.43" in shown["r18_at_ade20k"][0] and "No room for" in " ".join(lines)


def grid(spare=()):
    columns = (shell.Column("name"), shell.Column("a", right=True), shell.Column("b", right=True))
    return shell.Grid(columns, [[Text("x" * 10), Text("1.00"), Text("22.00")]], spare=spare, elsewhere="see FILE")


@pytest.mark.parametrize(
    ("width", "spare", "lines"),
    [
        (23, ("b",), ["name        a     b", "xxxxxxxxxx  1.00  22.00"]),
        (22, ("b",), ["name        a", "xxxxxxxxxx  1.00", "No room for b: see", "FILE."]),
        (22, (), ["xxxxxxxxxx", "  a: 1.00", "  b: 22.00"]),
        (10, ("b",), ["xxxxxxxxxx", "  a: 1.00", "  b: 22.00"]),
    ],
)
def test_a_grid_leaves_columns_out_or_becomes_blocks(width, spare, lines):
    stream = io.StringIO()
    shell.show(Console(file=stream, width=width), grid(spare))
    result = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert result == [" ".join(line.split()) for line in lines]


def test_the_log_of_a_training_keeps_epoch_and_top1():
    row: dict[str, float | None] = {
        "epoch": 12,
        "test_top1": 87.05,
        "ce": 0.123456,
        "dctkd": 0.001234,
        "lr": 0.05,
        "images_per_s": 1234.5,
    }
    done = Progress({}, epoch=12, log=[row], best_top1=87.05, best_epoch=12)
    stream = io.StringIO()
    console = Console(file=stream, width=24)
    console.print(progress.Display("r8", 60, 100, 0, console).table(done))
    assert ["12", "87.05"] in [line.split()[:2] for line in stream.getvalue().splitlines()]


def test_json_on_a_stream_of_any_encoding_is_json(monkeypatch):
    from eval.run import terminal

    stream = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(stream, encoding="latin-1"))

    def body():
        terminal.write_json("-", {"name": "Küche – 😀"})
        return 0

    assert shell.run(body) == 0
    assert json.loads(stream.getvalue()) == {"name": "Küche – 😀"}


class TestParser:
    @pytest.mark.parametrize(
        ("arguments", "close"),
        [
            (["--sed", "1"], "--seed"),
            (["list", "--catalogue", "x"], "--catalog"),
            (["predict", "r8", "--overly", "x"], "--overlay"),
        ],
    )
    def test_a_misspelt_flag_gets_a_suggestion(self, capsys, arguments, close):
        parser = eval_main.parser() if arguments[0] == "--sed" else zoo_main.parser()
        with pytest.raises(SystemExit) as stop:
            parser.parse_args(arguments)
        assert stop.value.code == 2
        assert f"; did you mean {close}?" in capsys.readouterr().err

    def test_a_flag_like_no_other_gets_none(self, capsys):
        with pytest.raises(SystemExit):
            eval_main.parser().parse_args(["--xyzzy"])
        assert "did you mean" not in capsys.readouterr().err

    @pytest.mark.parametrize("module", [zoo_main, eval_main, train_main])
    def test_version(self, capsys, module):
        with pytest.raises(SystemExit) as stop:
            module.parser().parse_args(["--version"])
        assert stop.value.code == 0
        assert capsys.readouterr().out == f"dctkd_zoo {dctkd_zoo.__version__}\n"


class TestSuggestions:
    @pytest.fixture(autouse=True)
    def forgotten(self):
        yield
        shell.remember(Namespace())

    def test_a_suggested_command_has_the_places_of_the_running_one(self):
        shell.remember(Namespace(catalog=Path("my scenes.py"), data=Path("d"), out=None, seed=3))
        assert shell.suggest("train NAME") == "python -m train NAME --catalog 'my scenes.py' --data d"
        shell.remember(Namespace(out=Path("runs"), data=None))
        assert shell.suggest("train NAME") == "python -m train NAME --out runs"
        assert shell.suggest("data fetch x") == "python -m dctkd_zoo data fetch x"

    @pytest.mark.parametrize(
        ("called", "shown"),
        [
            ("/usr/bin/dctkd-zoo", ["dctkd-zoo train A", "dctkd-zoo compare A B", "dctkd-zoo list"]),
            (
                "/lib/dctkd_zoo/__main__.py",
                ["python -m dctkd_zoo train A", "python -m dctkd_zoo compare A B", "python -m dctkd_zoo list"],
            ),
            ("/lib/train/__main__.py", ["python -m train A", "python -m eval compare A B", "python -m dctkd_zoo list"]),
        ],
    )
    def test_a_command_is_shown_as_the_running_one_was_called(self, monkeypatch, called, shown):
        monkeypatch.setattr(sys, "argv", [called, "train"])
        assert [shell.program(command) for command in ("train A", "compare A B", "list")] == shown

    def test_messages_have_them(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
        assert eval_main.main(["r18_dctkd_ade20k", "--data", str(tmp_path / "data")]) == 1
        printed = " ".join(capsys.readouterr().out.split())
        assert f"`python -m train r18_dctkd_ade20k --data {tmp_path / 'data'}`" in printed
