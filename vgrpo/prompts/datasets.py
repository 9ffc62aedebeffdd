"""Prompts from Parquet files and Hugging Face datasets."""

from pathlib import Path
from typing import Any

from huggingface_hub.constants import HF_HOME

from vgrpo.core.types import Prompt
from vgrpo.prompts.clean import clean_prompt
from vgrpo.prompts.columns import prompt_column, prompt_of
from vgrpo.prompts.source_images import COLUMN, stored, with_source

PICTURES = Path(HF_HOME) / "vgrpo" / "source-images"


def read_dataset(name: str, *, sources: bool = True) -> list[Prompt]:
    """Prompts of a .parquet file, a folder that `save_to_disk` wrote or that holds data files, or `hub:owner/name`, of its
    `train` split. Other columns become metadata, pictures and sounds excepted: with `sources` a picture in the column `image`
    is the prompt's source image, as a file of the hub's cache folder where it has none of its own.

    Raises ValueError if the package datasets is not installed, the data cannot be read, or the split `train` or a column of
    texts is missing; FileNotFoundError if nothing is there or the hub does not answer.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError(f'prompts {name}: the package datasets reads these; pip install "vgrpo[datasets]"') from error
    table = _train_split(datasets, name)
    column = prompt_column(table.column_names)
    if column is None:
        raise ValueError(f"prompts {name}: no column `prompt`; its columns are {', '.join(table.column_names)}")
    folder = Path(name) if Path(name).is_dir() else Path(name).parent
    prompts = []
    for number, row in enumerate(_rows(datasets, table, name, sources), 1):
        where = f"prompts {name}, row {number}"
        if not isinstance(row[column], str | None):
            raise ValueError(f"{where}: `{column}` is {row[column]!r}; make the column text")
        if row[column]:
            prompts.append(with_source(clean_prompt(prompt_of(row, column, where), where), folder, where))
    if not prompts:
        raise ValueError(f"prompts {name}: there is not one")
    return prompts


def _train_split(datasets: Any, name: str) -> Any:
    """The data set's table, of several splits that of `train`. Raises as `read_dataset` does."""
    try:
        table = _load(datasets, name)
    except (OSError, ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
        raise FileNotFoundError(f"prompts {name}: not found, or the hub did not answer ({error})") from error
    except (ValueError, LookupError, TypeError, datasets.exceptions.DatasetsError) as error:  # pyarrow's are ValueErrors
        raise ValueError(f"prompts {name}: cannot be read ({error.__cause__ or error}); make or copy it again") from error
    if not isinstance(table, datasets.DatasetDict):
        return table
    if "train" not in table:
        raise ValueError(f"prompts {name}: no split `train`; of its splits {', '.join(table)} save the one you want by itself")
    return table["train"]


def _rows(datasets: Any, table: Any, name: str, sources: bool) -> list[dict[str, Any]]:
    """Its rows without pictures and sounds, but for source images, as the paths of their files."""
    media = (datasets.Image, datasets.Audio, datasets.Video)
    kept = [key for key, kind in table.features.items() if not isinstance(kind, media)]
    rows: list[dict[str, Any]] = table.select_columns(kept).to_list()
    if sources and isinstance(table.features.get(COLUMN), datasets.Image):
        pictures = table.select_columns([COLUMN]).cast_column(COLUMN, datasets.Image(decode=False))
        for number, (row, found) in enumerate(zip(rows, pictures, strict=True), 1):
            row[COLUMN] = stored(found[COLUMN], PICTURES, f"prompts {name}, row {number}") if found[COLUMN] else None
    return rows


def _load(datasets: Any, name: str) -> Any:
    path = Path(name)
    if name.startswith("hub:"):
        return datasets.load_dataset(name.removeprefix("hub:"), split="train")
    if path.suffix.lower() == ".parquet":
        return datasets.Dataset.from_parquet(name)
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return datasets.load_from_disk(name)
    return datasets.load_dataset(name, split="train")
