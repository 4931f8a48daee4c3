"""Figure of docs/method.md: spectra of an activation map and of its point reflection (`python docs/method_figure.py`).

The two DFTs of the release cannot tell them apart, the DCT can (docs/method.md, Fact 2).
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image
from torch import Tensor

from dctkd_zoo import create_model, create_transform, run
from dctkd_zoo.attention import activation_map, minmax
from dctkd_zoo.data.sources import synthscenes
from dctkd_zoo.losses.dctkd import spectral_distance
from dctkd_zoo.spectrum import TRANSFORMS

TEACHER = "r56_synthscenes"
INDEX = 13  # of the test images: several objects, and a map that is nothing like its reflection
LEVEL = 1  # 20 x 20 px: fine enough to be structured, coarse enough to be read pixel by pixel
SHOWN = {
    "dct2": "a true DCT-II",
    "dft_abs": "|Re FFT2|: reported tables",
    "dft_signed": "Re FFT2: released main",
}
LINEAR = 0.05  # coefficients below this share of the range are drawn on a linear scale
LARGE, SMALL = 15, 12.5  # pt at 100 dpi; GitHub shows the figure at about two thirds of its size


@cache
def example() -> tuple[Image.Image, Tensor]:
    """Return a test image and the teacher's activation map for it, scaled to [0, 1], (1, H, W)."""
    image = synthscenes.read(None, "test").images.load(INDEX)
    pixels = create_transform(TEACHER)(image)[None]
    with torch.inference_mode():
        features = run(create_model(TEACHER, pretrained=True), pixels).maps[LEVEL]
    return image, minmax(activation_map(features))


def point_reflection(maps: Tensor) -> Tensor:
    """Move the value at (y, x) to (-y, -x), modulo the size: (B, H, W) -> (B, H, W)."""
    return maps.flip(1, 2).roll((1, 1), (1, 2))


def distances(maps: Tensor) -> dict[str, float]:
    """Return the spectral distance of a map (1, H, W) and its point reflection for each transform in the figure."""
    return {name: spectral_distance(maps, point_reflection(maps), TRANSFORMS[name]).item() for name in SHOWN}


def draw(path: Path) -> None:
    """Write the figure, 1400 px wide."""
    image, maps = example()
    figure = Figure(figsize=(14, 7.2), dpi=100)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 5, left=0.012, right=0.925, top=0.83, bottom=0.13, wspace=0.16, hspace=0.2)
    axes = [[figure.add_subplot(grid[row, column]) for column in range(5)] for row in range(2)]
    axes[0][0].imshow(image)
    explained = _explain(axes[1][0])
    for row, shown in enumerate((maps, point_reflection(maps))):
        of_map = axes[row][1].imshow(shown[0].numpy(), cmap="cividis", vmin=0, vmax=1)
        for column, name in enumerate(SHOWN, start=2):
            of_spectrum = _spectrum(axes[row][column], name, shown)
    for ax in (axes[0][0], axes[0][1], axes[1][1]):
        ax.set_xticks([], [])
        ax.set_yticks([], [])
    _label(axes[0][0], "image", "synthscenes, test set")
    _label(axes[0][1], "map", "teacher, {} × {} px".format(*maps.shape[1:]))
    _label(axes[1][1], "point reflection")
    for column, (name, distance) in enumerate(distances(maps).items(), start=2):
        _label(axes[0][column], name, SHOWN[name])
        _label(axes[1][column], f"distance {distance:.2f}")
    figure.colorbar(of_map, cax=explained, orientation="horizontal", ticks=(0, 1)).ax.tick_params(labelsize=SMALL)
    _scale(figure, of_spectrum)
    headline = "A map and its point reflection: one and the same to the DFTs of the release, not to a DCT"
    figure.text(0.012, 0.952, headline, fontsize=LARGE + 2, weight="bold")
    figure.savefig(path, metadata={"Software": None})


def _label(ax: Axes, title: str, below: str = "") -> None:
    ax.text(0.5, 1.12 if below else 1.035, title, transform=ax.transAxes, ha="center", fontsize=LARGE, weight="bold")
    ax.text(0.5, 1.03, below, transform=ax.transAxes, ha="center", fontsize=SMALL)


def _explain(ax: Axes) -> Axes:
    """Write the explanation of the lower row into `ax`, and return inset axes for the colour bar of the maps."""
    ax.axis("off")
    text = (
        "Lower row: the same map,\nits value at (y, x) moved\nto (−y, −x) modulo its size.\n"
        "Distance: L2 norm of the\ndifference from the spectrum\nabove it."
    )
    ax.text(0.0, 1.0, text, transform=ax.transAxes, va="top", fontsize=SMALL, linespacing=1.5)
    ax.text(0.0, 0.16, "maps", transform=ax.transAxes, fontsize=SMALL)
    return ax.inset_axes((0.25, 0.155, 0.68, 0.07))


def _spectrum(ax: Axes, name: str, maps: Tensor) -> AxesImage:
    """Draw the normalised spectrum that the loss compares, shifted so that a coefficient of zero is drawn as zero."""
    spectrum = TRANSFORMS[name](maps)[0]
    wraps = name.startswith("dft")
    for axis, size in ((ax.xaxis, spectrum.shape[1]), (ax.yaxis, spectrum.shape[0])):
        axis.set_ticks([0, size // 2, size - 1], ["0", str(size // 2), "−1" if wraps else str(size - 1)])
    ax.tick_params(labelsize=SMALL - 2, length=3, pad=2)
    norm = SymLogNorm(LINEAR, linscale=0.7, vmin=-1, vmax=1, base=10)
    return ax.imshow((spectrum - spectrum[0, 0]).numpy(), cmap="PuOr", norm=norm)


def _scale(figure: Figure, image: AxesImage) -> None:
    """Draw one colour bar for all spectra, and their caption."""
    ticks = {-1: "−1", -0.3: "−0.3", -0.1: "−0.1", 0: "0", 0.1: "0.1", 0.3: "0.3", 1: "1"}
    bar = figure.colorbar(image, cax=figure.add_axes((0.94, 0.13, 0.012, 0.7)), ticks=[*ticks])
    bar.ax.set_yticklabels([*ticks.values()], fontsize=SMALL)
    bar.ax.minorticks_off()
    text = (
        f"Spectra as the loss compares them: coefficients of the mean-free map over their range, zero drawn white, "
        f"colours logarithmic beyond ±{LINEAR}.\nVertical and horizontal frequency start at the upper left; "
        "those of a DFT wrap around, so that −1 stands beside 0."
    )
    figure.text(0.012, 0.02, text, fontsize=SMALL, linespacing=1.4)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("method.png"))
