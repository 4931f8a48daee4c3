"""Intel Image Classification, six kinds of outdoor scene: pretraining of the teacher of 15-Scene."""

from __future__ import annotations

from dctkd_zoo.catalog._recipes import entry
from dctkd_zoo.schedules import Cosine
from dctkd_zoo.spec import Dataset, Recipe

DATASET = Dataset(
    name="intel6",
    title="Intel Image Classification",
    source="folders",
    num_classes=6,
    train=14_034,
    test=3_000,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    license="unknown",
    url="https://www.kaggle.com/datasets/puneet6060/intel-image-classification",
    notes="Its owners state no licence, so it is unclear what weights trained on it may be used for.",
)

# Small crops of many images: this network only serves as initial weights.
TEACHER = Recipe(
    epochs=12,
    batch_size=64,
    lr=0.05,
    schedule=Cosine(warmup=0.1),
    resize=80,
    crop=64,
    weight_decay=5e-4,
    test_every=3,
)

ENTRIES = (entry("r50_intel6", TEACHER),)
