"""SUN397, official partition 1: the dataset and its entries."""

from __future__ import annotations

from functools import partial

from dctkd_zoo.catalog._recipes import FINETUNE, FINETUNE_R152, SCENE_MEAN, SCENE_STD, SCRATCH, entry
from dctkd_zoo.spec import Archive, Dataset

DATASET = Dataset(
    name="sun397",
    title="SUN397",
    source="sun397",
    num_classes=397,
    train=19_850,
    test=19_850,
    mean=SCENE_MEAN,
    std=SCENE_STD,
    license="research use; see url",
    url="https://vision.princeton.edu/projects/2010/SUN/",
    archives=(
        Archive("http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz"),
        Archive("https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip"),
    ),
    notes="Official partition 1, 50 training and 50 test images per class. The authors' released lists name "
    "the same images for training and test (docs/method.md, D-3), so their figures are of an unknown split.",
)

baseline = partial(entry, recipe=SCRATCH)
from_r50 = partial(entry, recipe=SCRATCH, teacher="r50_sun397")
from_r152 = partial(entry, recipe=SCRATCH, teacher="r152_sun397")

ENTRIES = (
    # The teachers and the supervised baselines.
    entry("r50_sun397", FINETUNE),
    entry("r152_sun397", FINETUNE_R152),
    baseline("r18_sun397"),
    baseline("r34_sun397"),
    baseline("mbv2_sun397"),
    # ResNet-50 to ResNet-18, as released.
    from_r50("r18_kd_sun397"),
    from_r50("r18_at_sun397"),
    from_r50("r18_at_kd_sun397"),
    from_r50("r18_pkt_sun397"),
    from_r50("r18_pkt_kd_sun397"),
    from_r50("r18_vid_sun397"),
    from_r50("r18_vid_kd_sun397"),
    from_r50("r18_crd_sun397"),
    from_r50("r18_crd_kd_sun397"),
    from_r50("r18_dctkd_sun397"),
    from_r50("r18_dctkd_kd_sun397"),
    # ResNet-152 to ResNet-34, as released.
    from_r152("r34_kd_sun397"),
    from_r152("r34_at_sun397"),
    from_r152("r34_at_kd_sun397"),
    from_r152("r34_pkt_sun397"),
    from_r152("r34_pkt_kd_sun397"),
    from_r152("r34_vid_sun397"),
    from_r152("r34_vid_kd_sun397"),
    from_r152("r34_crd_sun397"),
    from_r152("r34_crd_kd_sun397"),
    from_r152("r34_dctkd_sun397"),
    from_r152("r34_dctkd_kd_sun397"),
    # ResNet-50 to MobileNetV2, as released.
    from_r50("mbv2_kd_sun397"),
    from_r50("mbv2_at_sun397"),
    from_r50("mbv2_at_kd_sun397"),
    from_r50("mbv2_pkt_sun397"),
    from_r50("mbv2_pkt_kd_sun397"),
    from_r50("mbv2_vid_sun397"),
    from_r50("mbv2_vid_kd_sun397"),
    from_r50("mbv2_crd_sun397"),
    from_r50("mbv2_crd_kd_sun397"),
    from_r50("mbv2_dctkd_sun397"),
    from_r50("mbv2_dctkd_kd_sun397"),
)
