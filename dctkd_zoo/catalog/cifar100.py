"""CIFAR-100: the dataset, for catalogs outside this package."""

from __future__ import annotations

from dctkd_zoo.spec import Archive, Dataset, Entry

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
    notes="Objects and animals, no scenes. The authors reported nothing on CIFAR-100, though their scripts train "
    "on it, without the prediction guide.",
    tags=(),
)

# No network was trained or reported: the release's grid is in examples/catalogs/cifar100.py.
ENTRIES: tuple[Entry, ...] = ()
