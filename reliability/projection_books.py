"""The books of the projection: what must hold of its clouds, grids and counts on every day, however bad."""

from collections import Counter

from scene import NODE, PROJECTION, Books, Scene, wait

from seg_node.core.projection.errors import Drop


class ProjectionBooks:
    """Balances what the projection node counts with the masks that it was sent, its clouds and its grids.

    They begin when nothing is under way, for what is published before the middleware has made two acquainted nobody
    can see: the camera is held for that.

    Args:
        scene: with an observer of the option ``--projection``.
    """

    def __init__(self, scene: Scene):
        self._scene = scene
        self._since, self._before = self._settled()

    def balance(self) -> Books:
        """Hold the cameras, let both nodes settle, and balance."""
        observer = self._scene.observer
        at, counts = self._settled()
        counts = Counter({name: counts[name] - self._before[name] for name in counts})
        masks, clouds, grids = (
            Counter(event["stamp"] for event in events if self._since < event["at"] < at)
            for events in (observer.masks(NODE), observer.clouds(PROJECTION), observer.grids(PROJECTION))
        )
        books = Books(sent=masks.total(), received=counts["received"], masks=clouds.total())
        dropped = {drop.value: counts[f"dropped.{drop.value}"] for drop in Drop}
        books.outcomes = {name: n for name, n in ({"projected": counts["projected"]} | dropped).items() if n}
        unbalanced = sum(not _adds_up(report["values"]) for report in observer.reports(PROJECTION))
        for count, what in (
            (abs(masks.total() - counts["received"]), "masks published, but not counted as received, or the reverse"),
            (abs(clouds.total() - counts["projected"]), "masks counted as projected without a cloud, or the reverse"),
            (((clouds - grids) + (grids - clouds)).total(), "clouds without a grid of their stamp, or the reverse"),
            ((clouds - masks).total(), "clouds of masks that nobody sent, or two of one"),
            (unbalanced, "reports whose counts of the projection do not add up"),
        ):
            if count:
                books.unaccounted += count
                books.faults.append(f"{count} {what}")
        return books

    def _settled(self) -> tuple[int, Counter]:
        """Hold the cameras until no count grows any more; returns the moment and the counts of the last report."""
        self._scene.pause()
        self._scene.settle()
        reports = self._scene.observer.reports
        began = len(reports(PROJECTION))

        def still() -> dict | None:
            last = reports(PROJECTION)[began:][-3:]
            same = len(last) == 3 and len({(r["values"]["received"], r["values"]["projected"]) for r in last}) == 1
            return last[-1] if same else None

        report = wait(still, "the projection has nothing to do")
        values = {name: int(n) for name, n in report["values"].items() if name not in ("milliseconds", "newest_fault")}
        return report["at"], Counter(values)


def _adds_up(values: dict[str, str]) -> bool:
    ends = sum(int(values[f"dropped.{drop.value}"]) for drop in Drop) + int(values["projected"])
    return int(values["received"]) == ends + int(values["waiting"])
