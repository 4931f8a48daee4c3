"""A static page that classifies photographs in the browser and shows where networks look."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import dctkd_zoo
from dctkd_zoo import registry
from dctkd_zoo.attention_grid import OPACITY, VIRIDIS
from dctkd_zoo.data import decode
from dctkd_zoo.demo.network import Network
from dctkd_zoo.demo.runtime import PACKAGE, Runtime
from dctkd_zoo.spec import Entry
from eval import columns
from eval.report import render

HERE = Path(__file__).parent
EXAMPLES = ("mountain", "meadow")  # (c) Aitzol Berasategi, CC BY 4.0
COUNTED = {2: "Two", 3: "Three", 4: "Four"}
HEADING = "What is it, and where did the network look?"


@dataclass(frozen=True)
class Shown:
    """A network as the page calls it: its role in a word, in a sentence, and with an article or as its name."""

    network: Network
    role: str
    about: str
    short: str


def page(networks: Sequence[Network], runtime: Runtime) -> str:
    """Return the page as HTML that needs no other file and no connection."""
    shown = cast(networks)
    style = (render.HERE / "colours.css").read_text(encoding="utf-8") + _text("page.css") + _viridis()
    script = _text("pillow.js") + _text("page.js")
    facts = {
        "networks": [{"short": item.short, **item.network.for_browser()} for item in shown],
        "viridis": VIRIDIS,
        "most": decode.MOST,
        "longest": decode.LONGEST,
    }
    parts = {"runtime-script": runtime.script, "runtime-wasm": runtime.wasm}
    parts |= {f"onnx-{index}": network.onnx for index, network in enumerate(networks)}
    packed = {name: base64.b64encode(gzip.compress(part, 9, mtime=0)).decode() for name, part in parts.items()}
    return _environment().get_template("page.html.jinja").render(
        title=f"dctkd_zoo: {HEADING[0].lower()}{HEADING[1:]}",
        heading=HEADING,
        networks=shown,
        counted=COUNTED.get(len(networks), str(len(networks))),
        notes=notes(networks),
        examples=[{"name": name, "data": _encoded(f"{name}.jpg")} for name in EXAMPLES],
        opacity=OPACITY,
        version=dctkd_zoo.__version__,
        runtime=PACKAGE,
        size=f"{sum(map(len, packed.values())) / 1e6:.1f} MB",
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
        data=render.script_data(facts),
        parts=packed,
    )  # fmt: skip


def space(networks: Sequence[Network]) -> str:
    """Return the README.md of a static Space of the Hub that holds the page."""
    licences = {network.licence or "other" for network in networks}
    return _environment().get_template("space.md.jinja").render(
        title=HEADING,
        heading=HEADING,
        networks=cast(networks),
        names=[f"`{network.name}`" for network in networks],
        license=licences.pop() if len(licences) == 1 else "other",
        models=[network.repo for network in networks if network.repo],
        runtime=PACKAGE,
    )  # fmt: skip


def cast(networks: Sequence[Network]) -> list[Shown]:
    """Return each network with its role among the others; one that shares its role is called by its name."""
    students = [network.entry for network in networks if network.entry and network.entry.teacher]
    roles = [_role(network, students) for network in networks]
    return [
        Shown(network, role, about, f"the {role}" if [r for r, _ in roles].count(role) == 1 else network.name)
        for network, (role, about) in zip(networks, roles, strict=True)
    ]


def _role(network: Network, students: Sequence[Entry]) -> tuple[str, str]:
    entry = network.entry
    if entry is None:
        return "network", "a network from elsewhere"
    taught = [student.name for student in students if student.teacher == entry.name]
    if taught:
        return "teacher", f"teacher of {', '.join(taught)}"
    if entry.teacher:
        return "student", f"student of {render.shortened_name(entry.teacher)}"
    compared = [student.name for student in students if registry.baseline(student) == entry.name]
    if compared:
        return "baseline", f"trained with labels only, as the baseline of {', '.join(compared)}"
    return "classifier", "trained with labels only"


def notes(networks: Sequence[Network]) -> list[str]:
    """Return what a reader must know to compare the networks: teachers that are absent, and other classes."""
    names = {network.name for network in networks}
    result = [
        f"{network.name} learned from {render.shortened_name(network.entry.teacher)}, whose weights are not on this "
        "page. No other network here is its teacher, so their maps need not be alike."
        for network in networks
        if len(networks) > 1 and network.entry and network.entry.teacher and network.entry.teacher not in names
    ]
    if len({network.predictor.classes for network in networks}) > 1:
        result.append(
            "These networks know different classes, so that different answers need not contradict each other."
        )
    return result


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        autoescape=_is_html,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "breakable": render.breakable,
        "fixed": columns.number,
        "thousands": columns.thousands,
    }
    return environment


def _is_html(template: str | None) -> bool:
    return template is not None and ".html" in template


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _encoded(name: str) -> str:
    return base64.b64encode((HERE / name).read_bytes()).decode()


def _hash(text: str) -> str:
    """Return how a content security policy names an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _viridis() -> str:
    steps = ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in VIRIDIS)
    return f".viridis {{ background: linear-gradient(90deg, {steps}); }}\n"
