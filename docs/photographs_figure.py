"""Draws docs/photographs.jpg: the photographs of `examples/`, and where the default network of `predict` looks.

python docs/photographs_figure.py
"""

from pathlib import Path

import dctkd_zoo
from dctkd_zoo.attention_grid import INK, Row, grid, overlay
from dctkd_zoo.cli.predict import DEFAULT

EXAMPLES = Path(__file__).parents[1] / "examples"
SIDE = 190  # px of a panel


def draw(path: Path) -> None:
    """Draw each photograph as the network sees it, with its attention at four levels and its best guess."""
    rows = []
    for result in dctkd_zoo.predict(sorted(EXAMPLES.glob("*.jpg")), DEFAULT, device="cpu", maps=True):
        assert result.path and result.image
        image = result.image.resize((SIDE, SIDE))
        caption = f"{result.path.name}: {result.class_name} {100 * result.probability:.0f} %"
        rows.append(Row([image, *(overlay(image, heat) for heat in result.maps)], ((caption, INK),)))
    levels = len(rows[0].panels) - 1
    grid(rows, ["image", *(f"level {level}" for level in range(1, levels + 1))]).save(path, quality=88)


if __name__ == "__main__":
    draw(Path(__file__).with_name("photographs.jpg"))
