"""CSV with a header line and quoted fields, which may span lines; plain, .gz or .zst."""

import csv
from pathlib import Path

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data.files import open_text
from services.data.source import Numbered, Source, from_file

_FIELD_CHARACTERS = 16 * 1024 * 1024


def open_source(spec: SourceSpec, settings: Settings) -> Source:
    return from_file(spec, settings, read)


def read(path: Path) -> Numbered:
    csv.field_size_limit(_FIELD_CHARACTERS)
    with open_text(path) as file:
        reader = csv.reader(file, strict=True)
        try:
            names = next(reader, [])
            for number, values in enumerate((values for values in reader if values), start=1):
                if len(values) != len(names):
                    raise InvalidInput(
                        f"{path}, line {reader.line_num}: row {number} has {len(values)} fields, the header has "
                        f"{len(names)}; quote fields that hold commas or line breaks"
                    )
                yield number, dict(zip(names, values, strict=True))
        except csv.Error as error:
            raise InvalidInput(f"{path}, line {reader.line_num}: it is not CSV ({error})") from None
