"""Distillation in a LightningModule: its step is a call of the task, and its checkpoints leave the teacher out.

Trains a ResNet-20 for a few steps, too few to be of use, on generated scenes, with the labels and the attention of a
bundled ResNet-56. Prints the terms of the last step, and writes the checkpoint `student.ckpt`.

    pip install lightning && python examples/lightning_module.py [--steps 10]
"""

import argparse

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

import dctkd_zoo
from dctkd_zoo.data.sources import synthscenes
from dctkd_zoo.timm_task import DistillationTask


class Distillation(lightning.LightningModule):
    """A student and its teacher, both inside the task."""

    def __init__(self, task: DistillationTask) -> None:
        super().__init__()
        self.task = task

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        """Return the loss; log it and its terms."""
        result: dict[str, torch.Tensor] = self.task(*batch)
        self.log_dict({name: value.detach() for name, value in result.items() if name != "output"})
        return result["loss"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SGD for the parameters of student and terms."""
        return torch.optim.SGD(self.task.get_clip_parameters(), lr=0.05, momentum=0.9)

    def on_save_checkpoint(self, checkpoint: dict[str, dict[str, torch.Tensor]]) -> None:
        """Keep what is trained, and leave the teacher out."""
        checkpoint["state_dict"] = self.task.trainable_module.state_dict(prefix="task.trainable_module.")

    def on_load_checkpoint(self, checkpoint: dict[str, dict[str, torch.Tensor]]) -> None:
        """Complete the state with this module's own teacher."""
        checkpoint["state_dict"] |= self.task.teacher.state_dict(prefix="task.teacher.")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=10, metavar="N")
parser.add_argument("--resume", metavar="FILE", help="a checkpoint to continue from")
options = parser.parse_args()
split, transform = synthscenes.generate("train", 40), dctkd_zoo.create_transform("r56_synthscenes")
images = torch.stack([transform(split.images.load(index)) for index in range(len(split))])
loader = DataLoader(TensorDataset(images, torch.tensor(split.labels)), batch_size=48, shuffle=True)
student = dctkd_zoo.create_model("r20_synthscenes")  # untrained; any timm network will do
teacher = dctkd_zoo.create_model("r56_synthscenes", pretrained=True)
task = DistillationTask(student, teacher, {"ce": 1, "dctkd": 1}, images[:48], mean=[0.5] * 3, std=[0.25] * 3)
trainer = lightning.Trainer(max_steps=options.steps, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Distillation(task.train()), loader, ckpt_path=options.resume)
trainer.save_checkpoint("student.ckpt")
print(*(f"{name} {trainer.logged_metrics[name].item():.3f}" for name in ("loss", "ce", "dctkd")))
