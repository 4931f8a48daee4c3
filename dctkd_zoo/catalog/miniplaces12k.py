"""A part of MiniPlaces that two CPU cores can train on: the dataset and its entries, from an ImageNet teacher."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from dctkd_zoo.catalog._recipes import (
    ALPHA_BANDS,
    ALPHA_STANDARDISED,
    BANDS,
    CLASS_MAP,
    CORRECTED,
    DKD_RAMP,
    ENERGY,
    STANDARDISED,
    entry,
    unsupervised,
)
from dctkd_zoo.catalog.miniplaces import DATASET as WHOLE
from dctkd_zoo.schedules import Cosine
from dctkd_zoo.spec import Recipe

DATASET = replace(
    WHOLE,
    name="miniplaces12k",
    title="MiniPlaces-12k",
    source="miniplaces/12k",
    train=12_000,
    notes="120 training images of each class, chosen by a rule (dctkd_zoo/data/sources/miniplaces.py), and the whole "
    "official validation set to test on.",
)

# The teacher and the classifier for users start from ImageNet and see enlarged images, for which their weights were
# made. Chosen on a held-out fifth of the training set (docs/training.md).
TEACHER = Recipe(
    epochs=6,
    batch_size=64,
    lr=0.03,
    head_lr=0.3,
    schedule=Cosine(warmup=0.1),
    resize=149,
    crop=128,
    nesterov=True,
    weight_decay=1e-4,
    pretrained="in1k",
    test_every=6,
    label_smoothing=0.1,
    precision="float32",
)
CLASSIFIER = replace(TEACHER, epochs=5, resize=160, crop=144, test_every=5)

# Students and baselines start from scratch.
STUDENT = Recipe(
    epochs=10,
    batch_size=64,
    lr=0.05,
    schedule=Cosine(warmup=0.1),
    resize=112,
    crop=96,
    nesterov=True,
    weight_decay=5e-4,
    test_every=5,
)
DKD = replace(STUDENT, ramps=DKD_RAMP)

baseline = partial(entry, recipe=STUDENT)
student = partial(entry, recipe=STUDENT, teacher="el2_miniplaces12k", options=CORRECTED)

TRAINED = (
    # The teacher, a classifier for photographs, and the supervised baselines.
    entry("el2_miniplaces12k", TEACHER),
    entry("el0_miniplaces12k", CLASSIFIER),
    baseline("r18_miniplaces12k"),
    baseline("mbv2_miniplaces12k"),
    baseline("mnv4_miniplaces12k"),
    # EfficientNet-Lite2 to ResNet-18.
    student("r18_kd_miniplaces12k"),
    student("r18_at_miniplaces12k"),
    student("r18_at_kd_miniplaces12k"),
    student("r18_dctkd_miniplaces12k"),
    student("r18_dctkd_kd_miniplaces12k"),
    student("r18_dist_miniplaces12k"),
    student("r18_dkd_miniplaces12k", recipe=DKD),
    student("r18_kd_miniplaces12k.std", options=STANDARDISED, alpha=ALPHA_STANDARDISED),
    student("r18_sp_miniplaces12k"),
    student("r18_cat_miniplaces12k"),
    student("r18_fft_miniplaces12k"),
    student("r18_wavelet_miniplaces12k"),
    unsupervised("r18_e2kd_miniplaces12k", recipe=STUDENT, teacher="el2_miniplaces12k"),
    student("r18_dctkd_miniplaces12k.energy", options=ENERGY),
    student("r18_dctkd_miniplaces12k.bands", options=BANDS, alpha=ALPHA_BANDS),
    student("r18_dctkd_miniplaces12k.class", options=CLASS_MAP),
    # EfficientNet-Lite2 to MobileNetV2.
    student("mbv2_kd_miniplaces12k"),
    student("mbv2_at_miniplaces12k"),
    student("mbv2_at_kd_miniplaces12k"),
    student("mbv2_dctkd_miniplaces12k"),
    student("mbv2_dctkd_kd_miniplaces12k"),
    student("mbv2_dist_miniplaces12k"),
    student("mbv2_dkd_miniplaces12k", recipe=DKD),
    student("mbv2_kd_miniplaces12k.std", options=STANDARDISED, alpha=ALPHA_STANDARDISED),
    student("mbv2_sp_miniplaces12k"),
    student("mbv2_cat_miniplaces12k"),
    student("mbv2_fft_miniplaces12k"),
    student("mbv2_wavelet_miniplaces12k"),
    unsupervised("mbv2_e2kd_miniplaces12k", recipe=STUDENT, teacher="el2_miniplaces12k"),
    student("mbv2_dctkd_miniplaces12k.energy", options=ENERGY),
    student("mbv2_dctkd_miniplaces12k.bands", options=BANDS, alpha=ALPHA_BANDS),
    student("mbv2_dctkd_miniplaces12k.class", options=CLASS_MAP),
    # EfficientNet-Lite2 to MobileNetV4.
    student("mnv4_kd_miniplaces12k"),
    student("mnv4_at_miniplaces12k"),
    student("mnv4_at_kd_miniplaces12k"),
    student("mnv4_dctkd_miniplaces12k"),
    student("mnv4_dctkd_kd_miniplaces12k"),
)
# The images are for non-commercial use, so the weights are too.
ENTRIES = tuple(replace(item, license="cc-by-nc-4.0") for item in TRAINED)
