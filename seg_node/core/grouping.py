"""How masks of one list of categories are scored against ground truth of another: by a table of names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from seg_node.core.errors import UserError
from seg_node.core.label_table import make_taxonomy
from seg_node.core.taxonomy import EIGHT, NO_LABEL, Taxonomy, in_short

IGNORED = "ignore"
"""Stands for a category that is none of the common ones: in ground truth no label, in a mask no answer."""

_CATEGORIES, _GROUPING = "categories", "grouping"
"""Keys of a file with common categories of its own."""


@dataclass(frozen=True)
class Grouping:
    """Which of the common categories each category of others belongs to."""

    name: str
    """For messages."""
    common: Mapping[str, str]
    """Name of the common category, or ``IGNORED``, by own name."""
    taxonomy: Taxonomy = EIGHT
    """The common categories."""

    def table(self, taxonomy: Taxonomy, of: str) -> np.ndarray | None:
        """Common id of each id.

        Args:
            taxonomy: to translate; the common categories themselves stay what they are.
            of: whose categories they are, for the message.

        Returns:
            uint8 [256]; None for the common categories.

        Raises:
            UserError: the grouping lacks a category.
        """
        if taxonomy.same_categories(self.taxonomy):
            return None
        if missing := [name for name in taxonomy.names if name not in self.common]:
            raise UserError(f"{self.name} does not say what {in_short(missing)} of {of} are")
        table = np.full(256, NO_LABEL, np.uint8)
        for category, name in enumerate(taxonomy.names):
            if (common := self.common[name]) != IGNORED:
                table[category] = self.taxonomy.names.index(common)
        return table


def load_grouping(path: str | Path) -> Grouping:
    """Read a grouping from YAML, such as those in ``config/groupings/``.

    It is a mapping from own name to one of the eight. For other common categories it has two keys: ``categories``, a
    list of ``{name: .., colour: ..}`` as in ``config/labels``, and ``grouping``, that mapping.

    Raises:
        OSError: the file cannot be read.
        UserError: it is no such mapping, a name is there twice, or a common name is none of the common categories.
    """
    try:
        text = Path(path).read_text()
        root, values = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    taxonomy = EIGHT
    if isinstance(values, dict) and _CATEGORIES in values and not isinstance(values[_CATEGORIES], str):
        if values.keys() != {_CATEGORIES, _GROUPING}:
            found = in_short(sorted(map(str, values)))
            raise UserError(f"{path}: has the keys {found}; expected {_CATEGORIES} and {_GROUPING}")
        taxonomy = make_taxonomy(f"{path}: category", values[_CATEGORIES])
        root = next(value for key, value in root.value if key.value == _GROUPING)
        values = values[_GROUPING]
    if not isinstance(values, dict) or not values:
        found = "empty" if not values else type(values).__name__
        example = f"road: {taxonomy.scored_names[0]}"
        raise UserError(f"{path}: is {found}; expected own names with common ones, such as {example}")
    keys = [key.value for key, _ in root.value]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"{path}: {in_short(twice)} is there more than once")
    for own, common in values.items():
        if not isinstance(own, str) or not own.strip():
            raise UserError(f"{path}: {own!r} is no name of a category")
        if common != IGNORED and common not in taxonomy.names:
            known = f"{in_short(taxonomy.names, most=8)}, {IGNORED}"
            raise UserError(f"{path}: {own} belongs to {str(common)[:80]!r}; expected one of {known}")
    return Grouping(str(path), values, taxonomy)


@dataclass(frozen=True)
class Scoring:
    """What masks and ground truth are made comparable by."""

    taxonomy: Taxonomy = EIGHT
    """Categories in which they are scored."""
    masks: np.ndarray | None = None
    """Category of each mask value, uint8 [256]; None where they are the same."""
    truth: np.ndarray | None = None
    """Category of each value of the ground truth, uint8 [256]; None where they are the same."""

    def of_mask(self, mask: np.ndarray) -> np.ndarray:
        """A mask, uint8 [H, W], in the categories in which it is scored."""
        return mask if self.masks is None else self.masks[mask]

    def of_truth(self, mask: np.ndarray | None) -> np.ndarray | None:
        """Ground truth, uint8 [H, W], in the categories in which it is scored; None where there is none."""
        return mask if mask is None or self.truth is None else self.truth[mask]


IN_THE_EIGHT = Scoring()
"""How a model of the eight is scored against ground truth of the eight."""


def scoring_of(model: str, own: Taxonomy, truth: Taxonomy, grouping: Grouping | None) -> Scoring:
    """How masks of a model are scored.

    Args:
        model: its name.
        own: its categories.
        truth: those of the ground truth.
        grouping: to the common categories; None to score in the model's own.

    Raises:
        UserError: the categories of model and ground truth differ and no grouping is given, or it lacks one.
    """
    if grouping is not None:
        return Scoring(grouping.taxonomy, grouping.table(own, model), grouping.table(truth, "the ground truth"))
    if not own.same_categories(truth):
        raise UserError(
            f"{model} has the categories {in_short(own.names)}, and the ground truth {in_short(truth.names)}: give"
            " --grouping YAML, which says what belongs to what, or --truth-categories YAML if the truth has others"
        )
    return Scoring(own)
