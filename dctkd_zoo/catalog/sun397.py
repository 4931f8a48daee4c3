"""SUN397, official partition 1: the dataset and its entries."""

from __future__ import annotations

from dctkd_zoo.catalog._paper import DCT2, DFT_SIGNED, FINETUNE, FINETUNE_R152, SCENE_MEAN, SCENE_STD, SCRATCH, entry
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
    "the same images for training and test (METHOD.md D-3), so their figures are of an unknown split.",
)

ENTRIES = (
    entry("r50_sun397", recipe=FINETUNE),
    entry("r152_sun397", recipe=FINETUNE_R152),
    entry("r18_sun397", recipe=SCRATCH),
    entry("r34_sun397", recipe=SCRATCH),
    entry("mbv2_sun397", recipe=SCRATCH),
    entry("r18_kd_sun397", recipe=SCRATCH, teacher="r50_sun397"),
    entry("r18_at_sun397", recipe=SCRATCH, teacher="r50_sun397"),
    entry("r18_at_kd_sun397", recipe=SCRATCH, teacher="r50_sun397"),
    entry("r18_dctkd_sun397", recipe=SCRATCH, teacher="r50_sun397"),
    entry("r18_dctkd_sun397.dct2", recipe=SCRATCH, teacher="r50_sun397", options=DCT2),
    entry("r18_dctkd_sun397.signed", recipe=SCRATCH, teacher="r50_sun397", options=DFT_SIGNED),
    entry("r18_dctkd_kd_sun397", recipe=SCRATCH, teacher="r50_sun397"),
    entry("r34_kd_sun397", recipe=SCRATCH, teacher="r152_sun397"),
    entry("r34_at_sun397", recipe=SCRATCH, teacher="r152_sun397"),
    entry("r34_at_kd_sun397", recipe=SCRATCH, teacher="r152_sun397"),
    entry("r34_dctkd_sun397", recipe=SCRATCH, teacher="r152_sun397"),
    entry("r34_dctkd_kd_sun397", recipe=SCRATCH, teacher="r152_sun397"),
    entry("mbv2_kd_sun397", recipe=SCRATCH, teacher="r50_sun397"),
    entry("mbv2_at_sun397", recipe=SCRATCH, teacher="r50_sun397"),
    entry("mbv2_at_kd_sun397", recipe=SCRATCH, teacher="r50_sun397"),
    entry("mbv2_dctkd_sun397", recipe=SCRATCH, teacher="r50_sun397"),
    entry("mbv2_dctkd_kd_sun397", recipe=SCRATCH, teacher="r50_sun397"),
)
