"""Package bytes on an S3 service: `packages/<sha256>` in one bucket, uploads first in a local folder.

Nothing is asked of the service before the first use, so that a master starts while it is away; every call has a
bounded wait and says in words what was wrong.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gdos.master.blobs.base import PIECE, Received
from gdos.master.blobs.local import LocalBlobs
from gdos.model.errors import GdosError, NotFound, Unavailable

log = logging.getLogger(__name__)
CONNECT_S, READ_S = 3.0, 30.0


@dataclass(frozen=True, slots=True)
class S3Settings:
    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    secure: bool


class S3Blobs:
    """See base.Blobs."""

    def __init__(self, settings: S3Settings, spool: LocalBlobs) -> None:
        self._settings = settings
        self._spool = spool
        self._lock = threading.Lock()
        self._made: Any = None

    def receive(self, read: Callable[[int], bytes], declared: int | None, limit: int) -> Received:
        return self._spool.receive(read, declared, limit)

    def keep(self, received: Received) -> None:
        with self._explained():
            self._client().fput_object(self._settings.bucket, _key(received.sha256), str(received.path))
        received.path.unlink(missing_ok=True)

    def discard(self, received: Received) -> None:
        self._spool.discard(received)

    def open(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        with self._explained(sha256):
            answer = self._client().get_object(
                self._settings.bucket, _key(sha256), offset=start, length=0 if end is None else end - start
            )

        def pieces() -> Iterator[bytes]:
            try:
                with self._explained(sha256):
                    yield from answer.stream(PIECE)
            finally:
                answer.close()
                answer.release_conn()

        return pieces()

    def delete(self, sha256: str) -> None:
        with self._explained():
            self._client().remove_object(self._settings.bucket, _key(sha256))

    def tidy(self, known: set[str]) -> list[str]:
        """Half-done uploads only: the bucket may be shared, and asking it would hold up the start."""
        return self._spool.tidy(set())

    def missing(self, known: set[str]) -> set[str]:
        """Not asked at the start; a download says it."""
        return set()

    def _client(self) -> Any:
        """Connected, with its bucket there. Raises what the service says."""
        with self._lock:
            if self._made is None:
                import urllib3
                from minio import Minio

                timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
                retries = urllib3.Retry(total=1, backoff_factor=0.2)
                s = self._settings
                client = Minio(
                    s.endpoint,
                    access_key=s.access_key or None,
                    secret_key=s.secret_key or None,
                    secure=s.secure,
                    http_client=urllib3.PoolManager(timeout=timeout, retries=retries, maxsize=16),
                )
                if not client.bucket_exists(s.bucket):
                    client.make_bucket(s.bucket)
                    log.info("made the bucket %s on %s", s.bucket, s.endpoint)
                self._made = client
            return self._made

    @contextlib.contextmanager
    def _explained(self, sha256: str = "") -> Iterator[None]:
        """Errors of the service as sentences."""
        import urllib3
        from minio.error import MinioException, S3Error

        where = f"the S3 service {self._settings.endpoint}"
        try:
            yield
        except S3Error as e:
            if e.code in ("NoSuchKey", "NoSuchObject"):
                raise NotFound(f"the bytes {sha256} are not in the bucket {self._settings.bucket} of {where}") from e
            raise GdosError(f"{where} refused: {e.message or e.code} ({e.code}); check key, bucket and clock") from e
        except (urllib3.exceptions.HTTPError, OSError) as e:
            raise Unavailable(f"{where} cannot be reached ({type(e).__name__}); try again when it is back") from e
        except (MinioException, ValueError) as e:
            raise GdosError(f"{where}: {e}") from e


def _key(sha256: str) -> str:
    return f"packages/{sha256}"
