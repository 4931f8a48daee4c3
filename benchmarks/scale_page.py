"""`scale.json` to the figures in docs/scale.md, and from them to Places365: `python -m benchmarks.scale_page`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.scale import FOUND
from dctkd_zoo import registry
from dctkd_zoo.data import shards
from eval.pages.generated_file import command

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
BLOCK = re.compile(r"(<!-- scale -->\n).*?(<!-- /scale -->)", re.DOTALL)
CORES = (2, 16, 64)


def filled(text: str, found: Mapping[str, Any]) -> str:
    """The text, what is between its markers made anew."""
    assert len(BLOCK.findall(text)) == 1, "docs/scale.md needs one <!-- scale --> with a <!-- /scale --> after it"
    return BLOCK.sub(lambda match: match[1] + measured(found) + "\n" + places365(found) + match[2], text)


def measured(found: Mapping[str, Any]) -> str:
    """The table of what was measured."""
    gigabytes = found["store_bytes"] / 1e9
    epoch = found["epoch"]
    memory = [epoch[name] / 2**20 for name in ("anonymous_fifth_step", "anonymous_most")]
    within = f", {epoch['limit'] / 2**30:.0f} GiB of memory in all" if epoch["limit"] else ""
    rows = {
        "bytes of an image, JPEG and stored": f"{found['encoded_bytes'] / found['images']:,.0f}, "
        f"{found['store_bytes'] / found['images']:,.0f}",
        "store": f"{gigabytes:.2f} GB in {found['shards']} shards",
        "hashing the files, once": f"{found['fingerprints_per_s']:,.0f} images/s",
        "decode, resize, write: one process": f"{found['built_per_s_1']:,.0f} images/s",
        "the same: two processes": f"{found['built_per_s_2']:,.0f} images/s",
        "decode, resize, write: r_build": f"{found['built_per_core_s_1']:,.0f} images per second of a core",
        "verifying: r_hash": f"{found['store_bytes'] / 1e9 / found['verified_core_s']:.2f} GB per second of a core",
        "an epoch of views from tar shards: r_live": f"{found['streamed_per_core_s']:,.0f} images per second of a core",
        "verifying, in the page cache": f"{gigabytes / found['verified_warm_s']:.2f} GB/s",
        "verifying, from the disk": f"{gigabytes / found['verified_cold_s']:.2f} GB/s",
        "crops of 224 px, in the page cache: shards": f"{found['crops_per_s']:,.0f} images/s",
        "the same: one file": f"{found['crops_per_s_one_file']:,.0f} images/s",
        "the same: shards, from the disk": f"{found['crops_per_s_cold']:,.0f} images/s",
        f"an epoch of views{within}": f"{epoch['images_per_s']:,.0f} images/s",
        "its memory that is no file's, step 5 and at most": " and ".join(f"{m:,.0f} MiB" for m in memory),
        "a first look at tar shards, without a store": f"{found['indexed_per_s']:,.0f} images/s",
        "an epoch of views from tar shards": f"{found['streamed_per_s']:,.0f} images/s",
    }
    machine = found["machine"]
    caption = f"{found['images']:,} images of 256 x 256 px; {machine['date'][:10]}, {machine['device']}"
    caption += f", shared with others: load average {found['load']:.1f}"
    return "\n| what | figure |\n|---|---|\n" + "".join(f"| {k} | {v} |\n" for k, v in rows.items()) + f"\n{caption}.\n"


def places365(found: Mapping[str, Any]) -> str:
    """What the formulas give for Places365."""
    dataset, recipe = registry.get_dataset("places365"), registry.get_entry("r18_places365").recipe
    count, side = dataset.train + dataset.test, recipe.resize
    stored, encoded = 3 * side**2 * count, found["encoded_bytes"] / found["images"] * count
    per_core = found["built_per_core_s_1"]
    verified = found["store_bytes"] / found["verified_cold_s"]
    hashed = found["store_bytes"] / found["verified_core_s"]
    live = found["streamed_per_core_s"]
    pieces = sum(len(shards.layout(Path(), n, recipe, kept=True)) for n in (dataset.train, dataset.test))
    hours = " | ".join(f"{count / per_core / cores / 3600:.2g} h" for cores in CORES)
    seen = " | ".join(f"{dataset.train / live / cores / 3600:.2g} h" for cores in CORES)
    check = " | ".join(f"{stored / hashed / cores / 60:.2g} min" for cores in CORES)
    head = " | ".join(f"{cores} cores" for cores in CORES)
    jpeg, reading = f"{encoded / 1e9:,.0f} GB", f"{stored / verified / 60:,.0f} min"
    words = f"Of Places365's {count:,} images: a store of {stored / 1e9:,.0f} GB in {pieces:,} shards. JPEG files as "
    words += f"measured\nwould be {jpeg}. Reading the store once from a disk as fast as this one takes {reading}."
    return f"""
{words}

| | {head} |
|---|{"---|" * len(CORES)}
| building the store, N / (r_build n) | {hours} |
| hashing it when it is opened, B / (r_hash n), or the disk's time | {check} |
| an epoch of views without a store, N / (r_live n) | {seen} |

"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    result = json.loads(FOUND.read_text(encoding="utf-8"))
    return command(PAGE, lambda text: filled(text, result), "python -m benchmarks.scale_page", __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
