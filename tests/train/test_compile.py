"""The compiled objective: the same values, and the plain one where there is no compiling."""

from __future__ import annotations

import logging

import pytest
import torch

from dctkd_zoo import registry
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.features import Output
from dctkd_zoo.objective import Objective
from tests import world
from train import compile, loop
from train.__main__ import main

WEIGHTS = {"ce": 0.1, "dctkd": 1.0, "kd": 1.0}


def side(seed: int, images: int) -> Output:
    generator = torch.Generator().manual_seed(seed)
    maps = tuple(torch.randn(images, 4, n, n, generator=generator).requires_grad_() for n in (8, 4))
    return Output(torch.randn(images, 5, generator=generator), maps, torch.zeros(images, 4))


def batch(images: int) -> Batch:
    return Batch(torch.zeros(images, 3, 8, 8), torch.arange(images) % 5, torch.arange(images))


def test_only_a_long_run_is_compiled():
    objective = Objective(WEIGHTS, {})
    assert compile.compile_objective(objective, compile.MIN_STEPS - 1, 4) is objective
    assert isinstance(compile.compile_objective(objective, compile.MIN_STEPS, 4), compile.Compiled)


def test_a_compiler_that_fails_costs_one_line_and_nothing_else(monkeypatch, caplog):
    def broken(*arguments, **options):
        def call(*inputs):
            raise RuntimeError("no working C++ compiler\nand a long trace")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    objective = Objective(WEIGHTS, {})
    losses = compile.Compiled(objective, 4)
    with caplog.at_level(logging.INFO):
        values = [losses(side(0, 4), side(1, 4), batch(4)) for _ in range(3)]
    expected = objective(side(0, 4), side(1, 4), batch(4))
    assert all(torch.equal(value[name], expected[name]) for value in values for name in WEIGHTS)
    assert [record.getMessage() for record in caplog.records] == [
        "the objective is not compiled: no working C++ compiler"
    ]


def test_train_shows_the_line(monkeypatch, capsys):
    """The command's own log, as a user sees it."""
    before = {name: logging.getLogger(name).level for name in ("train", "dctkd_zoo")}
    monkeypatch.setattr(logging.root, "handlers", [])
    try:
        assert main(["r8_synthscenes", "--dry-run"]) == 0
        logging.getLogger("train.compile").info("the objective is not compiled: why")
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
    assert "the objective is not compiled: why" in capsys.readouterr().err


def test_a_batch_of_another_size_goes_through_the_plain_objective(monkeypatch):
    sizes = []

    def counted(module, **options):
        def call(student, teacher, batch):
            sizes.append(len(batch.labels))
            return module(student, teacher, batch)

        return call

    monkeypatch.setattr(torch, "compile", counted)
    losses = compile.Compiled(Objective(WEIGHTS, {}), 4)
    for images in (4, 4, 3, 4):
        losses(side(0, images), side(1, images), batch(images))
    assert sizes == [4, 4, 4]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # the compiler looks at it
def test_values_and_gradients_are_those_of_the_plain_objective(caplog):
    """Compiled by C++ where this torch can; where it cannot, the log says why."""
    objective = Objective(WEIGHTS, {})
    losses = compile.Compiled(objective, 4)
    result = []
    for call in (losses, objective):
        student = side(0, 4)
        with caplog.at_level(logging.INFO, "train"):
            values = call(student, side(1, 4), batch(4))
        gradients = torch.autograd.grad(torch.stack(list(values.values())).sum(), student.maps)
        result.append((values, gradients))
    assert losses.works is not ("the objective is not compiled: " in caplog.text)
    torch.testing.assert_close(result[0][0], result[1][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(result[0][1], result[1][1], rtol=1e-4, atol=1e-6)


def test_a_training_that_cannot_compile_says_so_and_runs_in_float32(monkeypatch, caplog, tmp_path):
    def broken(*arguments):
        raise RuntimeError("no working C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda *arguments, **options: broken)
    monkeypatch.setattr(compile, "MIN_STEPS", 1)
    monkeypatch.setattr(registry, "_MODULES", [])
    monkeypatch.setenv("DCTKD_ZOO_HOME", str(tmp_path / "home"))
    rounding, step = [], loop.step

    def seen(*arguments):
        rounding.append(torch.backends.cudnn.allow_tf32)
        return step(*arguments)

    monkeypatch.setattr(loop, "step", seen)
    home = world.make(tmp_path)
    try:
        assert main([*world.options(home, tmp_path / "out"), "r8_stripes"]) == 0
    finally:
        registry._bundled_and_included.cache_clear()
    assert caplog.messages.count("the objective is not compiled: no working C++ compiler") == 1
    assert rounding == [False] * 12 and torch.backends.cudnn.allow_tf32  # 4 epochs of 3 batches
