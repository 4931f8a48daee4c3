"""dctkd_zoo.cli.completion: what Tab offers, asked of the functions and of real shells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dctkd_zoo import __main__ as zoo
from dctkd_zoo import registry
from dctkd_zoo.catalog import _remembered
from dctkd_zoo.cli import completion
from dctkd_zoo.cli.completion import candidates

ROOT = Path(__file__).parents[2]
DATASETS = ["mit67", "miniplaces", "miniplaces12k"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tra", ["train"]),
        ("com", ["compare", "completion"]),
        ("data ", ["fetch", "check"]),
        ("data fetch mi", DATASETS),
        ("list --dataset mi", DATASETS),
        ("train --pre", ["--precision"]),
        ("eval --protocol ", ["exact", "released", "objects"]),
        ("eval --protocol = re", ["released"]),
        ("eval --protocol =", ["exact", "released", "objects"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("train r8 --logger t", ["tensorboard", "trackio"]),
        ("init --student mbv", ["mbv2"]),
        ("info el0_sce", ["el0_scene15.px224"]),
        ("compare r20_kd_synthscenes --teacher r56_syn", ["r56_synthscenes"]),
        ("train --resume --seed 1 r18_dctkd_kd_mit", ["r18_dctkd_kd_mit67"]),
        ("predict el0_scene15.px224 --overlay m", []),
        ("no-such-command ", []),
        ("init pho", []),
    ],
)
def test_what_is_offered(typed, offered):
    assert sorted(candidates(typed.split(" "))) == sorted(offered)


def test_nothing_typed_offers_all_commands():
    assert candidates([]) == candidates([""]) == [*zoo.COMMANDS]


@pytest.mark.parametrize("command", zoo.COMMANDS)
def test_options_are_those_of_the_help(command, capsys):
    with pytest.raises(SystemExit):
        zoo.main([command, "--help"])
    shown = capsys.readouterr().out
    offered = candidates([command, "--"])
    assert "--help" in offered and "--version" in offered and all(flag in shown for flag in offered)


def test_entries_trained_from_a_catalog_file_are_offered_without_running_it(tmp_path):
    catalog = tmp_path / "mine.py"
    catalog.write_text("raise SystemExit('was run')")
    _remembered.remember(["r18_photos"], catalog, tmp_path / "runs")
    assert candidates(["eval", "r18_pho"]) == ["r18_photos"]


def test_an_answer_needs_neither_torch_nor_numpy():
    code = (
        "import sys; from dctkd_zoo.__main__ import main; main(['completion', '--words', 'train', 'r20_dctkd_synths']);"
        "assert not {'torch', 'numpy', 'pandas', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "r20_dctkd_synthscenes" in done.stdout.splitlines()


# A shell reads the script, then is asked what it would complete: on a terminal each does so itself.
BASH = """
source <(dctkd-zoo completion bash)
complete -p dctkd-zoo | grep -q -- '-o default'
COMP_WORDS=(dctkd-zoo "$@"); COMP_CWORD=$#
_dctkd_zoo dctkd-zoo "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
autoload -Uz compinit && compinit -u -D
source <(dctkd-zoo completion zsh)
[[ $_comps[dctkd-zoo] == _dctkd_zoo ]] || exit 1
compadd() { print -rl -- ${(P)2} }
words=(dctkd-zoo "$@"); CURRENT=$#words
_dctkd_zoo
"""
FISH = """
dctkd-zoo completion fish | source
complete -C "dctkd-zoo $argv" | string split -f 1 \\t
"""
SHELLS = {"bash": (BASH, "-c"), "zsh": (ZSH, "-f", "-c"), "fish": (FISH, "--no-config", "-c")}


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The command on the PATH, as pip installs it."""
    path = tmp_path / "bin" / "dctkd-zoo"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\nimport sys\nfrom dctkd_zoo.__main__ import main\nsys.exit(main())\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("shell", completion.SCRIPTS)
def test_a_shell_offers_it(shell, script):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    body, *flags = SHELLS[shell]
    for typed, offered in (
        (["tr"], ["train"]),
        (["data", "fetch", "mi"], DATASETS),
        (["eval", "--protocol", ""], ["exact", "released", "objects"]),
        (["compare", "r20_kd_synthscenes", "r20_dctkd_synths"], registry.find("r20_dctkd_synths*")),
    ):
        words = [" ".join(typed)] if shell == "fish" else [shell, *typed]  # bash and zsh take the first word as $0
        done = subprocess.run([shell, *flags, body, *words], capture_output=True, text=True, check=False)
        assert sorted(done.stdout.split()) == sorted(offered), (typed, done.stderr)
