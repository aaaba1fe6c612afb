"""What make does with an environment that belongs to another checkout."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run make in a folder, as from a shell."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def checkout(folder: Path) -> Path:
    """What make needs of a checkout."""
    folder.mkdir()
    for name in ("Makefile", "setup.py"):
        shutil.copy(ROOT / name, folder)
    return folder


def environment(folder: Path, owner: Path) -> Path:
    """An environment with an editable install of a checkout, and no pip that could change that; gives what says so."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    installed = packages / "seg_node-0.1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: seg_node\nVersion: 0.1.0\n")
    (installed / "direct_url.json").write_text(json.dumps({"dir_info": {"editable": True}, "url": owner.as_uri()}))
    return installed / "direct_url.json"


@pytest.mark.parametrize("target", ["demo", "test", ".venv/.lint"])
def test_environment_of_another_checkout_is_left_alone(tmp_path, target):
    """With and without its stamp of what it was made for, whose absence would make it anew."""
    other, mine = checkout(tmp_path / "the other"), checkout(tmp_path / "mine")
    kept = environment(other / ".venv", other).read_text()
    (mine / ".venv").symlink_to(other / ".venv")
    for stamps in ([], [".pypi", f".{os.environ.get('ROS_DISTRO')}"]):
        for stamp in stamps:
            (other / ".venv" / stamp).touch()
        refused = make(mine, target)
        assert refused.returncode == 2
        for said in (f"the environment of {other}", "`rm .venv`", str(other / ".venv")):
            assert said in refused.stderr
    (installed,) = (other / ".venv").glob("lib/python*/site-packages/*/direct_url.json")
    assert installed.read_text() == kept


def test_own_environment_on_another_disk_is_used(tmp_path):
    mine = checkout(tmp_path / "mine")
    environment(tmp_path / "elsewhere", mine)
    (mine / ".venv").symlink_to(tmp_path / "elsewhere")
    planned = make(mine, "-n", "demo")
    assert planned.returncode == 0, planned.stderr
    assert ".venv/bin/python -m pip install" in planned.stdout


def test_new_checkout_makes_its_own_environment(tmp_path):
    planned = make(checkout(tmp_path / "mine"), "-n", "demo")
    assert planned.returncode == 0, planned.stderr
    assert "-m venv --clear" in planned.stdout
