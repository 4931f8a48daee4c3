"""MIT Indoor 67: the dataset and its entries."""

from __future__ import annotations

from dctkd_zoo.catalog._paper import DCT2, DFT_SIGNED, FINETUNE, FINETUNE_R152, SCENE_MEAN, SCENE_STD, SCRATCH, entry
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

ENTRIES = (
    entry("r50_mit67", recipe=FINETUNE),
    entry("r152_mit67", recipe=FINETUNE_R152),
    entry("r18_mit67", recipe=SCRATCH),
    entry("r34_mit67", recipe=SCRATCH),
    entry("mbv2_mit67", recipe=SCRATCH),
    entry("r18_kd_mit67", recipe=SCRATCH, teacher="r50_mit67"),
    entry("r18_at_mit67", recipe=SCRATCH, teacher="r50_mit67"),
    entry("r18_at_kd_mit67", recipe=SCRATCH, teacher="r50_mit67"),
    entry("r18_dctkd_mit67", recipe=SCRATCH, teacher="r50_mit67"),
    entry("r18_dctkd_mit67.dct2", recipe=SCRATCH, teacher="r50_mit67", options=DCT2),
    entry("r18_dctkd_mit67.signed", recipe=SCRATCH, teacher="r50_mit67", options=DFT_SIGNED),
    entry("r18_dctkd_kd_mit67", recipe=SCRATCH, teacher="r50_mit67"),
    entry("r34_kd_mit67", recipe=SCRATCH, teacher="r152_mit67"),
    entry("r34_at_mit67", recipe=SCRATCH, teacher="r152_mit67"),
    entry("r34_at_kd_mit67", recipe=SCRATCH, teacher="r152_mit67"),
    entry("r34_dctkd_mit67", recipe=SCRATCH, teacher="r152_mit67"),
    entry("r34_dctkd_kd_mit67", recipe=SCRATCH, teacher="r152_mit67"),
    entry("mbv2_kd_mit67", recipe=SCRATCH, teacher="r50_mit67"),
    entry("mbv2_at_mit67", recipe=SCRATCH, teacher="r50_mit67"),
    entry("mbv2_at_kd_mit67", recipe=SCRATCH, teacher="r50_mit67"),
    entry("mbv2_dctkd_mit67", recipe=SCRATCH, teacher="r50_mit67"),
    entry("mbv2_dctkd_kd_mit67", recipe=SCRATCH, teacher="r50_mit67"),
)
