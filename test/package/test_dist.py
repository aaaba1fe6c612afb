"""What is put up at a release: wheel and sdist hold what they should, and those that do not are refused."""

import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from helpers.paths import ROOT

sys.path.insert(0, str(ROOT / "deploy"))
from inspect_dist import NAME, faults, write_hashes  # noqa: E402

import seg_node  # noqa: E402

STEM = f"{NAME}-{seg_node.__version__}"
WHEEL, SDIST = f"{STEM}-py3-none-any.whl", f"{STEM}.tar.gz"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A checkout in which weights and bags are short, for packing those takes long."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("config", "launch", "resource", "rosbags", "seg_node", "seg_training"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.onnx", "*.mcap"))
    for long in (*ROOT.glob("rosbags/*/*.mcap"), *ROOT.glob("seg_node/models/*/*.onnx")):
        (copy / long.relative_to(ROOT)).write_text(f"in the place of {long.name}")
    (copy / "docs").mkdir()
    for name in ("docs/pip.md", *(path.name for path in ROOT.iterdir() if path.is_file() and path.name[0] != ".")):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def dist(checkout, tmp_path_factory) -> Path:
    """Folder with an sdist, and the wheel that was built of it, as ``python -m build`` makes them."""
    base = tmp_path_factory.mktemp("dist")
    _setup(checkout, "sdist", "--dist-dir", str(base / "dist"))
    with tarfile.open(base / "dist" / SDIST) as archive:
        # Python 3.11.2, which is Debian's, knows no filters.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(base)
    _setup(base / STEM, "bdist_wheel", "--dist-dir", str(base / "dist"))
    return base / "dist"


