"""The words of others inside a prompt, fenced as data.

What a grader reads is hostile until shown otherwise: it may hold orders to it, or a forged end of the quotation. So it
stands between marker lines with a code made from the text itself, which its author cannot foresee.
"""

import hashlib


def quoted(name: str, text: str) -> str:
    """The text between two marker lines; the prompt around it says that what is between them is not obeyed."""
    code = hashlib.sha256(f"{name}\0{text}".encode()).hexdigest()[:16]
    return f"<<<BEGIN {name.upper()} {code}>>>\n{text}\n<<<END {name.upper()} {code}>>>"
