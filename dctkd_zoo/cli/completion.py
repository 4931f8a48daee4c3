"""`completion`: a script for bash, zsh or fish that completes commands, options, and names of entries and data sets.

The script asks the program on each press of Tab, so that it knows all options and names without a list of its own.
"""

from __future__ import annotations

from argparse import Action, ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType

from dctkd_zoo import discover, registry
from dctkd_zoo.catalog import _remembered
from dctkd_zoo.cli.common import Commands, add_command

WORDS = "--words"  # the words typed so far follow, the last of them unfinished

BASH = f"""\
_dctkd_zoo() {{
    local IFS=$'\\n'
    COMPREPLY=($("$1" completion {WORDS} "${{COMP_WORDS[@]:1:COMP_CWORD}}" 2>/dev/null))
}}
complete -o default -F _dctkd_zoo dctkd-zoo
"""
ZSH = f"""\
_dctkd_zoo() {{
    local -a found
    found=(${{(f)"$("$words[1]" completion {WORDS} "${{(@)words[2,CURRENT]}}" 2>/dev/null)"}})
    if (( $#found )); then compadd -a found; else _files; fi
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit; }}
compdef _dctkd_zoo dctkd-zoo
"""
FISH = f"""\
function __dctkd_zoo
    set -l words (commandline -opc)
    set -l program $words[1]
    set -e words[1]
    set -l last (commandline -ct)
    set -l found ($program completion {WORDS} $words "$last" 2>/dev/null)
    set -q found[1]; and printf '%s\\n' $found; or __fish_complete_path "$last"
end
complete -c dctkd-zoo -f -a '(__dctkd_zoo)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
ABOUT = """Install it by the line of your shell, then open a new one:
  dctkd-zoo completion bash >> ~/.bashrc
  dctkd-zoo completion zsh >> ~/.zshrc
  dctkd-zoo completion fish > ~/.config/fish/completions/dctkd-zoo.fish"""


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    text = "print a script that completes commands, options and names in a shell"
    command = add_command(commands, shared, "completion", text, ("bash", "fish"), ABOUT)
    command.add_argument("shell", choices=[*SCRIPTS], help="the shell that runs the script")
    command.set_defaults(run=completion)


def completion(options: Namespace) -> int:
    """Print the script."""
    print(SCRIPTS[options.shell], end="")
    return 0


def answer(words: Sequence[str]) -> int:
    """Print what the last of the words typed so far may become, a line each; nothing if it may be a file."""
    print("".join(f"{word}\n" for word in candidates(words)), end="")
    return 0


def entries() -> list[str]:
    """Return the names of entries, also of those that were trained here from catalog files."""
    return [*registry.entries(), *_remembered.files()]


# What an argument of this metavar may be.
VALUES: Mapping[str, Callable[[], Iterable[str]]] = {
    "NAME": entries,
    "PATTERN": entries,
    "[NAME] IMAGE": entries,
    "T": entries,
    "ARCH": registry.archs,
    "DATASET": registry.datasets,
    "LOGGER": lambda: discover.modules("train.loggers"),
}


def candidates(words: Sequence[str]) -> list[str]:
    """Return what the last word may become, after the others: commands, options, choices or names.

    Bash makes three words of `--protocol=exact`, one of which is `=`.
    """
    from dctkd_zoo import __main__ as zoo

    *before, last = [word for word in words if word != "="] + [""] * (words[-1:] in ([], ["="]))
    if before and before[0] not in zoo.COMMANDS:
        return []
    parser = _parser(zoo, before)
    option = parser._option_string_actions.get(before[-1]) if before else None
    if option and option.nargs != 0:
        known = _values(option)
    elif last.startswith("-"):
        known = [flag for flag in parser._option_string_actions if flag.startswith("--")]
    else:
        known = [value for action in parser._get_positional_actions() for value in _values(action)]
    return [word for word in known if word.startswith(last)]


def _values(action: Action) -> list[str]:
    return [*(action.choices or VALUES.get(str(action.metavar), tuple)())]


def _parser(zoo: ModuleType, words: Sequence[str]) -> ArgumentParser:
    """Return the parser of the command that the words name."""
    if words and (separate := zoo.program(words[0])):
        program: ArgumentParser = separate.parser()
        return program
    parser: ArgumentParser = zoo.parser(*words[:1])
    for word in words:
        for action in parser._get_positional_actions():
            if isinstance(action, _SubParsersAction) and word in action.choices:
                parser = action.choices[word]
    return parser
