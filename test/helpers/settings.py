"""What every result file says of where its figures come from."""

from typing import Any

KEYS = {"cpu", "cores", "system", "instructions", "gflops", "measured", "commit", "dirty"}


def assert_says_where_it_is_of(document: dict[str, Any]) -> None:
    """Fail unless ``machine`` of a result file is a whole ``core.machine.setting``."""
    assert document["machine"].keys() >= KEYS
    assert document["machine"]["gflops"] > 0
