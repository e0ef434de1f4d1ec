"""Secrets at rest: AES-256-GCM with a key file beside the database, which is not in it and not in its backups."""

from __future__ import annotations

import base64
import os
import secrets
import threading
from pathlib import Path

from gdos.diskio import write_atomic
from gdos.model.errors import BadConfig

_NONCE, _TAG = 12, 16
_PREFIX = "v1:"


class Vault:
    """`path` is the key file; it is made when the first secret is kept. Raises BadConfig when it cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key: bytes | None = None
        self._lock = threading.Lock()

    def hide(self, text: str, about: str) -> str:
        """Encrypted; `about` says what it belongs to, and it can be shown as nothing else."""
        from Crypto.Cipher import AES

        nonce = secrets.token_bytes(_NONCE)
        cipher = AES.new(self._load(may_make=True), AES.MODE_GCM, nonce=nonce)
        cipher.update(about.encode())
        data, tag = cipher.encrypt_and_digest(text.encode())
        return _PREFIX + base64.b64encode(nonce + tag + data).decode()

    def show(self, hidden: str, about: str) -> str:
        """What was hidden. Raises BadConfig when the key is another one, or the text was tampered with."""
        from Crypto.Cipher import AES

        raw = base64.b64decode(hidden.removeprefix(_PREFIX))
        cipher = AES.new(self._load(), AES.MODE_GCM, nonce=raw[:_NONCE])
        cipher.update(about.encode())
        try:
            return cipher.decrypt_and_verify(raw[_NONCE + _TAG :], raw[_NONCE : _NONCE + _TAG]).decode()
        except ValueError as e:
            said = f"the key {self.path} does not fit the secrets of this database: restore the one that was beside it"
            raise BadConfig(said) from e

    def _load(self, *, may_make: bool = False) -> bytes:
        with self._lock:
            if self._key is None:
                self._key = self._read() if self.path.exists() or not may_make else self._make()
            return self._key

    def _make(self) -> bytes:
        key = secrets.token_bytes(32)
        write_atomic(self.path, key.hex().encode() + b"\n", mode=0o600)
        return key

    def _read(self) -> bytes:
        try:
            key = bytes.fromhex(self.path.read_text().strip())
        except FileNotFoundError as e:
            raise BadConfig(f"the key {self.path} is missing: without it no secret can be read; restore it") from e
        except (OSError, ValueError) as e:
            raise BadConfig(f"the key {self.path} cannot be read ({e}): restore it") from e
        if len(key) != 32:
            raise BadConfig(f"the key {self.path} is damaged: expected 64 hexadecimal digits; restore it")
        if os.name != "nt" and self.path.stat().st_mode & 0o077:
            self.path.chmod(0o600)
        return key
