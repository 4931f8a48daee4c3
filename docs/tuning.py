"""Catalog file for `--catalog`: candidate recipes for 15-Scene, tested on one in five of its training images."""

from __future__ import annotations

from dataclasses import replace

from dctkd_zoo.catalog._recipes import entry
from dctkd_zoo.catalog.scene15 import DATASET as WHOLE
from dctkd_zoo.catalog.scene15 import STUDENT, TEACHER

DATASET = replace(WHOLE, name="scene15dev", source="held/scene15", train=1_200, test=300, drop_leaked=False)
# Learning rates of students, from scratch for 8 epochs.
STUDENTS = {"r18": (0.006, 0.0125, 0.025, 0.05), "mbv2": (0.0125, 0.025, 0.05, 0.1)}
# Fine-tuning of the teacher.
TEACHERS = {
    "crop12": replace(TEACHER, epochs=12, lr=0.01, augment="crop_flip", test_every=2),
    "rrc12": replace(TEACHER, epochs=12, rrc_scale=(0.35, 1.0), test_every=2),
    "rrc20": replace(TEACHER, test_every=2),
    "small16": replace(
        TEACHER, epochs=16, batch_size=16, lr=0.01, head_lr=0.05, rrc_scale=(0.25, 1.0), resize=112, test_every=2
    ),
}

ENTRIES = (
    *(
        entry(f"{arch}_scene15dev.lr{lr:g}".replace("0.", "0p"), replace(STUDENT, epochs=8, lr=lr, test_every=2))
        for arch, learning_rates in STUDENTS.items()
        for lr in learning_rates
    ),
    *(entry(f"el2_scene15dev.{variant}", recipe) for variant, recipe in TEACHERS.items()),
)
