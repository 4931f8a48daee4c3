"""Entries to jobs: which run waits for which, generation by generation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dctkd_zoo import registry
from dctkd_zoo.errors import WeightsNotFound
from dctkd_zoo.spec import EXTERNAL, Entry

SHOWN = 5  # missing teachers that a refusal names


@dataclass(frozen=True)
class Job:
    """An entry of one seed, and the run of its teacher where that is to be trained too."""

    entry: Entry
    needs: str | None = None

    @property
    def name(self) -> str:
        """What the run, its folder and its job are called."""
        return self.entry.run_name


def seeded(names: Iterable[str], seeds: Sequence[int] | None) -> list[Entry]:
    """Each entry from each seed (`None`: from its recipe's), teachers before their students."""
    return [
        registry.get_entry(name).seeded(seed) for name in registry.teachers_first(names) for seed in seeds or (None,)
    ]


def jobs(entries: Iterable[Entry], available: Callable[[Entry], bool]) -> tuple[Job, ...]:
    """A job an entry, in an order in which each can wait for those before it.

    `WeightsNotFound` where a teacher is neither among the entries nor `available`.
    """
    entries = list(entries)
    runs = {entry.run_name for entry in entries}
    taught = {entry.run_name: _teacher(entry) for entry in entries}
    missing = {t.run_name: t for t in taught.values() if t and t.run_name not in runs and not available(t)}
    if missing:
        raise WeightsNotFound(_refusal([*missing.values()], taught))
    planned = [Job(e, t.run_name if (t := taught[e.run_name]) and t.run_name in runs else None) for e in entries]
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


def _teacher(entry: Entry) -> Entry | None:
    """The teacher as an entry of the catalog: what a student of any seed learns from."""
    outside = entry.teacher is None or entry.teacher.startswith(EXTERNAL)
    return None if outside else registry.get_entry(str(entry.teacher))


def _refusal(missing: Sequence[Entry], taught: dict[str, Entry | None]) -> str:
    lines = [
        f"{teacher.run_name}, for {', '.join(name for name, t in taught.items() if t == teacher)}: "
        f"`{teacher.train_command}`"
        for teacher in missing[:SHOWN]
    ]
    more = f"\n  and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return (
        "no weights of these teachers, and they are not among the entries to be trained. Name them too, train them "
        "first, or point DCTKD_ZOO_HOME to the folder whose `checkpoints` hold them:\n  " + "\n  ".join(lines) + more
    )
