"""Use of a bundled student: its predictions for generated scenes, and where it looks.

Prints its accuracy, nearly nine in ten (chance is one in twelve), its predictions for the first four images, and for
each level the share of its attention on the three objects that decide the class: two to four times their share of the
image area. Writes pictures of those four, `DIR/0.png` to `3.png`: the image, and the activation map of each level.

    python examples/use_a_model.py --out attention
"""

import argparse
from pathlib import Path

import torch
from torch.nn import functional as F

import dctkd_zoo
from dctkd_zoo.attention import activation_map
from dctkd_zoo.attention_grid import strip
from dctkd_zoo.data.sources import synthscenes

NAME = "r20_dctkd_synthscenes"


def main() -> None:
    """Load the student, classify images, and draw its attention."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("attention"), metavar="DIR", help="folder for the pictures")
    parser.add_argument("--per-class", type=int, default=20, metavar="N", help="images per class (twelve classes)")
    options = parser.parse_args()

    model = dctkd_zoo.create_model(NAME, pretrained=True)  # a plain timm model
    transform = dctkd_zoo.create_transform(NAME)
    scenes = synthscenes.generate("test", options.per_class)
    images = [scenes.images.load(index) for index in range(len(scenes))]
    with torch.inference_mode():
        output = dctkd_zoo.run(model, torch.stack([transform(image) for image in images]))

    probabilities, predictions = output.logits.softmax(dim=1).max(dim=1)
    correct = predictions == torch.tensor(scenes.labels)
    print(f"{NAME}: {correct.double().mean():.1%} of {len(scenes)} images")

    maps = [activation_map(level) for level in output.maps]  # (B, H, W) each
    options.out.mkdir(parents=True, exist_ok=True)
    for index in range(4):
        label, prediction = scenes.classes[scenes.labels[index]], scenes.classes[predictions[index]]
        print(f"  {index}: {label}, predicted as {prediction} with {probabilities[index]:.0%}")
        strip(images[index], [level[index] for level in maps], prediction).save(options.out / f"{index}.png")

    deciding = (torch.tensor(scenes.masks) > 0)[:, None].float()
    print(f"the deciding objects cover {deciding.mean():.1%} of the images")
    for number, level in enumerate(maps, start=1):
        _, height, width = level.shape
        mask = F.adaptive_avg_pool2d(deciding, (height, width))[:, 0]
        share = ((level * mask).sum(dim=(1, 2)) / level.sum(dim=(1, 2))).mean()
        print(f"  level {number}, {height} x {width}: {share:.1%} of the attention is on them")


if __name__ == "__main__":
    main()
