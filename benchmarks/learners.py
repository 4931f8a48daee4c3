"""Networks and views to learners, epochs and steps: every use that the benchmarks make of `train`."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.orders import Work
from dctkd_zoo import device, models, registry
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.data.views import Views
from dctkd_zoo.features import Tapped
from dctkd_zoo.objective import Objective
from dctkd_zoo.teachers import Teacher
from dctkd_zoo.weights import Weights
from train import compiled, guide, loop
from train.optim import optimizer

TEACHER, STUDENT = "r50", "r18"
SIGNED, KD = "r18_dctkd_scene15.signed", "r18_dctkd_kd_scene15"  # entries whose terms are trained with
SEED = 0


def teacher(views: Views) -> Teacher:
    """A random network in a teacher's place."""
    torch.manual_seed(SEED)
    model = models.create(TEACHER, views.dataset.num_classes).eval().requires_grad_(False)
    return Teacher(TEACHER, Tapped(device.place(model, views.device)), Weights(Path(), "random", "random"))


def student(views: Views) -> Tapped:
    """A random network to be trained."""
    torch.manual_seed(SEED + 1)
    return Tapped(device.place(models.create(STUDENT, views.dataset.num_classes), views.device))


def live_learner(views: Views, terms: str, steps: int) -> loop.Learner:
    """Student and teacher, and the terms of the entry `terms`, as in a run of so many steps."""
    return _learner(
        views, terms, guide.Live(teacher(views).network, device.precision(views.device), features=False), steps
    )


def cached_learner(views: Views, terms: str, steps: int) -> loop.Learner:
    """The same, with what the teacher says of one view an image on disk, as by `--teacher-cache 1`."""
    with Path(os.devnull).open("w") as nowhere:
        known = guide.cached(teacher(views), views, 1, device.precision(views.device), Console(file=nowhere))
    return _learner(views, terms, known, steps)


def _learner(views: Views, terms: str, guides: guide.Guide, steps: int) -> loop.Learner:
    network, entry = student(views), registry.get_entry(terms)
    sgd = optimizer(network.parameters(), views.recipe)
    objective = Objective(entry.weights, entry.options)
    return loop.Learner(
        student=network,
        guide=guides,
        objective=objective,
        losses=compiled.losses(objective, steps, views.recipe.batch_size),
        optimizer=sgd,
        recipe=views.recipe,
        precision=device.precision(views.device),
    )


def epoch(learner: loop.Learner, views: Views) -> None:
    """Train on all images once, as a run does."""
    loop.epoch(learner, views, SEED, 0, lambda done, losses: None)


def step(learner: loop.Learner, batch: Batch) -> None:
    """Train on one batch; the learner is a live one."""
    assert learner.guide is not None
    loop.step(learner, batch, learner.guide.epoch(0)[1])


def bare_step(views: Views) -> Work:
    """Teacher and student, cross-entropy and an update, on one batch that is on the device: the least there is."""
    batch = next(views.train(SEED, 0))
    guides, network = teacher(views).network.model, student(views).model.train()
    sgd = optimizer(network.parameters(), views.recipe)
    precision = device.precision(views.device)

    def work() -> None:
        with device.autocast(views.device, precision):
            with torch.no_grad():
                guides(batch.images)
            loss = torch.nn.functional.cross_entropy(network(batch.images).float(), batch.labels)
        sgd.zero_grad(set_to_none=True)
        loss.backward()
        sgd.step()

    return work
