"""`demo`: a static page that classifies photographs in the browser and shows where networks look."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dctkd_zoo import registry, weights
from dctkd_zoo._io import atomic
from dctkd_zoo.cli.common import Commands, add_command

if TYPE_CHECKING:
    from dctkd_zoo.predictor import Predictor

DEFAULT = ("el0_scene15.px224", "mbv2_dctkd_kd_scene15")  # bundled, of the same classes
ABOUT = (
    "The page is one file that opens from disk, without a server or a connection. It contains the networks as ONNX and "
    "onnxruntime-web, which npm fetches once into the cache folder."
)


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    text = "make a web page that classifies photographs without a server"
    examples = ("--out page", "r56_synthscenes r20_dctkd_synthscenes --space")
    command = add_command(commands, shared, "demo", text, examples, ABOUT)
    command.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="networks to compare, such as a teacher and its student: entries, or folders of weights, local-dir:FOLDER "
        f"or hf-hub:ORG/NAME (default: {' and '.join(DEFAULT)})",
    )
    command.add_argument(
        "--out",
        dest="folder",
        type=Path,
        default=Path("demo"),
        metavar="DIR",
        help="folder to write to (default: demo)",
    )
    command.add_argument("--space", action="store_true", help="also write the README.md of a static Space of the Hub")
    command.add_argument(
        "--runtime",
        type=Path,
        metavar="PATH",
        help="onnxruntime-web as a folder or a file of `npm pack`, for offline use",
    )
    command.set_defaults(run=demo)


def demo(options: Namespace) -> int:
    """Write the page."""
    from dctkd_zoo import demo as pages
    from dctkd_zoo.demo import network, runtime

    predictors = [_load(name) for name in options.names or DEFAULT]
    found = runtime.find(options.runtime)
    networks = [network.describe(predictor) for predictor in predictors]
    path = options.folder / "index.html"
    atomic.write_text(path, pages.page(networks, found))
    if options.space:
        atomic.write_text(options.folder / "README.md", pages.space(networks))
    print(f"{path}, {path.stat().st_size / 1e6:.1f} MB: open it in a browser")
    return 0


def _load(name: str) -> Predictor:
    """Load an entry, or a network from a folder or the Hub; a folder that training wrote is that of its entry."""
    import torch

    from dctkd_zoo import predictor

    folder = Path(name)
    config = weights.read_config(folder) if (folder / weights.CONFIG).is_file() else {}
    trained = (config.get("dctkd") or {}).get("name")
    if trained and registry.knows(trained) and not registry.knows(name):
        return predictor.load(registry.get_entry(trained), torch.device("cpu"), name)
    return predictor.load_predictor(name, "cpu")
