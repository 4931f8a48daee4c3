"""The task for timm's training loop, against the zoo's own training step and what timm's loop asks of a task."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
import timm
import torch
from timm.data import Mixup
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.models import create_model
from timm.optim import create_optimizer_v2
from timm.task import resume_task_checkpoint
from timm.utils import CheckpointSaver
from torch import Tensor, nn

from dctkd_zoo import losses, models
from dctkd_zoo.data.batch import Batch
from dctkd_zoo.errors import TeacherMismatch, UnsupportedNetwork, ZooError
from dctkd_zoo.features import FeatureExtractor, run
from dctkd_zoo.objective import Objective
from dctkd_zoo.schedules import Cosine
from dctkd_zoo.spec import Dataset, Recipe
from dctkd_zoo.teachers import Adapted
from dctkd_zoo.timm_task import DistillationTask, StudentAndTerms
from tests import world
from tests.dctkd_zoo import task_on_ranks
from train import loop, teacher_source
from train.optim import optimizer

CLASSES, SIZE, STEPS = 5, 16, 10
RECIPE = Recipe(epochs=1, batch_size=SIZE, lr=0.02, schedule=Cosine(), resize=32, crop=32, weight_decay=5e-4)
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)  # of the student's images; the teacher expects CIFAR's
TERMS = sorted({*losses.names()} - {"ce", "crd"})
WEIGHTS = {"at": 100.0, "fft": 100.0, "review": 0.1, "vid": 0.1}
WITH_PARAMETERS = ("vid", "review", "ckd")


def networks() -> tuple[Any, Any]:
    """Student and teacher, always the same."""
    torch.manual_seed(0)
    return models.create("r8", CLASSES), models.create("r14", CLASSES)


def batches(count: int = STEPS) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        Batch(
            torch.randn(SIZE, 3, 32, 32, generator=generator),
            torch.randint(CLASSES, (SIZE,), generator=generator),
            torch.arange(SIZE),
        )
        for _ in range(count)
    ]


BATCHES = batches()


def make(*terms: str, **more: Any) -> DistillationTask:
    """A task with the labels and some terms."""
    student, teacher = networks()
    weights = {"ce": 0.5} | {term: WEIGHTS.get(term, 1.0) for term in terms}
    arguments: dict[str, Any] = {"mean": MEAN, "std": STD, "example": BATCHES[0].images, "verbose": False} | more
    return DistillationTask(student, teacher, weights, **arguments)


def inner(task: DistillationTask) -> StudentAndTerms:
    module = task.get_trainable_module()
    assert isinstance(module, StudentAndTerms)
    return module


def steps(task: DistillationTask, count: int = STEPS, **sgd: Any) -> list[dict[str, float]]:
    """What the task returns at each step of a loop such as timm's."""
    task.train()
    trained = task.get_trainable_module()
    assert trained is not None
    update, values = optimizer(trained, (), RECIPE), []
    for batch in BATCHES[:count]:
        result = task(batch.images, batch.labels)
        update.zero_grad()
        result["loss"].backward()
        update.step()
        values.append({name: value.item() for name, value in result.items() if name != "output"})
    return values


def own_steps(terms: tuple[str, ...], options: dict[str, dict[str, Any]]) -> list[dict[str, float]]:
    """The same by the zoo's own step, with terms that begin with the same parameters."""
    own = inner(make(*terms, options=options)).objective.state_dict()
    network, taught = networks()
    student = FeatureExtractor(network)
    dataset = Dataset("noise", "Noise", "folders", CLASSES, SIZE, 0, mean=MEAN, std=STD)
    teacher = Adapted(taught, dataset).requires_grad_(False).eval()
    objective = Objective({"ce": 0.5} | {term: WEIGHTS.get(term, 1.0) for term in terms}, options)
    student.eval()
    objective.enable_class_maps((student, teacher), BATCHES[0].images)
    with torch.no_grad():
        objective.setup(student(BATCHES[0].images), teacher(BATCHES[0].images))
    objective.load_state_dict(own)
    student.train()
    online = teacher_source.OnlineTeacher(teacher, torch.float32)
    sgd = optimizer(network, objective.parameters(), RECIPE)
    state = loop.TrainState(student, online, objective, objective, sgd, RECIPE, torch.float32)
    return [{name: value.item() for name, value in loop.step(state, batch, online.run).items()} for batch in BATCHES]


