"""What may import what, read from the source with `ast`; and what no module may do at all."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("dctkd_zoo", "eval", "train")

# The modules and packages in the order in which data flows: one imports only from its own layer and from those before
# it. A dotted name is a module of a package that stands in another layer.
LAYERS = (
    ("_io", "cli.arguments", "cli.shell", "discover", "errors", "recipe", "schedules", "spec"),
    ("catalog",),
    ("registry",),
    ("user_catalog", "weights"),
    ("distributed",),
    ("data",),
    ("device", "models"),
    ("starter",),
    ("attention",),
    ("features",),
    ("spectrum", "sync_batchnorm"),
    ("attention_grid", "levels", "onnx", "predictor"),
    ("prediction",),
    ("losses",),
    ("objective",),
    ("teachers",),
    ("teacher_cache", "timm_task"),
    ("__init__", "_moved"),  # the top of dctkd_zoo: what users import, no module below does
    ("eval",),
    ("train",),
    ("cli", "demo", "__main__"),  # commands may call anything
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
WITHOUT_TORCH = {name for name in LEVEL if LEVEL[name] <= LEVEL["weights"]} | {"__init__", "_moved", "cli", "__main__"}

HEAVY = {"timm", "torch", "torchvision"}
UNPICKLERS = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
MAX_LINES = 300


def module_name(path: Path) -> str:
    """`dctkd_zoo/losses/kd.py` -> `dctkd_zoo.losses.kd`; a package's `__init__` keeps its name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


PATHS = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
TREES = {module: ast.parse(path.read_text(encoding="utf-8"), str(path)) for module, path in PATHS.items()}
TOP_LEVEL = {module.split(".")[1] for module in PATHS if module.startswith("dctkd_zoo.")} - {"__init__"}
every_module = pytest.mark.parametrize("module", PATHS)


def layer(module: str) -> str:
    """`dctkd_zoo.losses.kd` -> `losses`, `eval.report` -> `eval`: the name that LAYERS orders."""
    package, *rest = module.split(".")
    if package != "dctkd_zoo":
        return package
    if ".".join(rest[:2]) in LEVEL:
        return ".".join(rest[:2])
    return rest[0] if rest and rest[0] in TOP_LEVEL else "__init__"


def imported(module: str, node: ast.AST) -> Iterator[str]:
    """Absolute dotted names that an import statement in `module` asks for; none for any other node."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = module.split(".")[: -node.level] if node.level else []
        base = ".".join([*parents, *([node.module] if node.module else [])])
        yield from (f"{base}.{alias.name}" for alias in node.names)


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: not function bodies, not `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from at_import(node)


def test_every_module_has_a_layer():
    unknown = sorted(name for name in TOP_LEVEL if layer(f"dctkd_zoo.{name}") not in LEVEL)
    assert not unknown, f"new in dctkd_zoo: {unknown}. Give each its place in LAYERS of {Path(__file__).name}"


@every_module
def test_imports_follow_the_data(module):
    own = layer(module)
    upwards = {
        f"{target} ({layer(target)} comes after {own})"
        for node in ast.walk(TREES[module])
        for target in imported(module, node)
        if target.split(".")[0] in PACKAGES and LEVEL.get(layer(target), 0) > LEVEL.get(own, 0)
    }
    assert not upwards, f"{module} imports from a later layer: {sorted(upwards)}"


@pytest.mark.parametrize("module", [module for module in PATHS if layer(module) in WITHOUT_TORCH])
def test_torch_is_imported_only_where_networks_are(module):
    targets = {target for node in at_import(TREES[module]) for target in imported(module, node)}
    heavy = {target for target in targets if target.split(".")[0] in HEAVY}
    late = {t for t in targets if t.split(".")[0] in PACKAGES and layer(t) not in WITHOUT_TORCH}
    assert not heavy, f"{module} imports {sorted(heavy)} when it is itself imported"
    assert not late, f"{module} imports {sorted(late)}, which may import torch; import it inside the function"


def test_listing_the_zoo_imports_no_torch():
    code = f"""
import json, sys
import dctkd_zoo
dctkd_zoo.list_models()
print(json.dumps(sorted({HEAVY!r} & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def unpickles(call: ast.Call) -> bool:
    """Whether the call, as written, can run code from a file."""
    called = ast.unparse(call.func)
    if called == "torch.load" and any(ast.unparse(word) == "weights_only=True" for word in call.keywords):
        return False
    asked = any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in call.keywords)
    return called == "torch.load" or called.endswith(".read_pickle") or asked


@every_module
def test_nothing_is_unpickled(module):
    nodes = list(ast.walk(TREES[module]))
    result = [
        f"line {node.lineno}: {ast.unparse(node)}" for node in nodes if isinstance(node, ast.Call) and unpickles(node)
    ]
    names = [name for node in nodes for name in imported(module, node)]
    result += [name for name in names if name.split(".")[0] in UNPICKLERS or name == "torch.load"]
    assert not result, f"{module} can run code from a file: {result}. Tensors are kept as safetensors"


def test_only_published_weights_of_known_hash_are_read_by_torch():
    readers = [name for name, tree in TREES.items() if "torch.load(" in ast.unparse(tree)]
    assert readers == ["dctkd_zoo.models.pretrained"]


@every_module
def test_a_file_can_be_read_in_one_sitting(module):
    lines = len(PATHS[module].read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{module} has {lines} lines, {MAX_LINES} are the end: which two things is it?"
