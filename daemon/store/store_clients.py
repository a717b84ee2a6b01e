"""Clients of object stores: obstore's, with credentials from the usual places and bounded waits.

Credentials are never stored or shown by us: obstore reads the environment and asks the machine (instance
roles, IRSA, workload identity); what it does not know, AWS's profile files (SSO and assumed roles among
them), botocore reads, imported only where such a file is.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.errors import UsageError
from config.extras import not_installed
from config.store_url import StoreUrl
from config.text import printable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# A server that does not take a connection within this time is not there.
_CONNECT_SECONDS = 3.0
# botocore renews what is about to expire when it is asked; so it is asked this often.
_CREDENTIAL_SECONDS = 300.0


def open_store(url: StoreUrl, *, request_seconds: float, retries: int) -> ObjectStore:
    """Return the client of a bucket (for file: of the folder); the same one for the same arguments.

    A request that fails for a reason that may pass is repeated `retries` times, all within about
    `request_seconds` more. Raises UsageError if the extra is missing or nothing says which account.
    """
    return _opened(url.scheme, url.bucket, request_seconds, retries)


@functools.lru_cache(maxsize=8)
def _opened(scheme: str, bucket: str, request_seconds: float, retries: int) -> ObjectStore:
    try:
        from obstore import exceptions, store
    except ModuleNotFoundError as error:
        raise not_installed(error) from error
    if scheme == "file":
        return store.LocalStore(bucket)
    client: dict[str, Any] = {
        "timeout": timedelta(seconds=request_seconds),
        "connect_timeout": timedelta(seconds=min(_CONNECT_SECONDS, request_seconds)),
    }
    retry: dict[str, Any] = {
        "max_retries": retries,
        "retry_timeout": timedelta(seconds=request_seconds),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=2),
            "base": 2,
        },
    }
    try:
        if scheme == "s3":
            more = s3_options(os.environ)
            client["allow_http"] = _endpoint(os.environ, more).startswith("http://")
            return store.S3Store(bucket, client_options=client, retry_config=retry, **more)  # type: ignore[arg-type]
        kind: Any = store.GCSStore if scheme == "gs" else store.AzureStore
        made: ObjectStore = kind(bucket, client_options=client, retry_config=retry)
    except (exceptions.BaseError, ValueError, OSError) as error:
        raise UsageError(
            f"cannot open {scheme}://{printable(bucket)}: its account or credentials are not complete "
            f"({type(error).__name__})",
            hint=_HINTS[scheme],
        ) from None
    return made


_HINTS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to a key file",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


def credentials_hint(scheme: str) -> str:
    """Return what to do where credentials are missing or refused."""
    return _HINTS.get(scheme, "")


def s3_options(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what obstore does not find by itself: profile, region and endpoint of AWS's own files."""
    if environ.get("AWS_ACCESS_KEY_ID") or environ.get("AWS_SKIP_SIGNATURE") or not _has_profile(environ):
        return {}
    session = aws_session()
    options: dict[str, Any] = {}
    if not (environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")):
        options["region"] = session.get_config_variable("region") or "us-east-1"
    if not _endpoint(environ, {}) and (endpoint := session.get_scoped_config().get("endpoint_url")):
        options["endpoint"] = endpoint
    if session.get_credentials() is not None:
        options["credential_provider"] = _provider(session)
    return options


def aws_session() -> Any:
    """Return botocore's session; raise UsageError for a profile that is not there."""
    try:
        import botocore.session
        from botocore.exceptions import BotoCoreError
    except ModuleNotFoundError as error:
        raise not_installed(error) from error
    session = botocore.session.Session()
    try:
        session.get_scoped_config()
    except BotoCoreError as error:
        raise UsageError(f"AWS: {printable(str(error))}", hint="see AWS_PROFILE and ~/.aws/config") from None
    return session


def s3_client() -> Any:
    """Return botocore's client of S3, for what obstore cannot say."""
    from botocore.config import Config

    session = aws_session()
    region = session.get_config_variable("region") or os.environ.get("AWS_REGION") or "us-east-1"
    endpoint = _endpoint(os.environ, {}) or None
    style = {"addressing_style": "path"} if endpoint else {}
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 4}, connect_timeout=_CONNECT_SECONDS, s3=style
    )
    return session.create_client("s3", region_name=region, endpoint_url=endpoint, config=config)


def _provider(session: Any) -> Callable[[], Any]:
    """Return what obstore calls for credentials whenever the last ones have expired."""

    def credentials() -> dict[str, Any]:
        frozen = session.get_credentials().get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + timedelta(seconds=_CREDENTIAL_SECONDS),
        }

    return credentials


def _has_profile(environ: Mapping[str, str]) -> bool:
    if environ.get("AWS_PROFILE"):
        return True
    home = Path(environ.get("HOME") or "/")
    places = (
        environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials",
        environ.get("AWS_CONFIG_FILE") or home / ".aws" / "config",
    )
    return any(Path(place).is_file() for place in places)


def _endpoint(environ: Mapping[str, str], options: Mapping[str, Any]) -> str:
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    named = next((environ[name] for name in names if environ.get(name)), "")
    return named or str(options.get("endpoint", ""))
