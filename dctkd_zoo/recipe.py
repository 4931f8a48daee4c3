"""Training recipe of an entry; standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from dctkd_zoo._io.typecheck import Checked
from dctkd_zoo.schedules import Ramp, Schedule

SELECTS = ("last", "val", "released")
CHOICES = {
    "pad_mode": ("constant", "reflect"),
    "augment": ("crop_flip", "rrc", "rand"),
    "select": SELECTS,
    "precision": ("", "float32", "bfloat16"),
}


def _later(default: Any) -> Any:
    """Return a field of a recipe that earlier versions did not have."""
    return field(default=default, metadata={"later": default})


def _later_mapping() -> Any:
    return field(default_factory=dict, hash=False, metadata={"later": {}})


@dataclass(frozen=True)
class Recipe(Checked):
    """Training recipe of an entry. Every field is explained in docs/recipes.md.

    By default: SGD with momentum, one random crop and horizontal flip per image and epoch, the weights of the last
    epoch. `resize` is the short side in px of the stored image (bilinear), `pad` px of `pad_mode` are added around it,
    and `crop` px of that are used: at a random position in training, the centre in evaluation. `pretrained` names the
    weights to start from, `entry:NAME`, `hf-hub:NAME`, `local-dir:PATH` or a timm tag; None is from scratch.
    """

    epochs: int
    batch_size: int
    lr: float
    schedule: Schedule
    resize: int
    crop: int
    pad: int = 0
    pad_mode: str = "constant"  # or "reflect"
    flip: bool = True
    momentum: float = 0.9  # of SGD; others have their usual coefficients
    nesterov: bool = False
    weight_decay: float = 1e-4
    pretrained: str | None = None
    test_every: int = 1  # epochs between tests; the last epoch is always tested
    seed: int = 0
    augment: str = _later("crop_flip")  # "rrc": RandomResizedCrop; "rand": that and TrivialAugmentWide
    rrc_scale: tuple[float, float] = _later((0.08, 1.0))  # the crop's area as a fraction of the image's
    label_smoothing: float = _later(0.0)  # of the term `ce`
    head_lr: float | None = _later(None)  # learning rate of the classifier, if not `lr`; the schedule scales both
    optimizer: str = _later("sgd")  # or a name of timm.optim: "adamw", "lamb", ...
    layer_decay: float = _later(1.0)  # factor of the learning rate from a layer to the one before it
    drop_path: float = _later(0.0)  # stochastic depth, at the last block
    warmup: float = _later(0.0)  # epochs of linear warm-up, if `schedule` has none of its own
    clip_grad: float = _later(0.0)  # maximum L2 norm of the gradient; 0 does not clip
    erasing: float = _later(0.0)  # probability that a rectangle of a training image is erased
    mixup: float = _later(0.0)  # alpha of the Beta distribution that two images are blended by
    cutmix: float = _later(0.0)  # alpha of the Beta distribution of the area that comes from another image
    ema: float = _later(0.0)  # decay per step of the averaged weights, which are then the result
    ramps: Mapping[str, Ramp] = _later_mapping()  # factors of the terms' weights over the run
    select: str = _later("last")  # epoch that is the result: "val": best on val; "released": last, best on test kept
    patience: int = _later(0)  # epochs without a better one on val after which training stops; 0 never does
    precision: str = _later("")  # number format: "float32" or "bfloat16"; empty: the faster one
    limit: int = _later(0)  # training images of each class that are used, for a first try; 0: all
    unlabelled: bool = _later(False)  # whether to train on the dataset's unlabelled images too

    def __post_init__(self) -> None:
        super().__post_init__()
        self.positive("epochs", "batch_size", "resize", "crop", "test_every")
        counts = ("seed", "patience", "limit")
        for name in ("lr", "head_lr", "weight_decay", "warmup", "clip_grad", "mixup", "cutmix", *counts):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} {value} is negative")
        for name in ("momentum", "label_smoothing", "ema", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in [0, 1)")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if self.pad < 0 or (self.pad_mode == "reflect" and self.pad >= self.resize):
            raise ValueError(f"pad {self.pad} is negative, or too large to reflect an image of resize {self.resize}")
        if self.crop > self.resize + 2 * self.pad:
            raise ValueError(f"crop {self.crop} does not fit into resize {self.resize} + 2 x pad {self.pad}")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is none of {', '.join(map(repr, known))}")
        if not 0 < self.rrc_scale[0] <= self.rrc_scale[1] <= 1:
            raise ValueError(f"rrc_scale {self.rrc_scale} is not a range of fractions, such as (0.08, 1.0)")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay {self.layer_decay} is not in (0, 1]")
        if not 0 <= self.erasing <= 1:
            raise ValueError(f"erasing {self.erasing} is not a probability")
        if self.warmup and getattr(self.schedule, "warmup", 0):
            raise ValueError(f"warmup {self.warmup} is in addition to that of {self.schedule}: use one of them")
        if self.patience and self.select != "val":
            raise ValueError(f"patience {self.patience} needs select='val', not {self.select!r}")

    @property
    def mixes(self) -> bool:
        """Whether training images are blended with others."""
        return bool(self.mixup or self.cutmix)

    def rate(self, epoch: float) -> float:
        """Return the factor of the learning rates at `epoch`, a fraction between 0 and `epochs`."""
        factor = self.schedule.factor(epoch, self.epochs)
        return factor * min(1.0, epoch / self.warmup) if self.warmup else factor

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON data; fields that came later are left out at their defaults, as before they came.

        So a recipe is equal to the one that an earlier version wrote into a run's folder.
        """
        data = asdict(replace(self, ramps={}))
        data["ramps"] = {name: asdict(ramp) for name, ramp in self.ramps.items()}
        for item in fields(self):
            if "later" in item.metadata and getattr(self, item.name) == item.metadata["later"]:
                del data[item.name]
        data["schedule"]["kind"] = type(self.schedule).__name__
        return data
