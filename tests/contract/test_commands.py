"""The help, examples and errors of all commands, however they are called."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import eval.__main__
import eval.compare
import train.__main__
from dctkd_zoo import __main__ as zoo
from dctkd_zoo.cli.arguments import Parser
from train import bundle

ROOT = Path(__file__).parents[2]
COMMANDS = ["", *zoo.COMMANDS, "data fetch", "data check"]
CALLED = {"dctkd-zoo": "/usr/bin/dctkd-zoo", "python -m dctkd_zoo": "/lib/dctkd_zoo/__main__.py"}
PROGRAMS = {"python -m train": train.__main__, "python -m eval": eval.__main__, "python -m eval compare": eval.compare}
HEAVY = ("filelock", "numpy", "pandas", "rich", "scipy", "timm", "torch")
COST = 50  # modules


def help_of(command, capsys):
    with pytest.raises(SystemExit) as stop:
        zoo.main([*command.split(), "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("called", CALLED)
@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_says_how_it_was_called_and_ends_with_two_examples_that_parse(command, called, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [CALLED[called]])
    monkeypatch.setenv("COLUMNS", "80")
    shown = help_of(command, capsys)
    assert shown.startswith(f"usage: {called} {command}".rstrip() + " ")
    assert max(map(len, shown.splitlines())) <= 80
    examples = [line.strip() for line in shown.partition("\nExamples:\n")[2].splitlines()]
    assert len(examples) == 2
    for example in examples:
        assert example.startswith(f"{called} {command}".rstrip() + " ")
        first, *rest = shlex.split(example.removeprefix(called))
        separate = zoo.program(first)
        (separate.parser() if separate else zoo.parser()).parse_args(rest if separate else [first, *rest])


@pytest.mark.parametrize("called", PROGRAMS)
def test_programs_of_their_own_do_too(called, monkeypatch):
    monkeypatch.setattr(sys, "argv", [f"/lib/{called.split()[2]}/__main__.py"])
    parser = PROGRAMS[called].parser()
    assert parser.format_help().startswith(f"usage: {called} [-h]")
    assert len(parser.examples) == 2
    for example in parser.examples:
        assert example.startswith(called) and len(example) < 78
        parser.parse_args(shlex.split(example.removeprefix(called)))


@pytest.mark.parametrize("command", [f"dctkd_zoo {command}".strip() for command in COMMANDS] + ["train", "eval"])
def test_no_help_imports_what_takes_long(command):
    code = f"""
import argparse, dataclasses, importlib.machinery, json, runpy, sys
before = set(sys.modules)
name, *sys.argv[1:] = {[*command.split(), "--help"]}
try:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
except SystemExit as stop:
    assert not stop.code
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = json.loads(done.stdout.splitlines()[-1])
    assert not set(HEAVY) & set(imported)
    assert "usage: python -m" in done.stdout
    others = [name for name in imported if name.partition(".")[0] not in ("dctkd_zoo", "eval", "train")]
    assert len(others) <= COST, others


def test_without_a_command_there_is_the_help(capsys):
    with pytest.raises(SystemExit) as stop:
        zoo.main([])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: ") and "\n  init " in shown


def test_the_help_names_every_command_once_in_its_order(capsys):
    shown = help_of("", capsys)
    places = [shown.index(f"\n  {name} ") for name in zoo.COMMANDS]
    assert places == sorted(places)
    assert all(shown.count(f"\n  {name} ") == 1 for name in zoo.COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_version(command, capsys):
    with pytest.raises(SystemExit) as stop:
        zoo.main([*command.split(), "--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("dctkd_zoo ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean train?"),
        (["comparee", "a"], "did you mean compare?"),
        (["data", "fetsch", "ade20k"], "did you mean fetch?"),
        (["eval", "--all", "--protocol", "exat"], "did you mean exact?"),
        (["train", "r8", "--epoch-s", "3"], "did you mean --epochs?"),
        (["info"], "required: NAME"),
        (["train"], "NAME --all is required"),
        (["compare", "r8_synthscenes"], "at least two"),
        (["train", "a\nb", "--sede"], "--sede"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        zoo.main(arguments)
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert not shown.out
    (line,) = shown.err.splitlines()
    assert line.startswith("error: ") and message in line


def test_options_of_one_name_take_one_kind_of_value():
    """An option of two commands has the same metavar in both, but for those that say what the command writes."""
    kinds: dict[str, dict[str, set[str]]] = {}
    for command in zoo.COMMANDS:
        separate = zoo.program(command)
        parser = separate.parser() if separate else zoo.parser(command)
        parsers = [parser] if separate else [p for p in parser._with_commands() if p is not parser]
        for action in (action for p in parsers for action in p._actions):
            for flag in (flag for flag in action.option_strings if flag.startswith("--")):
                kinds.setdefault(flag, {}).setdefault(str(action.metavar), set()).add(command)
    differing = {flag: {*metavars} for flag, metavars in kinds.items() if len(metavars) > 1}
    assert differing == {
        "--out": {"DIR", "FILE.py"},  # init writes a file
        "--json": {"FILE", "None"},  # predict prints it
        "--teacher": {"T", "ARCH"},  # init takes an architecture, eval a network
    }


def test_a_program_of_the_maintainers_has_them_too(capsys):
    with pytest.raises(SystemExit) as stop:
        bundle.main(["--version"])
    assert stop.value.code == 0
    assert isinstance(zoo.parser(), Parser)
