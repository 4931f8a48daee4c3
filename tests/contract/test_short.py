"""From import to publishing in one go, on one rank and on two: what `.ci/run` tries with the lowest versions too."""

import csv
import json
import subprocess
import sys

import dctkd_zoo
from tests import world


def test_import_train_on_one_and_two_ranks_evaluate_and_look_over_for_publishing(tmp_path):
    assert dctkd_zoo.create_model("r20_dctkd_synthscenes", pretrained=True).num_classes == 12
    home = world.make(tmp_path / "world")
    (home / "catalog.py").write_text(world.CATALOG.replace('license="none"', 'license="cc0-1.0"'))
    names = ("r14_stripes", "r8_dctkd_kd_stripes")
    one, two = home / "one", home / "two"
    for command in (
        world.command(home, one, *names),
        world.torchrun(2, "train", *world.options(home, two), *names),
        [sys.executable, "-m", "eval", *world.options(home, one), *names, "--json", str(home / "eval.json")],
        [sys.executable, "-m", "dctkd_zoo", "publish", *world.options(home, one), *names, "--org", "me", "--dry-run"],
    ):
        done = world.run(command, home)
        assert done.returncode == 0, done.stderr
    for name in names:  # the same but for rounding, which grows from step to step
        first, second = (
            next(csv.DictReader((out / name / "train_log.csv").read_text().splitlines())) for out in (one, two)
        )
        assert first.keys() == second.keys()
        assert abs(float(first["ce"]) / float(second["ce"]) - 1) < 0.05
    rows = [entry["row"] for entry in json.loads((home / "eval.json").read_text())["entries"]]
    assert [row["n"] for row in rows] == [24, 24]
    assert "2 ready" in done.stdout
    assert subprocess.run([sys.executable, "-m", "eval", "--help"], check=False, capture_output=True).returncode == 0
