"""`data fetch` and `data check`: download and validate a dataset."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from dctkd_zoo import registry
from dctkd_zoo.cli import shell
from dctkd_zoo.cli.arguments import add_options
from dctkd_zoo.cli.common import Commands, add_command
from dctkd_zoo.errors import UsageError
from dctkd_zoo.spec import Dataset

TEXT = "download or check a dataset"


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the two commands under `data`."""
    examples = ("fetch ade20k", "check scene15 --data DIR")
    data = commands.add_parser("data", help=TEXT, description=f"{TEXT.capitalize()}.", examples=examples)
    what = data.add_subparsers(required=True, metavar="WHAT")
    for name, run, text in (
        ("fetch", fetch_data, "download and unpack a dataset, resuming where it stopped"),
        ("check", check_data, "find missing, extra, undecodable and leaked images; check the class order"),
    ):
        examples = (f"{'ade20k' if name == 'fetch' else 'scene15'} --data DIR", "photos.py")
        command = add_command(what, shared, name, text, examples)
        command.add_argument("names", nargs=1, metavar="DATASET", help="scene15, say, or a catalog file of your own")
        add_options(command, ("data",))
        command.set_defaults(run=run)


def _dataset(options: Namespace) -> Dataset:
    """Return the named dataset, also of a catalog that was trained with here, or that of the entries of a file."""
    for name in options.names:
        if name not in registry.datasets():
            registry.find(f"*_{name}")  # which includes that catalog
    entries = registry.entries()
    names = {entries[name].dataset if name in entries else name for name in options.names}
    if len(names) > 1:
        raise UsageError(f"one dataset at a time: {', '.join(sorted(names))}")
    return registry.get_dataset(names.pop())


def fetch_data(options: Namespace) -> int:
    """Download a dataset into its folder."""
    from dctkd_zoo.data import load
    from dctkd_zoo.data.fetch import fetch

    dataset = _dataset(options)
    folder = load.root_of(dataset, options.data)
    fetch(dataset, folder)
    check = shell.suggest(f"data check {dataset.name}")
    print(f"{dataset.title} is in {folder}; check it with `{check}`")
    return 0


def check_data(options: Namespace) -> int:
    """Check a dataset and print the findings; return 1 if one of them is an error."""
    from dctkd_zoo.data import load, validate

    dataset = _dataset(options)
    report = validate.check(dataset, load.read(dataset, options.data))
    shell.show(shell.console(), validate.render(report))
    return 0 if report.ok else 1
