"""Files of the Hugging Face Hub, such as hf://datasets/USER/NAME/train.parquet, which huggingface_hub reads for fsspec.

It takes the server from HF_ENDPOINT and the token from HF_TOKEN, or from the file that `hf auth login` has written.
"""

from http import HTTPStatus
from typing import Any, BinaryIO, cast

from models.privacy import urls

INSTALL_ADVICE = "in the checkout, run: pip install -c constraints.txt huggingface_hub"

KINDS = ("datasets", "models", "spaces", "kernels", "buckets")
REFUSALS = (401, 403)
HTTP_PACKAGES = ("httpx", "requests")  # of huggingface_hub, by its version; also httpx2


def is_hub_url(url: str) -> bool:
    """Whether the URL names files of the Hub."""
    return url.partition("://")[0].lower() == urls.HUB_SCHEME


def open_file(system: Any, path: str) -> BinaryIO:
    """Open a file in the commit that its branch has now.

    A file is read in several requests, and a push between two of them would mix its versions. The first request is made
    here, because the Hub refuses a file whose terms were not accepted only then.

    system: the file system of huggingface_hub.
    """
    stream = system.open(_pin_to_commit(system, path), "rb")
    stream.read(1)
    stream.seek(0)
    return cast("BinaryIO", stream)


def _pin_to_commit(system: Any, path: str) -> str:
    place = system.resolve_path(path)
    if not hasattr(place, "repo_id"):  # a bucket has no commits
        return path
    info = system._api.repo_info(place.repo_id, revision=place.revision, repo_type=place.repo_type)
    repository = path.partition(place.repo_id)[0] + place.repo_id
    return f"{repository}@{info.sha}/{place.path_in_repo}"


def describe_problem(error: Exception, url: str) -> str | None:
    """A sentence about an error of huggingface_hub that says what to do; None for other errors.

    Its own messages quote addresses and headers, so none of their text is used.
    """
    from huggingface_hub import errors

    shown, repository = urls.redact_path(url), _repository(url)
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(cause, errors.GatedRepoError) or (status in REFUSALS and not _is_missing(cause)):
        return f"the Hub refuses {shown} ({status}); accept the terms of {repository} there, and set HF_TOKEN here"
    if isinstance(cause, errors.RepositoryNotFoundError):
        return f"the Hub has no {repository}, or shows it to others only; check its name, and HF_TOKEN"
    if isinstance(cause, errors.RevisionNotFoundError):
        return f"{repository} has no such revision: {shown}; name a branch, a tag or a commit behind @"
    if isinstance(cause, FileNotFoundError) or cause is None:
        return None  # the repository has no such file
    if isinstance(cause, ValueError):  # the class of a malformed URL depends on the version
        return f"{shown} names no file of the Hub; write it such as hf://datasets/USER/NAME/train.parquet"
    if status is not None:
        return _describe_status(status, shown)
    if isinstance(cause, errors.OfflineModeIsEnabled) or type(cause).__module__.startswith(HTTP_PACKAGES):
        return f"{shown} can't be opened: the Hub can't be reached; check the network, HF_ENDPOINT and HF_HUB_OFFLINE"
    return None


def _describe_status(status: int, shown: str) -> str:
    if status == HTTPStatus.NOT_FOUND:  # a bucket's, for which not every version has a class
        return f"the Hub has no {shown}, or shows it to others only; check its name, and HF_TOKEN"
    return f"{shown} can't be opened: the Hub answers {status}; try again later"


def _is_missing(error: Any) -> bool:
    from huggingface_hub import errors

    return isinstance(error, (errors.RepositoryNotFoundError, errors.RevisionNotFoundError))


def _repository(url: str) -> str:
    """The kind and name of the repository, for messages."""
    kind, *names = urls.redact_path(url).partition("://")[2].partition("@")[0].split("/")
    if kind not in KINDS:
        return "/".join([kind, *names[:1]])
    return f"{kind.removesuffix('s')} {'/'.join(names[:2])}"
