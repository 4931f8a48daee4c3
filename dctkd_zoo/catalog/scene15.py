"""15-Scene: the dataset and its entries, all but `ckd` trained in minutes; the teacher starts from `intel6`."""

from __future__ import annotations

from dataclasses import replace

from dctkd_zoo.catalog._recipes import CORRECTED, LOW2, LOW4, RELEASED, SIGNED, entry
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
    notes="Grey images. The usual split has 2,985 test images; 11 of them stand in the training set too, "
    "byte for byte, and are left out.",
)

# Sized for two CPU cores: half the paper's geometry and a short schedule in small batches. Rates were chosen for labels
# alone, on a part of the training set (docs/tuning.md); all terms of an architecture have that of its baseline.
STUDENT = Recipe(
    epochs=8,
    batch_size=32,
    lr=0.0125,
    schedule=Cosine(warmup=0.1),
    resize=128,
    crop=112,
    weight_decay=5e-4,
    test_every=4,
)
MOBILE = replace(STUDENT, lr=0.05)
LONG = replace(STUDENT, epochs=20)
TEACHER = replace(LONG, lr=0.02, pretrained="entry:r50_intel6")

ENTRIES = (
    # The teacher, and the students trained on labels alone.
    entry("r50_scene15", TEACHER),
    entry("r18_scene15", STUDENT),
    entry("mbv2_scene15", MOBILE),
    # ResNet-50 to ResNet-18.
    entry("r18_kd_scene15", STUDENT, "r50_scene15"),
    entry("r18_at_scene15", STUDENT, "r50_scene15", options=CORRECTED),
    entry("r18_at_kd_scene15", STUDENT, "r50_scene15", options=CORRECTED),
    entry("r18_pkt_scene15", STUDENT, "r50_scene15", options=CORRECTED),
    entry("r18_pkt_kd_scene15", STUDENT, "r50_scene15", options=CORRECTED),
    entry("r18_vid_scene15", STUDENT, "r50_scene15", options=CORRECTED),
    entry("r18_vid_kd_scene15", STUDENT, "r50_scene15", options=CORRECTED),
    entry("r18_crd_scene15", STUDENT, "r50_scene15", options=CORRECTED),
    entry("r18_crd_kd_scene15", STUDENT, "r50_scene15", options=CORRECTED),
    entry("r18_ckd_scene15", STUDENT, "r50_scene15", options=CORRECTED),
    entry("r18_ckd_kd_scene15", STUDENT, "r50_scene15", options=CORRECTED),
    entry("r18_review_scene15", STUDENT, "r50_scene15", options=CORRECTED),
    entry("r18_review_kd_scene15", STUDENT, "r50_scene15", options=CORRECTED),
    entry("r18_dctkd_scene15", STUDENT, "r50_scene15", options=CORRECTED),
    entry("r18_dctkd_kd_scene15", STUDENT, "r50_scene15", options=CORRECTED),
    # ResNet-50 to MobileNetV2.
    entry("mbv2_kd_scene15", MOBILE, "r50_scene15"),
    entry("mbv2_at_scene15", MOBILE, "r50_scene15", options=CORRECTED),
    entry("mbv2_at_kd_scene15", MOBILE, "r50_scene15", options=CORRECTED),
    entry("mbv2_pkt_scene15", MOBILE, "r50_scene15", options=CORRECTED),
    entry("mbv2_pkt_kd_scene15", MOBILE, "r50_scene15", options=CORRECTED),
    entry("mbv2_vid_scene15", MOBILE, "r50_scene15", options=CORRECTED),
    entry("mbv2_vid_kd_scene15", MOBILE, "r50_scene15", options=CORRECTED),
    entry("mbv2_crd_scene15", MOBILE, "r50_scene15", options=CORRECTED),
    entry("mbv2_crd_kd_scene15", MOBILE, "r50_scene15", options=CORRECTED),
    entry("mbv2_ckd_scene15", MOBILE, "r50_scene15", options=CORRECTED),
    entry("mbv2_ckd_kd_scene15", MOBILE, "r50_scene15", options=CORRECTED),
    entry("mbv2_review_scene15", MOBILE, "r50_scene15", options=CORRECTED),
    entry("mbv2_review_kd_scene15", MOBILE, "r50_scene15", options=CORRECTED),
    entry("mbv2_dctkd_scene15", MOBILE, "r50_scene15", options=CORRECTED),
    entry("mbv2_dctkd_kd_scene15", MOBILE, "r50_scene15", options=CORRECTED),
    # The loss under the transforms of the release.
    entry("r18_dctkd_scene15.signed", STUDENT, "r50_scene15", options=SIGNED),
    entry("r18_dctkd_scene15.abs", STUDENT, "r50_scene15", options=RELEASED),
    entry("mbv2_dctkd_scene15.signed", MOBILE, "r50_scene15", options=SIGNED),
    entry("mbv2_dctkd_scene15.abs", MOBILE, "r50_scene15", options=RELEASED),
    # The loss on the lowest frequencies alone.
    entry("r18_dctkd_scene15.low4", STUDENT, "r50_scene15", options=LOW4),
    entry("r18_dctkd_scene15.low2", STUDENT, "r50_scene15", options=LOW2),
    # As many epochs as the teacher has.
    entry("r18_scene15.long", LONG),
    entry("r18_dctkd_scene15.long", LONG, "r50_scene15", options=CORRECTED),
)
