"""`tune`: weights of loss terms, tried on held-out images."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from dctkd_zoo.cli import common, shell
from dctkd_zoo.cli.arguments import NAMES, positive
from dctkd_zoo.cli.common import Commands, add_command, add_places
from dctkd_zoo.errors import ZooError


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    text = "try weights of loss terms on held-out training images, as many of each term"
    examples = ("r20_dctkd_synthscenes --epochs 2", "r18_dctkd_scene15 --tries 3 --data DIR")
    command = add_command(commands, shared, "tune", text, examples)
    command.add_argument("names", nargs="+", metavar="NAME", help=NAMES)
    command.add_argument("--tries", type=positive, default=3, metavar="N", help="weights of each term (default: 3)")
    command.add_argument("--epochs", type=positive, metavar="N", help="epochs of each trial (default: the recipe's)")
    command.add_argument("--teacher-cache", type=positive, metavar="K", help="as in `train`")
    add_places(command)
    command.set_defaults(run=tune)


def tune(options: Namespace) -> int:
    """Train a trial for each weight of each term and print the table after each."""
    from dctkd_zoo import device
    from dctkd_zoo._io.paths import checkpoints
    from train import tune as tuning
    from train.config import TrainConfig

    entries = common.entries(options)
    if supervised := [entry.name for entry in entries if not entry.terms]:
        raise ZooError(f"{', '.join(supervised)}: has no distillation term whose weight could be tried")
    trials = [trial for entry in entries for trial in tuning.trials(entry, options.tries, options.epochs)]
    device.keep_memory()
    out = options.out or checkpoints()
    chosen = device.choose(options.device)
    config = TrainConfig(options.data, out, chosen, trained=options.out, teacher_cache=options.teacher_cache)
    console = shell.console()
    tried = []
    with device.full_float32():
        for number, trial in enumerate(trials, start=1):
            console.print(f"trial {number} of {len(trials)}: {trial.name}", markup=False, highlight=False)
            tried.append(tuning.measure(trial, config, console))
    shell.show(console, tuning.table(tried))
    return 0
