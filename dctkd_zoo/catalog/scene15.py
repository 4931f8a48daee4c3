"""15-Scene: the dataset and its entries; the teacher and a classifier for photographs start from ImageNet."""

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
    LOW2,
    LOW4,
    RELEASED,
    SIGNED,
    STANDARDISED,
    entry,
    unsupervised,
)
from dctkd_zoo.schedules import Cosine
from dctkd_zoo.spec import Dataset, Recipe

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
    unlabelled="dataset:miniplaces12k",
    notes="Grey images. The usual split has 2,985 test images; 11 of them are also in the training "
    "set, byte for byte, and are left out.",
    limits="It has only seen grey photographs of whole scenes, mostly in daylight, of the 1990s and early 2000s. It is "
    "not for close-ups, people or single objects, nor for telling scenes apart by colour.",
)

# The teacher and the classifier for users, on images of their full size. Chosen on a held-out fifth of the training
# set (docs/training.md).
TEACHER = Recipe(
    epochs=20,
    batch_size=32,
    lr=0.02,
    head_lr=0.1,
    schedule=Cosine(warmup=0.1),
    resize=128,
    crop=112,
    nesterov=True,
    weight_decay=1e-4,
    pretrained="in1k",
    test_every=5,
    augment="rrc",
    rrc_scale=(0.2, 1.0),
    label_smoothing=0.1,
    precision="float32",
)
CLASSIFIER = replace(TEACHER, epochs=15, resize=256, crop=224)

# Students and baselines start from scratch. Learning rates were chosen for the supervised baselines on a part of the
# training set (docs/training.md); all terms of an architecture share them.
STUDENT = Recipe(
    epochs=30,
    batch_size=32,
    lr=0.0125,
    schedule=Cosine(warmup=0.1),
    resize=128,
    crop=112,
    weight_decay=5e-4,
    test_every=5,
)
MOBILE = replace(STUDENT, lr=0.05)
DKD, DKD_MOBILE = replace(STUDENT, ramps=DKD_RAMP), replace(MOBILE, ramps=DKD_RAMP)
LONG = replace(STUDENT, epochs=60)
# A patient teacher (Beyer et al., CVPR 2022): the student only matches its answers, on strong crops and blends of
# images. With the training images of MiniPlaces-12k, without labels, it sees about as many images in all.
PATIENT = replace(LONG, augment="rrc", rrc_scale=(0.2, 1.0), mixup=1.0)
UNLABELLED = replace(PATIENT, epochs=7, test_every=1, unlabelled=True)

baseline = partial(entry, recipe=STUDENT)
student = partial(entry, recipe=STUDENT, teacher="el2_scene15", options=CORRECTED)
mobile = partial(student, recipe=MOBILE)

ENTRIES = (
    # The teacher, a classifier for photographs, and the supervised baselines.
    entry("el2_scene15", TEACHER),
    entry("el0_scene15.px224", CLASSIFIER),
    baseline("r18_scene15"),
    baseline("mbv2_scene15", recipe=MOBILE),
    # EfficientNet-Lite2 to ResNet-18.
    student("r18_kd_scene15"),
    student("r18_at_scene15"),
    student("r18_at_kd_scene15"),
    student("r18_pkt_scene15"),
    student("r18_pkt_kd_scene15"),
    student("r18_vid_scene15"),
    student("r18_vid_kd_scene15"),
    student("r18_crd_scene15"),
    student("r18_crd_kd_scene15"),
    student("r18_review_scene15"),
    student("r18_review_kd_scene15"),
    student("r18_dctkd_scene15"),
    student("r18_dctkd_kd_scene15"),
    student("r18_dist_scene15"),
    student("r18_dkd_scene15", recipe=DKD),
    student("r18_kd_scene15.std", options=STANDARDISED, alpha=ALPHA_STANDARDISED),
    student("r18_sp_scene15"),
    student("r18_cat_scene15"),
    student("r18_fft_scene15"),
    student("r18_wavelet_scene15"),
    unsupervised("r18_e2kd_scene15", recipe=STUDENT, teacher="el2_scene15"),
    # EfficientNet-Lite2 to MobileNetV2.
    mobile("mbv2_kd_scene15"),
    mobile("mbv2_at_scene15"),
    mobile("mbv2_at_kd_scene15"),
    mobile("mbv2_pkt_scene15"),
    mobile("mbv2_pkt_kd_scene15"),
    mobile("mbv2_vid_scene15"),
    mobile("mbv2_vid_kd_scene15"),
    mobile("mbv2_crd_scene15"),
    mobile("mbv2_crd_kd_scene15"),
    mobile("mbv2_review_scene15"),
    mobile("mbv2_review_kd_scene15"),
    mobile("mbv2_dctkd_scene15"),
    mobile("mbv2_dctkd_kd_scene15"),
    mobile("mbv2_dist_scene15"),
    mobile("mbv2_dkd_scene15", recipe=DKD_MOBILE),
    mobile("mbv2_kd_scene15.std", options=STANDARDISED, alpha=ALPHA_STANDARDISED),
    mobile("mbv2_sp_scene15"),
    mobile("mbv2_cat_scene15"),
    mobile("mbv2_fft_scene15"),
    mobile("mbv2_wavelet_scene15"),
    unsupervised("mbv2_e2kd_scene15", recipe=MOBILE, teacher="el2_scene15"),
    # The loss under the transforms of the release.
    student("r18_dctkd_scene15.signed", options=SIGNED),
    student("r18_dctkd_scene15.abs", options=RELEASED),
    mobile("mbv2_dctkd_scene15.signed", options=SIGNED),
    mobile("mbv2_dctkd_scene15.abs", options=RELEASED),
    # The loss on only the lowest frequencies.
    student("r18_dctkd_scene15.low4", options=LOW4),
    student("r18_dctkd_scene15.low2", options=LOW2),
    # The loss with maps of unit energy, with learned weights of their bands, and with class maps.
    student("r18_dctkd_scene15.energy", options=ENERGY),
    student("r18_dctkd_scene15.bands", options=BANDS, alpha=ALPHA_BANDS),
    student("r18_dctkd_scene15.class", options=CLASS_MAP),
    mobile("mbv2_dctkd_scene15.energy", options=ENERGY),
    mobile("mbv2_dctkd_scene15.bands", options=BANDS, alpha=ALPHA_BANDS),
    mobile("mbv2_dctkd_scene15.class", options=CLASS_MAP),
    # Twice as many epochs.
    baseline("r18_scene15.long", recipe=LONG),
    student("r18_dctkd_scene15.long", recipe=LONG),
    # A patient teacher and no labels, also with more images.
    unsupervised("r18_kd_scene15.patient", recipe=PATIENT, teacher="el2_scene15"),
    unsupervised("r18_kd_scene15.unlabelled", recipe=UNLABELLED, teacher="el2_scene15"),
    unsupervised("r18_dctkd_kd_scene15.patient", recipe=PATIENT, teacher="el2_scene15"),
    unsupervised("r18_dctkd_kd_scene15.unlabelled", recipe=UNLABELLED, teacher="el2_scene15"),
)
