"""Two bundled students of one teacher on the same images: how often they are right, and how alike they look.

One learned from the teacher's logits alone (`kd`), the other from its attention (`dctkd`). Prints a row for each: the
second is right more often, agrees with the teacher more often, and its activation maps are far closer to the teacher's,
at every level. With 100 images per class, the default, these are all 1,200 test images, and the figures are those of
the README's table, where `dctkd` stands with the mean of three seeds.

    python examples/compare_two_students.py
"""

import argparse

import torch

import dctkd_zoo
from dctkd_zoo import Batch, Output
from dctkd_zoo.data.sources import synthscenes
from eval.metrics._base import ImageMetric, load

STUDENTS = ("r20_kd_synthscenes", "r20_dctkd_synthscenes")
TEACHER = str(dctkd_zoo.get_entry(STUDENTS[0]).teacher)  # the other's too
METRICS = ("top1", "agreement", "ssim", "pearson")  # files of eval/metrics


def answer(name: str, images: torch.Tensor) -> Output:
    """What an entry makes of images, in parts that fit into memory."""
    model = dctkd_zoo.create_model(name, pretrained=True)
    with torch.inference_mode():
        logits, maps, embeddings, _ = zip(*(dctkd_zoo.run(model, part) for part in images.split(64)), strict=True)
    return Output(torch.cat(logits), tuple(map(torch.cat, zip(*maps, strict=True))), torch.cat(embeddings))


def main() -> None:
    """Run three networks, compare two with the third."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=100, metavar="N", help="images of each of the twelve classes")
    options = parser.parse_args()

    scenes = synthscenes.generate("test", options.per_class)
    transform = dctkd_zoo.create_transform(TEACHER)
    images = torch.stack([transform(scenes.images.load(index)) for index in range(len(scenes))])
    batch = Batch(images, torch.tensor(scenes.labels), torch.arange(len(scenes)))
    teacher = answer(TEACHER, images)

    print(f"{len(scenes)} images, against {TEACHER}; SSIM and Pearson by level, from the shallowest")
    for name in STUDENTS:
        student = answer(name, images)
        print(name)
        for metric in load(METRICS):
            assert isinstance(metric, ImageMetric)  # (B,) numbers, or one per image and level
            values = metric(student, teacher, batch).mean(dim=0).reshape(-1)
            print(f"  {metric.name:10}", *(f"{value:8.3f}" for value in values.tolist()))


if __name__ == "__main__":
    main()
