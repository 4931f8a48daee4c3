"""What a launcher sees of `python -m train NAME`, without a network: the lock, a log that grows, and how it ends.

`python stand_in.py OUT NAME EPOCHS` does an epoch in 0.1 s; a file OUT/NAME.fails makes it fail after the first.
"""

import sys
import time
from pathlib import Path

from dctkd_zoo._io import atomic, lock

OUT, NAME, EPOCHS = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
FOLDER = OUT / NAME


def main() -> None:
    log, state = FOLDER / "train_log.csv", FOLDER / "checkpoint.safetensors"
    done = len(log.read_text().splitlines()) - 1 if log.exists() else 0
    with (OUT / "starts.txt").open("a") as starts:
        starts.write(f"{NAME} {done}\n")
    for epoch in range(done + 1, EPOCHS + 1):
        time.sleep(0.1)
        rows = "".join(f"{n},{10 * n}\n" for n in range(1, epoch + 1))
        atomic.write_text(log, "epoch,test_top1\n" + rows)
        atomic.write_text(state, "")
        if (OUT / f"{NAME}.fails").exists():
            sys.exit(f"warning: hm\nerror: {NAME}: the disk is full\n")
    for name in ("config.json", "model.safetensors", "SHA256SUMS"):
        atomic.write_text(FOLDER / name, "")
    state.unlink(missing_ok=True)


try:
    with lock.held(FOLDER, wait=False):
        main()
except KeyboardInterrupt:
    sys.exit(130)
