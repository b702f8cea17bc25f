"""`tune --ship`: what a study found, as the defaults of its dataset, with the study's trials beside them."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from core.json_files import only_writer, read_json, validated, write_json
from models.study_files import FILE, STUDIES, checked, read_study, write_study
from models.training.settings import DEFAULTS, Found, read_defaults


def ship(dataset: str, protocol: str, name: str, found: dict[str, Any], trials: Path) -> Path:
    """Writes what a study found into the defaults of its dataset, in the place of what was there, and its trials.

    Args:
        found: what `tune` returned.
        trials: the file of the study's trials in the run's folder.

    Returns:
        The file of defaults. Its study names the file of the trials, which is kept in `STUDIES`.

    Raises:
        UserError: the settings are not those of the trial that the study names, or nothing can be written.
    """
    path, study = shipped_file(dataset), read_study(trials)
    kept = validated(Found, found, f"what {name} found")
    checked(kept, study, f"what {name} found", str(trials))
    file = Path(dataset, protocol, f"{name}.json")
    (STUDIES / file).parent.mkdir(parents=True, exist_ok=True)
    write_study(STUDIES / file, study)
    with only_writer(path):
        defaults = read_json(path) if path.is_file() else {}
        entry = replace(kept, study={**kept.study, FILE: file.as_posix()})
        defaults.setdefault(protocol, {})[name] = asdict(entry)
        write_json(path, defaults)
    return path


def shipped_file(dataset: str) -> Path:
    """Where `ship` writes the defaults of a dataset.

    Raises:
        UserError: it cannot be written, or what is there is not a file of defaults.
    """
    path = DEFAULTS / f"{dataset}.json"
    with only_writer(path):
        if path.is_file():
            read_defaults(path)
    return path
