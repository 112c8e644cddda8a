"""Plugins on the path of Python, as an installer leaves them."""

from pathlib import Path


def install(folder: Path, name: str, version: str = "1.0", **groups: dict[str, str]) -> None:
    """The metadata of a distribution in `folder`: `sources` and `sinks`, type -> place."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, points in groups.items():
        lines += [f"[roundsman.{group}]", *(f"{kind} = {place}" for kind, place in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
