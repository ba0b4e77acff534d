"""Writes the pictures of the handbook: `python -m verify.pictures docs/pictures`."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from verify.pictures.examples import certificate, pictures


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Write an SVG for each example into FOLDER, and print the headline of the FAIL that it shows."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pictures().items():
        (folder / name).write_text(text, encoding="utf-8")
        click.echo(f"{name}: {certificate(name.removesuffix('.svg')).headline}")


if __name__ == "__main__":
    main()
