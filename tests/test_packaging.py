"""The packaging files agree with each other and with the folders."""

import importlib.metadata
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from refhcm.errors import MissingExtraError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
LISTED_EXTRAS = ("train", "compact", "published", "lora", "web", "watch", "hub", "captions", "shards")


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def run(*command: str, cwd: str | Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def requirement_lines() -> list[str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    return [line for line in lines if line]


def test_requirements_and_pyproject_agree(project):
    extras = project["project"]["optional-dependencies"]
    wanted = project["project"]["dependencies"] + [line for name in LISTED_EXTRAS for line in extras[name]]
    assert requirement_lines() == wanted


def test_requirements_name_every_agreed_package():
    text = (ROOT / "requirements.txt").read_text()
    agreed = ("torch", "fairseq", "timm", "transformers", "pycocotools")
    agreed += ("pillow", "gradio", "numpy", "sentencepiece")
    assert [name for name in agreed if f"\n{name}" not in text and f"\n# {name}" not in text] == []


def test_every_extra_that_an_error_names_exists(project):
    sources = [path for path in ROOT.rglob("*.py") if not path.relative_to(ROOT).parts[0].startswith((".", "tests"))]
    named = re.compile(r"MissingExtraError\([^)]*, \"(\w+)\"\)|refhcm\[(\w+)\]")
    extras = {a or b for path in sources for a, b in named.findall(path.read_text("utf-8"))}
    assert extras
    assert extras <= set(project["project"]["optional-dependencies"])


def test_no_extra_brings_what_anny_asks_for(project):
    """anny's metadata asks for hundreds of megabytes that are not used, so it is installed by itself."""
    extras = project["project"]["optional-dependencies"].values()
    assert not [line for lines in extras for line in lines if line.startswith("anny")]


def test_a_missing_extra_can_cross_processes():
    error = pickle.loads(pickle.dumps(MissingExtraError("gradio", "web")))
    assert str(error) == str(MissingExtraError("gradio", "web"))


def test_packages_are_the_folders(project):
    if shutil.which("git") is None:
        pytest.skip("no git here")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "*__init__.py")
    if listed.returncode:
        pytest.skip("not a git clone")
    folders = {str(Path(line).parent) for line in listed.stdout.split() if not line.startswith("tests/")}
    names = sorted("refhcm" if folder == "." else "refhcm." + folder.replace("/", ".") for folder in folders)
    assert project["tool"]["setuptools"]["packages"] == names


def test_the_environment_is_reachable_by_name():
    """`import refhcm` works from another folder, as after any `pip install`."""
    if not any(d.name == "refhcm" for d in importlib.metadata.distributions()):
        pytest.skip("refhcm is on PYTHONPATH rather than installed")
    code = "import refhcm, refhcm.models, refhcm.data.vocabulary; print('ok')"
    result = run(sys.executable, "-I", "-c", code, cwd="/")
    assert result.stdout.strip() == "ok", result.stderr


def test_setup_is_plain_python():
    """The set-up script runs before anything is installed: standard library only."""
    code = "import runpy; runpy.run_path('setup_env.py', run_name='setup')"
    result = run(sys.executable, "-I", "-S", "-c", code)
    assert result.returncode == 0, result.stderr
