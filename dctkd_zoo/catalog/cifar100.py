"""CIFAR-100: the dataset, and entries of later methods for which their authors reported figures."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from dctkd_zoo.catalog._recipes import ALPHA_STANDARDISED, DKD_RAMP, STANDARDISED, entry
from dctkd_zoo.schedules import MultiStep
from dctkd_zoo.spec import Archive, Dataset, Recipe

DATASET = Dataset(
    name="cifar100",
    title="CIFAR-100",
    source="cifar100",
    num_classes=100,
    train=50_000,
    test=10_000,
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
    license="research use; see url",
    url="https://www.cs.toronto.edu/~kriz/cifar.html",
    archives=(Archive("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"),),
    notes="Objects and animals, no scenes. The authors of the paper reported nothing on CIFAR-100, though their "
    "scripts train on it, without the prediction guide; figures of other methods are from their authors' repositories.",
    tags=(),
)

# As MDistiller trains, whose figures later methods are compared by (megvii-research/mdistiller). The grid of the
# release's scripts, with a batch size of 128, is in examples/catalogs/cifar100.py.
MDISTILLER = Recipe(
    epochs=240,
    batch_size=64,
    lr=0.05,
    schedule=MultiStep((150, 180, 210)),
    resize=32,
    pad=4,
    crop=32,
    weight_decay=5e-4,
)
DKD = replace(MDISTILLER, ramps=DKD_RAMP)
KD_ALPHA = {"kd": 0.9}
FEW = {"dkd": {"beta": 2.0}}

supervised = partial(entry, recipe=MDISTILLER)
r56 = partial(entry, recipe=MDISTILLER, teacher="r56_cifar100.mdistiller")
r110 = partial(entry, recipe=MDISTILLER, teacher="r110_cifar100.mdistiller")
r32x4 = partial(entry, recipe=MDISTILLER, teacher="r32x4_cifar100.mdistiller")

ENTRIES = (
    supervised("r56_cifar100.mdistiller"),
    supervised("r110_cifar100.mdistiller"),
    supervised("r32x4_cifar100.mdistiller"),
    supervised("r20_cifar100.mdistiller"),
    supervised("r32_cifar100.mdistiller"),
    supervised("r8x4_cifar100.mdistiller"),
    r56("r20_kd_cifar100.mdistiller", alpha=KD_ALPHA),
    r110("r32_kd_cifar100.mdistiller", alpha=KD_ALPHA),
    r32x4("r8x4_kd_cifar100.mdistiller", alpha=KD_ALPHA),
    r56("r20_dkd_cifar100.mdistiller", recipe=DKD, options=FEW),
    r110("r32_dkd_cifar100.mdistiller", recipe=DKD, options=FEW),
    r32x4("r8x4_dkd_cifar100.mdistiller", recipe=DKD),
    r56("r20_kd_cifar100.std", options=STANDARDISED, alpha=ALPHA_STANDARDISED),
    r110("r32_kd_cifar100.std", options=STANDARDISED, alpha=ALPHA_STANDARDISED),
    r32x4("r8x4_kd_cifar100.std", options=STANDARDISED, alpha=ALPHA_STANDARDISED),
)
