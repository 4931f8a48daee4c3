"""Datasets, recipes, architectures and entries as frozen dataclasses; standard library only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from dctkd_zoo._io.typecheck import Checked
from dctkd_zoo.schedules import Cosine as Cosine
from dctkd_zoo.schedules import MultiStep as MultiStep
from dctkd_zoo.schedules import Ramp as Ramp
from dctkd_zoo.schedules import Schedule as Schedule
from dctkd_zoo.schedules import Step as Step

NAME = re.compile(
    r"(?P<arch>[a-z][a-z0-9]*)"
    r"(?P<terms>(?:_[a-z]+)*?)"
    r"_(?P<dataset>[a-z][a-z0-9]*)"
    r"(?:\.(?P<variant>[a-z0-9]+))?"
)


def _later(default: Any) -> Any:
    """Return a field of a recipe that earlier versions did not have."""
    return field(default=default, metadata={"later": default})


def _later_mapping() -> Any:
    return field(default_factory=dict, hash=False, metadata={"later": {}})


HUB = ("hf-hub:", "hf_hub:")  # timm's two spellings
EXTERNAL = (*HUB, "local-dir:")  # prefixes of networks outside the catalog
ENTRY = "entry:"  # prefix of an entry whose weights a recipe starts from


AUGMENTS = ("crop_flip", "rrc", "rand")
SELECTS = ("last", "val", "released")


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
    unlabelled: bool = _later(False)  # whether to train on the dataset's unlabelled images too

    def __post_init__(self) -> None:
        super().__post_init__()
        self.positive("epochs", "batch_size", "resize", "crop", "test_every")
        for name in ("lr", "head_lr", "weight_decay", "seed", "warmup", "clip_grad", "mixup", "cutmix", "patience"):
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
        for name, known in (("pad_mode", ("constant", "reflect")), ("augment", AUGMENTS), ("select", SELECTS)):
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


@dataclass(frozen=True)
class Arch(Checked):
    """A timm network.

    `scratch` are arguments for building an untrained one, `train` those for any that is about to be trained.
    """

    timm_name: str
    scratch: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Archive(Checked):
    """A file to download for a dataset; `unpack=False` keeps it as is."""

    url: str
    unpack: bool = True
    sha256: str | None = None


@dataclass(frozen=True)
class Dataset(Checked):
    """A labelled image dataset: where it comes from and how its pixels are normalised.

    `source` names a module of `dctkd_zoo.data.sources`; some also take what to read, after a slash: `hfds/ORG/NAME`.
    `train` and `test` are the numbers of images in a complete copy, if known; fewer are refused. `val` is the fraction
    of each class of the training set that recipes with `select="val"` hold out, unless the source has a part of that
    name. `unlabelled` is a folder of images without labels, below the data folder, or `dataset:NAME` for the training
    images of another dataset. `drop_leaked` leaves out test images whose bytes also occur in the training set.
    `overlaps` names datasets of which images are in the training set: a network that was trained on it cannot be tested
    on those. `limits` says, for the cards of its networks, what they have not seen and are not for. `tags` go into the
    model cards of its networks, for the Hub's search.
    """

    name: str
    title: str
    source: str
    num_classes: int
    train: int | None = None
    test: int | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # ImageNet's, which timm's weights mostly expect
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    license: str = "unknown"
    url: str = "unknown"
    archives: tuple[Archive, ...] = ()
    drop_leaked: bool = False
    val: float = 0.1
    unlabelled: str = ""
    overlaps: tuple[str, ...] = ()
    notes: str = ""
    limits: str = ""
    tags: tuple[str, ...] = ("scene-recognition",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if re.fullmatch("[a-z][a-z0-9]*", self.name) is None:
            raise ValueError(
                f"{self.name!r} is not a dataset name: use lowercase letters and digits, starting with a letter"
            )
        if self.num_classes < 1 or min(self.train or 0, self.test or 0) < 0 or min(self.std) <= 0:
            raise ValueError(f"{self.name}: needs at least one class, image counts of 0 or more, and std above 0")
        if not 0 < self.val < 1:
            raise ValueError(f"{self.name}: val {self.val} is not a fraction of the training set in (0, 1)")


@dataclass(frozen=True)
class Reported(Checked):
    """A value that the authors reported for an entry.

    `metric` is a metric of this project, `value` is in percent, `protocol` is the evaluation protocol it can be
    compared with, `source` is repository@commit:file.
    """

    metric: str
    value: float
    protocol: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class Entry(Checked):
    """One network of the zoo; its name is made of architecture, loss terms, dataset and variant.

    `teacher` is an entry's name, or `hf-hub:NAME[@REVISION]` or `local-dir:PATH` of a network in timm's format.
    `weights` maps each loss term to its weight, `options` to its keyword arguments. `reported` holds the values that
    the authors reported. `license` is the licence of the trained weights, if it does not follow from the licences of
    their initial weights and of the data.
    """

    name: str
    recipe: Recipe
    weights: Mapping[str, float]
    teacher: str | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reported: tuple[Reported, ...] = ()
    license: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        match = NAME.fullmatch(self.name)
        if match is None:
            raise ValueError(f"{self.name!r} is not of the form <arch>[_<term>...]_<dataset>[.<variant>]")
        if set(self.weights) != {"ce", *self.terms}:
            raise ValueError(
                f"{self.name}: weights are for {sorted(self.weights)}, but its terms are {['ce', *self.terms]}"
            )
        negative = {term: weight for term, weight in self.weights.items() if weight < 0}
        if negative:
            raise ValueError(f"{self.name}: negative weights: {negative}")
        if not set(self.recipe.ramps) <= set(self.weights):
            raise ValueError(
                f"{self.name}: ramps for {sorted(set(self.recipe.ramps) - set(self.weights))}, not among its terms"
            )
        if not set(self.options) <= set(self.weights):
            raise ValueError(
                f"{self.name}: options for {sorted(set(self.options) - set(self.weights))}, not among its terms"
            )
        if self.terms and self.teacher is None:
            raise ValueError(f"{self.name}: terms {self.terms} need a teacher")
        if self.teacher and self.start:
            raise ValueError(
                f"{self.name}: has a teacher and starts from the entry {self.start}; only one of them can be trained "
                "before it, so start from a folder: pretrained='local-dir:PATH'"
            )
        try:
            json.dumps(dict(self.options))
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{self.name}: options that JSON cannot represent: {error}") from error

    def _part(self, part: str) -> str:
        match = NAME.fullmatch(self.name)
        assert match is not None
        return match[part] or ""

    @property
    def arch(self) -> str:
        """Short name of the architecture, `r18`."""
        return self._part("arch")

    @property
    def terms(self) -> tuple[str, ...]:
        """Distillation terms in addition to cross-entropy, `("dctkd", "kd")`; none for a teacher or baseline."""
        return tuple(self._part("terms").split("_")[1:])

    @property
    def dataset(self) -> str:
        """Name of the dataset, `ade20k`."""
        return self._part("dataset")

    @property
    def variant(self) -> str:
        """Variant, `dct2`, or the empty string."""
        return self._part("variant")

    @property
    def loss_options(self) -> dict[str, Mapping[str, Any]]:
        """Keyword arguments of each loss term, with the recipe's label smoothing."""
        options = dict(self.options)
        if self.recipe.label_smoothing:
            options["ce"] = {"label_smoothing": self.recipe.label_smoothing, **options.get("ce", {})}
        return options

    @property
    def start(self) -> str | None:
        """Name of the entry whose trained weights it starts from, if any."""
        source = self.recipe.pretrained or ""
        return source.removeprefix(ENTRY) if source.startswith(ENTRY) else None

    @property
    def depends_on(self) -> str | None:
        """Name of the network that has to be trained before it: its teacher, or the entry it starts from."""
        return self.teacher or self.start

    @property
    def run_name(self) -> str:
        """Name of the trained network: the entry's name, followed by its seed if that is not 0."""
        return f"{self.name}-seed{self.recipe.seed}" if self.recipe.seed else self.name

    @property
    def train_command(self) -> str:
        """Command that trains the entry."""
        seed = f" --seed {self.recipe.seed}" if self.recipe.seed else ""
        return f"python -m train {self.name}{seed}"

    def with_seed(self, seed: int | None) -> Entry:
        """Return the entry with another training seed; itself for `None`."""
        return self if seed is None else replace(self, recipe=replace(self.recipe, seed=seed))

    def to_dict(self) -> dict[str, Any]:
        """Return how the entry is trained as JSON data, without `reported` and `license`; the schedule has its kind."""
        data = asdict(self)
        del data["reported"], data["license"]
        data["recipe"] = self.recipe.to_dict()
        plain: dict[str, Any] = json.loads(json.dumps(data))
        return plain
