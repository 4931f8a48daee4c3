"""Draws docs/attention.png: attention of a teacher, a supervised baseline and a distilled student on the same images.

python docs/attention_figure.py
"""

from pathlib import Path

import torch
from PIL import Image

import dctkd_zoo
from dctkd_zoo.attention import activation_map
from dctkd_zoo.attention_grid import Row, grid, overlay
from dctkd_zoo.data.sources.synthscenes import generate

NETWORKS = {"r56_synthscenes": "teacher\nResNet-56", "r20_synthscenes": "baseline\nResNet-20"}
NETWORKS |= {"r20_dctkd_synthscenes": "DCT-distilled\nResNet-20"}
IMAGES, LEVEL, CELL = 60, 2, 200  # test images, index of the level from the shallowest, px of a panel
SHOWN = 2


def draw(path: Path) -> None:
    """Draw the first test images that the teacher and the student classify right and the baseline wrong."""
    split = generate("test", IMAGES)
    images = [split.images.load(position) for position in range(IMAGES)]
    batch = torch.stack([dctkd_zoo.create_transform("r20_synthscenes")(image) for image in images])
    labels = torch.tensor(split.labels[:IMAGES])
    outputs = {}
    for name in NETWORKS:
        with torch.no_grad():
            outputs[name] = dctkd_zoo.run(dctkd_zoo.create_model(name, pretrained=True), batch)
    right = {name: output.logits.argmax(dim=1) == labels for name, output in outputs.items()}
    teacher, baseline, student = right.values()
    rows = []
    for position in torch.nonzero(teacher & student & ~baseline).flatten()[:SHOWN].tolist():
        large = images[position].resize((CELL, CELL), Image.Resampling.BICUBIC)
        maps = [activation_map(output.maps[LEVEL])[position] for output in outputs.values()]
        rows.append(Row([large, *(overlay(large, heat) for heat in maps)]))
    grid(rows, ["image", *NETWORKS.values()]).quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    draw(Path(__file__).with_name("attention.png"))
