"""Signed HTTP: `X-Lrm-Signature: t=<seconds since 1970>,v1=<hex HMAC-SHA256 of "t.body">`, and MLflow's own form.

MLflow's webhooks: `X-MLflow-Signature: v1,<base64 HMAC-SHA256 of "delivery.timestamp.body">`, with the headers
X-MLflow-Delivery-Id and X-MLflow-Timestamp (mlflow.org/docs, "Webhooks").
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping

HEADER = "X-Lrm-Signature"
WINDOW_S = 300.0


def sign(secret: str, body: bytes, now: float) -> str:
    """The header's value."""
    at = str(int(now))
    return f"t={at},v1={_mac(secret, at.encode() + b'.' + body).hex()}"


def is_signed(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether whoever knows the secret signed this body within WINDOW_S of now."""
    if not secret:
        return False
    sent = {name.lower(): value for name, value in headers.items()}
    delivery, at = sent.get("x-mlflow-delivery-id", ""), sent.get("x-mlflow-timestamp", "")
    theirs = sent.get("x-mlflow-signature", "")
    wanted = "v1," + base64.b64encode(_mac(secret, f"{delivery}.{at}.".encode() + body)).decode()
    if not theirs:
        theirs = sent.get(HEADER.lower(), "")
        at = theirs.partition(",")[0].removeprefix("t=")
        wanted = f"t={at},v1={_mac(secret, at.encode() + b'.' + body).hex()}"
    is_fresh = at.isascii() and at.isdecimal() and len(at) < 12 and abs(now - int(at)) <= WINDOW_S
    return hmac.compare_digest(theirs.encode(), wanted.encode()) and is_fresh


def _mac(secret: str, text: bytes) -> bytes:
    return hmac.new(secret.encode(), text, hashlib.sha256).digest()
