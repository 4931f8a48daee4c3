"""A bundled student by its name: what it says of generated scenes, and where it looks.

Prints the share of images that it names rightly, nearly nine in ten (one in twelve would be chance), its answers to
the first four, and for each level how much of its attention lies on the three objects that decide: two to four times
what they cover of the image. Of those four it writes pictures, `DIR/0.png` to `3.png`: the image, and each level's map.

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
    """Load, classify, show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("attention"), metavar="DIR", help="for the pictures")
    parser.add_argument("--per-class", type=int, default=20, metavar="N", help="images of each of the twelve classes")
    options = parser.parse_args()

    model = dctkd_zoo.create_model(NAME, pretrained=True)  # a plain timm model
    transform = dctkd_zoo.create_transform(NAME)
    scenes = synthscenes.generate("test", options.per_class)
    images = [scenes.images.load(index) for index in range(len(scenes))]
    with torch.inference_mode():
        output = dctkd_zoo.run(model, torch.stack([transform(image) for image in images]))

    shares, answers = output.logits.softmax(dim=1).max(dim=1)
    right = answers == torch.tensor(scenes.labels)
    print(f"{NAME}: {right.double().mean():.1%} of {len(scenes)} images")

    maps = [activation_map(level) for level in output.maps]  # (B, H, W) each
    options.out.mkdir(parents=True, exist_ok=True)
    for index in range(4):
        truth, answer = scenes.classes[scenes.labels[index]], scenes.classes[answers[index]]
        print(f"  {index}: {truth}, the answer is {answer} with {shares[index]:.0%}")
        strip(images[index], [level[index] for level in maps], answer).save(options.out / f"{index}.png")

    deciding = (torch.tensor(scenes.masks) > 0)[:, None].float()
    print(f"the objects that decide cover {deciding.mean():.1%} of the images")
    for number, level in enumerate(maps, start=1):
        _, height, width = level.shape
        mask = F.adaptive_avg_pool2d(deciding, (height, width))[:, 0]
        on_them = ((level * mask).sum(dim=(1, 2)) / level.sum(dim=(1, 2))).mean()
        print(f"  level {number}, {height} x {width}: {on_them:.1%} of the attention is on them")


if __name__ == "__main__":
    main()
