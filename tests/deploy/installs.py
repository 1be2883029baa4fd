"""Fresh environments for the tests of the wheel: nothing in them but the wheel and what it declares.

No network: what the wheel's metadata asks for is linked, file by file, from the environment that runs the
tests, so a requirement that is not declared is not there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
# What a checkout holds beside the source.
_NOT_SOURCE = (".*", "__pycache__", "build", "dist", "*.egg-info", "runs")


def build(folder: Path) -> tuple[Path, Path]:
    """Make the sdist from a copy of the source and the wheel from that sdist, as `python -m build` does.

    Returns:
        The sdist and the wheel.
    """
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*_NOT_SOURCE))
    out = folder / "dist"
    # Without isolation: setuptools is in the `dev` extra, and no network is needed.
    _checked([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source], cwd=folder)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@dataclass(frozen=True)
class Install:
    """A virtual environment that holds kseg's wheel."""

    folder: Path

    @property
    def _scripts(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    def kseg(self, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run the installed `kseg` command in `cwd`."""
        return _run([self._scripts / "kseg", *words], cwd)

    def python(self, code: str, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run Python code in `cwd`; `-I` keeps the caller's paths out."""
        return _run([self._scripts / "python", "-I", "-c", code, *words], cwd)


def install(wheel: Path, folder: Path, extras: Iterable[str]) -> Install:
    """Install `wheel[extras]` into a fresh environment at `folder`."""
    venv.create(folder, symlinks=True)
    made = Install(folder)
    python = made._scripts / "python"
    _checked(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            wheel,
        ],
        cwd=folder,
    )
    site = Path(
        _checked([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], cwd=folder).strip()
    )
    (own,) = metadata.distributions(name="kseg", path=[str(site)])
    for needed in _closure(own, extras, {}).values():
        _link(needed, site)
    return made


def _closure(
    distribution: metadata.Distribution, extras: Iterable[str], found: dict[str, metadata.Distribution]
) -> dict[str, metadata.Distribution]:
    """Return all that `distribution` with `extras` asks for, by name."""
    for text in distribution.requires or []:
        need = Requirement(text)
        name = canonicalize_name(need.name)
        wanted = need.marker is None or any(need.marker.evaluate({"extra": e}) for e in ["", *extras])
        if wanted and name not in found:
            found[name] = metadata.distribution(need.name)
            _closure(found[name], need.extras, found)
    return found


def _link(distribution: metadata.Distribution, site: Path) -> None:
    for source, inside in _files(distribution):
        target = site / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.symlink_to(source)


def _files(distribution: metadata.Distribution) -> Iterator[tuple[Path, Path]]:
    for file in distribution.files or []:
        # Scripts and data files lie outside site-packages.
        if ".." not in file.parts:
            yield Path(str(distribution.locate_file(file))), Path(str(file))


def _run(words: list[object], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def _checked(words: list[object], cwd: Path) -> str:
    ran = _run(words, cwd)
    assert ran.returncode == 0, f"{words}:\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}"
    return ran.stdout
