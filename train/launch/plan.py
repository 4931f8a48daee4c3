"""Entries to jobs: which run waits for which, generation by generation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dctkd_zoo import registry
from dctkd_zoo.errors import WeightsNotFound
from dctkd_zoo.spec import EXTERNAL, Entry

SHOWN = 5  # missing networks that a refusal names


@dataclass(frozen=True)
class Job:
    """An entry of one seed, and the run that it learns or starts from where that is to be trained too."""

    entry: Entry
    needs: str | None = None

    @property
    def name(self) -> str:
        """What the run, its folder and its job are called."""
        return self.entry.run_name


def seeded(names: Iterable[str], seeds: Sequence[int] | None) -> list[Entry]:
    """Each entry from each seed (`None`: from its recipe's), those that others rest on before these."""
    return [
        registry.get_entry(name).with_seed(seed) for name in registry.teachers_first(names) for seed in seeds or (None,)
    ]


def jobs(entries: Iterable[Entry], available: Callable[[Entry], bool]) -> tuple[Job, ...]:
    """A job an entry, in an order in which each can wait for those before it.

    `WeightsNotFound` where what one rests on is neither among the entries nor `available`.
    """
    entries = list(entries)
    runs = {entry.run_name for entry in entries}
    needs = {entry.run_name: _needed(entry) for entry in entries}
    missing = {n.run_name: n for n in needs.values() if n and n.run_name not in runs and not available(n)}
    if missing:
        raise WeightsNotFound(_refusal([*missing.values()], needs))
    planned = [Job(e, n.run_name if (n := needs[e.run_name]) and n.run_name in runs else None) for e in entries]
    return tuple(job for generation in generations(planned) for job in generation)


def generations(jobs: Iterable[Job]) -> list[list[Job]]:
    """The jobs that wait for none, those that wait for these alone, and so on; the order within stays."""
    by_name = {job.name: job for job in jobs}
    depths = {name: _depth(job, by_name) for name, job in by_name.items()}
    return [
        [by_name[name] for name in by_name if depths[name] == d] for d in range(max(depths.values(), default=-1) + 1)
    ]


def _depth(job: Job, by_name: dict[str, Job]) -> int:
    return 0 if job.needs is None else 1 + _depth(by_name[job.needs], by_name)


def _needed(entry: Entry) -> Entry | None:
    """The entry of the catalog that one learns or starts from, whatever its own seed."""
    name = entry.depends_on
    return None if name is None or name.startswith(EXTERNAL) else registry.get_entry(name)


def _refusal(missing: Sequence[Entry], needs: dict[str, Entry | None]) -> str:
    lines = [
        f"{needed.run_name}, for {', '.join(name for name, n in needs.items() if n == needed)}: "
        f"`{needed.train_command}`"
        for needed in missing[:SHOWN]
    ]
    more = f"\n  and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return (
        "no weights of these, which others learn or start from, and they are not among the entries to be trained. Name "
        "them too, train them first, or point DCTKD_ZOO_HOME to the folder whose `checkpoints` hold them:\n  "
        + "\n  ".join(lines)
        + more
    )
