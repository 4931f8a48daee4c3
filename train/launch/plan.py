"""Plan of jobs: which run waits for which, ordered by generation."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from dctkd_zoo import registry
from dctkd_zoo.cli import shell
from dctkd_zoo.errors import WeightsNotFound, ZooError
from dctkd_zoo.spec import EXTERNAL, Entry

SHOWN = 5  # missing networks named in the error message


@dataclass(frozen=True)
class Job:
    """An entry with one seed; `needs` names the run of its teacher or starting weights if that is trained, too."""

    entry: Entry
    needs: str | None = None

    @property
    def name(self) -> str:
        """Name of the run, its folder and its job."""
        return self.entry.run_name


CHANGES = ("epochs", "lr", "batch_size", "limit")  # fields of a recipe that the command line may change


def changed(entry: Entry, options: Namespace) -> Entry:
    """Return the entry with the values that the options give for its recipe; `ZooError` if they do not fit."""
    values = ((name, getattr(options, name, None)) for name in CHANGES)
    given = {name: value for name, value in values if value is not None}
    try:
        return replace(entry, recipe=replace(entry.recipe, **given)) if given else entry
    except ValueError as error:
        raise ZooError(f"{entry.name}: {error}") from error


def seeded(names: Iterable[str], seeds: Sequence[int] | None) -> list[Entry]:
    """Return each entry with each seed (`None`: its recipe's), teachers before students."""
    return [
        registry.get_entry(name).with_seed(seed) for name in registry.teachers_first(names) for seed in seeds or (None,)
    ]


def jobs(entries: Iterable[Entry], available: Callable[[Entry], bool]) -> tuple[Job, ...]:
    """Return one job per entry, each after the jobs it waits for.

    `WeightsNotFound` if a teacher or starting weights are neither among the entries nor `available`.
    """
    entries = list(entries)
    runs = {entry.run_name for entry in entries}
    needs = {entry.run_name: _needed(entry) for entry in entries}
    missing = {n.run_name: n for n in needs.values() if n and n.run_name not in runs and not available(n)}
    if missing:
        raise WeightsNotFound(_missing_message([*missing.values()], needs))
    planned = [Job(e, n.run_name if (n := needs[e.run_name]) and n.run_name in runs else None) for e in entries]
    return tuple(job for generation in generations(planned) for job in generation)


def generations(jobs: Iterable[Job]) -> list[list[Job]]:
    """Return the jobs that wait for no other, then those that wait for these, and so on; each in the given order."""
    by_name = {job.name: job for job in jobs}
    depths = {name: _depth(job, by_name) for name, job in by_name.items()}
    return [
        [by_name[name] for name in by_name if depths[name] == d] for d in range(max(depths.values(), default=-1) + 1)
    ]


def _depth(job: Job, by_name: dict[str, Job]) -> int:
    return 0 if job.needs is None else 1 + _depth(by_name[job.needs], by_name)


def _needed(entry: Entry) -> Entry | None:
    """Return the catalog entry that is the entry's teacher or start, None if it needs none from the catalog."""
    name = entry.depends_on
    return None if name is None or name.startswith(EXTERNAL) else registry.get_entry(name)


def _missing_message(missing: Sequence[Entry], needs: dict[str, Entry | None]) -> str:
    lines = [
        f"{needed.run_name}, needed by {', '.join(name for name, n in needs.items() if n == needed)}: "
        f"`{shell.suggest(needed.train_command)}`"
        for needed in missing[:SHOWN]
    ]
    more = f"\n  and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return (
        "some entries need the weights of others that are neither available nor in this run. Add these entries to the "
        "command, train them first, or set DCTKD_ZOO_HOME to the folder whose `checkpoints` hold them:\n  "
        + "\n  ".join(lines)
        + more
    )
