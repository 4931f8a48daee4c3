"""`demo`: a static page that classifies photographs in the browser and shows where networks look."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dctkd_zoo import registry, weights
from dctkd_zoo._io import atomic
from dctkd_zoo.cli.common import Commands
from dctkd_zoo.spec import EXTERNAL

if TYPE_CHECKING:
    from dctkd_zoo.predict import Predictor

DEFAULT = ("el0_scene15.px224", "mbv2_dctkd_kd_scene15")  # bundled, of the same classes
ABOUT = """The page is one file that opens from disk, without a server or a connection. It contains the networks as ONNX
and onnxruntime-web, which npm fetches once into the cache folder."""


def add(commands: Commands, shared: ArgumentParser) -> None:
    """Add the command."""
    command = commands.add_parser(
        "demo", parents=[shared], help="make a web page that classifies photographs without a server", epilog=ABOUT
    )
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

    from dctkd_zoo import predict

    device, folder = torch.device("cpu"), Path(name)
    if registry.knows(name):
        return predict.load(registry.get_entry(name), device)
    is_folder = (folder / weights.CONFIG).is_file()
    if not is_folder and not name.startswith(EXTERNAL):
        registry.get_entry(name)  # which names the closest entries
    trained = (weights.read_config(folder).get("dctkd") or {}).get("name") if is_folder else None
    if trained and registry.knows(trained):
        return predict.load(registry.get_entry(trained), device, name)
    return predict.load_external(name, device)
