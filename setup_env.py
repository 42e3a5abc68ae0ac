"""Make `.venv` ready: `python3 setup_env.py predict` or `python3 setup_env.py test` (what `make` calls).

Needs the standard library only, and returns at once where the work is already done.

`predict` installs what prediction needs. `test` adds training (with fairseq), published checkpoints and
the development tools. torch is the build for this machine: the CPU build, unless `nvidia-smi` finds a GPU.
`REFHCM_TORCH="torch==2.7.1"` (or `make demo TORCH=torch==2.7.1`) chooses another version.
"""

from __future__ import annotations  # this file is also read by a Python too old for the package, to say so

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "refhcm-setup.json"
OLDEST, NEWEST = (3, 10), (3, 13)
EXTRAS = {"predict": [], "test": ["train", "compact", "published", "lora", "watch", "shards", "dev"]}
DEFAULT_TORCH = "torch==2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
FAIRSEQ = "fairseq==0.12.2"


def works(*command: str) -> bool:
    """Run a command in silence; True where it ends well."""
    return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def find_python() -> str:
    """Path of a Python 3.10 to 3.13: the one that runs this file, or the newest on PATH."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        path = shutil.which(f"python3.{minor}")
        if path and works(path, "-c", ""):  # a version manager's shim can be there and not run
            return path
    sys.exit(
        f"RefHCM needs Python 3.10 to 3.13; this is {sys.version.split()[0]} and no other is on PATH. "
        "On Debian: apt install python3 python3-venv."
    )


def venv_version() -> tuple[int, ...] | None:
    """Major and minor version of the Python in `.venv`; None where there is none that runs."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        found = subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True)
    except OSError:
        return None
    return tuple(map(int, found.stdout.split())) or None


def check_python(chosen: bool) -> None:
    """`.venv` keeps the Python that it was made with: say so, and end where another one was `chosen`."""
    mine, theirs = sys.version_info[:2], venv_version()
    if chosen and not OLDEST <= mine <= NEWEST:
        sys.exit(f"RefHCM needs Python 3.10 to 3.13, and PYTHON names {mine[0]}.{mine[1]}: choose another, or none.")
    if theirs is None or theirs == mine:
        return
    versions = f".venv holds Python {theirs[0]}.{theirs[1]}, not {mine[0]}.{mine[1]}"
    if chosen:
        sys.exit(f"{versions} as PYTHON asks: `make clean` (or delete .venv) first, or leave PYTHON out.")
    if OLDEST <= mine <= NEWEST:  # otherwise `find_python` looked for another one, as it should
        print(f"note: {versions}; it is used as it is", flush=True)


def make_venv() -> None:
    """Create `.venv` unless it is there and works; say which package is missing where Python cannot."""
    if PYTHON.exists() and works(str(PYTHON), "-m", "pip", "--version"):
        return
    python = find_python()
    if not works(python, "-c", "import venv, ensurepip"):
        sys.exit(f"{python} cannot make virtual environments. On Debian or Ubuntu: apt install python3-venv.")
    print(f"creating {VENV} with {python}", flush=True)
    subprocess.check_call([python, "-m", "venv", "--clear", str(VENV)])


def pip(*arguments: str, **environment: str) -> None:
    """Run pip inside `.venv`; on failure end with one sentence after pip's own words."""
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    print("pip install", *arguments, flush=True)
    if subprocess.call(command, cwd=ROOT, env={**os.environ, **environment}) != 0:
        sys.exit(f"pip could not install {' '.join(arguments)} (its reason stands above).")


def has_gpu() -> bool:
    """True where the NVIDIA driver answers."""
    tool = shutil.which("nvidia-smi")
    return tool is not None and works(tool, "-L")


def reachable(address: str) -> bool:
    """True where the address answers within seconds."""
    try:
        with urllib.request.urlopen(address, timeout=8):
            return True
    except (OSError, ValueError):
        return False


def install_torch(requirement: str) -> None:
    """Install torch and the torchvision that belongs to it: the CPU build on Linux without a GPU.

    The CPU index is named beside the usual one: pip prefers its `+cpu` build because a local version sorts after the
    plain one. (On PyPI, Linux has CUDA builds only; other systems have CPU builds there.)
    """
    options = []
    if sys.platform == "linux" and not has_gpu():
        if reachable(CPU_INDEX + "/torch/"):
            options = ["--extra-index-url", CPU_INDEX]
        else:
            print(f"{CPU_INDEX} does not answer: torch comes from the usual index", flush=True)
    pip(requirement, "torchvision", *options)


def digest(requirement: str) -> str:
    """Fingerprint of everything that decides what gets installed."""
    parts = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "setup_env.py")]
    return hashlib.sha256(b"\0".join([*parts, requirement.encode()])).hexdigest()


def link_package() -> None:
    """`.cache/path/refhcm` -> the repository root, for mypy, which cannot follow an editable install."""
    link = ROOT / ".cache" / "path" / "refhcm"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(Path("..", ".."), target_is_directory=True)


def main() -> None:
    """Bring `.venv` to the asked purpose."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("purpose", choices=sorted(EXTRAS))
    parser.add_argument("--torch", metavar="REQUIREMENT", help=f"default: {DEFAULT_TORCH}")
    parser.add_argument("--chosen", action="store_true", help="this Python was asked for: refuse a .venv of another")
    options = parser.parse_args()
    torch = options.torch or os.environ.get("REFHCM_TORCH") or DEFAULT_TORCH

    check_python(options.chosen)
    link_package()
    wanted = {"digest": digest(torch), "purposes": [options.purpose]}
    done = json.loads(STAMP.read_text()) if STAMP.exists() and PYTHON.exists() else {}
    if done.get("digest") == wanted["digest"] and {options.purpose, "test"} & set(done["purposes"]):
        return
    make_venv()
    install_torch(torch)
    extras = EXTRAS[options.purpose]
    pip("--editable", f".[{','.join(extras)}]" if extras else ".")
    if "train" in extras:  # pure Python, no compiler; see the note on fairseq in pyproject.toml
        pip("--no-deps", FAIRSEQ, READTHEDOCS="1")
    if done.get("digest") == wanted["digest"]:
        wanted["purposes"] += done["purposes"]
    STAMP.write_text(json.dumps(wanted))


if __name__ == "__main__":
    main()
