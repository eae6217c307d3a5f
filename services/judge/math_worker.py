"""The process that does the algebra: reads {"gold", "answer"} lines, writes {"outcome"} lines, until its input ends.

Alone here are math-verify and sympy, because model text can make them compute for ever or fill the memory. Limits are
on processor time (the first argument, seconds a pair), so a verdict does not depend on how busy the machine is. Started
by math_pool.py; imports nothing of ours.
"""

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

CPU_KILL_S = 2  # past its time a pair is ended by the kernel, as one huge multiplication lets no signal handler run
MEMORY_BYTES = 1536 * 1024 * 1024
TIRED_KIB = 600 * 1024  # caches have grown: leave after this answer, and be started anew
_ORDERLY = ("equal", "different", "gold")  # after any other end the library's caches may be half written


class _OutOfTime(BaseException):
    """Not an Exception: the library under test swallows those."""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that a library prints may look like a reply
    compare, cpu_s = _Comparison(), float(sys.argv[1])
    signal.signal(signal.SIGPROF, _stop)
    _reply(replies, "ready")
    for line in sys.stdin:
        outcome = _bounded(compare, json.loads(line), cpu_s)
        leaving = outcome not in _ORDERLY or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > TIRED_KIB
        _reply(replies, outcome, leaving)
        if leaving:
            return


class _Comparison:
    """math-verify, imported once: that takes seconds."""

    def __init__(self) -> None:
        import math_verify

        self._library: Any = math_verify
        self._latex = [math_verify.LatexExtractionConfig()]

    def __call__(self, gold: str, answer: str) -> str:
        parsed_gold = self._parsed(gold)
        if not parsed_gold:
            return "gold"
        parsed = self._parsed(answer)
        equal = parsed and self._library.verify(
            parsed_gold, parsed, float_rounding=6, allow_set_relation_comp=True, timeout_seconds=None
        )
        return "equal" if equal else "different"

    def _parsed(self, text: str) -> Any:
        latex = "$" + text.replace("%", r"\%") + "$"
        return self._library.parse(
            latex, extraction_config=self._latex, fallback_mode="no_fallback", parsing_timeout=None
        )


def _bounded(compare: Callable[[str, str], str], pair: dict[str, str], cpu_s: float) -> str:
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime + cpu_s) + CPU_KILL_S
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    try:
        signal.setitimer(signal.ITIMER_PROF, cpu_s, 0.5)
        try:
            return compare(pair["gold"], pair["answer"])
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except _OutOfTime:
        return "timeout"
    except MemoryError:
        return "memory"
    except RecursionError:
        return "too deep"


def _stop(*_: object) -> NoReturn:
    raise _OutOfTime


def _reply(replies: Any, outcome: str, leaving: bool = False) -> None:
    replies.write(json.dumps({"outcome": outcome, "leaving": leaving}) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
