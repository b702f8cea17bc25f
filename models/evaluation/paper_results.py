"""The file of `paper --out`: a list of results, one for each model and seed, of one set of the authors' files.

Several commands may write it at once: it is read, changed and written while it is locked.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.json_files import only_writer, read_json, write_json

Row = dict[str, Any]
NUMBERS = (int, float, type(None))


@dataclass(frozen=True)
class PaperResults:
    """What a file holds, and what is to become of it.

    Attributes:
        path: of the file, which may not be there yet.
        data: the fingerprint of the authors' files; results of others are dropped.
        order: the models' names in the order of the file.
        found: the results that were there at the start.
    """

    path: Path
    data: str
    order: tuple[str, ...]
    found: list[Row] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path, data: str, order: tuple[str, ...]) -> "PaperResults":
        """A file as it is now.

        Raises:
            UserError: it is not what `paper` writes.
        """
        return cls(path, data, order, read_rows(path))

    def finished(self, model: str, made_from: str, seeds: list[int]) -> list[Row]:
        """A model's results where it has one for each seed, made from the same; else none."""
        rows = [row for row in self.found if self._is_ours(row) and row["model"] == model]
        same = [row["seed"] for row in rows] == seeds and all(row.get("made_from") == made_from for row in rows)
        return rows if same else []

    def sentences(self, asked: list[str], made_from: dict[str, str]) -> list[str]:
        """What happens to the models that are there and not asked about: which are kept, and which dropped and why.

        Args:
            made_from: what each model would be made from now.
        """
        said: dict[str, list[str]] = {}
        for model in dict.fromkeys(row["model"] for row in self.found):
            rows = [row for row in self.found if row["model"] == model]
            if not any(self._is_ours(row) for row in rows):
                known = any("data" in row for row in rows)
                reason = "its results are of other files" if known else "its results do not say which files they are of"
                said.setdefault(f"dropped, as {reason}", []).append(model)
            elif model not in asked:
                same = all(row.get("made_from") == made_from.get(model) for row in rows if self._is_ours(row))
                said.setdefault("kept" if same else "kept, with other seeds, settings or code", []).append(model)
        return [f"{self.path}: {', '.join(models)}: {what}" for what, models in said.items()]

    def put(self, model: str, made_from: str, results: list[Row]) -> list[Row]:
        """Writes a model's results in the place of its earlier ones.

        Returns:
            Every result of these files that the file holds now.

        Raises:
            UserError: another command has put results of other files there meanwhile.
        """
        rows = [{**row, "data": self.data, "made_from": made_from} for row in results]
        with only_writer(self.path):
            there = read_rows(self.path)
            if any(not self._is_ours(row) and row not in self.found for row in there):
                raise UserError(f"another command writes results of other files to {self.path}; choose another --out")
            others = [row for row in there if self._is_ours(row) and row["model"] != model]
            rank = {name: place for place, name in enumerate(self.order)}
            every = sorted([*others, *rows], key=lambda row: rank.get(row["model"], len(rank)))
            write_json(self.path, every)
        return every

    def _is_ours(self, row: Row) -> bool:
        return bool(row.get("data") == self.data)


def read_rows(path: Path) -> list[Row]:
    """The results in a file; none where it is not there.

    Raises:
        UserError: it is not what `paper` writes.
    """
    if not path.is_file():
        return []
    rows = read_json(path)
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise UserError(f"{path} is not what paper writes; delete it, or choose another file with --out")
    return rows


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("model"), str)
        and isinstance(row.get("seed"), int)
        and all(name in row and isinstance(row[name], NUMBERS) for name in ("hr@10", "ndcg@10"))
    )
