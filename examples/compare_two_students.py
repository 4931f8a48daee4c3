"""Comparison of two bundled students of one teacher: accuracy, agreement and similarity of attention.

One learned only from the teacher's logits (`kd`), the other from its attention (`dctkd`). Prints a block for each: the
second is more accurate, agrees with the teacher more often, and its activation maps are far closer to the teacher's at
every level. With 100 images per class, the default, these are all 1,200 test images. RESULTS.md has the same values as
means over five training seeds.

    python examples/compare_two_students.py
"""

import argparse

import torch

import dctkd_zoo
from dctkd_zoo import Batch, Output
from dctkd_zoo.data.sources import synthscenes
from eval.metrics._base import ImageMetric, load

STUDENTS = ("r20_kd_synthscenes", "r20_dctkd_synthscenes")
TEACHER = str(dctkd_zoo.get_entry(STUDENTS[0]).teacher)  # of both students
METRICS = ("top1", "agreement", "ssim", "pearson")  # files of eval/metrics


def outputs(name: str, images: torch.Tensor) -> Output:
    """Return the output of an entry for images, computed in batches of 64."""
    model = dctkd_zoo.create_model(name, pretrained=True)
    with torch.inference_mode():
        parts = [dctkd_zoo.run(model, batch) for batch in images.split(64)]
    logits, maps, embeddings = zip(*((part.logits, part.maps, part.embedding) for part in parts), strict=True)
    return Output(torch.cat(logits), tuple(map(torch.cat, zip(*maps, strict=True))), torch.cat(embeddings))


def main() -> None:
    """Run teacher and students, and compare each student with the teacher."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=100, metavar="N", help="images per class (twelve classes)")
    options = parser.parse_args()

    scenes = synthscenes.generate("test", options.per_class)
    transform = dctkd_zoo.create_transform(TEACHER)
    images = torch.stack([transform(scenes.images.load(index)) for index in range(len(scenes))])
    batch = Batch(images, torch.tensor(scenes.labels), torch.arange(len(scenes)))
    teacher = outputs(TEACHER, images)

    print(f"{len(scenes)} images, against {TEACHER}; SSIM and Pearson by level, shallowest first")
    for name in STUDENTS:
        student = outputs(name, images)
        print(name)
        for metric in load(METRICS):
            assert isinstance(metric, ImageMetric)  # returns (B,), or (B, levels)
            values = metric(student, teacher, batch).mean(dim=0).reshape(-1)
            print(f"  {metric.name:10}", *(f"{value:8.3f}" for value in values.tolist()))


if __name__ == "__main__":
    main()
