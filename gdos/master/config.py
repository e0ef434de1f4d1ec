"""The master's settings. Keys are the original's where it had them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdos import settings as s
from gdos.master.blobs.s3 import S3Settings
from gdos.model.errors import BadConfig
from gdos.settings import Resolved, Setting

PREFIX = "OPS_MASTER_"
FILE = "config.yaml"


def _base_path(value: Any) -> str:
    path = "/" + str(value).strip("/")
    return "" if path == "/" else path


TABLE: tuple[Setting, ...] = (
    Setting("server.host", "host", "0.0.0.0", s.text, "address to listen on"),
    Setting("server.port", "port", 8080, s.port, "port to listen on; 0 takes a free one"),
    Setting("server.data_dir", "data-dir", ".", s.text, "folder of the database and the packages"),
    Setting("server.db_path", "db-path", "", s.text, "SQLite file (default: gdos.db in the data folder)"),
    Setting("server.upload_dir", "upload-dir", "", s.text, "package folder (default: packages in the data folder)"),
    Setting("server.base_path", "base-path", "", _base_path, "path below which the master lives behind a proxy"),
    Setting("storage.type", "store-type", "local", s.choice("local", "minio"), "where packages are kept"),
    Setting("storage.minio.endpoint", "minio-endpoint", "", s.text, "host:port of an S3 service"),
    Setting("storage.minio.ak", "minio-ak", "", s.text, "its access key"),
    Setting("storage.minio.sk", "minio-sk", "", s.text, "its secret key", is_secret=True),
    Setting("storage.minio.bucket", "minio-bucket", "gdos", s.text, "its bucket"),
    Setting("storage.minio.secure", "minio-secure", False, s.flag, "whether it speaks TLS"),
    Setting("tls.mode", "tls", "off", s.choice("off", "auto"), "off, or auto for a CA of its own"),
    Setting("tls.cert", "tls-cert", "", s.text, "certificate file (PEM, with its chain)"),
    Setting("tls.key", "tls-key", "", s.text, "key file of the certificate (PEM)"),
    Setting(
        "logic.node_offline_threshold", "offline-threshold", 30.0, s.duration(2, 3600), "silence that means offline"
    ),
    Setting("logic.metrics_budget", "metrics-budget", 128 << 20, s.size, "memory for metric history"),
    Setting("logic.upload_max", "upload-max", 16 << 30, s.size, "largest package"),
    Setting("log.format", "log-format", "text", s.choice("text", "json"), "text, or json lines"),
    Setting("log.level", "log-level", "info", s.choice("debug", "info", "warning", "error"), "what is logged"),
)


@dataclass(frozen=True, slots=True)
class MasterConfig:
    host: str
    port: int
    data_dir: Path
    db_path: Path
    upload_dir: Path
    base_path: str
    store_type: str
    s3: S3Settings
    tls: tuple[str, str] | None
    offline_threshold_s: float
    metrics_budget: int
    upload_max: int
    log_format: str
    log_level: str
    resolved: Resolved


def load(flags: Mapping[str, Any], environ: Mapping[str, str], config_file: str | None) -> MasterConfig:
    """The settings from all sources. Raises BadConfig."""
    r = s.resolve(TABLE, PREFIX, flags, environ, s.read_file(config_file, FILE))
    data = Path(r["server.data_dir"])
    cert, key = r["tls.cert"], r["tls.key"]
    if bool(cert) != bool(key):
        raise BadConfig("tls.cert and tls.key go together: give both --tls-cert and --tls-key")
    for path in (cert, key):
        if path and not os.access(path, os.R_OK):
            raise BadConfig(f"{path}: cannot be read; expected a PEM file")
    if r["tls.mode"] == "auto" and not cert:
        raise BadConfig("tls.mode auto is not there yet: give --tls-cert and --tls-key, or end TLS in a reverse proxy")
    if r["storage.type"] == "minio" and not r["storage.minio.endpoint"]:
        raise BadConfig("storage.minio.endpoint is missing: --store-type minio needs --minio-endpoint HOST:PORT")
    return MasterConfig(
        host=r["server.host"],
        port=r["server.port"],
        data_dir=data,
        db_path=Path(r["server.db_path"]) if r["server.db_path"] else data / "gdos.db",
        upload_dir=Path(r["server.upload_dir"]) if r["server.upload_dir"] else data / "packages",
        base_path=r["server.base_path"],
        store_type=r["storage.type"],
        s3=S3Settings(
            r["storage.minio.endpoint"],
            r["storage.minio.ak"],
            r["storage.minio.sk"],
            r["storage.minio.bucket"],
            r["storage.minio.secure"],
        ),
        tls=(cert, key) if cert else None,
        offline_threshold_s=r["logic.node_offline_threshold"],
        metrics_budget=r["logic.metrics_budget"],
        upload_max=r["logic.upload_max"],
        log_format=r["log.format"],
        log_level=r["log.level"],
        resolved=r,
    )
