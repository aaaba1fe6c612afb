"""Licences of everything that is installed, held against those that are allowed."""

import re
import sys
from fnmatch import fnmatch
from importlib.metadata import Distribution, distributions
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import yaml
from helpers.paths import ROOT

RULES = yaml.safe_load((ROOT / "deploy" / "licenses.yaml").read_text())


def licence(distribution: Distribution, share: Path) -> str:
    """What a package says of its licence: an SPDX expression, or words; empty where it says nothing.

    Args:
        distribution: of an installed package.
        share: folder in which packages of ROS 2 have their ``package.xml``.
    """
    metadata = distribution.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [text.split(" :: ") for text in metadata.get_all("Classifier") or []]
    named = [parts[-1] for parts in classifiers if parts[0] == "License" and parts[-1] != "DFSG approved"]
    if named:
        return " AND ".join(RULES["names"].get(name, name) for name in named)
    # Some give the whole text.
    words = (metadata.get("License") or "").strip()
    if words and words != "UNKNOWN" and "\n" not in words:
        return words
    manifest = share / re.sub("[-.]", "_", distribution.name.removeprefix("ros-")) / "package.xml"
    if manifest.is_file():
        return " AND ".join(element.text.strip() for element in ElementTree.parse(manifest).iterfind("license"))
    return ""


def allowed(text: str) -> bool:
    """Whether a package may be installed that says this of its licence."""
    text = RULES["names"].get(text, text)
    while group := re.search(r"\(([^()]*)\)", text):
        text = text.replace(group[0], RULES["allowed"][0] if allowed(group[1]) else "refused")
    # AND binds tighter than OR (SPDX 2.3, annex D).
    choices = [[name.partition(" WITH ")[0] for name in choice.split(" AND ")] for choice in text.split(" OR ")]
    return any(set(choice) <= set(RULES["allowed"]) for choice in choices)


def refused(installed, share: Path) -> list[str]:
    """Packages that may not be installed, each with what it says."""
    found = {}
    for distribution in installed:
        said = licence(distribution, share)
        known = any(fnmatch(distribution.name.lower().replace("_", "-"), name) for name in RULES["packages"])
        if not allowed(said) and not known:
            found[distribution.name] = said or "nothing"
    return [f"{name}: {said}" for name, said in sorted(found.items())]


def test_everything_that_is_installed_has_a_licence_that_is_allowed():
    installed = [one for one in distributions() if one.name != "seg_node"]
    assert len(installed) > 20
    assert refused(installed, Path(sys.prefix, "share")) == []


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        *[(said, True) for said in ("MIT", "BSD License", "Apache-2.0 OR BSD-2-Clause", "MIT OR GPL-3.0-only")],
        *[
            (said, True)
            for said in ("MPL-2.0 AND MIT", "Apache-2.0 WITH LLVM-exception", "MIT AND (GPL-2.0-only OR ISC)")
        ],
        *[
            (said, False)
            for said in ("", "GPL-3.0-only", "AGPL-3.0-or-later", "MIT AND GPL-3.0-only", "Other/Proprietary")
        ],
        *[(said, False) for said in ("MIT AND (GPL-2.0-only OR LGPL-3.0-only)", "CC-BY-NC-4.0", "BUSL-1.1")],
    ],
)
def test_expressions(said, expected):
    assert allowed(said) is expected


class Metadata(dict):
    """Fields of a package, of which ``Classifier`` has several values."""

    def get_all(self, name):
        return self.get(name)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License-Expression": "MIT", "License": "GPL"}, "MIT"),
        ({"Classifier": ["License :: OSI Approved :: BSD License", "Topic :: x"]}, "BSD-3-Clause"),
        ({"Classifier": ["License :: DFSG approved"], "License": "MIT"}, "MIT"),
        ({"Classifier": ["License :: A", "License :: B"]}, "A AND B"),
        ({"License": "one\ntwo"}, ""),
        ({"License": "UNKNOWN"}, ""),
    ],
)
def test_what_a_package_says(fields, expected, tmp_path):
    assert licence(SimpleNamespace(name="x", metadata=Metadata(fields)), tmp_path) == expected


def test_packages_of_ros_say_it_in_their_manifest(tmp_path):
    (tmp_path / "some_msgs").mkdir()
    (tmp_path / "some_msgs" / "package.xml").write_text("<package><license>GPL-3.0-only</license></package>")
    package = SimpleNamespace(name="some-msgs", metadata=Metadata())
    assert licence(package, tmp_path) == "GPL-3.0-only"
    assert refused([package], tmp_path) == ["some-msgs: GPL-3.0-only"]
    assert refused([SimpleNamespace(name="other", metadata=Metadata())], tmp_path) == ["other: nothing"]
