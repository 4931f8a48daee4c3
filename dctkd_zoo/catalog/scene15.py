"""15-Scene: the dataset and its entries, all trained from scratch and in minutes."""

from __future__ import annotations

from dataclasses import replace

from dctkd_zoo.catalog._paper import DCT2, entry
from dctkd_zoo.spec import Cosine, Dataset, Recipe

DATASET = Dataset(
    name="scene15",
    title="15-Scene",
    source="folders",
    num_classes=15,
    train=1_500,
    test=2_985,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    license="CC BY 4.0",
    url="https://figshare.com/articles/dataset/15-Scene_Image_Dataset/7007177",
    drop_leaked=True,
    notes="Grey images. The usual split has 2,985 test images; 11 of them stand in the training set too, "
    "byte for byte, and are left out.",
)

# Sized for two CPU cores: half the paper's geometry and a short schedule in small batches.
STUDENT = Recipe(
    epochs=8,
    batch_size=32,
    lr=0.025,
    schedule=Cosine(warmup=0.1),
    resize=128,
    crop=112,
    weight_decay=5e-4,
    test_every=4,
)
TEACHER = replace(STUDENT, epochs=15, lr=0.0125)

ENTRIES = (
    entry("r50_scene15", recipe=TEACHER),
    entry("r18_scene15", recipe=STUDENT),
    entry("r18_kd_scene15", recipe=STUDENT, teacher="r50_scene15"),
    entry("r18_at_scene15", recipe=STUDENT, teacher="r50_scene15"),
    entry("r18_dctkd_scene15", recipe=STUDENT, teacher="r50_scene15", options=DCT2),
    entry("r18_dctkd_kd_scene15", recipe=STUDENT, teacher="r50_scene15", options=DCT2),
)
