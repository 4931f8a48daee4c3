"""`init`: a catalog file for a folder of images, with a teacher, a baseline and two students."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path

from dctkd_zoo.cli import shell
from dctkd_zoo.cli.common import Commands, add_command
from dctkd_zoo.errors import UsageError, ZooError


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    examples = ("photos", "photos --teacher el0 --student mbv2 --out small.py")
    command = add_command(commands, shared, "init", "write a catalog file to train on a folder of images", examples)
    command.add_argument(
        "folder", type=Path, metavar="DIR", help="DIR/{train,val,test}/<class>/ or DIR/<class>/, which is split"
    )
    command.add_argument("--teacher", default="el2", metavar="ARCH", help="short name or timm's name (default: el2)")
    command.add_argument("--student", default="r18", metavar="ARCH", help="short name or timm's name (default: r18)")
    command.add_argument("--out", type=Path, metavar="FILE.py", help="file to write (default: <name of DIR>.py)")
    command.set_defaults(run=init)


def init(options: Namespace) -> int:
    """Write the file and print what was found, and how to go on; return 1 if training would refuse the images."""
    from dctkd_zoo import starter
    from dctkd_zoo._io import atomic
    from dctkd_zoo.data import validate

    name = starter.dataset_name(options.folder, options.out)
    path = options.out or Path(f"{name}.py")
    if path.suffix != ".py":
        raise UsageError(f"--out {path}: a catalog is a Python file, such as {name}.py")
    if path.exists():
        raise ZooError(f"{path} is there already: name another file with --out, or delete it")
    found = starter.scan(options.folder, name)
    plan = starter.plan(found, options.teacher, options.student)
    text = starter.catalog(found, plan, path)
    console = shell.console()
    shell.show(console, validate.render(found.report))
    for line in [*starter.warnings(found), *plan.notes]:
        console.print(f"note: {line}", highlight=False, markup=False, soft_wrap=True)
    if not found.report.ok:
        raise ZooError(f"{options.folder}: repair what is an error above, then try again; {path} was not written")
    atomic.write_text(path, text)
    console.print(f"\n{starter.summary(found, plan)}\nwritten: {path}. Next:", highlight=False, markup=False)
    for command in (f"train {shlex.quote(str(path))}", f"eval {shlex.quote(str(path))} --report report"):
        console.print(f"  {shell.program(command)}", highlight=False, markup=False, soft_wrap=True)
    return 0
