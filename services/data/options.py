"""What a plugin's options may be: its OPTIONS, name -> what it is for."""

from collections.abc import Mapping

from lrm_safety.errors import InvalidInput


def check_options(owner: str, given: Mapping[str, str], known: Mapping[str, str]) -> None:
    """Raises InvalidInput with the options there are."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        allowed = "; ".join(f"{name} ({what})" for name, what in known.items())
        raise InvalidInput(f"{owner} has no option {', '.join(unknown)}; it has: {allowed or 'none'}")
