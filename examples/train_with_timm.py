"""Distillation in a training loop of timm: its optimizer, scheduler, mixup, moving average and checkpoints.

Trains a ResNet-20 for a few steps, too few to be of use, on generated scenes, with the labels and the attention of a
bundled ResNet-56. Prints the loss and its terms at each step, and what the checkpoint holds: student, its average, and
no teacher. In timm's own `train.py`, the line that creates the task is the only one to change.

    python examples/train_with_timm.py [--steps 10]
"""

import argparse
from pathlib import Path

import timm
import torch
from timm.data import Mixup
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import CheckpointSaver

import dctkd_zoo
from dctkd_zoo.data.sources import synthscenes
from dctkd_zoo.timm_task import DistillationTask

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=10, metavar="N")
parser.add_argument("--out", type=Path, default=Path("timm_run"), metavar="DIR", help="folder for the checkpoint")
options = parser.parse_args()
torch.manual_seed(0)

teacher = dctkd_zoo.create_model("r56_synthscenes", pretrained=True)  # or any timm network
student = timm.create_model("resnet20_cifar", num_classes=12)
split, transform = synthscenes.generate("train", 40), dctkd_zoo.create_transform("r56_synthscenes")
images = torch.stack([transform(split.images.load(index)) for index in range(len(split))])  # mean 0.5, std 0.25
labels = torch.tensor(split.labels)

task = DistillationTask(
    student, teacher, {"ce": 1, "dctkd": 1}, images[:48], mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
)
optimizer = create_optimizer_v2(task.trainable_module, "sgd", lr=0.05, weight_decay=1e-4)
scheduler, _ = create_scheduler_v2(optimizer, num_epochs=1, updates_per_epoch=options.steps, step_on_epochs=False)
task.setup_ema(decay=0.9)
mixup = Mixup(mixup_alpha=0.2, num_classes=12)

task.train()
for step in range(options.steps):
    chosen = torch.randperm(len(images))[:48]
    result = task(*mixup(images[chosen], labels[chosen]))
    optimizer.zero_grad()
    result["loss"].backward()
    torch.nn.utils.clip_grad_norm_(task.get_clip_parameters(), 5.0)
    optimizer.step()
    scheduler.step_update(step + 1)
    task.update_ema(step + 1)
    print(f"step {step + 1}:", *(f"{name} {result[name].item():.3f}" for name in ("loss", "ce", "dctkd")))

options.out.mkdir(parents=True, exist_ok=True)
saver = CheckpointSaver(task.get_eval_model(), optimizer, task=task, checkpoint_dir=str(options.out))
saver.save_checkpoint(0)
print(*sorted(torch.load(options.out / "last.pth.tar", weights_only=True)))
