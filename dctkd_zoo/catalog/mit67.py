"""MIT Indoor 67: the dataset and its entries."""

from __future__ import annotations

from functools import partial

from dctkd_zoo.catalog._recipes import FINETUNE, FINETUNE_R152, SCENE_MEAN, SCENE_STD, SCRATCH, entry
from dctkd_zoo.spec import Archive, Dataset

DATASET = Dataset(
    name="mit67",
    title="MIT Indoor 67",
    source="mit67",
    num_classes=67,
    train=5_360,
    test=1_340,
    mean=SCENE_MEAN,
    std=SCENE_STD,
    license="research use; see url",
    url="http://web.mit.edu/torralba/www/indoor.html",
    archives=(
        Archive("http://groups.csail.mit.edu/vision/LabelMe/NewImages/indoorCVPR_09.tar"),
        Archive("http://web.mit.edu/torralba/www/TrainImages.txt", unpack=False),
        Archive("http://web.mit.edu/torralba/www/TestImages.txt", unpack=False),
    ),
)

baseline = partial(entry, recipe=SCRATCH)
from_r50 = partial(entry, recipe=SCRATCH, teacher="r50_mit67")
from_r152 = partial(entry, recipe=SCRATCH, teacher="r152_mit67")

ENTRIES = (
    # The teachers and the supervised baselines.
    entry("r50_mit67", FINETUNE),
    entry("r152_mit67", FINETUNE_R152),
    baseline("r18_mit67"),
    baseline("r34_mit67"),
    baseline("mbv2_mit67"),
    # ResNet-50 to ResNet-18, as released.
    from_r50("r18_kd_mit67"),
    from_r50("r18_at_mit67"),
    from_r50("r18_at_kd_mit67"),
    from_r50("r18_pkt_mit67"),
    from_r50("r18_pkt_kd_mit67"),
    from_r50("r18_vid_mit67"),
    from_r50("r18_vid_kd_mit67"),
    from_r50("r18_crd_mit67"),
    from_r50("r18_crd_kd_mit67"),
    from_r50("r18_dctkd_mit67"),
    from_r50("r18_dctkd_kd_mit67"),
    # ResNet-152 to ResNet-34, as released.
    from_r152("r34_kd_mit67"),
    from_r152("r34_at_mit67"),
    from_r152("r34_at_kd_mit67"),
    from_r152("r34_pkt_mit67"),
    from_r152("r34_pkt_kd_mit67"),
    from_r152("r34_vid_mit67"),
    from_r152("r34_vid_kd_mit67"),
    from_r152("r34_crd_mit67"),
    from_r152("r34_crd_kd_mit67"),
    from_r152("r34_dctkd_mit67"),
    from_r152("r34_dctkd_kd_mit67"),
    # ResNet-50 to MobileNetV2, as released.
    from_r50("mbv2_kd_mit67"),
    from_r50("mbv2_at_mit67"),
    from_r50("mbv2_at_kd_mit67"),
    from_r50("mbv2_pkt_mit67"),
    from_r50("mbv2_pkt_kd_mit67"),
    from_r50("mbv2_vid_mit67"),
    from_r50("mbv2_vid_kd_mit67"),
    from_r50("mbv2_crd_mit67"),
    from_r50("mbv2_crd_kd_mit67"),
    from_r50("mbv2_dctkd_mit67"),
    from_r50("mbv2_dctkd_kd_mit67"),
)
