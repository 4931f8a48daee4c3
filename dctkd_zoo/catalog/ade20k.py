"""ADE20K by its scene labels: the dataset and its entries.

1,055 classes with a long tail: 383 of them have no test image, and 15 test images show scenes that
training never does, so 99.25 % top-1 is the most there is (METHOD.md section 3).
"""

from __future__ import annotations

from dctkd_zoo.catalog._paper import DCT2, DFT_SIGNED, FINETUNE, FINETUNE_R152, SCENE_MEAN, SCENE_STD, SCRATCH, entry
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

ENTRIES = (
    entry("r50_ade20k", recipe=FINETUNE),
    entry("r152_ade20k", recipe=FINETUNE_R152),
    entry("r18_ade20k", recipe=SCRATCH),
    entry("r34_ade20k", recipe=SCRATCH),
    entry("mbv2_ade20k", recipe=SCRATCH),
    entry("r18_kd_ade20k", recipe=SCRATCH, teacher="r50_ade20k"),
    entry("r18_at_ade20k", recipe=SCRATCH, teacher="r50_ade20k"),
    entry("r18_at_kd_ade20k", recipe=SCRATCH, teacher="r50_ade20k"),
    entry("r18_dctkd_ade20k", recipe=SCRATCH, teacher="r50_ade20k"),
    entry("r18_dctkd_ade20k.dct2", recipe=SCRATCH, teacher="r50_ade20k", options=DCT2),
    entry("r18_dctkd_ade20k.signed", recipe=SCRATCH, teacher="r50_ade20k", options=DFT_SIGNED),
    entry("r18_dctkd_kd_ade20k", recipe=SCRATCH, teacher="r50_ade20k"),
    entry("r34_kd_ade20k", recipe=SCRATCH, teacher="r152_ade20k"),
    entry("r34_at_ade20k", recipe=SCRATCH, teacher="r152_ade20k"),
    entry("r34_at_kd_ade20k", recipe=SCRATCH, teacher="r152_ade20k"),
    entry("r34_dctkd_ade20k", recipe=SCRATCH, teacher="r152_ade20k"),
    entry("r34_dctkd_kd_ade20k", recipe=SCRATCH, teacher="r152_ade20k"),
    entry("mbv2_kd_ade20k", recipe=SCRATCH, teacher="r50_ade20k"),
    entry("mbv2_at_ade20k", recipe=SCRATCH, teacher="r50_ade20k"),
    entry("mbv2_at_kd_ade20k", recipe=SCRATCH, teacher="r50_ade20k"),
    entry("mbv2_dctkd_ade20k", recipe=SCRATCH, teacher="r50_ade20k"),
    entry("mbv2_dctkd_kd_ade20k", recipe=SCRATCH, teacher="r50_ade20k"),
)
