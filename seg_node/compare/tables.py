"""Tables of the console reports."""

Table = tuple[list[str], list[list[str]]]
"""Header and rows of cells; the first column is text, the others are numbers."""


def aligned(table: Table) -> str:
    """Lay a table out in columns: text to the left, numbers to the right."""
    header, rows = table
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )
