"""The page, as Streamlit runs it; ``command`` starts it."""

import argparse
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from seg_node.core.share import shared_path
from seg_node.web.dashboard import glance_tab
from seg_node.web.dashboard.options import RESULTS, add_arguments
from seg_node.web.dashboard.results import find_results

if TYPE_CHECKING:
    from seg_node.bags.drive import Drive
    from seg_node.web.dashboard.maskers import Masker

# Streamlit runs this file as a script, which knows no package.
_PACKAGE = "seg_node.web.dashboard"


def page(options: argparse.Namespace) -> None:
    """Draw the page; Streamlit calls this anew after every click.

    Args:
        options: of ``command.add_arguments``.
    """
    st.set_page_config(page_title="seg_node", layout="wide")
    st.html(f"<style>{(files(_PACKAGE) / 'style.css').read_text()}</style>")
    st.title("Road-scene segmentation")
    folders = options.results or [Path(name) for name in RESULTS if Path(name).is_dir()]
    results = find_results(folders)
    glance, image, training, comparison = st.tabs(["At a glance", "Image", "Training", "Replay comparison"])
    with glance:
        glance_tab.show(results)
    # Not before the first tab is drawn: together with engines and Matplotlib these take seconds to import.
    from seg_node.core.bundle import BundleError
    from seg_node.web.dashboard import comparison_tab, image_tab, training_tab
    from seg_node.web.dashboard.maskers import MaskError

    with comparison:
        comparison_tab.show(results)
    try:
        masker = _masker(options.api, tuple(options.model), options.engine)
        models = masker.models()
    except (BundleError, MaskError) as error:
        for tab in (image, training):
            tab.error(str(error))
        return
    with training:
        training_tab.show(results, models)
    with image:
        where = f"by the HTTP API at {options.api}" if options.api else "in this process, by the node's engines"
        st.caption(f"Masks are made {where}.")
        drive = _drive(options.bag or shared_path("rosbags/synthetic_drive"))
        image_tab.show(masker, models, drive, _drive(shared_path("rosbags/synthetic_scenes")))


@st.cache_resource(show_spinner="Loading models")
def _masker(api: str | None, bundles: tuple[str, ...], engine: str) -> "Masker":
    from seg_node.web.dashboard.maskers import InProcess, Remote

    return Remote(api) if api else InProcess(bundles, engine)


@st.cache_resource(show_spinner="Reading the drive")
def _drive(path: Path | None) -> "Drive | str":
    """The drive whose frames are shown, or why there is none."""
    from seg_node.bags.drive import open_drive
    from seg_node.bags.reader import BagError

    if path is None:
        return "The drives that come with seg_node are not installed; name one with --bag, or upload an image."
    try:
        return open_drive(path)
    except BagError as error:
        return str(error)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    page(parser.parse_args())
