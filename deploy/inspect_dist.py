"""``python deploy/inspect_dist.py dist``: what a release would put up holds what it should, and nothing else.

Writes ``SHA256SUMS`` beside the files, for ``sha256sum --check``.
"""

import argparse
import hashlib
import re
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from xml.etree import ElementTree

NAME = "seg_node"
ROOT = Path(__file__).resolve().parents[1]
LARGEST = 100_000_000
"""Bytes that a package index takes in one file."""
SHARED = {"launch": "launch", "config": "config", "rosbags": "rosbags", "seg_node/models": "models"}
"""Folders of the repository that belong into the installation's share folder, and their names there."""
SOURCES = (
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "docs/pip.md",
    "package.xml",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
)
"""What else colcon and pip need to build from the sdist."""


def faults(folder: Path, root: Path = ROOT, largest: int = LARGEST) -> list[str]:
    """What is wrong with the wheel and the sdist in a folder, a sentence each.

    Args:
        folder: with one wheel and one sdist.
        root: the checkout that they were made of.
        largest: bytes that each of them may have.
    """
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        return [f"{folder}: holds {len(wheels)} wheels and {len(sdists)} sdists, not one of each; remove it, make dist"]
    version = re.search(r'^__version__ = "(.+)"$', (root / NAME / "__init__.py").read_text(), re.MULTILINE)[1]
    found = [
        f"{file.name}: has {file.stat().st_size} bytes; a package index takes {largest}"
        for file in (*wheels, *sdists)
        if file.stat().st_size > largest
    ]
    in_package_xml = ElementTree.parse(root / "package.xml").findtext("version")
    if in_package_xml != version:
        found.append(f"package.xml: the version is {in_package_xml}, that of {NAME}/__init__.py {version}")
    return found + _wheel(wheels[0], version, root) + _sdist(sdists[0], version, root)


def _wheel(file: Path, version: str, root: Path) -> list[str]:
    stem = f"{NAME}-{version}"
    if file.name != f"{stem}-py3-none-any.whl":
        return [f"{file.name}: is not named {stem}-py3-none-any.whl"]
    modules = {path.relative_to(root).as_posix(): path for path in root.glob("seg_*/**/*.py")}
    share = f"{stem}.data/data/share/"
    expected = modules | {f"{share}{NAME}/{name}": path for name, path in _shared(root).items()}
    expected[f"{share}{NAME}/package.xml"] = root / "package.xml"
    with zipfile.ZipFile(file) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
        found = _differences(file.name, expected, names, wheel.read)
        metadata = HeaderParser().parsestr(wheel.read(f"{stem}.dist-info/METADATA").decode())
        points = wheel.read(f"{stem}.dist-info/entry_points.txt").decode()
    pages = {name for name in names if name.endswith((".html", ".css", ".js")) and name.startswith(f"{NAME}/")}
    marker = f"{share}ament_index/resource_index/packages/{NAME}"
    about = {name for name in names if name.startswith(f"{stem}.dist-info/")}
    found += [
        f"{file.name}: holds {name}, which is of no use there"
        for name in sorted(names - set(expected) - pages - about - {marker})
    ]
    found += [f"{file.name}: lacks {name}" for name in sorted({marker, f"{NAME}/web/live/page.html"} - names)]
    if not re.fullmatch(rf"\[console_scripts\]\n{NAME} = \S+:main\n*", points):
        found.append(f"{file.name}: puts other scripts on PATH than {NAME}: {points!r}")
    for field in ("Summary", "License", "Requires-Python", "License-File"):
        if not metadata[field]:
            found.append(f"{file.name}: METADATA has no {field}")
    if metadata["Description-Content-Type"] != "text/markdown" or not metadata.get_payload().strip():
        found.append(f"{file.name}: METADATA has no description in Markdown")
    return found


def _sdist(file: Path, version: str, root: Path) -> list[str]:
    stem = f"{NAME}-{version}"
    if file.name != f"{stem}.tar.gz":
        return [f"{file.name}: is not named {stem}.tar.gz"]
    sources = [*SOURCES, f"resource/{NAME}", *(p.relative_to(root).as_posix() for p in root.glob("seg_*/**/*.py"))]
    sources += [
        f"{source}/{name.partition('/')[2]}"
        for source, target in SHARED.items()
        for name in _shared(root)
        if name.startswith(f"{target}/")
    ]
    with tarfile.open(file) as archive:
        members = {member.name.removeprefix(f"{stem}/"): member for member in archive if member.isfile()}

        def read(name: str) -> bytes:
            return archive.extractfile(members[name]).read()

        found = _differences(file.name, {name: root / name for name in sources}, set(members), read)
    strange = [name for name in members if re.match(r"(test|benchmarks|reliability|fuzz|examples)/", name)]
    return found + [f"{file.name}: holds {name}, which is of no use there" for name in sorted(strange)]


def _shared(root: Path) -> dict[str, Path]:
    """Files of the share folder by their path in it; compiled files are left out."""
    return {
        f"{target}/{path.relative_to(root / source).as_posix()}": path
        for source, target in SHARED.items()
        for path in sorted((root / source).rglob("*"))
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    }


def _differences(archive: str, expected: dict[str, Path], names: set[str], read) -> list[str]:
    found = [f"{archive}: lacks {name}" for name in sorted(set(expected) - names)]
    there = sorted(set(expected) & names)
    # setup.cfg gets a section for tags of the build.
    return found + [
        f"{archive}: {name} is not that of the checkout"
        for name in there
        if name != "setup.cfg" and read(name) != expected[name].read_bytes()
    ]


def write_hashes(folder: Path) -> Path:
    """Write the sha256 of each file of a folder as ``sha256sum`` does; returns the file."""
    target = folder / "SHA256SUMS"
    files = sorted(path for path in folder.iterdir() if path.is_file() and path != target)
    target.write_text("".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files))
    return target


def main() -> int:
    """Inspect; returns the exit status: 0, or 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with the wheel and the sdist")
    folder = parser.parse_args().folder
    found = faults(folder)
    for fault in found:
        print(fault, file=sys.stderr)
    if not found:
        print(write_hashes(folder).read_text(), end="")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
