"""lrm-safety: make reasoning models safe without making them stupid, and prove it on every checkpoint.

The tour, bottom up:

- `v1`          the contract: generated from protos/, never edited;
- `nouns`       the one import line for its messages; `jsonl` their stored form;
- `thinking`    splits a model's text into thinking and answer; `chat` renders conversations;
- `stats`       rates with intervals, paired differences, the gate's arithmetic;
- `store`       bytes under keys (a folder, or any S3); `jobs` processes that outlive their owner;
- `runs`        long work: identity, ownership, parts, resume, progress;
- `serving`     starts a gRPC server with health, reflection and metrics; `clients` calls one;
- `recipe`      YAML to message; `pipeline` carries a recipe out; `report` shows what came of it;
- `tax`         what safety costs in reasoning; `export` and `importing` other tools' forms, out and in;
- `cli`         the `lrm` command.

The library imports no service; services meet only over gRPC.
"""

__version__ = "0.1.0"
