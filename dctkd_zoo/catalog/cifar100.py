"""CIFAR-100: the dataset and its entries."""

from __future__ import annotations

from dctkd_zoo.catalog._paper import CIFAR, UNGUIDED, entry
from dctkd_zoo.spec import Archive, Dataset

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
    notes="The authors reported nothing on CIFAR-100, though their scripts train on it, without the prediction guide.",
)

ENTRIES = (
    entry("r56_cifar100", recipe=CIFAR),
    entry("r110_cifar100", recipe=CIFAR),
    entry("r32x4_cifar100", recipe=CIFAR),
    entry("r20_cifar100", recipe=CIFAR),
    entry("r32_cifar100", recipe=CIFAR),
    entry("r8x4_cifar100", recipe=CIFAR),
    entry("r20_kd_cifar100", recipe=CIFAR, teacher="r56_cifar100"),
    entry("r20_at_cifar100", recipe=CIFAR, teacher="r56_cifar100"),
    entry("r20_at_kd_cifar100", recipe=CIFAR, teacher="r56_cifar100"),
    entry("r20_dctkd_cifar100", recipe=CIFAR, teacher="r56_cifar100", options=UNGUIDED),
    entry("r20_dctkd_kd_cifar100", recipe=CIFAR, teacher="r56_cifar100", options=UNGUIDED),
    entry("r20_kd_cifar100.r110", recipe=CIFAR, teacher="r110_cifar100"),
    entry("r20_at_cifar100.r110", recipe=CIFAR, teacher="r110_cifar100"),
    entry("r20_at_kd_cifar100.r110", recipe=CIFAR, teacher="r110_cifar100"),
    entry("r20_dctkd_cifar100.r110", recipe=CIFAR, teacher="r110_cifar100", options=UNGUIDED),
    entry("r20_dctkd_kd_cifar100.r110", recipe=CIFAR, teacher="r110_cifar100", options=UNGUIDED),
    entry("r32_kd_cifar100", recipe=CIFAR, teacher="r110_cifar100"),
    entry("r32_at_cifar100", recipe=CIFAR, teacher="r110_cifar100"),
    entry("r32_at_kd_cifar100", recipe=CIFAR, teacher="r110_cifar100"),
    entry("r32_dctkd_cifar100", recipe=CIFAR, teacher="r110_cifar100", options=UNGUIDED),
    entry("r32_dctkd_kd_cifar100", recipe=CIFAR, teacher="r110_cifar100", options=UNGUIDED),
    entry("r8x4_kd_cifar100", recipe=CIFAR, teacher="r32x4_cifar100"),
    entry("r8x4_at_cifar100", recipe=CIFAR, teacher="r32x4_cifar100"),
    entry("r8x4_at_kd_cifar100", recipe=CIFAR, teacher="r32x4_cifar100"),
    entry("r8x4_dctkd_cifar100", recipe=CIFAR, teacher="r32x4_cifar100", options=UNGUIDED),
    entry("r8x4_dctkd_kd_cifar100", recipe=CIFAR, teacher="r32x4_cifar100", options=UNGUIDED),
)
