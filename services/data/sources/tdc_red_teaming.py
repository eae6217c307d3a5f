"""TDC 2023 Red Teaming: 100 behaviours of the Trojan Detection Challenge 2023, dev and test; MIT."""

from services.data.collection import Collection

COLLECTION = Collection(
    label="TDCRedTeaming",
    licence="MIT",
    published="https://github.com/centerforaisafety/tdc2023-starter-kit, red_teaming/data/{dev,test}/behaviors.json",
)
open_source = COLLECTION.open_source
