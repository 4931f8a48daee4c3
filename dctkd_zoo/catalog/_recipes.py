"""Recipes and loss weights of the released code, shared by the datasets of the paper."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dctkd_zoo.schedules import Ramp, Step
from dctkd_zoo.spec import Entry, Recipe, Reported

Options = Mapping[str, Mapping[str, Any]]

# The release calls these ImageNet's, but they are those of torchvision's video models (docs/method.md, D-8).
SCENE_MEAN = (0.43216, 0.394666, 0.37645)
SCENE_STD = (0.22803, 0.22145, 0.216989)

# The release's main branch, which its README's tables come from. Review is only on dev, where 1 was its first weight.
ALPHA = {"dctkd": 1.0, "at": 1000.0, "pkt": 30000.0, "vid": 1.0, "crd": 0.8, "ckd": 400.0, "review": 1.0, "kd": 0.8}
# Later methods beside 1 of `ce`: their authors' weights for ResNets on CIFAR-100 where their code has the same scale,
# else what makes a gradient about as large as the other terms' at the start of a run.
LATER = {"cat": 1.0, "dist": 1.0, "dkd": 1.0, "e2kd": 1.0, "fft": 2000.0, "sp": 3000.0, "wavelet": 10.0}
# KD of standardised logits, at the temperature of `STANDARDISED`; and the loss of `BANDS`, a mean over coefficients.
ALPHA_STANDARDISED = {"kd": 9.0}
ALPHA_BANDS = {"dctkd": 10.0}
# Release's dev branch, after a search of the other methods' weights on the test set.
TUNED = {"at": 1100.0, "pkt": 54000.0, "vid": 1.5, "crd": 1.4, "review": 1.8}

WEIGHTS = {**ALPHA, **LATER}

# Meaning of a variant's name, if the recipe does not show it.
VARIANTS = {"tuned": "The weight of its method was chosen by the authors' search, which used the test set"}

# Options of the reported tables: a DFT, others without level 1 or most negatives (docs/method.md, D-1, 2, 7, 12).
RELEASED: Options = {
    "dctkd": {"transform": "dft_abs", "guided": True},
    "vid": {"levels": "released"},
    "ckd": {"levels": "released"},
    "crd": {"negatives": "released"},
}
# Options as the names say: a true DCT, and the other methods at their defaults, with those levels and negatives.
CORRECTED: Options = {"dctkd": {"transform": "dct2", "guided": True}}
# The release's main branch as it is now, for which no value was reported.
SIGNED: Options = {"dctkd": {"transform": "dft_signed", "guided": True}}
# The corrected loss on only the lowest 4 x 4 or 2 x 2 frequencies of the maps.
LOW4: Options = {"dctkd": {**CORRECTED["dctkd"], "keep": 4}}
LOW2: Options = {"dctkd": {**CORRECTED["dctkd"], "keep": 2}}
# The corrected loss with maps of unit energy, alone a plain L2; then with learned weights of their bands; and with the
# map of one class (docs/method.md, Options beyond the release).
ENERGY: Options = {"dctkd": {"transform": "dct2_energy", "guided": True}}
BANDS: Options = {"dctkd": {**ENERGY["dctkd"], "bands": "learned"}}
CLASS_MAP: Options = {"dctkd": {**CORRECTED["dctkd"], "maps": "class"}}
# KD of standardised logits (Sun et al., CVPR 2024).
STANDARDISED: Options = {"kd": {"standardise": True, "temperature": 2.0}}
# DKD's weight is warmed up over 20 of 240 epochs (Zhao et al., CVPR 2022).
DKD_RAMP = {"dkd": Ramp(over=1 / 12)}

# The corrected loss on all images, whether the teacher is right or not, so without their labels.
UNGUIDED: Options = {"dctkd": {"transform": "dct2", "guided": False}}

# Students and baselines start from scratch, teachers from ImageNet.
SCRATCH = Recipe(
    epochs=70,
    batch_size=128,
    lr=0.1,
    schedule=Step(25, 0.1),
    resize=256,
    crop=224,
    weight_decay=1e-4,
    select="released",
)
# Review had a batch size of 60 on MIT67 and SUN397 (063ae01).
SCRATCH_REVIEW = replace(SCRATCH, batch_size=60)
# The learning rate is 0.01 as in the configuration; the README's command leaves it at 0.1 (docs/method.md, D-25).
FINETUNE = replace(SCRATCH, lr=0.01, pretrained="tv_in1k")
# ResNet-152 had a batch size of 55 for the README's tables (81525b4), and 80 half a year later (063ae01).
FINETUNE_R152 = replace(FINETUNE, batch_size=55)


def _read_reported(path: Path) -> dict[str, tuple[Reported, ...]]:
    """Read the CSV file of reported values; return those of each entry, in the order of the file."""
    result: dict[str, tuple[Reported, ...]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            value = Reported(row["metric"], float(row["value"]), row["protocol"], row["source"], row["note"])
            result[row["entry"]] = (*result.get(row["entry"], ()), value)
    return result


REPORTED = _read_reported(Path(__file__).with_name("reported.csv"))


def paper_weights(terms: tuple[str, ...], alpha: Mapping[str, float]) -> dict[str, float]:
    """Return the weight of each distillation term and of `ce` (docs/method.md)."""
    match terms:
        case ():
            return {"ce": 1.0}
        case ("kd",) if "kd" in alpha:
            return {"ce": 0.1, "kd": alpha["kd"]}
        case (method,) if method in alpha:
            return {"ce": 1.0, method: alpha[method]}
        case (method, "kd") if method in alpha and method != "kd":
            return {"ce": 0.1, method: alpha[method], "kd": 1.0}
    raise ValueError(
        f"no weights for the terms {terms}, only for {', '.join(alpha)}: use Entry(...), which takes any weights"
    )


def entry(
    name: str,
    recipe: Recipe,
    teacher: str | None = None,
    *,
    options: Options = RELEASED,
    alpha: Mapping[str, float] = WEIGHTS,
) -> Entry:
    """Return the entry `name` with weights from `alpha`, the `options` of its terms and its reported values."""
    terms = tuple(name.partition(".")[0].split("_")[1:-1])
    return Entry(
        name,
        recipe,
        paper_weights(terms, alpha),
        teacher,
        options={term: options[term] for term in terms if term in options},
        reported=REPORTED.get(name, ()),
    )


def unsupervised(name: str, recipe: Recipe, teacher: str) -> Entry:
    """Return the entry `name`, all of whose terms match the teacher, with weight 1, and which reads no labels."""
    terms = tuple(name.partition(".")[0].split("_")[1:-1])
    options = {term: UNGUIDED[term] for term in terms if term in UNGUIDED}
    return Entry(name, recipe, {"ce": 0.0, **dict.fromkeys(terms, 1.0)}, teacher, options)
