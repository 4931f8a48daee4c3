"""Earlier names of modules and of what is in them, so that code written for version 0.1 still runs.

An import of an earlier module gives a module that looks names up where they are now. Delete this file with 0.2.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_loader
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:  # importing these takes as long as the whole catalog
    Loader = MetaPathFinder = object

# Earlier module: where it is now.
MODULES = {
    "dctkd_zoo.atomic": "dctkd_zoo._io.atomic",
    "dctkd_zoo.catalog._paper": "dctkd_zoo.catalog._recipes",
    "dctkd_zoo.checked": "dctkd_zoo._io.typecheck",
    "dctkd_zoo.data.check": "dctkd_zoo.data.validate",
    "dctkd_zoo.data.console": "dctkd_zoo.data.progress",
    "dctkd_zoo.data.content": "dctkd_zoo.data.fingerprint",
    "dctkd_zoo.data.packed": "dctkd_zoo.data.split",
    "dctkd_zoo.data.pixels": "dctkd_zoo.data.decode",
    "dctkd_zoo.data.reader": "dctkd_zoo.data.sources.hfds",
    "dctkd_zoo.data.store": "dctkd_zoo.data.pixel_cache",
    "dctkd_zoo.data.tree": "dctkd_zoo.data.filelist",
    "dctkd_zoo.data.unpack": "dctkd_zoo.data.archive",
    "dctkd_zoo.data.views": "dctkd_zoo.data.loader",
    "dctkd_zoo.digest": "dctkd_zoo._io.hashing",
    "dctkd_zoo.export": "dctkd_zoo.models.export",
    "dctkd_zoo.home": "dctkd_zoo._io.paths",
    "dctkd_zoo.hub": "dctkd_zoo.weights.hub",
    "dctkd_zoo.knowledge": "dctkd_zoo.teacher_cache",
    "dctkd_zoo.licence": "dctkd_zoo.weights.licence",
    "dctkd_zoo.lock": "dctkd_zoo._io.lock",
    "dctkd_zoo.losses._batchnorm": "dctkd_zoo.losses._base",
    "dctkd_zoo.losses._levels": "dctkd_zoo.losses._base",
    "dctkd_zoo.objects": "dctkd_zoo._io.json_file",
    "dctkd_zoo.options": "dctkd_zoo.cli.arguments",
    "dctkd_zoo.overlay": "dctkd_zoo.attention_grid",
    "dctkd_zoo.publishing": "eval.publish",
    "dctkd_zoo.ranks": "dctkd_zoo.distributed",
    "dctkd_zoo.resnet_cifar": "dctkd_zoo.models.resnet_cifar",
    "dctkd_zoo.rows": "dctkd_zoo._io.csv_rows",
    "dctkd_zoo.sealed": "dctkd_zoo._io.json_file",
    "dctkd_zoo.shell": "dctkd_zoo.cli.shell",
    "eval.answers": "eval.pages.tables",
    "eval.bootstrap": "eval.stats.bootstrap",
    "eval.calibration": "eval.stats.calibration",
    "eval.card": "eval.cards.facts",
    "eval.card_figures": "eval.cards.measured",
    "eval.card_recipe": "eval.cards.recipe",
    "eval.cards": "eval.cards.rendering",
    "eval.cka": "eval.metrics._cka",
    "eval.classes": "eval.stats.per_class",
    "eval.compare": "eval.stats.compare",
    "eval.comparing": "eval.compare",
    "eval.cost": "eval.run.cost",
    "eval.figure": "eval.cards.attention_figure",
    "eval.findings": "eval.pages.findings",
    "eval.gap": "eval.stats.gap_closed",
    "eval.ground_truth": "eval.metrics._objects",
    "eval.intervals": "eval.stats.bootstrap",
    "eval.kept": "eval.run.cache",
    "eval.leaderboard": "eval.run.terminal",
    "eval.left": "dctkd_zoo.weights.run_folder",
    "eval.maps": "eval.metrics._objects",
    "eval.markdown": "eval.pages.markdown",
    "eval.metadata": "eval.cards.metadata",
    "eval.metric": "eval.metrics._base",
    "eval.outcome": "eval.run.attempt",
    "eval.page": "eval.pages.generated_file",
    "eval.paired": "eval.stats.paired",
    "eval.protocol": "eval.run.protocol",
    "eval.readme": "eval.pages.readme",
    "eval.record": "eval.run.result_row",
    "eval.results": "eval.run.results_csv",
    "eval.results_page": "eval.pages.results_md",
    "eval.run": "eval.run.evaluation",
    "eval.seeds": "eval.stats.seeds",
    "eval.shown": "eval.run.terminal",
    "eval.skill": "eval.stats.skill",
    "eval.standings": "eval.pages.tables",
    "eval.table": "eval.run.per_image",
    "eval.uncertainty": "eval.stats.intervals",
    "eval.verify": "eval.run.verify",
    "train.board": "train.launch.board",
    "train.build": "train.setup",
    "train.cluster": "train.launch.cluster",
    "train.command": "dctkd_zoo._io.job",
    "train.compiled": "train.compile",
    "train.display": "train.progress",
    "train.estimate": "train.launch.estimate",
    "train.guide": "train.teacher_source",
    "train.interrupt": "train.signals",
    "train.keeper": "train.checkpoint",
    "train.launcher": "train.launch.scheduler",
    "train.plan": "train.launch.plan",
    "train.teacher": "dctkd_zoo.teachers",
    "train.where": "train.config",
}

# Name in an earlier module: where it is now, and under which name.
NAMES = {
    "dctkd_zoo.attention.extremes": "dctkd_zoo.attention.amin_amax",
    "dctkd_zoo.attention.over": "dctkd_zoo.attention.safe_divide",
    "dctkd_zoo.data.content.prints": "dctkd_zoo.data.fingerprint.fingerprints",
    "dctkd_zoo.data.content.twins": "dctkd_zoo.data.fingerprint.duplicates",
    "dctkd_zoo.data.store.Store": "dctkd_zoo.data.pixel_cache.PixelCache",
    "dctkd_zoo.data.store.open_store": "dctkd_zoo.data.pixel_cache.open_pixel_cache",
    "dctkd_zoo.data.views.Views": "dctkd_zoo.data.loader.ImageLoader",
    "dctkd_zoo.data.views.Windows": "dctkd_zoo.data.loader.CropParams",
    "dctkd_zoo.data.views.centre_windows": "dctkd_zoo.data.loader.centre_crops",
    "dctkd_zoo.data.views.derive": "dctkd_zoo.data.loader.derive_seed",
    "dctkd_zoo.data.views.random_windows": "dctkd_zoo.data.loader.random_crops",
    "dctkd_zoo.device.exactly": "dctkd_zoo.device.fp32_inference",
    "dctkd_zoo.device.place": "dctkd_zoo.device.to_device",
    "dctkd_zoo.device.precision": "dctkd_zoo.device.amp_dtype",
    "dctkd_zoo.features.Tapped": "dctkd_zoo.features.FeatureExtractor",
    "dctkd_zoo.features.taps": "dctkd_zoo.features.out_indices",
    "dctkd_zoo.features.wide": "dctkd_zoo.features.to_fp32",
    "dctkd_zoo.knowledge.Kept": "dctkd_zoo.teacher_cache.CacheFormat",
    "dctkd_zoo.knowledge.Knowledge": "dctkd_zoo.teacher_cache.TeacherCache",
    "dctkd_zoo.knowledge.View": "dctkd_zoo.teacher_cache.FixedView",
    "dctkd_zoo.knowledge.open_knowledge": "dctkd_zoo.teacher_cache.open_teacher_cache",
    "dctkd_zoo.knowledge.parts": "dctkd_zoo.teacher_cache.to_arrays",
    "dctkd_zoo.knowledge.reduced": "dctkd_zoo.teacher_cache.compact",
    "dctkd_zoo.lock.place": "dctkd_zoo._io.lock.lock_path",
    "dctkd_zoo.objects.read": "dctkd_zoo._io.json_file.read_object",
    "dctkd_zoo.ranks.alike": "dctkd_zoo.distributed.all_gather",
    "dctkd_zoo.ranks.alone": "dctkd_zoo.distributed.primary_lock",
    "dctkd_zoo.ranks.any_of": "dctkd_zoo.distributed.any_rank",
    "dctkd_zoo.ranks.apart": "dctkd_zoo.distributed.local_only",
    "dctkd_zoo.ranks.gather": "dctkd_zoo.distributed.all_gather_with_grad",
    "dctkd_zoo.ranks.leads": "dctkd_zoo.distributed.is_primary",
    "dctkd_zoo.ranks.local": "dctkd_zoo.distributed.local_rank",
    "dctkd_zoo.ranks.mean": "dctkd_zoo.distributed.all_reduce_mean",
    "dctkd_zoo.ranks.mine": "dctkd_zoo.distributed.local_rows",
    "dctkd_zoo.ranks.parts": "dctkd_zoo.distributed.all_gather_uneven",
    "dctkd_zoo.ranks.share": "dctkd_zoo.distributed.local_slice",
    "dctkd_zoo.ranks.size": "dctkd_zoo.distributed.world_size",
    "dctkd_zoo.ranks.started": "dctkd_zoo.distributed.process_group",
    "dctkd_zoo.ranks.told": "dctkd_zoo.distributed.lost_rank_errors",
    "dctkd_zoo.ranks.total": "dctkd_zoo.distributed.all_reduce_sum",
    "dctkd_zoo.ranks.turns": "dctkd_zoo.distributed.shard",
    "dctkd_zoo.ranks.wait": "dctkd_zoo.distributed.barrier",
    "dctkd_zoo.registry.lineage": "dctkd_zoo.registry.ancestors",
    "dctkd_zoo.registry.natural": "dctkd_zoo.registry.natural_key",
    "dctkd_zoo.sealed.read": "dctkd_zoo._io.json_file.read_sealed",
    "dctkd_zoo.sealed.write": "dctkd_zoo._io.json_file.write_sealed",
    "dctkd_zoo.sync_batchnorm.synced": "dctkd_zoo.sync_batchnorm.to_sync_batchnorm",
    "dctkd_zoo.weights.is_whole": "dctkd_zoo.weights.is_complete",
    "dctkd_zoo.weights.trained_otherwise": "dctkd_zoo.weights.recipe_mismatch",
    "eval.card_figures.sure": "eval.cards.measured.confidence",
    "eval.kept.Measured": "eval.run.cache.CachedTable",
    "eval.kept.code": "eval.run.cache.code_hash",
    "eval.kept.place": "eval.run.cache.cache_path",
    "eval.left.facts": "dctkd_zoo.weights.run_folder.read_facts",
    "eval.left.log": "dctkd_zoo.weights.run_folder.read_log",
    "eval.run.Where": "eval.run.config.EvalConfig",
    "eval.run.check_classes": "eval.run.setup.check_classes",
    "eval.run.check_preprocessing": "eval.run.setup.check_preprocessing",
    "eval.run.load_teacher": "eval.run.setup.load_teacher",
    "eval.run.network": "eval.run.setup.load_network",
    "eval.run.open_views": "eval.run.setup.open_views",
    "eval.run.reference": "eval.run.setup.reference",
    "eval.run.taught": "eval.run.evaluation.teacher_outputs",
    "eval.run.test_split": "eval.run.setup.test_split",
    "eval.table.Alike": "eval.run.per_image.CKAMeter",
    "eval.table.Reference": "eval.run.per_image.References",
    "train.build.Material": "train.setup.TrainData",
    "train.compiled.losses": "train.compile.compile_objective",
    "train.display.clock": "train.progress.format_time",
    "train.display.figure": "train.progress.format_cell",
    "train.guide.Cached": "train.teacher_source.CachedTeacher",
    "train.guide.Guide": "train.teacher_source.TeacherSource",
    "train.guide.Live": "train.teacher_source.OnlineTeacher",
    "train.guide.Teach": "train.teacher_source.TeacherFn",
    "train.interrupt.Requests": "train.signals.StopSignal",
    "train.keeper.Keeper": "train.checkpoint.CheckpointManager",
    "train.loop.Learner": "train.loop.TrainState",
    "train.loop.Lesson": "train.loop.LossModule",
    "train.loop.Moment": "train.loop.StepKey",
    "train.where.Where": "train.config.TrainConfig",
}

# Earlier module: the function of that name now, which has the names of the module as attributes.
FUNCTIONS = {"dctkd_zoo.predict": "dctkd_zoo.prediction.predict"}

_RENAMED = {name.rpartition(".")[0] for name in NAMES}


def lookup(module: str, name: str) -> Any:
    """Return what was called `name` in the earlier `module`; `AttributeError` if nothing was.

    A package that was a module before asks here for its submodules too, which the import system finds.
    """
    package = vars(sys.modules[module]).get("__path__")
    if package is not None and PathFinder.find_spec(f"{module}.{name}", package):
        raise AttributeError(f"{module}.{name} is a submodule")
    target, _, attribute = NAMES.get(f"{module}.{name}", "").rpartition(".")
    if not target:
        target, attribute = MODULES.get(module, ""), name
    if not target or name.startswith("__"):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return getattr(import_module(target), attribute)


def _look_up_in(module: ModuleType) -> None:
    module.__getattr__ = lambda name: lookup(module.__name__, name)  # type: ignore[method-assign]


class _Earlier(Loader):
    """Loader of a module that no longer exists: empty except for the lookup of names."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave making the module to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        _look_up_in(module)


class _Function(Loader):
    """Loader of an earlier module that is a function now: `import` binds what it leaves in `sys.modules`."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave making the module to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        target, _, name = FUNCTIONS[module.__name__].rpartition(".")
        sys.modules[module.__name__] = getattr(import_module(target), name)


class _Renamed(SourceFileLoader):
    """Loader of a module some of whose names have changed, with a lookup of the earlier ones."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _look_up_in(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in FUNCTIONS:
            return spec_from_loader(fullname, _Function())
        if fullname not in MODULES and fullname not in _RENAMED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None:
            return spec_from_loader(fullname, _Earlier())
        if isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Renamed(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, _Finder())
