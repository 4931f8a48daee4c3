"""Datasets, recipes, architectures and entries as frozen dataclasses; standard library only."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dctkd_zoo._io.typecheck import Checked
from dctkd_zoo.recipe import Recipe as Recipe
from dctkd_zoo.schedules import Cosine as Cosine
from dctkd_zoo.schedules import MultiStep as MultiStep
from dctkd_zoo.schedules import Ramp as Ramp
from dctkd_zoo.schedules import Schedule as Schedule
from dctkd_zoo.schedules import Step as Step

NAME = re.compile(
    r"(?P<arch>[a-z][a-z0-9]*)"
    r"(?P<terms>(?:_[a-z][a-z0-9]*)*?)"
    r"_(?P<dataset>[a-z][a-z0-9]*)"
    r"(?:\.(?P<variant>[a-z0-9]+))?"
)


HUB = ("hf-hub:", "hf_hub:")  # timm's two spellings
EXTERNAL = (*HUB, "local-dir:")  # prefixes of networks outside the catalog
ENTRY = "entry:"  # prefix of an entry whose weights a recipe starts from
OTHER = "dataset:"  # prefix of a dataset whose training images another sees without labels


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
    model cards of its networks, for the Hub's search. `folder` is where the images are, absolute or relative to the
    catalog file, if not in the folder `name` of the data folder; then `unlabelled` is relative to that file, too.
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
    folder: str = ""
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


def data_config(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """Return the preprocessing of an entry's evaluation in timm's format."""
    return {
        "input_size": (3, recipe.crop, recipe.crop),
        "crop_pct": crop_pct(recipe.crop, recipe.resize),
        "crop_mode": "center",
        "interpolation": "bilinear",
        "mean": dataset.mean,
        "std": dataset.std,
    }


def crop_pct(crop: int, resize: int) -> float:
    """Return the fraction from which timm, which rounds `crop / crop_pct` down, recovers exactly `resize`."""
    fraction = crop / resize
    return fraction if math.floor(crop / fraction) == resize else math.nextafter(fraction, 0)
