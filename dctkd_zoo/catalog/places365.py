"""Places365-Standard: the dataset and its entries. Recipes alone: nobody reported the method's figures on it."""

from __future__ import annotations

from dataclasses import replace

from dctkd_zoo.catalog._recipes import CORRECTED, entry
from dctkd_zoo.schedules import Step
from dctkd_zoo.spec import Archive, Dataset, Recipe

_HOST = "http://data.csail.mit.edu/places/places365"

DATASET = Dataset(
    name="places365",
    title="Places365-Standard",
    source="places365",
    num_classes=365,
    train=1_803_460,
    test=36_500,
    license="see url: annotations are CC BY, images stay their owners' and are for research alone",
    url="http://places2.csail.mit.edu/download.html",
    archives=(
        Archive(f"{_HOST}/filelist_places365-standard.tar"),
        Archive(f"{_HOST}/train_256_places365standard.tar"),
        Archive(f"{_HOST}/val_256.tar"),
    ),
    notes="The small images, 256 x 256 px. The test images here are the official validation set, for the labels of the "
    "official test set are not public. Files and addresses are those in torchvision, licence and sizes are from "
    "memory: neither was fetched by this project.",
)

# The schedule that is usual for ImageNet, which has two thirds as many images.
STUDENT = Recipe(
    epochs=90,
    batch_size=256,
    lr=0.1,
    schedule=Step(30, 0.1),
    resize=256,
    crop=224,
    weight_decay=1e-4,
)
# From ImageNet a third of that, at the paper's rate for teachers.
TEACHER = replace(STUDENT, epochs=30, lr=0.01, schedule=Step(10, 0.1), pretrained="tv_in1k")

ENTRIES = (
    # The teacher, and the students trained on labels alone.
    entry("r50_places365", TEACHER),
    entry("r18_places365", STUDENT),
    entry("mbv2_places365", STUDENT),
    # ResNet-50 to ResNet-18.
    entry("r18_kd_places365", STUDENT, "r50_places365"),
    entry("r18_at_places365", STUDENT, "r50_places365", options=CORRECTED),
    entry("r18_dctkd_places365", STUDENT, "r50_places365", options=CORRECTED),
    entry("r18_dctkd_kd_places365", STUDENT, "r50_places365", options=CORRECTED),
    # ResNet-50 to MobileNetV2.
    entry("mbv2_kd_places365", STUDENT, "r50_places365"),
    entry("mbv2_at_places365", STUDENT, "r50_places365", options=CORRECTED),
    entry("mbv2_dctkd_places365", STUDENT, "r50_places365", options=CORRECTED),
    entry("mbv2_dctkd_kd_places365", STUDENT, "r50_places365", options=CORRECTED),
)
