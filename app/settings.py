"""The settings of a deployment, from environment variables with the prefix MINIST_."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.cpus import MAX_WORKERS, cpu_quota, memory, workers_for
from app.origins import origins, split

if TYPE_CHECKING:
    from limits import RateLimitItem


MIN_KEY_LENGTH = 16  # characters of an API key that was chosen by hand


class Settings(BaseSettings):
    """Every field is one variable: `default_model` is MINIST_DEFAULT_MODEL."""

    model_config = SettingsConfigDict(
        env_prefix="MINIST_",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # there are keys and passwords among them
    )

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port to listen on, else PORT; 0 takes a free one."
    )
    grpc_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port of the Open Inference Protocol over gRPC, shared by all workers; none: it is off. "
        "Needs the extra `grpc`; a message has at most MINIST_MAX_UPLOAD_BYTES.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=MAX_WORKERS,
        description="Processes that answer requests; `auto`: one for each CPU of the container's quota, where "
        "its memory allows.",
    )
    home: Path = Field(default=Path("var"), description="Folder that holds everything the service writes.")
    database_url: SecretStr | None = Field(
        default=None,
        description="Postgres instead of SQLite in MINIST_HOME, such as "
        "`postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`; needs the extra `postgres`.",
    )
    database_connections: int = Field(
        default=10, ge=2, le=1000, description="Most connections to Postgres of each process."
    )
    store: str | None = Field(
        default=None,
        description="Object store of models, data sets and checkpoints, `s3://BUCKET/PREFIX` or "
        "`file:///FOLDER`; MINIST_HOME is then a cache of it. Needs the extra `store`; keys and endpoint are "
        "read from the usual AWS_* variables.",
    )
    store_cache_bytes: int = Field(
        default=20 * 1024**3,
        ge=1,
        description="Bytes of models and data sets that are kept under MINIST_HOME beside an object store.",
    )
    data_dir: Path = Field(
        default=Path("data"),
        description="Root of the data sets, in torchvision's layout; missing ones are downloaded.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto",
        description="Device that models run on; auto takes the first available of cuda, mps, cpu.",
    )
    default_model: str = Field(default="digits", description="Model that answers requests which name none.")
    max_upload_bytes: int = Field(
        default=16 * 1024 * 1024,
        ge=1,
        description="Largest body of a request with one image; more is answered 413.",
    )
    max_batch_upload_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1, description="Largest body of a request with many images."
    )
    open_predict: bool = Field(
        default=True, description="Whether predictions and reading need no key; changing state always does."
    )
    request_timeout: float = Field(
        default=30, gt=0, le=3600, description="Seconds after which a prediction is given up, with 504."
    )
    max_waiting_images: int = Field(
        default=200_000,
        ge=1,
        description="Images that may wait in one process; more are refused with 503 and Retry-After.",
    )
    max_waiting_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1,
        description="Bytes of request bodies in one process, counted as they come; more are refused with 503. "
        "An eighth is for bodies of up to 64 KiB.",
    )
    max_waiting_pixels: int = Field(
        default=1_000_000_000,
        ge=1,
        description="Pixels of the pictures that are being decoded or wait for it, in one process; "
        "with more, 503.",
    )
    decoders: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Processes that decode pictures, of each API worker; 0: as many as its share of the "
        "CPUs, at most 4.",
    )
    max_connections: int = Field(
        default=2000,
        ge=1,
        description="Connections of one process; beyond them the oldest idle one is closed, else 503.",
    )
    max_followers: int = Field(
        default=1000,
        ge=1,
        description="Clients of one process that follow jobs (`GET /train/{id}/events`), at most half of its "
        "connections; more are refused with 503.",
    )
    root_path: str = Field(
        default="",
        description="Path under which a proxy serves this service, like `/minist`; stripped by it or not.",
    )
    allowed_hosts: str = Field(
        default="",
        description="Names that requests may be for, such as `example.org,*.example.org`; `*` for all. "
        "Default of `minist serve`: MINIST_HOST and localhost, or all where that is 0.0.0.0 or ::.",
    )
    trusted_proxies: str = Field(
        default="",
        validation_alias=AliasChoices("MINIST_TRUSTED_PROXIES", "FORWARDED_ALLOW_IPS"),
        description="Addresses or networks of proxies, separated by commas, whose `X-Forwarded-For`, `-Proto` "
        "and `-Prefix` are believed. FORWARDED_ALLOW_IPS is read too.",
    )
    cors_origins: str = Field(
        default="",
        description="Origins whose pages may use this service, such as `https://example.org`, separated "
        "by commas; `*` for all.",
    )
    rate_limit: str | None = Field(
        default=None,
        description="Requests per key (or address, without one) and worker, or of all on one Postgres, "
        "such as `100/second;5000/hour`; more are answered 429. Probes, metrics and the "
        "files of the page are not counted.",
    )
    threads: int = Field(
        default=1,
        ge=1,
        le=256,
        description="CPU threads of a forward pass, at most a worker's share of the available CPUs; "
        "one worker per CPU gains more.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged; requests have a setting of their own."
    )
    log_requests: bool = Field(default=True, description="Whether each request is logged.")
    tracing: bool = Field(
        default=False,
        description="Whether requests become OpenTelemetry spans, sent to `OTEL_EXPORTER_OTLP_ENDPOINT`; "
        "needs the extra `otel`.",
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="An admin key of your choice, of at least 16 characters; "
        "without it the first start makes one and prints it.",
    )
    queue_limit: int = Field(
        default=20, ge=1, description="Training jobs that may wait or run; more are refused with 429."
    )
    ray_address: str | None = Field(
        default=None,
        validation_alias=AliasChoices("MINIST_RAY_ADDRESS", "RAY_ADDRESS"),
        pattern=r"^(ray://)?[\w.\[\]:-]+:[0-9]{1,5}$",
        description="Address of the Ray cluster, as `10.0.0.5:6379` (this machine is part of it) or "
        "`ray://HEAD:10001`. RAY_ADDRESS is read too.",
    )
    executor: Literal["local", "ray"] = Field(
        default="local",
        description="Where training jobs run: in processes of the training worker, or in a Ray cluster (extra "
        "`ray`, MINIST_STORE).",
    )
    train_threads: int = Field(default=1, ge=1, le=256, description="CPU threads of a training job.")
    train_jobs: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Training jobs that one training worker runs at a time; where there are several GPUs, "
        "they take turns.",
    )
    lease_seconds: float = Field(
        default=10,
        ge=1,
        le=600,
        description="Seconds without a heartbeat after which a supervisor is considered dead.",
    )
    keep_versions: int = Field(
        default=10,
        ge=1,
        description="Versions kept of each model; those that an alias points at are never removed.",
    )
    job_hours: float = Field(
        default=72, gt=0, description="Hours that a training job may run, in all its attempts together."
    )
    keep_runs_days: float = Field(
        default=30, ge=0, description="Days that the run directory of an ended job is kept."
    )
    keep_jobs_days: float = Field(
        default=365, ge=0, description="Days that an ended job, its events and the audit entries are kept."
    )
    max_dataset_bytes: int = Field(
        default=1024**3, ge=1, description="Largest file of `POST /datasets`; more is answered 413."
    )
    keep_datasets_bytes: int = Field(
        default=10 * 1024**3,
        ge=1,
        description="Bytes of all data sets, the files that they came as included; more are refused with 507.",
    )
    import_memory_bytes: int = Field(
        default=2 * 1024**3,
        ge=128 * 1024**2,
        description="Memory of the process that imports a data set, or reads uploaded weights.",
    )
    import_minutes: float = Field(
        default=60, gt=0, description="Minutes that an import may run, in all its attempts together."
    )
    max_weights_bytes: int = Field(
        default=256 * 1024**2,
        ge=1,
        le=512 * 1024**2,
        description="Largest file of `POST /models/{name}/versions`; more is answered 413.",
    )
    feedback: bool = Field(
        default=False,
        description="Whether predictions can be corrected; their pictures are then kept for an hour.",
    )
    feedback_max_count: int = Field(
        default=10_000, ge=1, description="Corrections that are kept; more are refused with 507."
    )
    feedback_max_bytes: int = Field(
        default=16 * 1024 * 1024,
        ge=1,
        description="Bytes of the pictures of corrections; more are refused with 507.",
    )
    webhook_origins: str = Field(
        default="",
        description="Origins that jobs may notify (`notify` of training, imports and uploads), such as "
        "`https://example.org`, separated by commas; none: no job may. Of the API and the training worker "
        "alike.",
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        validate_default=True,
        description="Signs notifications, at least 16 characters; needed with MINIST_WEBHOOK_ORIGINS.",
    )

    drift_psi: float = Field(
        default=0.2,
        gt=0,
        le=100,
        description="Population stability index of what a version answers, against its test set, above which "
        "it has drifted (what chance explains is allowed on top).",
    )
    drift_notify: SecretStr | None = Field(
        default=None,
        description="URL that is told when a version begins or ceases to drift; its origin is one of "
        "MINIST_WEBHOOK_ORIGINS.",
    )

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Values as deployments bring them: ending with a newline, empty, or set by Kubernetes for a Service.

        A Service called `minist` sets MINIST_PORT=tcp://10.0.0.1:80 in every container of its namespace.
        """
        cleaned = {name: value.strip() if isinstance(value, str) else value for name, value in given.items()}
        found = {name: value for name, value in cleaned.items() if value != ""}
        if str(found.get("port")).startswith(("tcp://", "udp://")):
            del found["port"]
        if "port" not in found and (port := os.environ.get("PORT", "").strip()):  # as many hosts say it
            found["port"] = port
        return found

    @field_validator("workers", mode="before")
    @classmethod
    def _as_many_as_fit(cls, workers: Any) -> Any:
        if workers != "auto":
            return workers
        return 1 if os.name == "nt" else workers_for(cpu_quota(), memory())

    @field_validator("api_key")
    @classmethod
    def _is_hard_to_guess(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < MIN_KEY_LENGTH:
            raise ValueError(
                f"a key needs at least {MIN_KEY_LENGTH} characters: openssl rand -hex 32 makes one"
            )
        return key

    @field_validator("store")
    @classmethod
    def _names_a_store(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"s3://[\w.-]+(/[\w./=-]*)?|file://(/[^?#]*)", url, re.ASCII):
            raise ValueError(
                "it names no object store: write one like s3://BUCKET/PREFIX or file:///FOLDER, without keys "
                "or options, which are read from AWS_* variables"
            )
        return url

    @field_validator("executor")
    @classmethod
    def _has_what_it_needs(cls, executor: str, others: ValidationInfo) -> str:
        if executor == "ray" and others.data.get("store") is None:
            raise ValueError(
                "ray needs MINIST_STORE: another machine goes on from checkpoints in an object store"
            )
        if executor == "ray" and others.data.get("ray_address") is None:
            raise ValueError("ray needs RAY_ADDRESS, of the cluster: 10.0.0.5:6379 or ray://HEAD:10001")
        return executor

    @field_validator("webhook_origins")
    @classmethod
    def _can_be_compared(cls, text: str) -> str:
        return ",".join(sorted(origins(text)))

    @field_validator("webhook_secret")
    @classmethod
    def _can_sign(cls, secret: SecretStr | None, others: ValidationInfo) -> SecretStr | None:
        if secret is None and others.data.get("webhook_origins"):
            raise ValueError("MINIST_WEBHOOK_ORIGINS needs it: openssl rand -hex 32 makes one")
        if secret is not None and len(secret.get_secret_value()) < MIN_KEY_LENGTH:
            raise ValueError(f"it needs at least {MIN_KEY_LENGTH} characters: openssl rand -hex 32 makes one")
        return secret

    @field_validator("drift_notify")
    @classmethod
    def _may_be_told(cls, url: SecretStr | None, others: ValidationInfo) -> SecretStr | None:
        if url is not None:
            origin, _ = split(url.get_secret_value())
            if origin not in origins(others.data.get("webhook_origins") or ""):
                raise ValueError(f"{origin} is not one of MINIST_WEBHOOK_ORIGINS: add it there")
        return url

    @property
    def notified_origins(self) -> frozenset[str]:
        return origins(self.webhook_origins)

    @property
    def database_address(self) -> str | None:
        """The URL of the database as it is, password included; None for SQLite."""
        return self.database_url.get_secret_value() if self.database_url else None

    @field_validator("root_path")
    @classmethod
    def _is_a_prefix(cls, text: str) -> str:
        prefix = text.rstrip("/")
        if prefix and not re.fullmatch(r"(/(?!\.\.?(/|$))[\w.~-]+)+", prefix, re.ASCII):
            raise ValueError(f"{text!r} is not a path; write one like /minist")
        return prefix

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        for origin in filter(None, (part.strip() for part in text.split(","))):
            if origin != "*" and not re.fullmatch(r"https?://[^/\s]+/?", origin):
                raise ValueError(f"{origin!r} is not an origin; write one like https://example.org")
        return text

    @field_validator("rate_limit")
    @classmethod
    def _can_be_read(cls, text: str | None) -> str | None:
        if text is not None:
            rate_limits(text)
        return text


def rate_limits(text: str) -> "list[RateLimitItem]":
    """The limits in a text like "100/second;5000/hour". Raises ValueError."""
    from limits import parse_many  # here: it takes time to import, and most services set no limit

    try:
        found = parse_many(text)
    except ValueError:
        found = []
    if not found or any(limit.amount < 1 or limit.get_expiry() < 1 for limit in found):
        raise ValueError(f"{text!r} is not a rate limit; write one like 100/second or 100/second;5000/hour")
    return found