def _setup(folder: Path, *command: str) -> None:
    done = subprocess.run([sys.executable, "setup.py", *command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def changed(dist, tmp_path):
    """Make wheel or sdist anew: ``changed(file, names to leave out, contents to add or replace) -> folder``."""

    def make(file: str, leave_out: list[str], add: dict[str, bytes]) -> Path:
        for other in {WHEEL, SDIST} - {file}:
            (tmp_path / other).hardlink_to(dist / other)
        gone = {*leave_out, *add}
        if file == WHEEL:
            with zipfile.ZipFile(dist / file) as old, zipfile.ZipFile(tmp_path / file, "w") as new:
                for name in old.namelist():
                    if name not in gone:
                        new.writestr(name, old.read(name))
                for name, content in add.items():
                    new.writestr(name, content)
        else:
            with tarfile.open(dist / file) as old, tarfile.open(tmp_path / file, "w:gz") as new:
                for member in old:
                    if member.isfile() and member.name.removeprefix(f"{STEM}/") not in gone:
                        new.addfile(member, old.extractfile(member))
                for name, content in add.items():
                    added = tarfile.TarInfo(f"{STEM}/{name}")
                    added.size = len(content)
                    new.addfile(added, io.BytesIO(content))
        return tmp_path

    return make


def test_what_setup_makes_is_whole(dist, checkout):
    assert faults(dist, checkout) == []


def test_hashes_are_those_that_sha256sum_checks(dist, tmp_path):
    for name in ("a.whl", "b.tar.gz"):
        (tmp_path / name).write_bytes(name.encode())
    assert write_hashes(tmp_path) == write_hashes(tmp_path) == tmp_path / "SHA256SUMS"
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode == 0
    (tmp_path / "a.whl").write_bytes(b"another")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode == 1


SHARE = f"{STEM}.data/data/share/{NAME}"
MODEL = f"{SHARE}/models/fpn_lite/model.onnx"


@pytest.mark.parametrize(
    ("leave_out", "add", "said"),
    [
        ([MODEL], {}, f"lacks {MODEL}"),
        ([f"{SHARE}/config/fastdds_shm.xml"], {}, f"lacks {SHARE}/config/fastdds_shm.xml"),
        ([f"{NAME}/web/live/page.html"], {}, f"lacks {NAME}/web/live/page.html"),
        ([f"{NAME}/core/slot.py"], {}, f"lacks {NAME}/core/slot.py"),
        ([], {MODEL: b"another"}, f"{MODEL} is not that of the checkout"),
        ([], {f"{NAME}/core/slot.py": b""}, f"{NAME}/core/slot.py is not that of the checkout"),
        ([], {"test/test_core.py": b""}, "holds test/test_core.py, which is of no use there"),
        ([], {"rosbags/__init__.py": b""}, "holds rosbags/__init__.py, which is of no use there"),
        ([], {f"{NAME}/core/removed.py": b""}, f"holds {NAME}/core/removed.py, which is of no use there"),
        (
            [],
            {f"{STEM}.dist-info/entry_points.txt": b"[console_scripts]\nseg_node = a:main\nview = b:main\n"},
            "puts other scripts on PATH than seg_node",
        ),
        ([], {f"{STEM}.dist-info/METADATA": b"Metadata-Version: 2.1\n\n"}, "METADATA has no License"),
    ],
)
def test_wheel_that_is_not_whole_is_refused(changed, checkout, leave_out, add, said):
    found = faults(changed(WHEEL, leave_out, add), checkout)
    assert any(f"{WHEEL}: {said}" in fault for fault in found), found


@pytest.mark.parametrize(
    ("leave_out", "add", "said"),
    [
        (["package.xml", "config/sros2/segmentation.policy.xml"], {}, "lacks package.xml"),
        ([], {f"resource/{NAME}": b"x", "test/test_core.py": b""}, "holds test/test_core.py, which is of no use there"),
    ],
)
def test_sdist_that_is_not_whole_is_refused(changed, checkout, leave_out, add, said):
    found = faults(changed(SDIST, leave_out, add), checkout)
    assert len(found) == 2 and any(f"{SDIST}: {said}" in fault for fault in found), found


def test_files_that_are_too_large_missing_or_of_another_version_are_refused(dist, checkout, tmp_path):
    (said,) = faults(tmp_path)
    assert "holds 0 wheels and 0 sdists" in said
    sizes = {name: (dist / name).stat().st_size for name in (WHEEL, SDIST)}
    largest = sizes[WHEEL] - 1
    assert f"{WHEEL}: has {sizes[WHEEL]} bytes; a package index takes {largest}" in faults(dist, checkout, largest)
    for name in (WHEEL, SDIST):
        (tmp_path / name.replace(seg_node.__version__, "0.0.9")).hardlink_to(dist / name)
    assert len([fault for fault in faults(tmp_path, checkout) if "is not named" in fault]) == 2


WORKFLOWS = {file.name: yaml.safe_load(file.read_text()) for file in (ROOT / ".github" / "workflows").iterdir()}


def test_only_the_job_that_publishes_may_and_it_keeps_no_secret():
    release = WORKFLOWS["release.yml"]
    assert release[True] == {"push": {"tags": ["v*"]}}
    assert release["permissions"] == {"contents": "read"}
    publishing = [name for name, job in release["jobs"].items() if "gh-action-pypi-publish" in str(job)]
    assert publishing == ["publish"]
    job = release["jobs"]["publish"]
    assert job["permissions"] == {"id-token": "write"} and job["environment"] == "pypi" and job["needs"] == "build"
    assert "secrets." not in str(WORKFLOWS) and "password" not in str(release)


def test_rosdep_keys_bring_what_package_xml_cannot_name():
    from test_package import OUTSIDE_ROSDEP

    keys = yaml.safe_load((ROOT / "deploy" / "rosdep.yaml").read_text())
    for name in OUTSIDE_ROSDEP - {"google"}:
        rules = keys.pop(f"python3-{name}-pip")
        assert {"debian", "ubuntu"} <= set(rules)
        assert all(rule == {"pip": {"packages": [name]}} for rule in rules.values())
    assert not keys