@pytest.mark.parametrize("terms", [*((term,) for term in TERMS), ("dctkd", "kd", "at")], ids="+".join)
def test_every_term_of_ten_steps_is_that_of_the_zoos_own_loop(terms):
    options: dict[str, Any] = {"dctkd": {"guided": len(terms) > 1}, "ce": {"label_smoothing": 0.1}}
    ours, theirs = own_steps(terms, options), steps(make(*terms, options=options))
    assert len(ours) == STEPS
    for own, other in zip(ours, theirs, strict=True):
        assert [*other] == ["loss", "ce", *terms]
        assert other["loss"] == pytest.approx(sum(own.values()), rel=1e-6)
        assert {name: other[name] for name in own} == pytest.approx(own, rel=1e-6, abs=1e-9)
    assert len({round(row["loss"], 4) for row in theirs}) == STEPS


def test_the_teacher_sees_the_crops_in_its_own_size_and_normalisation():
    task, (student, teacher) = make("kd"), networks()
    config: Any = teacher.pretrained_cfg
    mean, std = (torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    pixels = torch.rand(SIZE, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    given = (pixels - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = run(teacher.eval(), (pixels - mean) / std)
        torch.testing.assert_close(task.teacher(given).logits, expected.logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(task.teacher(given).maps, expected.maps, rtol=1e-4, atol=1e-4)
    larger = nn.functional.interpolate(given, 48, mode="nearest")
    assert task.teacher(larger).maps[0].shape == task.teacher(given).maps[0].shape
    student.pretrained_cfg = {**config, "mean": MEAN, "std": STD}
    same = DistillationTask(student, networks()[1], {"kd": 1.0}, given, verbose=False)
    assert torch.equal(same.teacher(given).logits, task.teacher(given).logits)


def test_the_teacher_is_frozen_and_stays_in_evaluation_mode():
    task = make("dctkd")
    before = deepcopy(task.teacher.state_dict())
    steps(task, 3)
    assert inner(task).student.training and not any(module.training for module in task.teacher.modules())
    assert all(torch.equal(value, before[name]) for name, value in task.teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in task.teacher.parameters())


def test_making_a_task_changes_nothing_about_the_student():
    student, teacher = networks()
    before = deepcopy(student.state_dict())
    DistillationTask(student, teacher, {"vid": 1.0}, BATCHES[0].images, verbose=False)
    assert student.training
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def mixed(batch: Batch) -> tuple[Tensor, Tensor]:
    images, targets = Mixup(mixup_alpha=0.8, label_smoothing=0.1, num_classes=CLASSES)(
        batch.images.clone(), batch.labels
    )
    return images, targets


def test_soft_targets_of_mixup_give_timms_cross_entropy_and_the_likeliest_labels():
    task = make("dctkd").eval()
    images, targets = mixed(BATCHES[0])
    assert targets.shape == (SIZE, CLASSES) and targets.is_floating_point()
    with torch.no_grad():
        soft, hard = task(images, targets), task(images, targets.argmax(dim=1))
    torch.testing.assert_close(soft["ce"], 0.5 * SoftTargetCrossEntropy()(soft["output"], targets))
    assert not torch.allclose(soft["ce"], hard["ce"])
    assert torch.equal(soft["dctkd"], hard["dctkd"])
    assert soft["dctkd"] > 0


def test_a_criterion_takes_the_place_of_the_cross_entropy():
    given = make("kd", criterion=LabelSmoothingCrossEntropy(0.2))
    own = make("kd", options={"ce": {"label_smoothing": 0.2}})
    assert steps(given, 3) == [pytest.approx(row, rel=1e-5) for row in steps(own, 3)]
    binary = make("kd", criterion=BinaryCrossEntropy()).eval()
    for images, targets in (BATCHES[0][:2], mixed(BATCHES[0])):
        with torch.no_grad():
            result = binary(images, targets)
        torch.testing.assert_close(result["ce"], 0.5 * BinaryCrossEntropy()(result["output"], targets))


def test_ema_averages_student_and_terms_and_evaluates_the_student():
    task = make("vid", "dctkd")
    task.setup_ema(decay=0.5)
    before = {name: value.clone() for name, value in inner(task).state_dict().items()}
    steps(task, 1)
    task.update_ema()
    average: Any = task.get_trainable_module(ema=True)
    for name, value in inner(task).state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(average.module.state_dict()[name], (before[name] + value) / 2)
    evaluated = task.get_eval_model(ema=True)
    assert isinstance(evaluated, type(networks()[0])) and evaluated is not task.get_eval_model()
    assert task.get_eval_model() is inner(task).student
    assert evaluated(BATCHES[0].images).shape == (SIZE, CLASSES)


@pytest.mark.parametrize("terms", [("dctkd",), *((term,) for term in WITH_PARAMETERS)], ids="+".join)
def test_a_checkpoint_holds_no_teacher_and_continues_with_the_terms_parameters(terms, tmp_path):
    task = make(*terms)
    task.setup_ema(decay=0.5)
    update = optimizer(inner(task), (), RECIPE)
    steps(task, 2)
    task.update_ema()
    saver = CheckpointSaver(task.get_eval_model(), update, task=task, checkpoint_dir=str(tmp_path))
    saver.save_checkpoint(0, metric=1.0)
    state = torch.load(tmp_path / "last.pth.tar", weights_only=True)
    assert state["state_dict"].keys() == state["state_dict_ema"].keys() == networks()[0].state_dict().keys()
    assert ("task_state" in state) == ("task_state_ema" in state) == (terms[0] in WITH_PARAMETERS)
    torch.manual_seed(5)
    again = make(*terms)
    with torch.no_grad():
        for parameter in inner(again).parameters():
            parameter.normal_()
    again.setup_ema(decay=0.5)
    resume_task_checkpoint(again, str(tmp_path / "last.pth.tar"), log_info=False)
    again.load_checkpoint_state(state["state_dict_ema"], state.get("task_state_ema"), ema=True)
    for ema in (False, True):
        old, new = (module.get_trainable_module(ema=ema).state_dict() for module in (task, again))  # type: ignore[union-attr]
        assert old.keys() == new.keys() and all(torch.equal(value, new[name]) for name, value in old.items())
    network = networks()[0]
    network.load_state_dict(state["state_dict"])  # the student is a plain timm network


def test_a_checkpoint_of_other_terms_is_refused():
    with pytest.raises(RuntimeError, match=r"terms\.vid"):
        make("ckd").load_task_state(make("vid").get_task_state())


def test_gradients_of_students_and_terms_are_clipped_but_of_the_head_if_so_asked():
    task = make("vid")
    student, objective = inner(task).student, inner(task).objective
    every, without = ({id(p) for p in task.get_clip_parameters(flag)} for flag in (False, True))
    assert every == {id(p) for p in inner(task).parameters()}
    assert every - without == {id(p) for p in student.get_classifier().parameters()}  # type: ignore[operator]
    assert {id(p) for p in objective.parameters()} <= without


def test_timms_optimizers_group_the_parameters_of_students_and_terms():
    student: Any = create_model("vit_tiny_patch16_224", num_classes=CLASSES, img_size=32, depth=2)
    teacher: Any = deepcopy(student)
    teacher.pretrained_cfg["input_size"] = (3, 32, 32)
    task = DistillationTask(student, teacher, {"ce": 1.0, "vid": 1.0}, torch.zeros(2, 3, 32, 32), verbose=False)
    sgd = create_optimizer_v2(inner(task), "sgd", lr=0.1, weight_decay=0.2, layer_decay=0.5)
    group_of = {id(p): group for group in sgd.param_groups for p in group["params"]}
    assert group_of.keys() == {id(p) for p in inner(task).parameters()}
    assert group_of[id(student.pos_embed)]["weight_decay"] == 0
    for parameter in (*inner(task).objective.parameters(), *student.head.parameters()):
        assert group_of[id(parameter)]["lr_scale"] == 1
    assert group_of[id(student.patch_embed.proj.weight)]["lr_scale"] < 0.5


def test_compiled_tasks_give_the_same_losses():
    plain, compiled = make("dctkd", "vid"), make("dctkd", "vid")
    compiled.setup_ema(decay=0.5)
    evaluated = compiled.compile(backend="eager")
    compiled.compile_ema(backend="eager")
    assert evaluated is compiled.get_eval_model()
    for one, other in zip(steps(plain, 2), steps(compiled, 2), strict=True):
        assert other == pytest.approx(one, rel=1e-5)
    assert compiled.get_checkpoint_state()["state_dict"].keys() == networks()[0].state_dict().keys()
    assert compiled.get_task_state(ema=True)["objective"].keys() == plain.get_task_state()["objective"].keys()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_task_works_in_the_precision_it_is_made_for(dtype):
    student, teacher = networks()
    task = DistillationTask(
        student.to(dtype), teacher, {"ce": 1.0, "vid": 1.0, "dctkd": 1.0}, BATCHES[0].images, dtype=dtype, verbose=False
    )
    result = task(BATCHES[0].images.to(dtype), BATCHES[0].labels)
    assert result["output"].dtype == dtype and result["loss"].isfinite()
    result["loss"].backward()


def test_a_task_works_under_autocast():
    task = make("vid", "dctkd", "kd").train()
    with torch.autocast("cpu", torch.bfloat16):
        result = task(BATCHES[0].images, BATCHES[0].labels)
    result["loss"].backward()
    assert result["loss"].dtype == torch.float32 and result["loss"].isfinite()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"weights": {"ce": 1, "crd": 0.8}}, ZooError, r"^crd: needs each image's position .*`python -m train`"),
        ({"weights": {"ce": 1}}, ZooError, r"no term reads the teacher.*'dctkd'"),
        ({"weights": {"ce": 1, "kdd": 1}}, ValueError, r"Did you mean 'kd'"),
        ({"options": {"dctkd": {"trans": 1}}}, ValueError, r"trans"),
        ({"options": {"ce": {"label_smoothing": 2}}}, ValueError, r"label_smoothing is 2"),
        ({"weights": {"dctkd": 1}, "criterion": nn.CrossEntropyLoss()}, ZooError, r"criterion .* 'ce'"),
        ({"teacher": timm.create_model("resnet18", num_classes=7)}, TeacherMismatch, r"7 classes, the student 5"),
        ({"student": nn.Linear(1, 1)}, UnsupportedNetwork, r"Linear has no forward_intermediates"),
        ({"student": nn.Linear(1, 1), "mean": None}, ValueError, r"pass those of its images"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_by_name(change, error, words):
    student, teacher = networks()
    arguments = {"student": student, "teacher": teacher, "weights": {"ce": 1, "dctkd": 1}, "example": BATCHES[0].images}
    with pytest.raises(error, match=words):
        DistillationTask(**{**arguments, "mean": MEAN, "std": STD, **change})


def test_a_larger_batch_than_the_example_is_refused_by_the_term_that_minds():
    task = make("ckd", example=BATCHES[0].images[:4])
    with pytest.raises(ValueError, match="batch of 16 images, but ckd was set up for 4"):
        task(BATCHES[0].images, BATCHES[0].labels)


def test_two_ranks_have_the_losses_of_one_process(tmp_path):
    """Terms of single images; those that compare images do so over all ranks where the zoo's own code joined them."""
    command = world.torchrun(2, "tests.dctkd_zoo.task_on_ranks", str(tmp_path / "losses.json"))
    done = world.run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "losses.json").read_text())
    alone, compared = (task_on_ranks.curve(terms) for terms in (task_on_ranks.SINGLE, task_on_ranks.COMPARING))
    assert two["single"] == pytest.approx(alone, rel=1e-10)
    assert two["joined"] == pytest.approx(compared, rel=1e-10)
    assert two["comparing"] != pytest.approx(compared, rel=1e-8)
    assert len({round(loss, 6) for loss in alone}) == len(alone) == task_on_ranks.STEPS
