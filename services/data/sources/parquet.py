"""Apache Parquet, read in batches."""

from pathlib import Path

import pyarrow
import pyarrow.parquet

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data.source import Numbered, Source, from_file

_BATCH_ROWS = 256


def open_source(spec: SourceSpec, settings: Settings) -> Source:
    return from_file(spec, settings, read)


def read(path: Path) -> Numbered:
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidInput(
            f"{path}: it cannot be read as Parquet after row {number} ({type(error).__name__}); fetch it again"
        ) from None
