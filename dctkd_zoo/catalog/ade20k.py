"""ADE20K by its scene labels: the dataset and its entries.

There are 1,055 classes with a long tail: 383 of them have no test image, and 15 test images are of classes without a
training image, so the highest possible top-1 is 99.25 %.
"""

from __future__ import annotations

from functools import partial

from dctkd_zoo.catalog._recipes import FINETUNE, FINETUNE_R152, SCENE_MEAN, SCENE_STD, SCRATCH, entry
from dctkd_zoo.spec import Archive, Dataset

DATASET = Dataset(
    name="ade20k",
    title="ADE20K",
    source="ade20k",
    num_classes=1055,
    train=20_210,
    test=2_000,
    mean=SCENE_MEAN,
    std=SCENE_STD,
    license="images for non-commercial research and education; see url",
    url="https://groups.csail.mit.edu/vision/datasets/ADE20K/",
    archives=(Archive("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"),),
    notes="The scene parsing release (ADEChallengeData2016); its validation set is the test set. "
    "383 of the classes have no test image, and 15 test images are of classes without a training image.",
)

baseline = partial(entry, recipe=SCRATCH)
from_r50 = partial(entry, recipe=SCRATCH, teacher="r50_ade20k")
from_r152 = partial(entry, recipe=SCRATCH, teacher="r152_ade20k")

ENTRIES = (
    # The teachers and the supervised baselines.
    entry("r50_ade20k", FINETUNE),
    entry("r152_ade20k", FINETUNE_R152),
    baseline("r18_ade20k"),
    baseline("r34_ade20k"),
    baseline("mbv2_ade20k"),
    # ResNet-50 to ResNet-18, as released.
    from_r50("r18_kd_ade20k"),
    from_r50("r18_at_ade20k"),
    from_r50("r18_at_kd_ade20k"),
    from_r50("r18_pkt_ade20k"),
    from_r50("r18_pkt_kd_ade20k"),
    from_r50("r18_vid_ade20k"),
    from_r50("r18_vid_kd_ade20k"),
    from_r50("r18_crd_ade20k"),
    from_r50("r18_crd_kd_ade20k"),
    from_r50("r18_ckd_ade20k"),
    from_r50("r18_ckd_kd_ade20k"),
    from_r50("r18_review_ade20k"),
    from_r50("r18_dctkd_ade20k"),
    from_r50("r18_dctkd_kd_ade20k"),
    # ResNet-152 to ResNet-34, as released.
    from_r152("r34_kd_ade20k"),
    from_r152("r34_at_ade20k"),
    from_r152("r34_at_kd_ade20k"),
    from_r152("r34_pkt_ade20k"),
    from_r152("r34_pkt_kd_ade20k"),
    from_r152("r34_vid_ade20k"),
    from_r152("r34_vid_kd_ade20k"),
    from_r152("r34_crd_ade20k"),
    from_r152("r34_crd_kd_ade20k"),
    from_r152("r34_ckd_ade20k"),
    from_r152("r34_ckd_kd_ade20k"),
    from_r152("r34_dctkd_ade20k"),
    from_r152("r34_dctkd_kd_ade20k"),
    # ResNet-50 to MobileNetV2, as released.
    from_r50("mbv2_kd_ade20k"),
    from_r50("mbv2_at_ade20k"),
    from_r50("mbv2_at_kd_ade20k"),
    from_r50("mbv2_pkt_ade20k"),
    from_r50("mbv2_pkt_kd_ade20k"),
    from_r50("mbv2_vid_ade20k"),
    from_r50("mbv2_vid_kd_ade20k"),
    from_r50("mbv2_crd_ade20k"),
    from_r50("mbv2_crd_kd_ade20k"),
    from_r50("mbv2_ckd_ade20k"),
    from_r50("mbv2_ckd_kd_ade20k"),
    from_r50("mbv2_dctkd_ade20k"),
    from_r50("mbv2_dctkd_kd_ade20k"),
    # The weight of the loss; r18_dctkd_ade20k has 1.
    from_r50("r18_dctkd_ade20k.a0p1", alpha={"dctkd": 0.1}),
    from_r50("r18_dctkd_ade20k.a0p2", alpha={"dctkd": 0.2}),
    from_r50("r18_dctkd_ade20k.a0p3", alpha={"dctkd": 0.3}),
    from_r50("r18_dctkd_ade20k.a0p4", alpha={"dctkd": 0.4}),
    from_r50("r18_dctkd_ade20k.a0p5", alpha={"dctkd": 0.5}),
    from_r50("r18_dctkd_ade20k.a0p6", alpha={"dctkd": 0.6}),
    from_r50("r18_dctkd_ade20k.a0p7", alpha={"dctkd": 0.7}),
    from_r50("r18_dctkd_ade20k.a0p8", alpha={"dctkd": 0.8}),
    from_r50("r18_dctkd_ade20k.a0p9", alpha={"dctkd": 0.9}),
    from_r50("r18_dctkd_ade20k.a1p5", alpha={"dctkd": 1.5}),
    from_r50("r18_dctkd_ade20k.a2", alpha={"dctkd": 2.0}),
    from_r50("r18_dctkd_ade20k.a3", alpha={"dctkd": 3.0}),
    from_r50("r18_dctkd_ade20k.a5", alpha={"dctkd": 5.0}),
)
