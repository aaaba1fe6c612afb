"""Everything that depends on rclpy's private names stands in one file."""

import ast
import time

import pytest
from helpers.paths import ROOT

rclpy = pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

GAPS = ROOT / "seg_node" / "ros" / "transfer" / "rclpy_gaps.py"
SOURCES = [file for file in sorted((ROOT / "seg_node").rglob("*.py")) if file != GAPS]

pytestmark = pytest.mark.ros


def _private_names() -> set[str]:
    """Names that a lifecycle node keeps for itself."""
    from rclpy.lifecycle import LifecycleNode

    node = LifecycleNode(f"names_{time.monotonic_ns()}")
    names = {name for name in vars(node).keys() | set(dir(node)) if name.startswith("_") and not name.endswith("__")}
    node.destroy_node()
    return names


def _uses(source: str, private: set[str]) -> list[str]:
    """Private names of rclpy, or of its implementation, that a source uses."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("rclpy.impl", "rclpy._", "rclpy")):
            hidden = any(alias.name.startswith("_") for alias in node.names)
            if hidden or node.module.startswith(("rclpy.impl", "rclpy._")):
                found.append(f"import of {node.module}")
        elif isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Node") for base in node.bases):
            found += [f"self.{part.attr}" for part in ast.walk(node) if _is_private(part, private, of_self=True)]
        if _is_private(node, private, of_self=False):
            found.append(ast.unparse(node))
    return found


def _is_private(node: ast.AST, private: set[str], of_self: bool) -> bool:
    if not isinstance(node, ast.Attribute) or node.attr not in private:
        return False
    return (isinstance(node.value, ast.Name) and node.value.id == "self") == of_self


def test_private_names_of_rclpy_are_used_in_one_file_only(ros):
    private = _private_names()
    assert _uses(GAPS.read_text(), private), "there are none to be found"
    uses = {str(file.relative_to(ROOT)): found for file in SOURCES if (found := _uses(file.read_text(), private))}
    assert not uses


def test_only_two_files_call_into_libraries():
    with_ctypes = {file.stem for file in SOURCES if "import ctypes" in file.read_text()}
    # The heap of the C library is the other one's affair.
    assert with_ctypes == {"memory"}
